"""What ``compress`` and ``decompress`` share: which files become which, one after the other."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressai_gen.bitstream import MAX_PIXELS, read_file, write_file
from compressai_gen.bitstream.files import STDIO, check_writable
from compressai_gen.errors import CodecError, OptionError
from compressai_gen.notes import collected_notes

CODED = ".cgen"
STDOUT = (STDIO, "/dev/stdout")
IN_PLACE = "the output is the input: choose another name with -o"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")

Convert = Callable[[bytes, str], tuple[bytes, dict[str, Any]]]
"""Content of an input and the name of its output to the output's content and what to report."""


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; ``-`` is standard input or output.

    Attributes:
        derived: the output's name was not given by the user but made from the input's.
    """

    source: str
    target: str
    derived: bool


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments both commands have."""
    parser.add_argument("-o", "--output", metavar="OUT", help="file, folder for several, or -")
    parser.add_argument("--checkpoint", metavar="X", help="folder, safetensors file or Hub repo id")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    parser.add_argument("--dtype", help="of the synthesis: float32 (default), bfloat16, float16")
    add_max_pixels(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON on standard output")


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse larger pictures, default %(default)s",
    )


def check_max_pixels(given: int) -> None:
    """Raises OptionError for a limit that no picture is below."""
    if given < 1:
        raise OptionError(f"--max-pixels {given}: give a number of pixels, at least 1")


def plan(
    names: list[str],
    output: str | None,
    *,
    extensions: Iterable[str],
    extension: str,
    is_output: Callable[[str], bool],
) -> list[Job]:
    """Files to read and to write.

    Args:
        names: the positional arguments: files, folders and globs, or IN OUT. A last OUT after
            several files is a mistake that is told as such.
        output: ``-o``.
        extensions: which files of a folder are meant, lower case with the dot.
        extension: of derived output names.
        is_output: whether the last name can be the output.

    Raises:
        CodecError: nothing to do, several inputs for one output, or two that clash.
    """
    last_is_output = len(names) > 1 and is_output(names[-1])
    if output is None and last_is_output and (len(names) == 2 or _is_file(names[-1])):
        *names, output = names
    sources = [pair for name in names for pair in _expand(name, set(extensions))]
    if all(source != STDIO and not os.path.exists(source) for source, _ in sources):
        raise CodecError(f"no such file: {', '.join(source for source, _ in sources)}")
    several = len(sources) != 1 or os.path.isdir(names[0])
    if output is not None and not several and not _is_folder(output):
        return [Job(sources[0][0], output, derived=False)]
    if output == STDIO:
        raise OptionError("several files cannot all go to standard output")
    if output and _is_file(output):
        raise OptionError(f"several files cannot all become {output}: give -o a folder")
    folder = None if output is None else Path(output)
    return _without_clashes(
        [_derived(source, inner, folder, extension) for source, inner in sources]
    )


def run_jobs(jobs: list[Job], convert: Convert, *, as_json: bool, replace_derived: bool) -> int:
    """Converts file after file; a failure is told and the others go on.

    Args:
        jobs: of `plan`.
        convert: the command's work on one file.
        as_json: report as JSON on standard output.
        replace_derived: whether a file may be replaced whose name the user did not give.

    Returns:
        exit status: 1 if any failed.
    """
    if as_json and any(job.target in STDOUT for job in jobs):
        raise OptionError("--json and - both write to standard output: choose one")
    reports = []
    for job in _progress(jobs):
        try:
            if not replace_derived:
                _check_not_in_the_way(job)
            report = _run_one(job, convert)
        except (CodecError, OSError, MemoryError, RuntimeError) as error:
            report = {"input": job.source, "error": _one_line(error)}
        reports.append(report)
        if not as_json or "error" in report:
            _tell(report, job.target in STDOUT)
    if as_json:
        print(json.dumps(reports, indent=2))
    return int(any("error" in report for report in reports))


def _run_one(job: Job, convert: Convert) -> dict[str, Any]:
    in_place = job.target != STDIO and os.path.realpath(job.source) == os.path.realpath(job.target)
    if in_place and not job.derived:
        raise OptionError(IN_PLACE)
    folder = Path(job.target).parent
    if not job.derived or folder.exists():
        check_writable(job.target)
    start = time.perf_counter()
    with collected_notes() as notes:
        result, told = convert(read_file(job.source), job.target)
    if in_place:  # only now: that the input is no picture, or no .cgen file, says more
        raise OptionError(IN_PLACE)
    if job.derived:
        _make_folder(folder)
    write_file(job.target, result)
    seconds = round(time.perf_counter() - start, 3)
    notes = [*told.pop("notes", ()), *notes]
    paths = {"input": job.source, "output": job.target}
    return {**paths, "seconds": seconds, **told, "notes": notes}


