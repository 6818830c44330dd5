"""`cgen` itself: overview, errors as one line, exit statuses, commands of plugins, autoload."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

import compressai_gen
from compressai_gen.cli import autoload
from compressai_gen.cli import main as cli
from compressai_gen.cli.main import COMMANDS, main
from compressai_gen.errors import OptionError
from compressai_gen.notes import NonPortableWarning


@pytest.fixture
def command(monkeypatch):
    """``command(function)`` makes ``cgen info`` call it with the parsed arguments."""

    def install(run):
        module = SimpleNamespace(__doc__=None, add_arguments=lambda parser: None, run=run)
        monkeypatch.setattr(cli, "import_module", lambda name: module)

    return install


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_overview_lists_every_command(arguments, capsys):
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:<14}{command.help}\n" in out
    assert "\n  fusion-study  the latent fusion paper's checks" in out
    assert "\n  loss-study " in out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as exit_status:
        main([name, "--help"])
    assert exit_status.value.code == 0
    assert f"usage: cgen {name}" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cgen {compressai_gen.__version__}\n"


def test_our_warnings_are_one_line(command, capsys):
    def run(args):
        warnings.warn("not portable", NonPortableWarning, stacklevel=1)

    command(run)
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "cgen: warning: not portable\n"


def test_unknown_command_suggests_the_nearest(capsys):
    assert main(["compres"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("cgen: unknown command 'compres'; did you mean compress")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OptionError("quality 12 is\n not in [0, 9]"), "cgen: quality 12 is not in [0, 9]\n"),
        (KeyboardInterrupt(), "cgen: interrupted, nothing was left half-written\n"),
        (PermissionError(13, "Permission denied", "/f"), "cgen: Permission denied: /f\n"),
        (OSError(28, "No space left on device"), "cgen: No space left on device\n"),
    ],
)
def test_error_is_one_line_and_status_1(error, line, command, capsys):
    def fail(args):
        raise error

    command(fail)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_exit_status_of_a_command(returned, status, command):
    command(lambda args: returned)
    assert main(["info"]) == status


def test_bug_is_not_hidden(command):
    command(lambda args: [][0])
    with pytest.raises(IndexError):
        main(["info"])


def test_closed_pipe_is_quiet():
    code = "from compressai_gen.cli.main import main; raise SystemExit(main(['--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_closed_standard_output_is_told(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["--version"]) == 1
    assert capsys.readouterr().err.startswith("cgen: standard output is closed: ")


def test_a_file_name_that_is_not_utf8_can_be_told(command, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    command(lambda args: print(os.fsdecode(b"e\xff.png")))
    assert main(["info"]) == 0
    assert out.buffer.getvalue() == b"e\\udcff.png\n"


def test_command_of_a_plugin(run_python, tmp_path):
    (tmp_path / "file").write_bytes(bytes(123))
    cgen = ("-m", "compressai_gen")
    assert "how many bytes files have (tiny)" in run_python(*cgen)
    assert run_python(*cgen, "tiny-sizes", "file").split() == ["123", "file"]


def test_broken_plugin_is_one_line(external_plugin, tmp_path):
    (tmp_path / "broken-1.dist-info").mkdir()
    (tmp_path / "broken-1.dist-info" / "METADATA").write_text("Name: broken\nVersion: 1\n")
    points = tmp_path / "broken-1.dist-info" / "entry_points.txt"
    points.write_text("[compressai_gen]\nbroken = no_such_module\n")
    done = subprocess.run(
        [sys.executable, "-m", "compressai_gen", "plugins"],
        env={**os.environ, "PYTHONPATH": f"{external_plugin}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    cause = "ModuleNotFoundError: No module named 'no_such_module'"
    assert done.stderr.startswith(
        f"cgen: warning: plugin 'broken' (broken 1), while loading: {cause}; "
    )
    assert done.stderr.count("\n") == 1
    assert f"  FAILED while loading: {cause}\n" in done.stdout
    assert "tiny-hyperprior" in done.stdout


def test_zoo_lists_ours_the_stock_models_and_strangers(run_python):
    rows = {
        row["name"]: row for row in json.loads(run_python("-m", "compressai_gen", "zoo", "--json"))
    }
    assert rows["tiny-hyperprior"]["plugin"] == "tiny"
    assert rows["cheng2020-anchor-vbr"]["qualities"] == [0, 9]
    assert rows["cheng2020-anchor-vbr"]["variable_rate"]
    assert rows["mbt2018-mean"]["plugin"] == "compressai"
    assert rows["mbt2018-mean"]["qualities"] == [1, 8]
    assert rows["cheng2020-attn"]["qualities"] == [1, 6]
    assert "to download" in rows["mbt2018-vbr"]["weights"]
    assert rows["elic2022-official"]["qualities"] is None
    assert rows["cheng2020-anchor-checkerboard"]["plugin"] == "compressai"
    assert rows["diffeic"]["weights"] == rows["diffeic-lfgcm"]["weights"] == "embedded"
    assert rows["diffeic-lfgcm"]["through"] == "diffeic"
    assert rows["nif"]["through"] is rows["mbt2018-mean"]["through"] is None


def test_autoload(monkeypatch, tmp_path, capsys, run_python):
    monkeypatch.setattr(autoload, "site_packages", lambda: tmp_path)
    for action, state in [("status", "off"), ("on", "on"), ("on", "on"), ("status", "on")]:
        assert main(["autoload", action]) == 0
        assert capsys.readouterr().out.startswith(f"autoload is {state}: ")

    start = f"import site, sys; site.addsitedir({str(tmp_path)!r}); "
    check = "import compressai.zoo as zoo; print('tiny-hyperprior' in zoo.image_models)"
    assert run_python(start + "assert 'torch' not in sys.modules; " + check) == "True\n"
    bare = [sys.executable, "-S", "-I", "-c", start + "print('compressai_gen' in sys.modules)"]
    done = subprocess.run(
        bare, capture_output=True, text=True
    )  # where the package is not installed
    assert (done.stdout, done.stderr) == ("False\n", "")

    for _ in range(2):
        assert main(["autoload", "off"]) == 0
        assert capsys.readouterr().out.startswith("autoload is off: ")
    assert not list(tmp_path.iterdir())


def test_public_names_are_imported_at_first_use():
    for name in compressai_gen.__all__:
        value = getattr(compressai_gen, name)
        assert getattr(value, "__name__", name) == name
    assert set(compressai_gen.__all__) <= set(dir(compressai_gen))
    with pytest.raises(AttributeError, match="no attribute 'open_codek'"):
        compressai_gen.open_codek  # noqa: B018


def test_commands_have_the_documented_functions():
    for command in COMMANDS.values():
        module = cli.import_module(f"compressai_gen.cli.{command.module}")
        assert hasattr(module, "main") or (module.run and module.add_arguments)
        if not hasattr(module, "main"):
            module.add_arguments(argparse.ArgumentParser())
