"""List models and file codecs: whose they are, their rate points, whether weights are at hand."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressai_gen.checkpoints import architecture_names, known
from compressai_gen.plugins import file_codec, registry
from compressai_gen.registry import Entry


@dataclass(frozen=True)
class Row:
    """One zoo model, or a file codec that is none.

    Attributes:
        plugin: who registered it; "compressai" for the stock models.
        qualities: lowest and highest; real numbers between them if `variable_rate`; None for an
            architecture of CompressAI that its zoo has no factory for, and for a file codec.
        weights: "embedded", "to download (m of n cached)" by ``pretrained=True``, or "none".
        through: the file codec of another name that ``--codec`` with this one stands for.
    """

    name: str
    plugin: str
    qualities: tuple[float, float] | None
    variable_rate: bool
    weights: str
    through: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def run(args: argparse.Namespace) -> None:
    rows = [*_registered(), *_file_codecs(), *_stock()]
    if args.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{'name':<35}{'plugin':<15}{'quality':<10}weights")
    for row in rows:
        print(f"{row.name:<35}{row.plugin:<15}{_span(row):<10}{_weights_of(row)}")
    print(
        "\na..b: any real quality from a to b by one set of weights; a-b: one set for each integer"
    )


def _span(row: Row) -> str:
    if row.qualities is None:
        return "-"
    low, high = row.qualities
    return f"{low:g}..{high:g}" if row.variable_rate else f"{low:g}-{high:g}"


def _weights_of(row: Row) -> str:
    return row.weights if row.through is None else f"{row.weights}, through --codec {row.through}"


def _registered() -> list[Row]:
    embedded = _embedded()
    models = registry("zoo_models")
    return [_row(models.entry(name), name in embedded) for name in models]


def _embedded() -> set[str]:
    return {entry.architecture for entry in known() if entry.embedded}


def _file_codecs() -> list[Row]:
    """Those that are no zoo model."""
    codecs, embedded = registry("codecs"), _embedded()
    entries = [codecs.entry(name) for name in codecs if name not in registry("zoo_models")]
    ships = {e.name: not embedded.isdisjoint(e.details["architectures"]) for e in entries}
    return [
        Row(e.name, e.plugin, None, False, "embedded" if ships[e.name] else "none") for e in entries
    ]


def _row(entry: Entry, embedded: bool) -> Row:
    details = entry.details
    weights = "embedded" if embedded else "none"
    codec = file_codec(entry.name)
    through = None if codec == entry.name else codec
    span = details["qualities"], details["variable_rate"]
    return Row(entry.name, entry.plugin, *span, weights, through)


def _stock() -> list[Row]:
    """CompressAI's own image models, from the tables of its zoo."""
    from compressai.zoo import image, image_models, image_vbr

    rows = []
    for name in sorted(set(image_models).difference(registry("zoo_models"))):
        vbr = name.endswith("-vbr")
        cfgs = {} if vbr else image.cfgs.get(name, {})
        urls = (image_vbr if vbr else image).model_urls.get(name, {})
        qualities = (0, 7) if vbr else (min(cfgs, default=1), max(cfgs, default=8))
        rows.append(Row(name, "compressai", qualities, vbr, _weights(urls)))
    without_factory = sorted(set(architecture_names()).difference(image_models))
    return rows + [Row(name, "compressai", None, False, "none") for name in without_factory]


def _weights(urls: dict[str, Any]) -> str:
    from torch.hub import get_dir

    found = [url for urls_of_metric in urls.values() for url in _leaves(urls_of_metric)]
    folder = Path(get_dir()) / "checkpoints"
    cached = sum((folder / url.rpartition("/")[2]).is_file() for url in found)
    return f"to download ({cached} of {len(found)} cached)" if found else "none"


def _leaves(urls: Any) -> list[str]:
    return [urls] if isinstance(urls, str) else list(urls.values())
