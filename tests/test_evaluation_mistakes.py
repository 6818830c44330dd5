"""`cgen evaluate` and `cgen demo`: what cannot be measured, in advice that can be followed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from cgen_command import Cgen, assert_one_line, names
from cgen_command import cgen as cgen
from PIL import Image
from skimage import data as photographs

from compressai_gen.evaluation.cache import RecordCache
from compressai_gen.evaluation.decoder import Decoder
from compressai_gen.evaluation.measure import Evaluator
from compressai_gen.evaluation.protocol import Dataset
from compressai_gen.evaluation.schema import Record

EVALUATE = ["evaluate", "photos", "--codec", "jpeg", "--quality", "50", "--out", "F.json"]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, with one photograph."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.fromarray(photographs.chelsea()[60:240, 100:300]).save("photos/cat.png")


@pytest.mark.parametrize("command", [EVALUATE, ["demo", "--image", "photos/odd.png"]])
@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (Image.new("RGBA", (64, 64)), "the picture has transparent pixels"),
        (Image.new("1", (9000, 8000)), "at most 67108864 and 65535 a side; scale it down"),
    ],
)
def test_a_picture_that_is_to_be_converted_first(cgen: Cgen, monkeypatch, command, odd, words):
    monkeypatch.setattr("compressai_gen.codec.open_codec", lambda *args, **options: None)
    odd.save("photos/odd.png")
    status, _, err = cgen(*command)
    assert status == 1
    (told,) = [line for line in err.splitlines() if "odd.png" in line]
    assert words in told
    assert told.endswith("; convert it first")
    assert "--" not in told


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["--tau", "0.3"], "--tau"),
        (["--same-lambda"], "--same-lambda"),
        (["--checkpoint", "nowhere", "--dtype", "int3"], "--checkpoint, --dtype"),
    ],
)
def test_a_classic_codec_has_no_networks(cgen: Cgen, options, flags):
    expected = f"jpeg has no {flags}: leave it out, or give another --codec"
    assert_one_line(cgen(*EVALUATE, *options), expected)
    assert names() == ["photos"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.inf, "inf: the picture came back without any loss"),
        (math.nan, "nan: the metric has no value for this picture"),
        (-math.inf, "-inf: the metric has no value for this picture"),
    ],
)
def test_no_number_is_told_as_what_it_is(tmp_path, value, reason):
    dataset = Dataset.collect(Path("photos"))
    evaluator = Evaluator(dataset, {"odd": lambda x, x_hat: value}, Decoder(), tmp_path)
    picture = dataset.load("cat.png")
    assert evaluator._compare(picture, picture) == ({}, {"odd": reason})


@pytest.mark.parametrize("damage", [b'{"codec": "j\xff', b'{"codec": "jpeg"}', b"[]", b"7"])
def test_a_damaged_line_counts_as_absent(damage):
    records = [Record("jpeg", f"{name}.png", 20, {"bpp": 1.0}) for name in "abc"]
    cache = RecordCache(Path("F.json"), {})
    for record in records:
        cache.add(record)
    first, a, _, c = cache.path.read_bytes().splitlines(keepends=True)
    cache.path.write_bytes(first + a + damage + b"\n" + c)
    again = RecordCache(Path("F.json"), {})
    assert [again.get("jpeg", f"{name}.png", 20) for name in "abc"] == [
        records[0],
        None,
        records[2],
    ]
    assert cache.path.read_bytes() == first + a + c


def test_a_metric_skipped_for_one_curve_is_told(cgen: Cgen, monkeypatch):
    compare = Evaluator._compare

    def lossless(self, original, decoded):
        values, failed = compare(self, original, decoded)
        webp = self.file.read_bytes()[8:12] == b"WEBP"
        return ({}, {**failed, "psnr-rgb": "inf"}) if webp else (values, failed)

    monkeypatch.setattr(Evaluator, "_compare", lossless)
    monkeypatch.delenv("COMPRESSAI_GEN_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", "none")
    wanted = ("--metrics", "psnr-rgb,lpips-alex", "--baselines", "webp")
    status, _, err = cgen(*EVALUATE, *wanted)
    assert status == 0
    assert "cgen: metric psnr-rgb skipped for webp: cat.png: inf\n" in err
    assert err.count("metric lpips-alex skipped: ") == err.count("lpips-alex skipped") == 1
