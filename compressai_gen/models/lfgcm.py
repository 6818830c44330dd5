"""LFGCM, DiffEIC's latent feature-guided compression module, as a CompressAI model.

Li, Zhou, Wei, Ge and Jiang, "Toward Extreme Image Compression with Latent Feature Guidance and
Diffusion Prior", TCSVT 2024 (arXiv 2404.18820), section III-A.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel
from torch import Tensor

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.channel_groups import ChannelGroups
from compressai_gen.models.entropy_networks import EntropyNetworks
from compressai_gen.models.lfgcm_blocks import Fusion
from compressai_gen.models.lfgcm_transforms import (
    Analysis,
    HyperAnalysis,
    Synthesis,
    hyper_synthesis,
)
from compressai_gen.models.quantisation import round_ste

GROUPS = (8, 8, 8, 8, 16, 16, 32, 32, 96, 96)
"""Channels of y, group by group, as released."""

STRIDE = 8
"""Pixels a side of one position of the guidance."""


class Lfgcm(CompressionModel):
    """Compresses a picture, guided by its latent in a diffusion model, to a content variable.

    .. code-block:: none

        x ───► g_a ─► y ───────────────────────► Q ─► y_hat ─► g_s ─► z_c
                ▲     │                          ▲    │ ▲       ▲
        z_g ────┴──┐  ▼                          │    ▼ │       │
                   └► h_a ─► z ─► Q ─► z_hat ─┬─► h_s ─► groups │      Q  rounding
                                              └─► f_c ─► w ─────┘

    z_g is the latent of a VAE, multiplied with its scaling factor, and z_c an approximation of it
    that a diffusion model takes from there. The groups are those of ELIC: see
    :class:`compressai_gen.models.channel_groups.ChannelGroups`.

    It has no strings but those of its fixed-point entropy path, one for each picture. The defaults
    are the released model (51.5 M parameters).

    Args:
        N: channels of z and of most layers.
        groups: channels of the groups of y, in coding order; M is their sum.
        stages: channels of g_a at 1/2, 1/4 and 1/8 of the resolution.
        latent_channels: of z_g and z_c.
        features: of the guidance.
        context: channels of the two inner layers of the channel contexts.
        guidance: False for the paper's "W/o LFG": no z_g, no w.
        fusion: how guidance and latents come together: "concatenation", as released, or the
            "addition" or "cross-attention" of the paper's Table III.

    Raises:
        OptionError: for sizes below one or an unknown fusion.
    """

    portable: Any

    def __init__(
        self,
        N: int = 192,
        groups: Sequence[int] = GROUPS,
        stages: Sequence[int] = (64, 128, 192),
        latent_channels: int = 4,
        features: int = 64,
        context: Sequence[int] = (224, 128),
        guidance: bool = True,
        fusion: Fusion = "concatenation",
    ) -> None:
        super().__init__()
        if min(N // 4, latent_channels, features, *groups, *stages, *context) < 1:
            raise OptionError("the widths of an LFGCM must be positive, N at least 4")
        half, quarter, eighth = stages
        first, second = context
        self.N, self.groups, self.stages = N, tuple(groups), (half, quarter, eighth)
        self.latent_channels, self.features, self.context = (
            latent_channels,
            features,
            tuple(context),
        )
        self.guidance, self.fusion = guidance, fusion
        self.M = M = sum(self.groups)
        guides = features if guidance else 0
        self.g_a = Analysis(N, M, self.stages, latent_channels, guides)
        self.h_a = HyperAnalysis(N, M, latent_channels, guides, fusion)
        self.h_s = hyper_synthesis(N, M, M * 3 // 2, 2 * M)
        self.f_c = hyper_synthesis(N, N // 2, N // 4, N // 4) if guidance else None
        self.g_s = Synthesis(N, M, latent_channels, guides, fusion)
        self.channel_groups = ChannelGroups(self.groups, 2 * M, (first, second), "odd")
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.gaussian_conditional = GaussianConditional(None)
        self.add_module("portable", None)

    # -- the pieces ---------------------------------------------------------------------------

    def analysis(self, x: Tensor, guidance: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y and z, before rounding; equation 2.

        Args:
            x: shape (B, 3, H, W) in [0, 1], H and W multiples of 64.
            guidance: z_g, scaled, shape (B, latent_channels, H/8, W/8).

        Returns:
            y, shape (B, M, H/16, W/16), and z, shape (B, N, H/64, W/64), float32.

        Raises:
            OptionError: if the guidance is missing, or of another shape.
        """
        guidance = self._checked(x, guidance)
        y = self.g_a(x, guidance)
        return y.float(), self.h_a(y, guidance).float()

    def synthesis(self, y_hat: Tensor, z_hat: Tensor) -> Tensor:
        """z_c of the rounded latents, shape (B, latent_channels, H/8, W/8); equations 4 and 5."""
        dtype = next(self.g_s.parameters()).dtype
        w = None if self.f_c is None else self.f_c(z_hat.to(dtype))
        return self.g_s(y_hat.to(dtype), w)

    def _checked(self, x: Tensor, guidance: Tensor | None) -> Tensor | None:
        """The guidance, if the model takes one and it fits the picture."""
        if not self.guidance:
            return None
        height, width = x.shape[-2:]
        wanted = (x.size(0), self.latent_channels, height // STRIDE, width // STRIDE)
        if guidance is None:
            raise OptionError(
                "this LFGCM needs guidance, the latent of the picture in the diffusion model: "
                f"model.compress(x, guidance) with shape {wanted}, multiplied with the VAE's "
                "scaling factor. DiffEICPipeline makes it from the picture; `cgen evaluate` runs "
                "the pipeline, eval_model cannot"
            )
        if guidance.shape != wanted:
            raise OptionError(
                f"guidance of shape {tuple(guidance.shape)} for pictures of {width}x{height}: "
                f"expected {wanted}, so a VAE with {self.latent_channels} channels and an eighth "
                "of the resolution"
            )
        return guidance

    # -- CompressAI's interface ---------------------------------------------------------------

    def forward(self, x: Tensor, guidance: Tensor | None = None) -> dict[str, Any]:
        """Content variable and likelihoods, for training and for estimates of the rate.

        In training the rates are those of noisy latents, while contexts and transforms see rounded
        ones with straight-through gradients.

        Args:
            x, guidance: as in :meth:`analysis`.

        Returns:
            ``z_c`` (B, latent_channels, H/8, W/8) and ``likelihoods`` with ``y``
            (B, M, H/16, W/16) and ``z`` (B, N, H/64, W/64).

        Raises:
            OptionError: if the guidance is missing, or of another shape.
        """
        y, z = self.analysis(x, guidance)
        with torch.autocast(x.device.type, enabled=False):
            _, z_likelihoods = self.entropy_bottleneck(z)
            medians = self.entropy_bottleneck.quantiles[:, :, 1:2].detach()  # (N, 1, 1)
            z_hat = round_ste(z - medians) + medians
        y_hat, scales_hat, means_hat = self.channel_groups(y, self.h_s(z_hat).float())
        with torch.autocast(x.device.type, enabled=False):
            _, y_likelihoods = self.gaussian_conditional(y, scales_hat, means=means_hat)
        z_c = self.synthesis(y_hat, z_hat).float()
        return {"z_c": z_c, "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    @torch.no_grad()
    def compress(self, x: Tensor, guidance: Tensor | None = None) -> dict[str, Any]:
        """Pictures to strings through the fixed-point entropy path.

        Returns:
            ``strings``: one list holding one ``bytes`` per picture, and ``shape`` (H/64, W/64).

        Raises:
            OptionError: if the guidance is missing, or of another shape.
        """
        y, z = self.analysis(x, guidance)
        encoded = self.entropy_path().encode(y, z)
        return {"strings": [[e.string for e in encoded]], "shape": tuple(z.shape[-2:])}

    @torch.no_grad()
    def decompress(self, strings: list[list[bytes]], shape: tuple[int, int]) -> dict[str, Tensor]:
        """Strings of :meth:`compress` to ``z_c``, shape (B, latent_channels, 8 h, 8 w) of z's h, w.

        Raises:
            CorruptedFileError: if a string cannot have come from :meth:`compress`.
        """
        decoded = self.entropy_path().decode(strings[0], tuple(shape))
        device = next(self.g_s.parameters()).device
        y_hat, z_hat = (
            torch.cat(parts).to(device)
            for parts in zip(*((d.y_hat, d.z_hat) for d in decoded), strict=True)
        )
        return {"z_c": self.synthesis(y_hat, z_hat).float()}

    def entropy_networks(self) -> EntropyNetworks:
        """What encoder and decoder must compute identically."""
        return EntropyNetworks(
            family="channel-groups",
            h_s=self.h_s,
            entropy_bottleneck=self.entropy_bottleneck,
            gaussian_conditional=self.gaussian_conditional,
            anchor_parity=self.channel_groups.parity,
            channel_groups=list(self.channel_groups.groups),  # type: ignore[arg-type]
        )

    def entropy_path(self) -> Any:
        """The fixed-point entropy path; a model that has none yet is exported now."""
        if self.portable is None:
            self.export()
        return self.portable

    def export(self) -> None:
        """Fix the entropy path as it is now, attached as ``portable``."""
        from compressai_gen.entropy import export

        self.add_module("portable", None)
        self.update(force=True)
        self.portable = export(self)

    def update(
        self, scale_table: Any = None, force: bool = False, update_quantiles: bool = False
    ) -> bool:
        """Build the integer tables, unless the model is exported: files must stay readable."""
        if self.portable is not None:
            return False
        return super().update(scale_table, force=force, update_quantiles=update_quantiles)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> Lfgcm:
        """A model whose widths are read off ``state_dict``.

        Raises:
            CheckpointError: if it is not one of ours: a released file is to be converted first.
        """
        from compressai_gen.models.lfgcm_zoo import arguments_of
        from compressai_gen.models.state_dicts import without_portable

        try:
            model = cls(**arguments_of(state_dict))
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"this state dict is not one of an LFGCM here (no {error}): turn a released "
                "lc.ckpt into a folder with `cgen convert diffeic`"
            ) from error
        model.load_state_dict(without_portable(dict(state_dict)))
        return model
