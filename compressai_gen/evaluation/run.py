"""One evaluation from start to result files: sweep, resume, summarise, write."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressai_gen.errors import CodecError
from compressai_gen.evaluation.cache import RecordCache
from compressai_gen.evaluation.classic import CLASSIC
from compressai_gen.evaluation.codecs import (
    PLAIN,
    CodecSpec,
    RatePoint,
    Variant,
    goes_down,
    open_spec,
    rate_points,
)
from compressai_gen.evaluation.decoder import Decoder
from compressai_gen.evaluation.measure import Evaluator, load_metrics
from compressai_gen.evaluation.protocol import Dataset, versions
from compressai_gen.evaluation.schema import Record, Report, read_report, summarise, write_report


@dataclass(frozen=True)
class Plan:
    """What to measure and where to put it.

    Attributes:
        dataset: the pictures.
        sweeps: label -> rate points with it; the first codec's file is `output`, others have their
            own part of the label before the suffix.
        metrics: names, in the order of the result file.
        output: the result file.
        weights: folder searched first for the weights of metrics.
        device: metrics are computed there.
        files: folder to keep the files in, by `RatePoint.file_name`; None: they are not kept.
    """

    dataset: Dataset
    sweeps: Mapping[str, Sequence[RatePoint]]
    metrics: Sequence[str]
    output: Path
    weights: Path | None = None
    device: str = "cpu"
    files: Path | None = None

    def path_of(self, label: str) -> Path:
        """The result file of one curve: ``F.json``, ``F-tau0.3.json``, ``F-jpeg.json``, ..."""
        first = next(iter(self.sweeps.values()))[0].codec.name
        own = label.removeprefix(first)
        if not own:
            return self.output
        return self.output.with_name(f"{self.output.stem}-{own.lstrip('-')}{self.output.suffix}")


def make_sweeps(
    codec: CodecSpec,
    qualities: Sequence[float],
    baselines: Sequence[str] = (),
    variants: Sequence[Variant] = (PLAIN,),
) -> tuple[dict[str, list[RatePoint]], dict[str, str]]:
    """The rate points of a codec and of classic baselines, and why a baseline is left out.

    Args:
        codec: what is evaluated.
        qualities: its rate points.
        baselines: names of classic codecs.
        variants: ways to decode the codec's files, a curve each.

    Raises:
        CodecError: the codec is unknown or lacks a quality, or a baseline is unknown.
    """
    curves = [rate_points(codec, qualities, variant) for variant in variants]
    sweeps, absent = {points[0].label: points for points in curves}, {}
    for name in baselines:
        if name not in CLASSIC:
            raise CodecError(f"unknown baseline {name!r}; allowed: {', '.join(CLASSIC)}")
        try:
            CLASSIC[name].check_available()
        except CodecError as error:
            absent[name] = str(error)
        else:
            sweeps.setdefault(name, rate_points(CodecSpec(name), ()))
    return sweeps, absent


def run(plan: Plan) -> dict[Path, Report]:
    """Measure everything and write one result file a codec.

    A broken-off run leaves ``<output>.partial``; the same plan then continues from there, and with
    the same result: a ladder of fits (see `goes_down`) that was broken off is begun again.

    Raises:
        CodecError: a codec failed, or a result file cannot be written (checked first).
    """
    from compressai_gen.bitstream.files import check_writable

    for codec in plan.sweeps:
        check_writable(plan.path_of(codec))
    metrics, skipped = load_metrics(plan.metrics, plan.weights)
    protocol = describe(plan, [*metrics])
    models = {codec: describe_model(points) for codec, points in plan.sweeps.items()}
    cache = RecordCache(plan.output, {"protocol": protocol, "models": models})
    with tempfile.TemporaryDirectory(prefix="cgen-evaluate-") as folder, Decoder() as decoder:
        where = Path(folder), plan.device, plan.files
        evaluator = Evaluator(plan.dataset, metrics, decoder, *where)
        records = _sweep(plan, evaluator, cache)
    reports = {}
    for codec, measured in records.items():
        results, failed = summarise(measured)
        reports[plan.path_of(codec)] = Report(
            name=codec,
            description=f"{models[codec]['description']}; real files, decoded in another process",
            results=results,
            protocol=protocol,
            skipped=skipped | failed,
            model=models[codec],
            versions=versions(),
            per_image=[asdict(record) for record in measured],
        )
    for path, report in reports.items():
        write_report(report, path)
    cache.remove()
    return reports


def finished(plan: Plan) -> dict[Path, Report] | None:
    """The result files of a plan of one codec, if they are there and were measured as it says:
    on the same pictures, by the same codec with the same options, at the same rate points.

    Raises:
        CodecError: what stands in place of a result file is none.
    """
    metrics, _ = load_metrics(plan.metrics, plan.weights)
    protocol = describe(plan, [*metrics])
    reports = {}
    for label, points in plan.sweeps.items():
        path = plan.path_of(label)
        if not path.exists():
            return None
        report = reports[path] = read_report(path)
        alike = report.protocol == protocol and report.model == describe_model(points)
        qualities = list(report.results.get("quality", [None]))
        if not alike or qualities != [p.quality for p in points] or metrics.keys() - report.known:
            return None
    return reports


def _sweep(plan: Plan, evaluator: Evaluator, cache: RecordCache) -> dict[str, list[Record]]:
    from tqdm import tqdm

    jobs = _jobs(plan)
    missing = {(p, name) for p, name in jobs if cache.get(p.label, name, p.quality) is None}
    # there every file goes on from the one before, so that one missing file is a missing ladder
    ladders = {(point.label, name) for point, name in missing if goes_down(point.codec)}
    with tqdm(total=len(jobs), unit="picture", disable=None) as bar:
        for point, name in jobs:
            bar.set_description(point.label)
            if (point, name) in missing or (point.label, name) in ladders:
                cache.add(evaluator.measure(point, name))
            bar.update()
    return {
        label: [
            cache.records[label, name, p.quality] for p in points for name in plan.dataset.names
        ]
        for label, points in plan.sweeps.items()
    }


def _jobs(plan: Plan) -> list[tuple[RatePoint, str]]:
    """Every point with every picture; curves of one codec side by side, so that it can keep what
    they share (a picture's latents, say, that are decoded with several options)."""
    codecs: dict[str, list[Sequence[RatePoint]]] = {}
    for points in plan.sweeps.values():
        codecs.setdefault(points[0].codec.name, []).append(points)
    names = plan.dataset.names
    jobs: list[tuple[RatePoint, str]] = []
    for curves in codecs.values():
        if goes_down(curves[0][0].codec):
            ladders = [sorted(points, key=_quality, reverse=True) for points in curves]
            jobs += [(point, name) for points in ladders for name in names for point in points]
        else:
            alike = zip(*curves, strict=True)
            jobs += [(point, name) for points in alike for name in names for point in points]
    return jobs


def _quality(point: RatePoint) -> float:
    return point.quality or 0.0


def describe(plan: Plan, metrics: Sequence[str]) -> dict[str, Any]:
    """The protocol as it stands in result files: all that two comparable results share."""
    from compressai_gen.plugins import registry

    notes = {name: registry("metrics").load(name).note for name in metrics}
    return {
        "dataset": plan.dataset.describe(),
        "geometry": plan.dataset.geometry,
        "bpp": "8 * size of the file / pixels of the picture",
        "rounding": "uint8",
        "average": "mean over pictures",
        "metrics": {name: note for name, note in notes.items() if note},
    }


def describe_model(points: Sequence[RatePoint]) -> dict[str, Any]:
    """Which codec made the files, down to the fingerprints of its checkpoints."""
    codec = points[0].codec
    opened = [open_spec(spec) for spec in dict.fromkeys(point.codec for point in points)]
    fingerprints = [getattr(each, "fingerprint", None) for each in opened]
    return {
        "codec": codec.name,
        "description": getattr(opened[0], "description", codec.name),
        "checkpoint": codec.checkpoint,
        "fingerprints": [known.hex() for known in fingerprints if isinstance(known, bytes)],
        "device": codec.device,
        "dtype": codec.dtype,
        "options": recorded(codec.name, points[0].variant),
    }


def recorded(codec: str, variant: Variant) -> dict[str, str]:
    """The options of a variant that decide about its files and pictures."""
    from compressai_gen.plugins import registry

    codecs = registry("codecs")
    known = codecs.entry(codec).details["options"] if codec in codecs else ()
    others = {option.name for option in known if not option.recorded}
    given = dict(variant.options + variant.encoding)
    return {name: value for name, value in given.items() if name not in others}
