"""The transforms of DiffEIC's compression module (arXiv 2404.18820, Fig. 3).

Guidance runs beside the main path: features of the VAE's latent z_g at the encoder, and of
w = f_c(z_hat) at the decoder, modulate those of the picture at every resolution. With
``features=0`` there is none (the paper's "W/o LFG").
"""

from __future__ import annotations

from torch import Tensor, nn

from compressai_gen.models.lfgcm_blocks import (
    Bottleneck,
    DownBlock,
    FeatureFusion,
    Fusion,
    ModulatedBlock,
    Modulation,
    UpBlock,
    conv,
    deconv,
    feature_layers,
)

BOTTLENECKS = 3
"""Residual bottlenecks after every change of resolution."""


def _bottlenecks(channels: int) -> list[Bottleneck]:
    return [Bottleneck(channels) for _ in range(BOTTLENECKS)]


class Analysis(nn.Module):
    """g_a: picture and z_g to y.

    .. code-block:: none

        x ─► down x3 ─► SFT ─► down ─► SFT ─► conv ─► SFT block x2 ─► conv ─► y
                         ▲              ▲                ▲
        z_g ─► features_8 ─► features_16 ─► features_16b

    Args:
        N: channels at 1/16.
        M: of y.
        stages: channels at 1/2, 1/4 and 1/8.
        latent: channels of z_g.
        features: of the guidance.
    """

    def __init__(
        self, N: int, M: int, stages: tuple[int, int, int], latent: int, features: int
    ) -> None:
        super().__init__()
        if features:
            self.features_8 = feature_layers(latent, features)
            self.features_16 = feature_layers(features, features, conv(features, features, 3, 2))
            self.features_16b = feature_layers(features, features)
        pairs = zip((3, *stages), stages, strict=False)
        self.down_8 = nn.Sequential(
            *(layer for a, b in pairs for layer in (DownBlock(a, b), *_bottlenecks(b)))
        )
        self.modulation_8 = Modulation(stages[2], features)
        self.down_16 = nn.Sequential(DownBlock(stages[2], N), *_bottlenecks(N))
        self.modulation_16 = Modulation(N, features)
        self.conv_in = conv(N, N)
        self.blocks = nn.ModuleList(ModulatedBlock(N, features) for _ in range(2))
        self.conv_out = conv(N, M)
        self.guided = features > 0

    def forward(self, x: Tensor, guidance: Tensor | None) -> Tensor:
        """(B, 3, H, W) in [0, 1] and (B, latent, H/8, W/8) to (B, M, H/16, W/16)."""
        f_8 = f_16 = f_16b = None
        if self.guided:
            f_8 = self.features_8(guidance)
            f_16 = self.features_16(f_8)
            f_16b = self.features_16b(f_16)
        h = self.modulation_8(self.down_8(x), f_8)
        h = self.conv_in(self.modulation_16(self.down_16(h), f_16))
        for block in self.blocks:
            h = block(h, f_16b)
        return self.conv_out(h)


class HyperAnalysis(nn.Module):
    """h_a: y and z_g to z.

    .. code-block:: none

        y ─────┬─► conv ─► SFT ─► GELU ─► /2 ─► SFT ─► GELU ─► /2 ─► SFT block x2 ─► conv ─► z
               ▼            ▲                   ▲                        ▲
        z_g ─► fusion ──────┴─► features_32 ────┴─► features_64 ─────────┘

    Args:
        N, M, latent, features: as in :class:`Analysis`.
        fusion: how features of z_g and y come together.
    """

    def __init__(self, N: int, M: int, latent: int, features: int, fusion: Fusion) -> None:
        super().__init__()
        if features:
            self.features_in = feature_layers(latent, features, conv(latent, features, 3, 2))
            self.fusion = FeatureFusion(features, M, features, fusion)
            self.features_32, self.features_64 = (
                feature_layers(features, features, conv(features, features, 3, 2)) for _ in range(2)
            )
        self.conv_16, self.modulation_16 = conv(M, N), Modulation(N, features)
        self.conv_32, self.modulation_32 = conv(N, N, 5, 2), Modulation(N, features)
        self.conv_64 = conv(N, N, 5, 2)
        self.blocks = nn.ModuleList(ModulatedBlock(N, features) for _ in range(2))
        self.conv_out = conv(N, N, 1)
        self.activation = nn.GELU()
        self.guided = features > 0

    def forward(self, y: Tensor, guidance: Tensor | None) -> Tensor:
        """(B, M, h, w) and (B, latent, 2h, 2w) to (B, N, h/4, w/4)."""
        f_16 = f_32 = f_64 = None
        if self.guided:
            f_16 = self.fusion(self.features_in(guidance), y)
            f_32 = self.features_32(f_16)
            f_64 = self.features_64(f_32)
        h = self.activation(self.modulation_16(self.conv_16(y), f_16))
        h = self.activation(self.modulation_32(self.conv_32(h), f_32))
        h = self.conv_64(h)
        for block in self.blocks:
            h = block(h, f_64)
        return self.conv_out(h)


class Synthesis(nn.Module):
    """g_s: y_hat and w to the content variable z_c.

    .. code-block:: none

        y_hat ─┬─► SFT block x2 ─► conv ─► SFT ─► x2 ─► SFT ─► conv ─► z_c
               ▼       ▲                    ▲            ▲
        w ─► fusion ───┴─► features_16 ─────┴─► features_8

    Args:
        N, M, latent, features, fusion: as in :class:`HyperAnalysis`; ``latent`` is that of z_c.
    """

    def __init__(self, N: int, M: int, latent: int, features: int, fusion: Fusion) -> None:
        super().__init__()
        if features:
            self.fusion = FeatureFusion(N // 4, M, features, fusion)
            self.features_16 = feature_layers(features, features)
            self.features_8 = feature_layers(features, features, deconv(features, features, 3))
        self.blocks = nn.ModuleList(ModulatedBlock(M, features) for _ in range(2))
        self.at_16 = nn.Sequential(conv(M, N), *_bottlenecks(N))
        self.modulation_16 = Modulation(N, features)
        self.at_8 = nn.Sequential(UpBlock(N, N), *_bottlenecks(N))
        self.modulation_8 = Modulation(N, features)
        self.conv_out = conv(N, latent)
        self.guided = features > 0

    def forward(self, y_hat: Tensor, w: Tensor | None) -> Tensor:
        """(B, M, h, w) and (B, N/4, h, w) to (B, latent, 2h, 2w)."""
        f = f_16 = f_8 = None
        if self.guided and w is not None:
            f = self.fusion(w, y_hat)
            f_16 = self.features_16(f)
            f_8 = self.features_8(f_16)
        h = y_hat
        for block in self.blocks:
            h = block(h, f)
        h = self.modulation_16(self.at_16(h), f_16)
        h = self.modulation_8(self.at_8(h), f_8)
        return self.conv_out(h)


def hyper_synthesis(N: int, first: int, second: int, outputs: int) -> nn.Sequential:
    """h_s and f_c: z_hat (B, N, h, w) to (B, outputs, 4h, 4w)."""
    return nn.Sequential(
        deconv(N, first),
        nn.GELU(),
        deconv(first, second),
        nn.GELU(),
        deconv(second, outputs, 3, 1),
    )
