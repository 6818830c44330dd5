"""What all our variable-rate models share: gains, rate control and the CompressAI interface."""

from __future__ import annotations

import math
from typing import Any

import torch
from compressai.models import CompressionModel
from torch import Tensor, nn

from compressai_gen.models.gain import LEVELS, GainUnit, check_quality
from compressai_gen.models.quantisation import round_ste

DEFAULT_QUALITY = 4.0


class VariableRateModel(CompressionModel):
    """Base of the models with gain units around a hyperprior.

    .. code-block:: none

        x ─► g_a ─► ×gain_y ─► y ──────────────────► Q ─► y_hat ─► ×inverse_gain_y ─► g_s ─► x_hat
                               │                     ▲
                               ▼                     │ scales_hat, means_hat
                              h_a ─► ×gain_z ─► z    │
                                                │    │
                                                Q ─► z_hat ─► ×inverse_gain_z ─► h_s ─► (context)

    As in Cui et al. the hyperprior sees the *gained* latent: noise is one quantisation step at
    every rate, and the magnitude tells the networks the rate. So only z's inverse gain lies on the
    path that encoder and decoder must compute identically; y's inverse gain belongs to the
    synthesis.

    Subclasses provide the four transforms, ``entropy_bottleneck``, ``gaussian_conditional`` and
    :meth:`quantize_y`, and call :meth:`add_gains`.
    """

    portable: nn.Module | None
    g_a: nn.Module
    g_s: nn.Module
    h_a: nn.Module
    h_s: nn.Module

    def add_gains(self, y_channels: int, z_channels: int, levels: int = LEVELS) -> None:
        """Create the gain units; called at the end of a subclass's constructor.

        The initial gains of y span a factor 8.5, the square root of the span of the default
        multipliers: the optimal step of a uniform quantiser goes as lambda ** -0.5.
        """
        self.levels = levels
        self.quality = DEFAULT_QUALITY
        self.y_gain = GainUnit(y_channels, levels, log2_span=math.log2(8.5))
        self.z_gain = GainUnit(z_channels, levels)
        self.add_module("portable", None)

    # -- rate ---------------------------------------------------------------------------------

    def rate_point(
        self, quality: float | Tensor | None, s: int | None, inputscale: float | Tensor | None
    ) -> Tensor:
        """The quality asked for, shape (B,) or (1,), on the device of the parameters.

        ``quality`` wins; then ``inputscale``, the argument of eval_model's ``-vbr`` protocol
        (reciprocal of a quantisation step): 1 is quality L-1, 0.1 is quality 0, logarithmic and
        therefore monotonic in between, clamped outside; then ``s``, an integer quality; then the
        model's own default :attr:`quality`.

        Raises:
            OptionError: if the quality is outside [0, L-1].
        """
        device = self.y_gain.log2_gain.device
        if isinstance(quality, Tensor):
            return quality.to(device, torch.float32).reshape(-1)
        if quality is None and inputscale is not None and float(inputscale) > 0:
            top = self.levels - 1
            quality = min(max(top * (1 + math.log10(float(inputscale))), 0), top)
        if quality is None:
            quality = self.quality if s is None else s
        return torch.tensor([check_quality(quality, self.levels)], device=device)

    # -- the pieces ---------------------------------------------------------------------------

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """z before its gain; a scale hyperprior feeds ``|y|`` instead."""
        return self.h_a(y)

    def analysis(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Image to the gained latents, ready for rounding.

        Args:
            x: shape (B, 3, H, W) in [0, 1], H and W multiples of 64.
            quality: shape (B,) or (1,).

        Returns:
            y, shape (B, M, H/16, W/16), and z, shape (B, N, H/64, W/64).
        """
        return self.gained(self.g_a(x), quality)

    def gained(self, y: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """y and z at a rate point, from ``g_a(x)``, which is the same for all of them."""
        y = y.float() * self.y_gain.gain(quality)
        return y, self.hyper_analysis(y).float() * self.z_gain.gain(quality)

    def ungained(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """The gained, quantised latent as the synthesis takes it."""
        return y_hat * self.y_gain.inverse_gain(quality)

    def synthesis(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """Gained, quantised latent to image, shape (B, 3, H, W), not clamped."""
        return self.g_s(self.ungained(y_hat, quality).to(next(self.g_s.parameters()).dtype))

    def quantize_y(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y_hat and the likelihoods of y given the output of h_s, both shaped like y."""
        raise NotImplementedError

    # -- CompressAI's interface ---------------------------------------------------------------

    def forward(
        self,
        x: Tensor,
        quality: float | Tensor | None = None,
        *,
        stage: int = 2,
        s: int | None = None,
        inputscale: float | Tensor | None = None,
    ) -> dict[str, Any]:
        """Reconstruction and likelihoods, for training and for estimates of the rate.

        Args:
            x: shape (B, 3, H, W) in [0, 1], H and W multiples of 64.
            quality: one number, or a tensor of shape (B,) with a rate point per picture.
            stage: accepted and ignored (eval_model's ``-vbr`` protocol).
            s: integer quality of that protocol.
            inputscale: see :meth:`rate_point`.

        Returns:
            ``x_hat`` (B, 3, H, W) and ``likelihoods`` with ``y`` (B, M, H/16, W/16) and ``z``
            (B, N, H/64, W/64).

        Raises:
            OptionError: if the quality is outside [0, L-1].
        """
        q = self.rate_point(quality, s, inputscale)
        y, z = self.analysis(x, q)
        with torch.autocast(x.device.type, enabled=False):
            _, z_likelihoods = self.entropy_bottleneck(z)
            medians = self.entropy_bottleneck.quantiles[:, :, 1:2].detach()  # (N, 1, 1)
            z_hat = round_ste(z - medians) + medians
        params = self.h_s(z_hat * self.z_gain.inverse_gain(q)).float()
        y_hat, y_likelihoods = self.quantize_y(y, params)
        x_hat = self.synthesis(y_hat, q).float()
        return {"x_hat": x_hat, "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    @torch.no_grad()
    def compress(
        self,
        x: Tensor,
        quality: float | None = None,
        *,
        stage: int = 2,
        s: int | None = None,
        inputscale: float | Tensor | None = None,
    ) -> dict[str, Any]:
        """Images to strings through the fixed-point entropy path.

        Returns:
            ``strings``: one list holding one ``bytes`` per image (z, anchors and non-anchors share
            one range-coder stream), and ``shape`` (H/64, W/64) of z.

        Raises:
            OptionError: if the quality is outside [0, L-1].
        """
        q = self.rate_point(quality, s, inputscale)
        y, z = self.analysis(x, q)
        encoded = self.entropy_path().encode(y, z, q.item())
        return {"strings": [[e.string for e in encoded]], "shape": tuple(z.shape[-2:])}

    @torch.no_grad()
    def decompress(
        self,
        strings: list[list[bytes]],
        shape: tuple[int, int],
        quality: float | None = None,
        *,
        stage: int = 2,
        s: int | None = None,
        inputscale: float | Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Strings of :meth:`compress` to ``x_hat``, shape (B, 3, H, W) in [0, 1].

        Raises:
            CorruptedFileError: if a string cannot have come from :meth:`compress`.
            OptionError: if the quality is outside [0, L-1].
        """
        q = self.rate_point(quality, s, inputscale)
        decoded = self.entropy_path().decode(strings[0], tuple(shape), q.item())
        y_hat = torch.cat([d.y_hat for d in decoded]).to(q.device)
        return {"x_hat": self.synthesis(y_hat, q).clamp(0, 1).float()}

    def entropy_path(self) -> Any:
        """The fixed-point entropy path; a model that has none yet is exported now."""
        if self.portable is None:
            self.export()
        return self.portable

    def export(self) -> None:
        """Fix the entropy path as it is now: new tables, new integers, attached as ``portable``.

        Files written before with another export cannot be read any more. The tables of the float
        entropy models are dropped: the export holds their only copy.
        """
        from compressai_gen.entropy import export

        self.add_module("portable", None)
        self.update(force=True)
        self.portable = export(self)
        for entropy_model in (self.entropy_bottleneck, self.gaussian_conditional):
            for name in ("_quantized_cdf", "_offset", "_cdf_length"):
                setattr(entropy_model, name, getattr(entropy_model, name)[:0])

    def update(
        self, scale_table: Any = None, force: bool = False, update_quantiles: bool = False
    ) -> bool:
        """Build the integer tables of the entropy models, unless the model is exported.

        An exported model keeps the tables it was exported with (``eval_model`` asks for new ones
        every time), because files written with them must stay readable.
        """
        if self.portable is not None:
            return False
        return super().update(scale_table, force=force, update_quantiles=update_quantiles)
