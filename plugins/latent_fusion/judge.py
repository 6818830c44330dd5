"""A judge of patches, for the adversarial term that may be added to equation 2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

SHARPNESS = 8.0
"""Factor on the high frequencies, whose numbers are small."""


class PatchJudge(nn.Module):
    """Tells photographs from decoded pictures, patch by patch; it serves training only.

    .. code-block:: none

        x ─► 2 x - 1, 8 (x - blurred x) ─► conv /2 ─► conv /2 ─► conv ─► conv ─► verdicts

    A discriminator of overlapping patches of 28 pixels (Isola et al., CVPR 2017) without
    normalisation. It is shown the high frequencies by themselves: on pictures alone its hinge loss
    was 1.98 after 200 steps (2 is knowing nothing), with them 1.09.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Verdicts (B, 1, H/4, W/4) on images (B, 3, H, W), in float32: above 0 for photographs."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
            verdicts: Tensor = self.layers(torch.cat([2 * x - 1, SHARPNESS * (x - blurred)], dim=1))
        return verdicts

    def mistakes(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """What the judge learns from, shape (B,): the hinge loss. ``x_hat`` gets no gradient."""
        fake, real = self(x_hat.detach()), self(x)
        return (F.relu(1 + fake) + F.relu(1 - real)).mean((1, 2, 3))

    def disbelief(self, x_hat: Tensor) -> Tensor:
        """What the judged one learns from, shape (B,). The judge itself gets no gradient."""
        fixed = {name: tensor.detach() for name, tensor in self.named_parameters()}
        verdicts: Tensor = functional_call(self, fixed, (x_hat,))
        return -verdicts.mean((1, 2, 3))
