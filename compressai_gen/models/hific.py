"""HiFiC, a perceptual codec at one rate, as a CompressAI model and a zoo factory.

Mentzer, Toderici, Tschannen and Agustsson, "High-Fidelity Generative Image Compression",
NeurIPS 2020 (arXiv 2006.09965).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.models import CompressionModel, MeanScaleHyperprior
from torch import Tensor

from compressai_gen.errors import CheckpointError, OptionError
from compressai_gen.models.hific_entropy import LogisticConditional, TanhFactorBottleneck
from compressai_gen.models.hific_transforms import (
    RESIDUAL_BLOCKS,
    WIDTHS,
    Encoder,
    Generator,
    Padding,
    hyper_analysis,
    hyper_synthesis,
)
from compressai_gen.models.quantisation import round_ste

Likelihood = Literal["gaussian", "logistic"]
Prior = Literal["tanh", "compressai"]

QUALITIES: dict[int, dict[str, Any]] = {
    1: {},
    2: {"likelihood": "logistic", "normalize": False},
    3: {},
}
"""Constructor arguments of the published models low (0.14 bpp), med (0.3) and high (0.45).

How many residual blocks med has (7 or 9) is not documented; a converted file shows it.
"""


class Hific(MeanScaleHyperprior):
    """HiFiC: a mean-scale hyperprior around a generator trained against a discriminator.

    .. code-block:: none

        x ─► g_a ─► y ────────► Q ─► y_hat ─► g_s ─► x_hat     Q    rounding around means_hat
                    │           ▲                              g_s  the generator
                    ▼           │ scales_hat, means_hat
                   h_a ─► z ─► Q ─► z_hat ─► h_s

    CompressAI's strings, ``[[y], [z]]``; files use the fixed-point path of
    :func:`compressai_gen.entropy.export`. The defaults are the published models low and high. A
    latent exactly between two integers is rounded to the even one, where the published HiFiC rounds
    up: that changes no file that is decoded here.

    Args:
        N: channels of z and of the hyperprior's networks.
        M: channels of y.
        widths: channels of the transforms at 1, 1/2, 1/4, 1/8 and 1/16 of the resolution.
        residual_blocks: of the generator.
        likelihood: of y: "gaussian", or "logistic" as in the published med.
        normalize: the transforms work in [-1, 1] and end in tanh; images are [0, 1] either way.
        padding: "reflect", or "zeros" as in MS-ILLM and No-GAN.
        prior: of z: "tanh" (:class:`TanhFactorBottleneck`) or "compressai" as in MS-ILLM.

    Raises:
        OptionError: for an unknown likelihood, padding or prior.
    """

    trained_for = "perceptual quality"
    """What every published model of this class was trained for, see `checkpoints.metric_of`."""

    def __init__(
        self,
        N: int = 320,
        M: int = 220,
        widths: Sequence[int] = WIDTHS,
        residual_blocks: int = RESIDUAL_BLOCKS,
        likelihood: Likelihood = "gaussian",
        normalize: bool = True,
        padding: Padding = "reflect",
        prior: Prior = "tanh",
    ) -> None:
        CompressionModel.__init__(self)  # not the parent's: its transforms would be thrown away
        _check_choice("likelihood", likelihood, ("gaussian", "logistic"))
        _check_choice("padding", padding, ("reflect", "zeros"))
        _check_choice("prior", prior, ("tanh", "compressai"))
        self.N, self.M, self.widths = N, M, tuple(widths)
        self.residual_blocks, self.likelihood = residual_blocks, likelihood
        self.normalize, self.padding, self.prior = normalize, padding, prior
        self.g_a = Encoder(self.widths, M, normalize, padding)
        self.g_s = Generator(self.widths, M, residual_blocks, normalize, padding)
        self.h_a = hyper_analysis(M, N, padding)
        self.h_s = hyper_synthesis(M, N)
        self.entropy_bottleneck = (
            TanhFactorBottleneck(N) if prior == "tanh" else EntropyBottleneck(N)
        )
        is_logistic = likelihood == "logistic"
        self.gaussian_conditional = (LogisticConditional if is_logistic else GaussianConditional)(
            None
        )
        # What the shapes of the weights do not tell, so that a state dict says all of it.
        traits = torch.tensor([is_logistic, normalize, padding == "zeros"], dtype=torch.uint8)
        self.register_buffer("traits", traits)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        In training the rates are those of noisy latents, and the generator sees rounded ones with a
        straight-through gradient, as in both public models.

        Args:
            x: shape (B, 3, H, W) in [0, 1], H and W multiples of 64.

        Returns:
            ``x_hat`` (B, 3, H, W) and ``likelihoods`` with ``y`` (B, M, H/16, W/16) and ``z``
            (B, N, H/64, W/64).
        """
        y = self.g_a(x).float()
        z = self.h_a(y).float()
        with torch.autocast(x.device.type, enabled=False):
            z_hat, z_likelihoods = self.entropy_bottleneck(z)
        scales_hat, means_hat = self.h_s(z_hat).float().chunk(2, 1)
        with torch.autocast(x.device.type, enabled=False):
            _, y_likelihoods = self.gaussian_conditional(y, scales_hat, means=means_hat)
        x_hat = self.g_s(round_ste(y - means_hat) + means_hat).float()
        return {"x_hat": x_hat, "likelihoods": {"y": y_likelihoods, "z": z_likelihoods}}

    def update(
        self, scale_table: Any = None, force: bool = False, update_quantiles: bool = False
    ) -> bool:
        """Build the integer tables, unless the model is exported: files must stay readable."""
        if getattr(self, "portable", None) is not None:
            return False
        return super().update(scale_table, force=force, update_quantiles=update_quantiles)

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> Hific:
        """A model whose arguments are all read off ``state_dict``.

        Raises:
            CheckpointError: if it has no ``traits``: a published file is to be converted first.
        """
        from compressai_gen.models.state_dicts import without_portable

        model = cls(**_arguments(state_dict))
        model.load_state_dict(without_portable(dict(state_dict)))
        return model


