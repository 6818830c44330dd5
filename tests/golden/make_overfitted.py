"""Made the golden files of the overfitted codecs, once: old files decode for ever.

    python tests/golden/make_overfitted.py        (from the root of the checkout)

For each codec ``<name>.cgen``, a short fit to a small photograph, and ``<name>.png``, its picture.
Those of COOL-CHIC without ``-tails`` are of former laws of its latents.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from quick_fits import small_photo  # noqa: E402  (needs the path above)

from compressai_gen import open_codec  # noqa: E402

QUALITIES = {"nif": 1, "cool-chic-v1-tails": 3, "cool-chic-v2-tails": 4}


def main() -> None:
    for name, quality in QUALITIES.items():
        file = HERE / f"{name}.cgen"
        if file.exists():
            sys.exit("the golden files exist and stay as they are")
        codec = open_codec(name.removesuffix("-tails"))
        data = codec.compress(small_photo(), quality=quality, preset="draft", loss="mse")
        file.write_bytes(data)
        codec.decompress(data).save(HERE / f"{name}.png")


if __name__ == "__main__":
    main()
