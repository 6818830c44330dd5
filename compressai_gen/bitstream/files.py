"""Reading a file whole, and writing one so that it is there complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from pathlib import Path

from compressai_gen.errors import CodecError

STDIO = "-"  # the name that stands for standard input and output


def read_file(path: str | Path) -> bytes:
    """The bytes of a file, or of standard input for ``-``.

    Raises:
        CodecError: missing, a directory, or unreadable.
    """
    if str(path) == STDIO:
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except IsADirectoryError:
        raise CodecError(f"{path} is a folder, expected a file") from None
    except OSError as error:
        raise CodecError(f"cannot read {path}: {_reason(error)}") from error


def write_file(path: str | Path, data: bytes) -> None:
    """Writes ``data`` beside ``path``, flushes it to the disk and renames it into place.

    An error or an interruption leaves neither a part of the file nor a temporary one, and what
    was there before untouched. ``-`` is standard output; devices and pipes are written directly.

    Raises:
        CodecError: folder missing, read-only target, full disk, ...
    """
    if str(path) == STDIO:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    target = _behind_links(path)
    try:
        _check_target(target)
        if _is_special(target):
            with open(target, "wb", buffering=0) as device:
                _write_all(device.fileno(), data)
        else:
            _replace(target, data)
    except OSError as error:
        raise CodecError(
            f"cannot write {path}: {_reason(error)}; nothing was left behind"
        ) from error


def check_writable(path: str | Path) -> None:
    """Finds out before the work whether `write_file` could write there.

    Raises:
        CodecError: folder missing or read-only, target a folder or read-only.
    """
    if str(path) == STDIO:
        return
    try:
        _check_target(_behind_links(path))
    except OSError as error:
        raise CodecError(f"cannot write {path}: {_reason(error)}") from error


def _behind_links(path: str | Path) -> Path:
    """What is written, so that a link stays a link; a pipe behind one has no other name."""
    return Path(path) if _is_special(Path(path)) else Path(os.path.realpath(path))


def _is_special(target: Path) -> bool:
    """Whether it is a device or a pipe, which is not replaced but written directly."""
    return target.exists() and not target.is_file()


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {target.parent} does not exist")
    if target.is_file() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        raise PermissionError(errno.EACCES, "the file is read-only")
    if not _is_special(target) and not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, f"the folder {target.parent} is read-only")


def _replace(target: Path, data: bytes) -> None:
    beside = target.with_name(f".cgen-{secrets.token_hex(6)}.part")
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, target)
    except BaseException:  # KeyboardInterrupt too: leave nothing half-written
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


_BINARY = getattr(os, "O_BINARY", 0)  # Windows only
