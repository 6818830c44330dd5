"""Published checkpoints to folders of ours; the files are pickles, of which nothing is run.

``convert_hific`` reads Justin Tan's HiFiC (Apache-2.0), ``convert_ms_illm`` NeuralCompression's
MS-ILLM and No-GAN (code MIT, weights CC-BY-NC-4.0).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.checkpoints.convert import load_untrusted, unwrapped
from compressai_gen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from compressai_gen.models.hific import Hific

Translated = tuple[dict[str, Any], dict[str, "Tensor"], int | None]
"""Arguments that the weights do not show, weights under our names, zoo quality if the file says."""

RESAVE = (
    "where you trust the file, run `import torch; c = torch.load(FILE, map_location='cpu', "
    "weights_only=False)` and `torch.save(NAMES, 'plain.pt')`, then convert plain.pt"
)
HIFIC_KEPT = (
    "{'model_state_dict': c['model_state_dict'], 'args': {k: c['args'][k] for k in "
    "('likelihood_type', 'normalize_input_image', 'n_residual_blocks', 'use_channel_norm', "
    "'regime')}}"
)
REGIMES = {"low": 1, "med": 2, "high": 3}


class PublishedConverter:
    """A converter of ``cgen convert``.

    Args:
        translate: content of the file to arguments, weights and quality.
        kept: what to save anew from a file with other objects in it, as Python.
        license: of the published weights.
    """

    def __init__(self, translate: Callable[[Any], Translated], kept: str, license: str) -> None:
        self.translate, self.kept, self.license = translate, kept, license

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of :meth:`__call__` as flags."""
        parser.add_argument(
            "--license",
            default=self.license,
            help="licence of the weights (default %(default)s, of the published ones)",
        )

    def __call__(self, source: str | Path, out: str | Path, *, license: str | None = None) -> Path:
        """Convert, build the integer tables once, export the entropy path, and save.

        Args:
            source: the published file.
            out: the folder to write.
            license: the Hub's licence identifier; that of the published weights by default.

        Returns:
            The folder.

        Raises:
            CheckpointError: if the file is missing, holds code, or is another model's.
        """
        from compressai_gen.checkpoints.architectures import constructor_arguments
        from compressai_gen.checkpoints.folder import check_replaceable, save_model
        from compressai_gen.checkpoints.stock import export_where_possible

        check_replaceable(Path(out).expanduser())
        content = load_untrusted(Path(source).expanduser(), RESAVE.replace("NAMES", self.kept))
        try:
            arguments, state, quality = self.translate(content)
            model = filled_model(arguments, state)
        except CheckpointError as error:
            raise CheckpointError(f"{source} does not fit: {error}") from None
        export_where_possible(model)
        return save_model(
            model,
            out,
            architecture="hific",
            arguments=constructor_arguments(model),
            quality=quality,
            license=license or self.license,
        )


def translate_hific(content: Any) -> Translated:
    """A training checkpoint of Justin Tan's: ``model_state_dict`` and ``args``.

    Raises:
        CheckpointError: if it is not one, or of a kind that was never published.
    """
    from compressai_gen_plugins.hific.keys import hific_state

    published = content.get("model_state_dict") if isinstance(content, Mapping) else None
    trained = content.get("args") if isinstance(content, Mapping) else None
    if not isinstance(published, Mapping) or not isinstance(trained, Mapping):
        raise CheckpointError(
            "a HiFiC checkpoint holds 'model_state_dict' and 'args', two dictionaries; for MS-ILLM "
            "and No-GAN use `cgen convert ms-illm`"
        )
    likelihood = trained.get("likelihood_type", "gaussian")
    if likelihood not in ("gaussian", "logistic"):
        raise CheckpointError(f"likelihood_type {likelihood!r} is unknown: gaussian or logistic")
    for name, needed in (
        ("use_channel_norm", True),
        ("use_latent_mixture_model", False),
        ("sample_noise", False),
    ):
        if trained.get(name, needed) is not needed:
            raise CheckpointError(f"it was trained with {name}={trained[name]!r}: only {needed}")
    normalize = trained.get("normalize_input_image")
    if not isinstance(normalize, bool):
        raise CheckpointError(f"normalize_input_image is {normalize!r} in its args: True or False")
    arguments = {"likelihood": likelihood, "normalize": normalize}
    arguments |= {"padding": "reflect", "prior": "tanh"}
    if "n_residual_blocks" in trained:
        arguments["residual_blocks"] = trained["n_residual_blocks"]
    return arguments, hific_state(_tensors(published)), REGIMES.get(str(trained.get("regime")))


def translate_ms_illm(content: Any) -> Translated:
    """A state dict of NeuralCompression's ``HiFiCAutoencoder``.

    Raises:
        CheckpointError: if it is not one.
    """
    from compressai_gen_plugins.hific.keys import ms_illm_state

    if not isinstance(content, Mapping) or not any("hyper_bottleneck." in str(k) for k in content):
        raise CheckpointError(
            "an MS-ILLM or No-GAN checkpoint is a state dict with encoder, decoder and "
            "hyper_bottleneck; for HiFiC use `cgen convert hific`"
        )
    arguments = {"likelihood": "gaussian", "normalize": False}
    arguments |= {"padding": "zeros", "prior": "compressai"}
    return arguments, ms_illm_state(_tensors(content)), None


def filled_model(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> Hific:
    """The model that takes ``state`` with no tensor missing and none left over; tables built.

    Tables that the state dict holds are kept.

    Raises:
        CheckpointError: naming the tensors that do not fit.
    """
    from compressai_gen.checkpoints.architectures import build_model
    from compressai_gen.models.hific import sizes_of

    try:
        sizes = sizes_of(state)
        said = arguments.get("residual_blocks", sizes["residual_blocks"])
        if said != sizes["residual_blocks"]:
            raise CheckpointError(
                f"{sizes['residual_blocks']} residual blocks, its args say {said}"
            )
        model: Any = build_model("hific", {**arguments, **sizes})
        complete = {**dict(model.named_buffers()), **state}
        missing, unexpected = model.load_state_dict(complete, strict=False)
    except KeyError as error:
        raise CheckpointError(f"no weights for our {error}") from None
    except RuntimeError as error:
        raise CheckpointError(str(error).strip().splitlines()[-1].strip()) from None
    solves_tails = arguments["prior"] == "tanh"
    needed = {name for name, _ in model.named_parameters()}
    needed -= {"entropy_bottleneck.quantiles"} if solves_tails else set()
    if unexpected or needed & set(missing):
        raise CheckpointError(
            f"left over: {_some(unexpected)}; no weights for our {_some(needed & set(missing))}"
        )
    model.eval().update(force=solves_tails, update_quantiles=solves_tails)
    return model


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    import torch

    return {unwrapped(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more or "none"


convert_hific = PublishedConverter(translate_hific, HIFIC_KEPT, "apache-2.0")
convert_ms_illm = PublishedConverter(translate_ms_illm, "dict(c)", "cc-by-nc-4.0")