def _expand(name: str, extensions: set[str]) -> Iterator[tuple[str, Path]]:
    """Files that a positional argument means, with their place under it."""
    if name == STDIO:
        yield name, Path(STDIO)
    elif os.path.isdir(name):
        found = [p for p in sorted(Path(name).rglob("*")) if p.suffix.lower() in extensions]
        files = [path for path in found if path.is_file()]
        if not files:
            raise CodecError(f"the folder {name} has no {' '.join(sorted(extensions))} files")
        yield from ((str(path), path.relative_to(name)) for path in files)
    elif glob.has_magic(name) and not os.path.exists(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise CodecError(f"no file matches {name}")
        yield from ((match, Path(match).relative_to(Path(match).parent)) for match in matches)
    else:
        yield name, Path(Path(name).name)


def _is_folder(output: str) -> bool:
    return output != STDIO and (os.path.isdir(output) or output.endswith(("/", os.sep)))


def _is_file(output: str) -> bool:
    """Whether a name is that of one picture or one ``.cgen`` file."""
    return not _is_folder(output) and Path(output).suffix.lower() in (CODED, *PICTURES)


def _derived(source: str, inner: Path, folder: Path | None, extension: str) -> Job:
    if source == STDIO:
        return Job(source, STDIO, derived=True)
    place = Path(source) if folder is None else folder / inner
    return Job(source, str(place.with_suffix(extension)), derived=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CodecError(f"cannot make the folder {folder}: {error.strerror}") from error


def _without_clashes(jobs: list[Job]) -> list[Job]:
    by_target: dict[str, str] = {}
    for job in jobs:
        first = by_target.setdefault(job.target, job.source)
        if first != job.source:
            raise OptionError(f"{first} and {job.source} would both become {job.target}")
    return jobs


def _check_not_in_the_way(job: Job) -> None:
    if job.derived and job.target not in (STDIO, job.source) and os.path.exists(job.target):
        raise OptionError(f"{job.target} exists: choose a name with -o, or replace it with --force")


def _progress(jobs: list[Job]) -> Iterable[Job]:
    """A progress bar on standard error if there is someone to see it."""
    from tqdm import tqdm

    return tqdm(jobs, unit="file", leave=False, disable=None)


def _tell(report: dict[str, Any], quietly: bool) -> None:
    """One line a file: results to standard output, errors and notes to standard error."""
    from tqdm import tqdm

    if "error" in report:
        tqdm.write(f"cgen: {report['input']}: {report['error']}", file=sys.stderr)
        return
    for note in report["notes"]:
        tqdm.write(f"cgen: note: {report['input']}: {note}", file=sys.stderr)
    tqdm.write(_line(report), file=sys.stderr if quietly else sys.stdout)


def _line(report: dict[str, Any]) -> str:
    parts = [f"{report['input']} -> {report['output']}"]
    if "width" in report:
        parts.append(f"{report['width']}x{report['height']}")
    if "bytes" in report:
        parts.append(f"{report['bytes']:,} bytes  {report['bpp']:.4f} bpp")
    if report.get("quality") is not None:
        parts.append(f"quality {report['quality']:g}")
    if report.get("psnr") is not None:
        parts.append(f"{report['psnr']:.2f} dB")
    if report.get("enhancer") is not None:
        parts.append(_enhancement(**report["enhancer"]))
    return "  ".join([*parts, f"{report['seconds']:.2f} s"])


def _enhancement(name: str, **options: Any) -> str:
    """Such as "latent-fusion, tau 0, steps 4"."""
    numbers = {o: f"{v:.3g}" if isinstance(v, float) else v for o, v in options.items()}
    return ", ".join([name, *(f"{option} {value}" for option, value in numbers.items())])


def _one_line(error: BaseException) -> str:
    """An error as a user reads it; a RuntimeError is only expected for want of memory."""
    if isinstance(error, CodecError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError) or "memory" in str(error):
        return "not enough memory for this picture: try a smaller one, or another --device"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    raise error
