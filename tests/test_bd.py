"""Bjontegaard deltas: recovered exactly where they are known, refused where they mean nothing."""

from __future__ import annotations

import json
import math
import re

import pytest
from data import needs, shared_data

from compressai_gen.cli.main import main
from compressai_gen.errors import OptionError
from compressai_gen.evaluation.schema import read_report
from compressai_gen.metrics.bd import METHODS, Curve, bd

RATES = (0.1, 0.2, 0.4, 0.7, 1.1)
PSNR = tuple(30 + 4 * math.log2(rate / 0.1) ** 0.9 for rate in RATES)
LPIPS = tuple(0.4 - 0.08 * math.log2(rate / 0.1) for rate in RATES)


def curve(rates=RATES, values=PSNR, name="c", **kwargs) -> Curve:
    return Curve(name, tuple(rates), tuple(values), **kwargs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("values", "higher"), [(PSNR, True), (LPIPS, False)])
def test_twenty_percent_fewer_bits_are_minus_twenty_percent(method, values, higher):
    anchor = curve(values=values, higher_is_better=higher)
    test = curve([0.8 * rate for rate in RATES], values, higher_is_better=higher)
    result = bd(anchor, test, method=method)
    assert result.bd_rate == pytest.approx(-20)
    assert (result.bd_metric > 0) is higher
    assert result.quality_overlap == 1
    assert result.dropped == ()


def test_one_decibel_more_is_one_decibel():
    result = bd(curve(), curve(values=[value + 1 for value in PSNR]))
    assert result.bd_metric == pytest.approx(1)
    assert result.bd_rate < 0
    assert result.rate_overlap == pytest.approx(1)


def test_order_and_number_of_points_do_not_matter():
    denser = curve([0.5 * rate for rate in RATES] + [2.0], [*PSNR, 60.0])
    shuffled = Curve("s", denser.rates[::-1], denser.values[::-1])
    assert bd(curve(), shuffled) == bd(curve(), Curve("s", denser.rates, denser.values))
    assert bd(curve(), shuffled).bd_rate == pytest.approx(-50, abs=1)


def test_points_that_are_not_monotone_are_left_out_and_told():
    dented = curve([*RATES, 0.5], [*PSNR, 31.0], name="dented")
    result = bd(curve(), dented)
    assert result.dropped == (("dented", 0.5, 31.0),)
    assert result.bd_rate == pytest.approx(0, abs=1e-9)


def test_limits_cut_both_curves():
    anchor = curve(range(1, 11), [10.0 + rate for rate in range(1, 11)])
    halved_at_low_rates = curve(
        [rate / 2 if rate <= 4 else rate for rate in range(1, 11)],
        [10.0 + rate for rate in range(1, 11)],
    )
    whole = bd(anchor, halved_at_low_rates)
    high = bd(anchor, halved_at_low_rates, min_bpp=5.5, max_bpp=9.5)
    assert whole.bd_rate < -10
    assert high.bd_rate == pytest.approx(0, abs=0.1)  # the cut ends are interpolated
    assert high.points == (6, 6)


@pytest.mark.parametrize(
    ("anchor", "test", "kwargs", "message"),
    [
        (
            curve(),
            curve([100 * rate for rate in RATES], [value + 50 for value in PSNR]),
            {},
            "no quality and no rate in common: c covers 30 to .* at 0.1 to 1.1 bpp, c covers 80",
        ),
        (curve(), curve(), {"min_bpp": 2}, "0 usable rate points between 2 and inf bpp"),
        (curve(), curve(higher_is_better=False), {}, "disagree"),
        (curve(), curve(), {"method": "cubic"}, "'cubic'; allowed: pchip, akima"),
    ],
)
def test_what_cannot_be_compared_is_refused(anchor, test, kwargs, message):
    with pytest.raises(OptionError, match=message):
        bd(anchor, test, **kwargs)


def test_without_a_common_rate_there_is_still_a_bd_rate():
    result = bd(curve(), curve([100 * rate for rate in RATES]))
    assert result.bd_rate == pytest.approx(9900)
    assert result.bd_metric is None
    assert (result.quality_overlap, result.rate_overlap) == (1, 0)


def test_without_a_common_quality_there_is_still_a_bd_metric():
    result = bd(curve(), curve(values=[value + 50 for value in PSNR]))
    assert result.bd_rate is None
    assert result.bd_metric == pytest.approx(50)
    assert result.quality_overlap == 0


@pytest.mark.parametrize("bad", [[0.0, 1.0], [-1.0, 1.0], [math.nan, 1.0]])
def test_rates_must_be_positive(bad):
    with pytest.raises(OptionError, match="above 0"):
        Curve("c", tuple(bad), (1.0, 2.0))


def write(path, rates, lpips, name, sha="a", **more):
    results = {"bpp": list(rates), "lpips-squeeze": list(lpips)}
    protocol = {"dataset": {"sha256": sha}, "geometry": "full"}
    path.write_text(json.dumps({"name": name, "results": results, "protocol": protocol, **more}))
    return str(path)


