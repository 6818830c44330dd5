"""The network D of latent fusion: from a noisy and the decoded latent to a clean one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from compressai_gen.errors import CheckpointError, OptionError
from diffusers_codec.models.latent_fusion_blocks import ChannelNorm, FusionUnit
from diffusers_codec.models.latent_fusion_config import check_config
from diffusers_codec.models.loading import refuse_misfit

STATISTICS = ["latent_mean", "latent_std"]


@dataclass(frozen=True)
class Condition:
    """What D keeps of the decoded latent during all steps of one sampling.

    Attributes:
        y_hat: normalised, shape (B, C, h, w).
        features: of the condition branch, one per unit, each (B, width, h, w).
    """

    y_hat: Tensor
    features: list[Tensor]


class LatentFusionModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # as in diffusers
    """D of Zhou et al., "Controllable Distortion-Perception Tradeoff Through Latent Diffusion for
    Neural Image Compression" (AAAI 2025), Fig. 4 and equation 2.

    .. code-block:: none

        y_hat ─► conv ─► unit ─┬─► unit ─┬─► ...            condition branch, once a picture
                               │ f_1     │ f_2
                               ▼         ▼
        y_t ─► conv ─► cat ─► unit ─► cat ─► unit ─► ... ─► norm ─► conv ─► + y_hat ─► D
                                 ▲           ▲
        t/T (and rate point) ─► embedding ───┘

        unit   residual block, residual block, attention; all at the latent's resolution

    Everything here is normalised: y_t, y_hat and the result have about zero mean and unit variance
    per channel; :meth:`normalize` and :meth:`denormalize` translate. The paper is silent about
    scale, but noise of unit variance presumes one, and it differs between rates and models.

    What the paper does not say is an argument, with a default of ours: widths, M, the kind of
    attention. The condition branch is evaluated at t/T = 1, so that its features serve all steps.
    The zero-initialised last convolution and the addition of y_hat (``residual``) are ours too:
    they make a fresh D the identity on y_hat.

    Args:
        latent_channels: C of the base codec.
        width: channels of the units.
        units: M.
        attention: "linear", "full" (quadratic in the positions) or "none".
        time_embedding: False for the paper's ablation without t/T.
        residual: add y_hat to the result.
        rate_points: L of a variable-rate base: its rate point q / (L - 1) joins t/T, so that one D
            serves all rates.
        base_fingerprint: 6 bytes, hexadecimal, of the base codec it was trained for.
        base_synthesis: 2 bytes, hexadecimal, of the base's synthesis.
        base_architecture: zoo name of the base.

    Raises:
        OptionError: for a size below one, fewer than two rate points, an unknown attention, or an
            argument of another kind.
    """

    _supports_gradient_checkpointing = True
    _keep_in_fp32_modules = STATISTICS  # type: ignore[assignment]  # None in the base class

    latent_mean: Tensor
    latent_std: Tensor

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 192,
        width: int = 256,
        units: int = 4,
        attention: str = "linear",
        time_embedding: bool = True,
        residual: bool = True,
        rate_points: int | None = None,
        base_fingerprint: str | None = None,
        base_synthesis: str | None = None,
        base_architecture: str | None = None,
    ) -> None:
        super().__init__()
        check_config(self.config)
        self.gradient_checkpointing = False
        inputs = int(time_embedding) + (rate_points is not None)
        embedding = width if inputs else 0
        self.embed = (
            nn.Sequential(nn.Linear(inputs, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            if inputs
            else None
        )
        self.condition_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.condition_units = nn.ModuleList(
            FusionUnit(width, width, embedding, attention) for _ in range(units)
        )
        self.sample_in = nn.Conv2d(latent_channels, width, 3, padding=1)
        self.sample_units = nn.ModuleList(
            FusionUnit(2 * width, width, embedding, attention) for _ in range(units)
        )
        self.norm_out = ChannelNorm(width)
        self.conv_out = nn.Conv2d(width, latent_channels, 3, padding=1)
        if residual:
            for parameter in self.conv_out.parameters():
                nn.init.zeros_(parameter)
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    # -- the network --------------------------------------------------------------------------

    @apply_forward_hook
    def condition(self, y_hat: Tensor, quality: Tensor | float | None = None) -> Condition:
        """The condition branch, which serves all steps of one sampling.

        Args:
            y_hat: normalised, shape (B, C, h, w), any h and w.
            quality: rate point, 0 to ``rate_points`` - 1, a number or of shape (B,); ignored
                without ``rate_points``.

        Raises:
            OptionError: if D has rate points and none is given, or one out of range.
            CheckpointError: for a latent of another width.
        """
        self._check_width(y_hat.shape[1])
        embedding = self._embed(1.0, quality, y_hat)
        h, features = self.condition_in(y_hat.to(self.dtype)), []
        for unit in self.condition_units:
            h = self._run(unit, h, embedding)
            features.append(h)
        return Condition(y_hat, features)

    def forward(
        self,
        sample: Tensor,
        time: Tensor | float,
        condition: Condition | None = None,
        *,
        y_hat: Tensor | None = None,
        quality: Tensor | float | None = None,
    ) -> Tensor:
        """D(y_t, y_hat, t/T), the clean latent.

        Args:
            sample: y_t, normalised, shape (B, C, h, w).
            time: t/T in (0, 1], a number or of shape (B,).
            condition: of :meth:`condition`.
            y_hat: normalised, instead of ``condition``.
            quality: as for :meth:`condition`.

        Returns:
            Normalised latent, shape (B, C, h, w), in the dtype of ``y_hat``.

        Raises:
            OptionError, CheckpointError: as for :meth:`condition`; neither or both of
                ``condition`` and ``y_hat`` given.
        """
        if (condition is None) == (y_hat is None):
            raise OptionError("give either condition or y_hat")
        if condition is None:
            condition = self.condition(y_hat, quality)
        embedding = self._embed(time, quality, sample)
        h = self.sample_in(sample.to(self.dtype))
        for unit, feature in zip(self.sample_units, condition.features, strict=True):
            h = self._run(unit, torch.cat([h, feature], dim=1), embedding)
        clean = self.conv_out(self.norm_out(h)).to(condition.y_hat.dtype)
        return condition.y_hat + clean if self.config["residual"] else clean

    def _embed(
        self, time: Tensor | float, quality: Tensor | float | None, like: Tensor
    ) -> Tensor | None:
        """Embedding of t/T and rate point, shape (B, width); None where D has neither."""
        if self.embed is None:
            return None
        given = [time] if self.config["time_embedding"] else []
        if self.config["rate_points"] is not None:
            given.append(self._rate(quality))
        columns = [
            torch.as_tensor(value, device=like.device).float().reshape(-1) for value in given
        ]
        scalars = torch.stack([column.expand(like.shape[0]) for column in columns], dim=1)
        return self.embed(scalars.to(self.dtype))

    def _rate(self, quality: Tensor | float | None) -> Tensor | float:
        """The rate point in [0, 1]."""
        top = self.config["rate_points"] - 1
        if quality is None:
            raise OptionError(f"this fusion module needs the rate point, quality=0 to {top}")
        points = torch.as_tensor(quality)
        if not ((points >= 0) & (points <= top)).all():
            raise OptionError(
                f"quality {points.tolist()}: this fusion module has rate points 0 to {top}"
            )
        return quality / top

    def _run(self, unit: nn.Module, h: Tensor, embedding: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            checkpoint: Any = self._gradient_checkpointing_func  # None until it is enabled
            return checkpoint(unit, h, embedding)
        return unit(h, embedding)

    # -- scale --------------------------------------------------------------------------------

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the per-channel normalisation, shapes (C,), saved with the weights.

        Raises:
            OptionError: for another shape, values that are not finite, or a std that is not
                positive.
        """
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != self.latent_mean.shape or not value.isfinite().all():
                raise OptionError(
                    f"{name}: give {self.config['latent_channels']} finite numbers, one a channel"
                )
        if not (std > 0).all():
            raise OptionError("std: must be positive; give a channel without variance 1")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def normalize(self, y: Tensor) -> Tensor:
        """A latent as ``g_s`` takes it, (B, C, h, w), to D's scale, float32.

        Raises:
            CheckpointError: for a latent of another width.
        """
        self._check_width(y.shape[1])
        mean, std = self._statistics(y.device)
        return (y.float() - mean) / std

    def denormalize(self, y: Tensor) -> Tensor:
        """Back from D's scale, float32."""
        mean, std = self._statistics(y.device)
        return y.float() * std + mean

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = self.latent_mean.to(device), self.latent_std.to(device)
        return mean[:, None, None], std[:, None, None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Cast everything but the statistics, which stay float32 and follow moves only."""
        before = {name: getattr(self, name) for name in STATISTICS}
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            moved = getattr(self, name)
            if moved.dtype != tensor.dtype:
                setattr(self, name, tensor.to(moved.device))
        return self

    # -- checks -------------------------------------------------------------------------------

    def check_base(self, fingerprint: bytes, synthesis: bytes, latent_channels: int) -> None:
        """Refuse a base codec that D was not trained for.

        Args:
            fingerprint: 6 bytes of the codec (`ModelCodec.fingerprint`).
            synthesis: 2 bytes of its synthesis (`ModelCodec.synthesis`).
            latent_channels: width of its latent.

        Raises:
            CheckpointError: for another base than the recorded one, or another width. Where
                nothing is recorded any base of the width will do.
        """
        self._check_width(latent_channels)
        recorded = (self.config["base_fingerprint"], self.config["base_synthesis"])
        given = (fingerprint.hex(), synthesis.hex())
        if any(
            own is not None and own != other for own, other in zip(recorded, given, strict=True)
        ):
            name = self.config["base_architecture"] or "a base codec"
            own = "/".join(value or "any" for value in recorded)
            raise CheckpointError(
                f"this fusion module was trained for {name} {own} (fingerprint/synthesis), the "
                f"codec is {'/'.join(given)}: take the module of that codec"
            )

    def _check_width(self, channels: int) -> None:
        if channels != self.config["latent_channels"]:
            raise CheckpointError(
                f"the codec's latent has {channels} channels, this fusion module was made for "
                f"{self.config['latent_channels']}: take one of the codec's width"
            )

    def check_weights(self) -> None:
        """Refuse weights that are not numbers, and a standard deviation that is none.

        Raises:
            CheckpointError: names the first tensor with a NaN or an infinite value; ``latent_std``
                is not positive.
        """
        for name, tensor in self.state_dict().items():
            if not tensor.is_meta and not tensor.float().isfinite().all():
                raise CheckpointError(
                    f"{name} of the fusion module has NaN or infinite values: the training "
                    f"diverged or the file is damaged; take another checkpoint"
                )
        if not self.latent_std.is_meta and not (self.latent_std > 0).all():
            raise CheckpointError(
                f"latent_std of the fusion module is {float(self.latent_std.min()):g} in a "
                f"channel, not positive: the file is damaged; take another checkpoint"
            )

    # -- loading ------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[Any] | None, **options: Any
    ) -> Any:
        """Load a saved module; the arguments are those of ``ModelMixin.from_pretrained``.

        ``low_cpu_mem_usage`` is taken as True: the other way diffusers does not keep the statistics
        in float32.

        Raises:
            CheckpointError: if the config describes no module, or tensors are missing, superfluous,
                of another shape, NaN or infinite, or ``latent_std`` is not positive.
        """
        options["low_cpu_mem_usage"] = True
        loaded = super().from_pretrained(pretrained_model_name_or_path, **options)
        (loaded[0] if isinstance(loaded, tuple) else loaded).check_weights()
        return loaded

    @classmethod
    def from_config(cls, config: Any = None, *args: Any, **options: Any) -> Any:
        """A fresh module; the arguments are those of ``ConfigMixin.from_config``.

        Raises:
            CheckpointError: if the config describes none.
        """
        if not isinstance(config, dict):  # a name would be looked for on the Hub
            raise CheckpointError(f"the config is {config!r:.40}, not an object of arguments")
        try:
            return super().from_config(config, *args, **options)
        except Exception as error:  # torch's constructors raise what they like
            reason = str(error) or type(error).__name__
            raise CheckpointError(f"the config describes no fusion module: {reason}") from error

    @classmethod
    def _load_pretrained_model(cls, model: Any, *args: Any, **options: Any) -> Any:
        """Refuse what diffusers only warns about: parts that would keep random weights."""
        what = "this fusion module's config"
        try:
            loaded = super()._load_pretrained_model(model, *args, **options)
        except (RuntimeError, ValueError) as error:  # a tensor of another shape
            reason = " ".join(str(error).partition(" If you want")[0].split())
            raise CheckpointError(f"the weights do not fit {what}: {reason}") from error
        return refuse_misfit(loaded, what)
