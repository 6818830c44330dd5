"""The import finder on a made-up host: when it fills, how often, and that it harms no import."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading

import pytest

from compressai_gen import activation

SOURCE = """
import time
time.sleep(0.05)
models = {"stock": 1}
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A module `made_up_host` whose filler counts its calls in `host.filled`."""
    (tmp_path / "made_up_host.py").write_text(SOURCE)
    (tmp_path / "made_up_filler.py").write_text(
        "import sys\n"
        "calls = []\n"
        "def fill():\n"
        "    calls.append(dict(sys.modules['made_up_host'].models))\n"
        "    sys.modules['made_up_host'].models['ours'] = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(activation, "FILLERS", {"made_up_host": "made_up_filler:fill"})
    for module in ("made_up_host", "made_up_filler"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    yield lambda: importlib.import_module("made_up_host")
    for module in ("made_up_host", "made_up_filler"):
        sys.modules.pop(module, None)


def calls():
    return sys.modules["made_up_filler"].calls


def test_fills_after_the_module_itself(host):
    assert host().models == {"stock": 1, "ours": 2}
    assert calls() == [{"stock": 1}]


def test_fills_what_is_already_there(host, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not is_ours(f)])
    module = host()
    assert "ours" not in module.models
    activation.install()
    assert "ours" in module.models
    assert is_ours(sys.meta_path[0])


def is_ours(finder):
    return isinstance(finder, activation.HostFinder)


def test_second_install_adds_no_second_finder(host):
    activation.install()
    activation.install()
    assert sum(map(is_ours, sys.meta_path)) == 1
    host()
    assert len(calls()) == 1


def test_probing_does_not_prevent_filling(host):
    spec = importlib.util.find_spec("made_up_host")
    assert spec.origin.endswith("made_up_host.py")
    assert spec.loader.get_source("made_up_host") == SOURCE
    assert "ours" in host().models


def test_module_has_its_own_loader_and_source(host):
    module = host()
    assert type(module.__spec__.loader).__name__ == "SourceFileLoader"
    assert module.__loader__ is module.__spec__.loader
    assert inspect.getsource(module) == SOURCE


def test_reload_fills_again(host):
    module = importlib.reload(host())
    assert module.models == {"stock": 1, "ours": 2}
    assert len(calls()) == 2


def test_missing_host_stays_missing(monkeypatch):
    monkeypatch.setattr(activation, "FILLERS", {"no_such_host": "made_up_filler:fill"})
    assert importlib.util.find_spec("no_such_host") is None
    with pytest.raises(ModuleNotFoundError, match="no_such_host"):
        importlib.import_module("no_such_host")


def test_threads_see_a_filled_host(host):
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(set(host().models))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{"stock", "ours"}] * 8
    assert len(calls()) == 1


def test_failing_filler_is_a_warning(host, monkeypatch):
    monkeypatch.setattr(activation, "FILLERS", {"made_up_host": "math:no_such_filler"})
    with pytest.warns(RuntimeWarning, match="could not add its models to made_up_host: Attribute"):
        assert host().models == {"stock": 1}


def test_failing_host_raises_its_own_error(host, tmp_path):
    (tmp_path / "made_up_host.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        host()
    assert "made_up_host" not in sys.modules
    assert "made_up_filler" not in sys.modules