def test_command_handles_lower_is_better(tmp_path, capsys):
    anchor = write(tmp_path / "a.json", RATES, LPIPS, "old")
    test = write(tmp_path / "t.json", [0.5 * rate for rate in RATES], LPIPS, "new")
    assert main(["bdrate", anchor, test, "--metric", "lpips-squeeze"]) == 0
    out = capsys.readouterr().out
    assert "BD-rate   -50.00 %   new needs fewer bits than old" in out
    assert main(["bdrate", anchor, test, "--metric", "lpips-squeeze", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bd_rate"] == pytest.approx(-50)


def test_command_tells_which_delta_there_is_not(tmp_path, capsys):
    anchor = write(tmp_path / "a.json", RATES, LPIPS, "old")
    dearer = write(tmp_path / "d.json", [100 * rate for rate in RATES], LPIPS, "dear")
    better = write(tmp_path / "b.json", RATES, [value - 1 for value in LPIPS], "good")
    assert main(["bdrate", anchor, dearer, "--metric", "lpips-squeeze"]) == 0
    out = capsys.readouterr().out
    assert "BD-rate   +9900.00 %   dear needs more bits" in out
    assert "BD-metric none: no rate in common" in out
    assert main(["bdrate", anchor, better, "--metric", "lpips-squeeze"]) == 0
    out = capsys.readouterr().out
    assert "BD-rate   none: good and old have no lpips-squeeze in common" in out
    assert "BD-metric -1.0000" in out


def test_equal_files_need_as_many_bits(tmp_path, capsys):
    file = write(tmp_path / "a.json", RATES, LPIPS, "old", protocol={"dataset": 5})
    assert main(["bdrate", file, file, "--metric", "lpips-squeeze"]) == 0
    out = capsys.readouterr().out
    assert "BD-rate   +0.00 %   old needs as many bits as old at equal lpips-squeeze" in out


def test_files_of_one_codec_are_told_by_their_names(tmp_path, capsys):
    mse = write(tmp_path / "nif-mse.json", RATES, LPIPS, "nif")
    l1 = write(tmp_path / "nif-l1.json", [2 * rate for rate in RATES], LPIPS, "nif")
    assert main(["bdrate", mse, l1, "--metric", "lpips-squeeze"]) == 0
    assert "nif-l1 needs more bits than nif-mse" in capsys.readouterr().out


def test_command_refuses_other_pictures_unless_forced(tmp_path, capsys):
    anchor = write(tmp_path / "a.json", RATES, LPIPS, "old")
    test = write(tmp_path / "t.json", RATES, LPIPS, "new", sha="b")
    command = ["bdrate", anchor, test, "--metric", "lpips-squeeze"]
    assert main(command) == 1
    assert "different pictures" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert "note: old and new were measured with different pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a result file"),
        ("[1, 2]", "not a result file"),
        ('{"results": {"bpp": [1, 2], "psnr-rgb": [1]}}', "lists of one length"),
        ('{"results": {"psnr-rgb": [1]}}', "'bpp' among them"),
        ('{"results": {"bpp": [], "psnr-rgb": []}}', "not empty"),
        ('{"results": {"bpp": [0.1, null], "psnr-rgb": [1, 2]}}', "of numbers"),
        ('{"results": {"bpp": [1, 2], "psnr-rgb": "ab"}}', "lists"),
        ('{"results": {"bpp": {"a": 1}, "psnr-rgb": [1]}}', "lists"),
        ('{"results": 5}', "lists"),
        (
            '{"results": {"bpp": [1], "psnr-rgb": [1]}, "protocol": 5}',
            "'protocol' is 5, not a dict",
        ),
        ('{"results": {"bpp": [1], "psnr-rgb": [1]}, "name": ["a"]}', "not a str"),
        ('{"results": {"bpp": [1, 2]}}', "has no psnr-rgb; it has bpp"),
        (
            '{"results": {"bpp": [1, 2]}, "skipped": {"psnr-rgb": "because"}}',
            "has no psnr-rgb .because.",
        ),
    ],
)
def test_command_explains_bad_files(tmp_path, capsys, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert main(["bdrate", str(path), str(path)]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error


KODAK = ("results", "compressai", "image", "kodak")


@needs(*KODAK)
def test_published_curves_can_be_read_and_compared(capsys):
    folder = shared_data().joinpath(*KODAK)
    for path in folder.glob("*.json"):
        assert read_report(path).results["bpp"], path
    mean, cheng = (
        str(folder / f"compressai-{name}_mse_cuda.json")
        for name in ("mbt2018-mean", "cheng2020-attn")
    )
    assert main(["bdrate", mean, cheng, "--json"]) == 0
    out = capsys.readouterr()
    assert -20 < json.loads(out.out)["bd_rate"] < -5
    assert "states no protocol" in out.err


@needs(*KODAK)
def test_variable_rate_costs_what_their_paper_says():
    """Facts noted with another tool: mbt2018-mean-vbr +2.1 %, bmshj2018-hyperprior-vbr 0.0 %."""
    folder = shared_data().joinpath(*KODAK)
    for name, percent in (("mbt2018-mean", 2.1), ("bmshj2018-hyperprior", 0.0)):
        anchor = read_report(folder / f"compressai-{name}_mse_cuda.json").curve("psnr-rgb")
        test = read_report(folder / f"{name}-vbr-ans.json").curve("psnr-rgb")
        assert bd(anchor, test, method="akima").bd_rate == pytest.approx(percent, abs=0.5)
