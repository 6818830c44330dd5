"""A stream and a fingerprint that must never change, on any machine: all of it is integers."""

from __future__ import annotations

import hashlib

import torch

from compressai_gen.entropy import PortableEntropy
from compressai_gen.entropy.arithmetic import ARITHMETIC


def conv(inputs, outputs, kernel, shift=15):
    size = {"inputs": inputs, "outputs": outputs, "kernel": kernel, "stride": 1}
    return {"kind": "conv", **size, "padding": kernel // 2, "shift": shift}


CONFIG = {
    "arithmetic": ARITHMETIC,
    "h_s": [
        conv(4, 12, 3),
        {"kind": "leaky_relu", "slope": 655},
        {"kind": "conv_transpose", "inputs": 12, "outputs": 8, "kernel": 5, "stride": 2,
         "padding": 2, "output_padding": 1, "shift": 15},
        {"kind": "gelu"},
        conv(8, 24, 3),
        {"kind": "pixel_shuffle", "factor": 2},
    ],
    "prior": {
        "family": "checkerboard",
        "context": {"inputs": 3, "outputs": 6, "kernel": 5, "shift": 15},
        "entropy_parameters": [conv(12, 8, 1), {"kind": "leaky_relu", "slope": 0}, conv(8, 6, 1)],
        "parity": "even",
        "context_first": False,
    },
    "gains": {"levels": 3, "channels": 4, "fraction_bits": 20},
    "z_tables": {"rows": 4, "entries": 16},
    "y_tables": {"rows": 5, "entries": 35},
}  # fmt: skip


def portable():
    """Every buffer from one linear congruence; tables and thresholds by hand."""
    path = PortableEntropy.from_config(CONFIG)
    state, seed = {}, 1
    for name, buffer in path.state_dict().items():
        values = []
        for _ in range(buffer.numel()):
            seed = (seed * 1103515245 + 12345) % 2**31
            values.append((seed >> 12) % 16001 - 8000)
        state[name] = torch.tensor(values).view(buffer.shape).to(buffer.dtype)
    state["z_tables.cdf"] = torch.tensor([0, 20000, 60000, 65536] * 4)
    state["z_tables.length"] = torch.tensor([4] * 4)
    state["z_tables.offset"] = torch.tensor([-1, 0, -1, 0])
    rows = [
        [0, *(13000 + 1000 * w + k * (9000 - 1500 * w) for k in range(5)), 65536] for w in range(5)
    ]
    state["y_tables.cdf"] = torch.tensor(rows).flatten()
    state["y_tables.length"] = torch.tensor([7] * 5)
    state["y_tables.offset"] = torch.tensor([-2] * 5)
    state["thresholds"] = torch.tensor([-1500, -200, 300, 1800])
    path.load_state_dict(state)
    return path


def test_golden_stream_and_fingerprint():
    path = portable()
    z = torch.arange(4 * 2 * 3).view(1, 4, 2, 3) % 7 - 3.0
    y = torch.arange(3 * 8 * 12).view(1, 3, 8, 12) * 37 % 23 / 2 - 5.3
    (encoded,) = path.encode(y, z, 0.75)
    (decoded,) = path.decode([encoded.string], (2, 3), 0.75)
    assert torch.equal(decoded.y_hat, encoded.y_hat)
    assert path.fingerprint().hex() == "f3dbda1fe5c6"
    assert encoded.crc == decoded.crc == 3324222447
    assert len(encoded.string) == 256
    assert hashlib.sha256(encoded.string).hexdigest()[:16] == "5618082ef5e630b2"
    integers = (encoded.y_hat * 4096).long()
    assert (
        hashlib.sha256(integers.numpy().astype("<i8").tobytes()).hexdigest()[:16]
        == "792d6516fc0016f2"
    )
