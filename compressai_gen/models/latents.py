"""One view on every model with a hyperprior, stock or ours: latents, synthesis, entropy networks.

Everything that codes latents (files, the fixed-point export, pipelines) goes through these three
functions, so that a stock CompressAI model needs no wrapper class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from compressai.models import (
    Cheng2020AnchorCheckerboard,
    CompressionModel,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    MeanScaleHyperpriorVbr,
    ScaleHyperprior,
    ScaleHyperpriorVbr,
)
from torch import Tensor, nn

from compressai_gen.errors import NotPortableError
from compressai_gen.models.cheng2020_vbr import Cheng2020AnchorVbr
from compressai_gen.models.entropy_networks import EntropyNetworks
from compressai_gen.models.lfgcm import Lfgcm
from compressai_gen.models.variable_rate import VariableRateModel


def analysis(
    model: CompressionModel, x: Tensor, quality: float | None = None
) -> tuple[Tensor, Tensor]:
    """Image to latents as they are rounded next.

    Args:
        model: a model :func:`entropy_networks` accepts.
        x: shape (B, 3, H, W) in [0, 1], H and W multiples of 64.
        quality: rate point of a variable-rate model, else None.

    Returns:
        y, shape (B, M, H/16, W/16), and z, shape (B, N, H/64, W/64), both float32.
    """
    if isinstance(model, VariableRateModel):
        return model.analysis(x, model.rate_point(quality, None, None))
    if isinstance(model, Lfgcm):
        return model.analysis(x)
    y = model.g_a(x)
    if isinstance(model, Cheng2020AnchorCheckerboard):
        return y.float(), model.latent_codec["hyper"].h_a(y).float()
    is_scale_only = not isinstance(model, MeanScaleHyperprior)
    return y.float(), model.h_a(torch.abs(y) if is_scale_only else y).float()


def synthesis(model: CompressionModel, latent: Tensor) -> Tensor:
    """Image of a latent as ``model.g_s`` takes it, shape (B, 3, 16 h, 16 w), not clamped."""
    with repeatable():
        return model.g_s(latent.to(next(model.g_s.parameters()).dtype))


@contextmanager
def repeatable() -> Iterator[None]:
    """The same sums in the same order every time, also on a GPU.

    Of transposed convolutions cuDNN has forms whose result depends on which thread comes first.
    """
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def in_fast_order(latent: Tensor) -> Tensor:
    """A latent or a picture in the memory order in which convolutions are fastest.

    On a CPU that is channels last: two thirds of the time. Sums come out in another order then, so
    it is not for pictures that are promised to be the stock model's, bit for bit.
    """
    on_cpu = latent.device.type == "cpu"
    return latent.contiguous(memory_format=torch.channels_last) if on_cpu else latent


def ungained(model: CompressionModel, y_hat: Tensor, quality: float | None) -> Tensor:
    """y_hat as it was coded, shape (B, M, h, w), as ``model.g_s`` takes it.

    Only a variable-rate model of ours tells the two apart: it codes the gained latent.
    """
    if isinstance(model, VariableRateModel):
        return model.ungained(y_hat, model.rate_point(quality, None, None))
    return y_hat


class _Reached(Exception):
    """The synthesis was reached, with this latent."""

    def __init__(self, latent: Tensor) -> None:
        self.latent = latent


def latent_of(model: CompressionModel, run: Callable[[], object]) -> Tensor:
    """The latent that ``run`` hands to ``model.g_s``; the synthesis itself is not run.

    It works for every CompressAI model whatever its entropy model, for instance
    ``latent_of(model, lambda: model.decompress(strings, shape))``.

    Raises:
        RuntimeError: if ``run`` never comes to the synthesis.
    """

    def leave(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        raise _Reached(arguments[0])

    hook = model.g_s.register_forward_pre_hook(leave)
    try:
        run()
    except _Reached as reached:
        return reached.latent
    finally:
        hook.remove()
    raise RuntimeError(f"{type(model).__name__} did not call its g_s")


def entropy_networks(model: CompressionModel) -> EntropyNetworks:
    """The entropy networks of a model.

    Raises:
        NotPortableError: if its context is serial, or of a kind that has no fixed-point form.
    """
    if isinstance(model, Cheng2020AnchorCheckerboard):
        return _stock_checkerboard(model)
    if isinstance(model, Lfgcm):
        return model.entropy_networks()
    gains = model.z_gain.log2_inverse_gain if isinstance(model, VariableRateModel) else None
    if isinstance(model, Cheng2020AnchorVbr):
        return EntropyNetworks(
            family="checkerboard",
            h_s=model.h_s,
            entropy_bottleneck=model.entropy_bottleneck,
            gaussian_conditional=model.gaussian_conditional,
            context_prediction=model.context_prediction,
            entropy_parameters=model.entropy_parameters,
            z_log2_inverse_gain=gains,
        )
    serial = (JointAutoregressiveHierarchicalPriors, MeanScaleHyperpriorVbr, ScaleHyperpriorVbr)
    if isinstance(model, ScaleHyperprior) and not isinstance(model, serial):
        return EntropyNetworks(
            family="mean-scale" if isinstance(model, MeanScaleHyperprior) else "hyperprior",
            h_s=model.h_s,
            entropy_bottleneck=model.entropy_bottleneck,
            gaussian_conditional=model.gaussian_conditional,
            z_log2_inverse_gain=gains,
        )
    raise NotPortableError(
        f"{type(model).__name__} has no fixed-point form (its context is serial or its tables are "
        "rebuilt in float); portable are bmshj2018-hyperprior, mbt2018-mean, "
        "cheng2020-anchor-checkerboard and this package's models"
    )


def _stock_checkerboard(model: Cheng2020AnchorCheckerboard) -> EntropyNetworks:
    y_codec, hyper = model.latent_codec["y"], model.latent_codec["hyper"]
    return EntropyNetworks(
        family="checkerboard",
        h_s=hyper.h_s,
        entropy_bottleneck=hyper.entropy_bottleneck,
        gaussian_conditional=y_codec.latent_codec["y"].gaussian_conditional,
        context_prediction=y_codec.context_prediction,
        entropy_parameters=y_codec.entropy_parameters,
        anchor_parity=y_codec.anchor_parity,
        context_first=True,
    )
