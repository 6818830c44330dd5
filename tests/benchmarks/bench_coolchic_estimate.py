r"""COOL-CHIC's files beside what training takes for their rate.

    python tests/benchmarks/bench_coolchic_estimate.py FILE.cgen ...

The estimate is in floats, of the grids in a file under the law that its network gives them; the
file is coded in integers (bar: within 0.5 %). Prints a line a file: bytes in all and of them header
and prefixes, networks, and grids, the grids' estimate, and how many percent they are above it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from compressai_gen.bitstream import codec_fingerprint, unpack
from compressai_gen_plugins.overfitted import coolchic_files
from compressai_gen_plugins.overfitted.coolchic_versions import V1, V2

VERSIONS = {codec_fingerprint(version.name): version for version in (V1, V2)}


@torch.no_grad()
def sizes(data: bytes) -> tuple[int, int, float]:
    """Bytes of networks and of grids, and the grids' estimate."""
    header, chunks = unpack(data)
    version = VERSIONS[header.fingerprint]
    network, latents, _ = coolchic_files.read(chunks, version, header.height, header.width)
    networks, grids = (sum(map(len, part)) for part in (chunks[:2], chunks[2:]))
    return networks, grids, float(network.rate(latents)) / 8


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        data = path.read_bytes()
        networks, grids, estimate = sizes(data)
        around = len(data) - networks - grids
        print(
            f"{path.name}: {len(data)} bytes ({around} + {networks} + {grids}), "
            f"estimate of the last {estimate:.0f}, {100 * (grids / estimate - 1):+.2f} %"
        )
