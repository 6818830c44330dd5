"""LPIPS (Zhang et al. 2018) by the `lpips` package, with a trunk that is already on this machine.

The package bundles the linear heads (v0.1); the ImageNet trunk is torchvision's and is never
downloaded here. The figure depends on the trunk: LPIPS-squeeze, -alex and -vgg are three metrics.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from compressai_gen.errors import CheckpointError, MissingWeightsError
from compressai_gen.metrics.base import Metric
from compressai_gen.metrics.weights import find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

#: lpips' name of a trunk -> file names, a plain one and torchvision's
TRUNKS = {
    "squeeze": ("lpips/squeeze.backbone.pth", "squeezenet1_1-b8a52dc0.pth"),
    "alex": ("lpips/alex.backbone.pth", "alexnet-owt-7be5be79.pth"),
    "vgg": ("lpips/vgg.backbone.pth", "vgg16-397923af.pth"),
}


def lpips_network(net: str, weights: Path | None = None) -> nn.Module:
    """An `lpips.LPIPS` module, frozen and in eval mode; inputs ``[B, 3, H, W]`` in [-1, 1].

    Args:
        net: ``"squeeze"``, ``"alex"`` or ``"vgg"``.
        weights: a folder to search for the trunk first.

    Raises:
        MissingWeightsError: the trunk is not on this machine, or `lpips` is not installed.
        CheckpointError: the file found is not that trunk.
    """
    path = find_weights(f"lpips-{net}", TRUNKS[net], weights)
    try:
        import lpips
    except ImportError as error:
        raise MissingWeightsError(
            f"lpips-{net}: the package lpips is missing; "
            "pip install '.[metrics]' in compressai-gen's folder"
        ) from error
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # lpips calls torchvision by deprecated arguments
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    _load_trunk(network.net, path)
    return network.eval().requires_grad_(False)


def _load_trunk(trunk: nn.Module, path: Path) -> None:
    """Fill ``sliceN.<layer>.*`` of lpips' trunk from torchvision's ``[features.]<layer>.*``."""
    import torch

    stored = torch.load(path, map_location="cpu", weights_only=True)
    state = {key.removeprefix("features."): value for key, value in stored.items()}
    wanted = {key: key.split(".", 1)[1] for key in trunk.state_dict()}
    missing = sorted(set(wanted.values()) - set(state))
    if missing:
        raise CheckpointError(f"{path} is not this LPIPS trunk: it lacks {missing[0]}")
    try:
        trunk.load_state_dict({key: state[name] for key, name in wanted.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not this LPIPS trunk: {error}") from error


class _Lpips(Metric):
    unit = ""
    higher_is_better = False
    minimum_side = 32
    net: ClassVar[str]

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__(weights)
        self.network = lpips_network(self.net, weights)

    def measure(self, reference: Tensor, decoded: Tensor) -> float:
        import torch

        self.network.to(decoded.device)
        with torch.inference_mode():
            return float(self.network(reference.float() * 2 - 1, decoded.float() * 2 - 1))


class LpipsSqueeze(_Lpips):
    """LPIPS with SqueezeNet 1.1; not comparable with published LPIPS-alex figures."""

    name = "lpips-squeeze"
    net = "squeeze"
    note = "LPIPS v0.1, SqueezeNet1_1 trunk, input in [-1, 1]; not comparable with LPIPS-alex"


class LpipsAlex(_Lpips):
    """LPIPS with AlexNet, the one most papers report."""

    name = "lpips-alex"
    net = "alex"
    note = "LPIPS v0.1, AlexNet trunk, input in [-1, 1]"


class LpipsVgg(_Lpips):
    """LPIPS with VGG-16."""

    name = "lpips-vgg"
    net = "vgg"
    note = "LPIPS v0.1, VGG16 trunk, input in [-1, 1]"
