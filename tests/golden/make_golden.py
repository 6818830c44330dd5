"""Made the golden files, once: it refuses to do it again, because old files decode for ever.

    python tests/golden/make_golden.py        (from the root of the checkout)

For each family of entropy models: ``<name>.safetensors`` and ``<name>.json``, the integer export
of a small random model and its layout, and ``<name>-<n>.cgen`` files. ``expected.json`` holds what
each file decodes to. A new format version or family gets new files beside the old ones.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from calibrated import calibrate, random_latents  # noqa: E402  (needs the path above)

from compressai_gen.bitstream import Header, pack  # noqa: E402
from compressai_gen.checkpoints import build_model  # noqa: E402
from compressai_gen.entropy import PortableEntropy, export  # noqa: E402
from compressai_gen.models.latents import entropy_networks  # noqa: E402

MODELS: dict[str, dict[str, Any]] = {
    "bmshj2018-hyperprior": {"N": 4, "M": 6},
    "mbt2018-mean-gain-vbr": {"N": 4, "M": 6},
    "cheng2020-anchor-vbr": {"N": 4},
    "cheng2020-anchor-checkerboard": {"N": 4},
}
SIZES = ((64, 64), (100, 300), (129, 65))  # of the pictures: height, width
SCALES = 16  # few, to keep the tables small


def small_export(name: str) -> tuple[PortableEntropy, Any]:
    """The integer export of a small model with all its scales in use, and its float networks."""
    torch.manual_seed(0)
    model = calibrate(build_model(name, MODELS[name]))
    table = torch.linspace(-2, 3, SCALES).exp()
    networks = entropy_networks(model)
    networks.gaussian_conditional.update_scale_table(table, force=True)
    return export(model), networks


def header_options(name: str, number: int) -> dict[str, Any]:
    """Rate points of variable-rate models; the last file has every optional field."""
    quality = (0.0, 2.5, 9.0)[number] if name.endswith("-vbr") else None
    extra = {"seed": 42, "steps": 10, "scheduler": 1, "tau": 0.5} if number == 2 else {}
    return {"quality": quality, **extra}


def main() -> None:
    if (HERE / "expected.json").exists():
        sys.exit("the golden files exist and stay as they are")
    expected: dict[str, dict[str, Any]] = {}
    for name in MODELS:
        portable, networks = small_export(name)
        save_file(portable.state_dict(), HERE / f"{name}.safetensors")
        (HERE / f"{name}.json").write_text(json.dumps(portable.config, indent=1) + "\n")
        for number, (height, width) in enumerate(SIZES):
            options = header_options(name, number)
            z, y = random_latents(networks, -(-height // 64), -(-width // 64), seed=number)
            (encoded,) = portable.encode(y, z, options["quality"])
            header = Header(portable.fingerprint(), b"GO", height, width, encoded.crc, **options)
            (HERE / f"{name}-{number}.cgen").write_bytes(pack(header, [encoded.string]))
            expected[f"{name}-{number}.cgen"] = {
                "model": name,
                "fingerprint": portable.fingerprint().hex(),
                "symbols_crc": encoded.crc,
                "y_hat_crc": zlib.crc32(encoded.y_hat.numpy().astype("<f4").tobytes()),
                "header": {"height": height, "width": width, **options},
            }
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
