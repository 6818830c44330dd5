"""The checks of the latent fusion paper on your own pictures, with real files.

Quality over the number of steps (Fig. 9), over tau (Fig. 8 and 10), and over ten seeds ("Diffusion
Stability"), as tables and figures, and pictures of what the fusion module changes in the latents
(Fig. 3 of the appendix). Other modules join the curves over tau by --variant: that compares the
ablations of Table 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from compressai_gen.evaluation.protocol import Dataset
    from compressai_gen.metrics.base import Metric
    from compressai_gen_plugins.latent_fusion.study_checks import Bench, Measured
    from compressai_gen_plugins.latent_fusion.study_dials import Dial

METRICS = ("psnr-rgb", "lpips-squeeze")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``cgen fusion-study``."""
    add = parser.add_argument
    add("pictures", type=Path, help="folder, looked through with its sub-folders")
    add("--out", type=Path, required=True, help="folder for tables and figures")
    add("--codec", help="a CompressAI model, stock or ours; default: as in compress")
    add("--checkpoint", help="folder or Hub repo id; default: the codec's own")
    add("--fusion", type=Path, help="folder of a fusion module or of its training; default: ours")
    add(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="another module, in the curves over tau; can be repeated",
    )
    add("--quality", type=float, help="rate point; default: the codec's own")
    add("--limit", type=int, help="only the first so many pictures")
    add("--weights", type=Path, help="folder with the weights of metrics")
    add("--device", default="cpu", help="of all networks; default: %(default)s")


def run(args: argparse.Namespace) -> None:
    """Measure, write and print.

    Raises:
        CodecError: whatever of the arguments cannot be used, before anything is measured.
    """
    from compressai_gen.evaluation.measure import load_metrics
    from compressai_gen.evaluation.protocol import Dataset
    from compressai_gen_plugins.latent_fusion.study_dials import (
        open_base,
        open_dial,
        parse_variants,
    )

    variants = parse_variants(args.variant)
    dataset = Dataset.collect(args.pictures, limit=args.limit)
    codec = open_base(args.codec, args.checkpoint, args.quality, args.device)
    dials = [open_dial(codec, args.fusion)]
    dials += [open_dial(codec, folder, name) for name, folder in variants.items()]
    metrics, skipped = load_metrics(METRICS, args.weights)
    check_pictures(dataset, metrics)
    for name, reason in skipped.items():
        print(f"cgen: metric {name} skipped: {reason}", file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = measure(dataset, dials, metrics, args.out)
    print(report(dataset, dials, rows, [*metrics], args.out))


def check_pictures(dataset: Dataset, metrics: Mapping[str, Metric]) -> None:
    """Refuse a picture now rather than after hours with the others.

    Raises:
        ImageError: not a picture that can be coded, or too small for a metric; names it.
    """
    from compressai_gen.errors import ImageError
    from compressai_gen.metrics.base import too_small

    for name in dataset.names:
        width, height = dataset.load(name).size
        for metric in metrics.values():
            if min(width, height) < metric.minimum_side:
                raise ImageError(f"{name}: {too_small(type(metric), width, height)}")


def measure(
    dataset: Dataset, dials: Sequence[Dial], metrics: Mapping[str, Metric], out: Path
) -> list[Measured]:
    """All checks on all pictures; the pictures of the residual are written on the way."""
    import torch
    from tqdm import tqdm

    from compressai_gen_plugins.latent_fusion.study_checks import Bench, count

    rows: list[Measured] = []
    total = count(dials) * len(dataset.names)
    with torch.inference_mode(), tqdm(total=total, unit="picture", disable=None) as bar:
        for name in dataset.names:
            photo = dataset.load(name)
            bench = Bench(name, photo, dials[0].codec.compress(photo), metrics)
            for row in bench.measure(dials):
                rows.append(row)
                bar.update()
            draw_residual(bench, photo, dials[0], out)
    return rows


def draw_residual(bench: Bench, photo: Image, dial: Dial, out: Path) -> None:
    """``residual-NAME.png`` of one picture."""
    from compressai_gen.bitstream.files import write_file
    from compressai_gen.evaluation.plot import encoded
    from compressai_gen_plugins.latent_fusion.study_figures import residual_figure

    name = Path(bench.name).with_suffix("").as_posix().replace("/", "-")
    figure = residual_figure(photo, dial, bench.decoded(dial))
    write_file(out / f"residual-{name}.png", encoded(figure))


def report(
    dataset: Dataset,
    dials: Sequence[Dial],
    rows: Sequence[Measured],
    metrics: Sequence[str],
    out: Path,
) -> str:
    """Write all tables and figures to ``out``; returns what to print."""
    from compressai_gen.bitstream.files import write_file
    from compressai_gen.evaluation.plot import encoded
    from compressai_gen.evaluation.tables import as_csv, as_text
    from compressai_gen_plugins.latent_fusion import study_figures as figures
    from compressai_gen_plugins.latent_fusion import study_results as results

    tables = {check: results.table(rows, check) for check in results.CHECKS}
    spread, verdicts = results.spread(tables["seeds"], metrics), results.verdicts(rows, metrics)
    drawn = {
        "steps": figures.steps_figure(tables["steps"], metrics),
        "tau": figures.tau_figure(tables["tau"], metrics),
        "seeds": figures.seeds_figure(tables["seeds"], spread),
    }
    for check, figure in drawn.items():
        write_file(out / f"{check}.csv", as_csv(tables[check]))
        write_file(out / f"{check}.png", encoded(figure))
    content = {
        **describe(dataset, dials),
        "tables": tables,
        "spread over seeds": spread,
        "monotone in tau": verdicts,
        "per_image": [asdict(row) for row in rows],
    }
    write_file(out / "study.json", json.dumps(content, indent=1).encode() + b"\n")
    shown = [f"{as_text(tables[check])}\n" for check in ("steps", "tau")]
    shown += results.sentences(spread, verdicts)
    return "\n".join([*shown, f"\nTables, figures and study.json are in {out}"])


def describe(dataset: Dataset, dials: Sequence[Dial]) -> dict[str, Any]:
    """What the figures depend on."""
    from compressai_gen.evaluation.protocol import versions

    codec = dials[0].codec
    return {
        "dataset": dataset.describe(),
        "bpp": "8 * size of the file / pixels of the picture",
        "codec": codec.name,
        "fingerprint": codec.fingerprint.hex(),
        "quality": codec.quality,
        "modules": {
            dial.name: {
                "folder": str(dial.folder),
                "steps": dial.steps,
                "synthesis": dial.codec.synthesis.hex(),
            }
            for dial in dials
        },
        "versions": versions(),
    }