def hific(
    quality: int = 1,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    **kwargs: Any,
) -> Hific:
    """Zoo factory: a fresh HiFiC, or a converted one.

    Args:
        quality: 1, 2 or 3: the architecture of the published low, med or high.
        metric: "mse"; accepted for compatibility, every published model has the same losses.
        pretrained: needs ``checkpoint``, as the published weights are not distributed with this
            package.
        progress: accepted for compatibility; nothing is downloaded.
        checkpoint: a folder, a safetensors file or a Hub repo id to load.
        **kwargs: constructor arguments of a fresh model.

    Raises:
        OptionError: for an unknown quality or metric.
        CheckpointError: if there is no such checkpoint.
    """
    if quality not in QUALITIES or metric != "mse":
        raise OptionError(
            f"hific has no quality {quality} for metric {metric!r}: "
            'give 1 (0.14 bpp), 2 (0.3) or 3 (0.45), and "mse"'
        )
    if checkpoint is not None:
        from compressai_gen.checkpoints import load_model

        model = load_model(checkpoint)
        if not isinstance(model, Hific):
            raise CheckpointError(f"{checkpoint} holds a {type(model).__name__}, not a hific")
        return model
    if pretrained:
        raise CheckpointError(
            "no trained hific ships with the package: fetch hific_low.pt, hific_med.pt or "
            "hific_hi.pt from https://zenodo.org/record/4026003 (or the Google Drive links of "
            "Justin-Tan/high-fidelity-generative-compression), run "
            "`cgen convert hific FILE --out DIR` and pass checkpoint=DIR"
        )
    return Hific(**{**QUALITIES[quality], **kwargs})


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """N, M, widths and residual blocks of weights under our names.

    Raises:
        KeyError: if a tensor they are read from is missing.
    """
    N, M = state["h_a.0.weight"].shape[:2]
    return {
        "N": N,
        "M": M,
        "widths": [state[f"g_a.{3 * stage}.weight"].size(0) for stage in range(5)],
        "residual_blocks": sum(f"g_s.body.{k}.0.weight" in state for k in range(len(state))),
    }


def _arguments(state: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of a state dict."""
    if "traits" not in state:
        raise CheckpointError(
            "this state dict is not one of a hific model here: turn a published file into a folder "
            "with `cgen convert hific FILE --out DIR` or `cgen convert ms-illm FILE --out DIR`"
        )
    is_logistic, normalize, has_zeros = state["traits"].bool().tolist()
    has_factor = "entropy_bottleneck.matrices.4" not in state
    return {
        **sizes_of(state),
        "likelihood": "logistic" if is_logistic else "gaussian",
        "normalize": normalize,
        "padding": "zeros" if has_zeros else "reflect",
        "prior": "tanh" if has_factor else "compressai",
    }


def _check_choice(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise OptionError(f"{name} {given!r} is unknown: give one of {', '.join(allowed)}")
