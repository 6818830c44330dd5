"""The paper's checks on one picture: its file, decoded in many ways, each compared with it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from compressai_gen.codec.enhancers import DecodedLatents
from compressai_gen.images import from_tensor, to_tensor
from compressai_gen.notes import SynthesisWarning
from compressai_gen_plugins.latent_fusion.study_dials import STEPS, Dial
from diffusers_codec.pipelines.latent_fusion import default_scheduler, mix, sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from compressai_gen.metrics.base import Metric

STEP_COUNTS = (1, 2, 4, 10, 20, 50)
TAUS = tuple(tenth / 10 for tenth in range(11))
SEEDS = tuple(range(10))


@dataclass(frozen=True)
class Measured:
    """One decoded picture.

    Attributes:
        check: "steps", "tau" or "seeds".
        module: name of the fusion module.
        picture: name of the picture.
        steps, tau, mode: as for `sample`.
        seed: of the noise; None for the file's own.
        values: bits per pixel of the file, and the metrics.
    """

    check: str
    module: str
    picture: str
    steps: int
    tau: float
    mode: str
    seed: int | None
    values: Mapping[str, float]


def count(dials: Sequence[Dial]) -> int:
    """How many pictures `measure` decodes."""
    return len(STEP_COUNTS) + 1 + len(TAUS) * len(dials) + len(SEEDS)


class Bench:
    """A picture, its file, and what is measured on it.

    Args:
        name: of the picture.
        photo: the picture.
        data: its file.
        metrics: by name.
    """

    def __init__(self, name: str, photo: Image, data: bytes, metrics: Mapping[str, Metric]) -> None:
        self.name, self.data, self.metrics = name, data, metrics
        self.x = to_tensor(photo)
        self.bpp = 8 * len(data) / (photo.width * photo.height)

    def measure(self, dials: Sequence[Dial]) -> Iterator[Measured]:
        """All checks; those over steps and seeds on the first dial only.

        Raises:
            ImageError: the picture is too small for a metric.
        """
        yield from self.over_steps(dials[0])
        for dial in dials:
            yield from self.over_tau(dial)
        yield from self.over_seeds(dials[0])

    def decoded(self, dial: Dial) -> DecodedLatents:
        """The latents of the file; that a variant makes other pictures of them is the point."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SynthesisWarning)
            return dial.codec.decode_latents(self.data)

    def over_steps(self, dial: Dial) -> Iterator[Measured]:
        """Fig. 9: tau = 0 after more and fewer steps; the default number by equation 4 as well."""
        decoded = self.decoded(dial)
        for mode, steps in [*(("cached", n) for n in STEP_COUNTS), ("paper", STEPS)]:
            y_tilde = sampled(dial, decoded, steps=steps, mode=mode)
            yield self._row(dial, decoded, y_tilde, "steps", steps=steps, mode=mode)

    def over_tau(self, dial: Dial) -> Iterator[Measured]:
        """Fig. 8 and 10: one sampling, then the dial from one end to the other."""
        decoded = self.decoded(dial)
        y_tilde = sampled(dial, decoded)
        for tau in TAUS:
            yield self._row(dial, decoded, mix(y_tilde, decoded.y_hat, tau), "tau", tau=tau)

    def over_seeds(self, dial: Dial) -> Iterator[Measured]:
        """ "Diffusion Stability" of the appendix: tau = 0 from other noise than the file's."""
        decoded = self.decoded(dial)
        for seed in SEEDS:
            y_tilde = sampled(dial, replace(decoded, seed=seed))
            yield self._row(dial, decoded, y_tilde, "seeds", seed=seed)

    def _row(
        self,
        dial: Dial,
        decoded: DecodedLatents,
        latent: Tensor,
        check: str,
        *,
        steps: int | None = None,
        tau: float = 0.0,
        mode: str = "cached",
        seed: int | None = None,
    ) -> Measured:
        values = self._compare(decoded, latent)
        return Measured(check, dial.name, self.name, steps or dial.steps, tau, mode, seed, values)

    def _compare(self, decoded: DecodedLatents, latent: Tensor) -> dict[str, float]:
        """The picture of a latent, in 8 bits, beside the original."""
        height, width = self.x.shape[2:]
        x_hat = decoded.synthesize(latent)[:, :, :height, :width]
        rounded = to_tensor(from_tensor(x_hat, "np")).to(latent.device)
        x = self.x.to(latent.device)
        measured = {name: metric(x, rounded) for name, metric in self.metrics.items()}
        return {"bpp": self.bpp, **measured}


def sampled(
    dial: Dial, decoded: DecodedLatents, *, steps: int | None = None, mode: str = "cached"
) -> Tensor:
    """y_tilde at tau = 0, as ``g_s`` takes it, from the noise of ``decoded.seed``."""
    return sample(
        dial.fusion,
        default_scheduler(),
        decoded.y_hat,
        seed=decoded.seed,
        quality=decoded.quality,
        num_inference_steps=steps or dial.steps,
        mode=mode,
    )
