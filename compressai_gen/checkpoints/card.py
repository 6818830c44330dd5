"""The model card that travels with a checkpoint: README.md with the Hub's front matter."""

from __future__ import annotations

import textwrap

from compressai_gen.checkpoints.layout import CheckpointConfig

TAGS = ("compressai", "image-compression", "compressai-gen")


def model_card(
    config: CheckpointConfig, *, license: str | None = None, repo_id: str | None = None
) -> str:
    """README.md of a checkpoint.

    Args:
        config: what the card describes.
        license: the Hub's licence identifier ("apache-2.0", ...); left out if unknown.
        repo_id: where it will be published; a folder name stands in until then.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="image-to-image",
        tags=[*TAGS, config.architecture],
        license=license,
    )
    name = repo_id or "path/to/this/folder"
    return f"---\n{data.to_yaml()}\n---\n\n{_body(config, name)}"


def _body(config: CheckpointConfig, name: str) -> str:
    if config.fingerprint is None:
        return _part(config, name)
    rate = "variable rate" if config.architecture.endswith("-vbr") else "one rate"
    quality = "" if config.quality is None else f", quality {config.quality}"
    if config.portable is None:
        portable = (
            "The entropy networks run in floating point: decode files on the kind of machine "
            "that wrote them."
        )
    else:
        portable = (
            "The entropy path is stored in fixed point: a file written on one machine decodes to "
            "the same latents on any other."
        )
    summary = textwrap.fill(
        "An image codec for [CompressAI](https://github.com/InterDigitalInc/CompressAI) and "
        f"[diffusers](https://github.com/huggingface/diffusers): `{config.architecture}`, {rate}, "
        f"trained for {config.metric}{quality}. {portable}",
        width=99,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"""# {config.architecture}

{summary}

```bash
cgen compress photo.png -o photo.cgen --checkpoint {name}
cgen decompress photo.cgen photo.out.png --checkpoint {name}
```

```python
from compressai_gen import load_model  # a CompressAI model
from diffusers_codec import CompressionModelComponent  # the same weights in a diffusers pipeline

model = load_model("{name}")
codec = CompressionModelComponent.from_pretrained("{name}")
```

Fingerprint of its files: `{config.fingerprint}`.
"""


def _part(config: CheckpointConfig, name: str) -> str:
    """Of a model that writes no files, such as an encoder for training."""
    return f"""# {config.architecture}

A part of an image codec for [CompressAI](https://github.com/InterDigitalInc/CompressAI):
`{config.architecture}`. It has no entropy model, so that there is nothing to write a file with.

```python
from compressai_gen import load_model

model = load_model("{name}")
```
"""
