"""CompressAI's own trained models as checkpoints: exported once, kept in the cache."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

from compressai.models import CompressionModel

from compressai_gen.checkpoints.architectures import constructor_arguments
from compressai_gen.checkpoints.folder import save_model
from compressai_gen.checkpoints.known import cache_folder
from compressai_gen.checkpoints.layout import CONFIG_NAME
from compressai_gen.errors import CheckpointError, NotPortableError, OptionError, UnknownNameError

LICENSE = "bsd-3-clause-clear"


def stock_checkpoint(architecture: str, quality: int = 0, metric: str = "mse") -> Path:
    """The checkpoint folder of one of CompressAI's pre-trained models.

    The first call takes the weights from torch's cache (or downloads them there), exports the
    entropy path to fixed point where the architecture has such a form, and saves the result. Later
    calls find it, so files written with it stay readable.

    Args:
        architecture: name in ``compressai.zoo.image_models``.
        quality: CompressAI's quality, 1 to 8 or 6; ignored by the stock ``-vbr`` models.
        metric: "mse" or "ms-ssim".

    Raises:
        UnknownNameError: if CompressAI has no such model.
        OptionError: if it was not trained at that quality or for that metric.
        CheckpointError: if the weights are neither in the cache nor downloadable.
    """
    folder = cache_folder() / f"{architecture}-{metric}-{quality}"
    if not (folder / CONFIG_NAME).exists():
        model = _pretrained(architecture, quality, metric)
        export_where_possible(model)
        save_model(
            model,
            folder,
            architecture=architecture,
            arguments=constructor_arguments(model),
            quality=quality or None,
            metric=metric,
            license=LICENSE,
        )
    return folder


def export_where_possible(model: CompressionModel) -> bool:
    """Build missing tables and attach the fixed-point entropy path; False if there is none."""
    from compressai_gen.entropy import export

    model.eval().update()
    try:
        model.add_module("portable", export(model))
    except NotPortableError:
        return False
    return True


def _pretrained(architecture: str, quality: int, metric: str) -> CompressionModel:
    from compressai.zoo import image_models

    if architecture not in image_models:
        raise UnknownNameError("CompressAI model", architecture, image_models)
    try:
        return image_models[architecture](quality=quality, metric=metric, pretrained=True)
    except URLError as error:
        raise CheckpointError(
            f"the weights of {architecture} (quality {quality}, {metric}) are not in torch's cache "
            f"and cannot be downloaded: {error.reason}"
        ) from error
    except (ValueError, RuntimeError) as error:
        raise OptionError(
            f"CompressAI has no {architecture} at quality {quality} for {metric}: {error}"
        ) from error
