"""The result file: CompressAI's JSON schema, with everything else outside its ``results``.

``results`` holds lists of numbers only, one number a rate point, so that
``python -m compressai.utils.plot`` and other readers of CompressAI's files keep working.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from compressai_gen.errors import CodecError, OptionError
from compressai_gen.metrics.bd import Curve
from compressai_gen.metrics.direction import higher_is_better, rescaled

SCHEMA = "compressai-gen/1"
_KINDS = {
    "name": str,
    "description": str,
    "protocol": dict,
    "skipped": dict,
    "model": dict,
    "versions": dict,
    "per_image": list,
}


@dataclass(frozen=True)
class Record:
    """One picture at one quality.

    Attributes:
        codec: registered name.
        source: the picture's name in its data set.
        quality: as given to the codec; None for a codec of a single rate.
        values: ``bpp``, ``encoding_time``, ``decoding_time`` (seconds) and the metrics.
        failed: metric -> why it has no value for this picture.
    """

    codec: str
    source: str
    quality: float | None
    values: Mapping[str, float]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A result file.

    Attributes:
        name: of the codec, the legend of plots.
        description: one line.
        results: metric -> one number a rate point; lists of equal length.
        protocol: what must agree between two comparable results; empty if unknown.
        skipped: metric -> why it is not in `results`.
        model: checkpoint and fingerprint of the codec.
        versions: of the packages involved.
        per_image: every `Record` the means were taken over.
    """

    name: str
    description: str
    results: Mapping[str, Sequence[float]]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    per_image: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> str:
        """The file's text; raises ValueError rather than write a NaN or infinity."""
        content = {"schema": SCHEMA} | asdict(self)
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    @property
    def known(self) -> set[str]:
        """Metrics that were measured, or failed."""
        return {*self.results, *self.skipped}

    def curve(self, metric: str) -> Curve:
        """Rates and `metric`, MS-SSIM in decibels, as BD-rates take them.

        Raises:
            OptionError: the metric is not there; the message says why, if the file does.
        """
        if metric not in self.results or "bpp" not in self.results:
            reason = f" ({self.skipped[metric]})" if metric in self.skipped else ""
            raise OptionError(
                f"{self.name} has no {metric}{reason}; it has {', '.join(self.results)}"
            )
        values = rescaled(metric, self.results[metric])
        return Curve(self.name, tuple(self.results["bpp"]), tuple(values), higher_is_better(metric))


def summarise(records: Sequence[Record]) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Means over pictures, as CompressAI takes them, and the metrics that have none.

    Args:
        records: of one codec; every quality with the same pictures.

    Returns:
        ``results`` with the rate points in the order of the records, and ``skipped``: a metric that
        fails on one picture is left out as a whole, since means over different pictures must not
        share a list.
    """
    points: dict[float | None, list[Record]] = {}
    for record in records:
        points.setdefault(record.quality, []).append(record)
    skipped = {
        metric: f"{record.source}: {reason}"
        for record in reversed(records)
        for metric, reason in record.failed.items()
    }
    results = {
        name: [sum(r.values[name] for r in point) / len(point) for point in points.values()]
        for name in records[0].values
        if name not in skipped
    }
    if None not in points:
        results["quality"] = [float(quality) for quality in points if quality is not None]
    return results, skipped


def read_report(path: Path) -> Report:
    """A result file of ours or CompressAI's.

    Raises:
        CodecError: missing, not JSON, or without lists of rates and metrics, as many
            numbers in each.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = content.get("results", content)  # CompressAI's oldest files have none
    except OSError as error:
        raise CodecError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise CodecError(f"{path} is not a result file of cgen or CompressAI: {error}") from error
    if not _are_columns(results):
        raise CodecError(
            f"{path}: 'results' must be lists of one length, of numbers and not empty, 'bpp' among "
            "them"
        )
    known = {name: content[name] for name in _KINDS if name in content}
    for name, value in known.items():
        if not isinstance(value, _KINDS[name]):
            raise CodecError(f"{path}: {name!r} is {value!r}, not a {_KINDS[name].__name__}")
    return Report(**{"name": path.stem, "description": ""} | known, results=results)


def read_reports(paths: Sequence[Path]) -> list[Report]:
    """Result files side by side: where several have one name, each is called as its file.

    Raises:
        CodecError: as for `read_report`.
    """
    reports = {path: read_report(path) for path in paths}
    alike = Counter(report.name for report in reports.values())
    stems = Counter(path.stem for path in reports)

    def told(path: Path, report: Report) -> str:
        if alike[report.name] == 1:
            return report.name
        return path.stem if stems[path.stem] == 1 else str(path)

    return [replace(reports[path], name=told(path, reports[path])) for path in paths]


def _are_columns(results: Any) -> bool:
    """Whether these are lists of numbers, of one length above 0, with the rates among them."""
    if not isinstance(results, dict) or not all(isinstance(c, list) for c in results.values()):
        return False
    numbers = all(type(number) in (int, float) for column in results.values() for number in column)
    lengths = {len(column) for column in results.values()}
    return numbers and len(lengths) == 1 and bool(results.get("bpp"))


def write_report(report: Report, path: Path) -> None:
    """Write the file beside its target and rename it into place."""
    from compressai_gen.bitstream.files import write_file

    write_file(path, report.to_json().encode())


def comparable(anchor: Report, test: Report, metric: str, *, force: bool = False) -> str:
    """Whether two results were measured alike: same pictures, geometry and kind of metric.

    Returns:
        A doubt to pass on to the user, or an empty string. CompressAI's own files state no
        protocol, which is a doubt.

    Raises:
        OptionError: the protocols differ, and not `force`.
    """
    unknown = [report.name for report in (anchor, test) if not report.protocol]
    if unknown:
        return f"{' and '.join(unknown)}: the file states no protocol; are the pictures the same?"
    facts = (
        ("pictures", lambda p: _inside(p, "dataset", "sha256")),
        ("geometry", lambda p: p.get("geometry")),
        (metric, lambda p: _inside(p, "metrics", metric)),
    )
    different = [name for name, get in facts if get(anchor.protocol) != get(test.protocol)]
    if not different:
        return ""
    message = f"{anchor.name} and {test.name} were measured with different {', '.join(different)}"
    if not force:
        raise OptionError(f"{message}; evaluate both alike, or compare anyway with --force")
    return message


def _inside(protocol: Mapping[str, Any], name: str, part: str) -> Any:
    whole = protocol.get(name)
    return whole.get(part) if isinstance(whole, dict) else whole
