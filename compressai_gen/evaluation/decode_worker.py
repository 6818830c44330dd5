"""The other process: turns files into pictures, so that nothing but the file reaches the decoder.

``python -m compressai_gen.evaluation.decode_worker`` reads one JSON request a line from standard
input, ``{"codec": {...CodecSpec}, "options": {...}, "file", "picture"}``, writes the decoded
picture to `picture` (8-bit PPM) and answers with one JSON line, ``{"seconds"}`` or ``{"error"}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from compressai_gen.errors import CodecError
from compressai_gen.evaluation.codecs import CodecSpec, open_spec


def decode(request: dict[str, Any]) -> float:
    """Serve one request; returns the seconds from bytes in memory to picture in memory."""
    from compressai_gen.codec import checked_options

    codec = open_spec(CodecSpec(**request["codec"]))
    name = getattr(codec, "name", request["codec"]["name"])
    options = checked_options(name, request["options"], "decompress")
    data = Path(request["file"]).read_bytes()
    start = time.perf_counter()
    picture = codec.decompress(data, output_type="pil", **options)
    seconds = time.perf_counter() - start
    picture.convert("RGB").save(request["picture"], "PPM")
    return seconds


def main() -> None:
    """Answer requests until standard input ends. Prints of libraries go to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the other side's to tell
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"seconds": decode(json.loads(line))}
        except CodecError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
