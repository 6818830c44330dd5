"""The state of a training, and other files in its place."""

from __future__ import annotations

import pytest
import torch
from cgen_command import assert_one_line
from cgen_command import cgen as cgen
from PIL import Image
from skimage import data as photographs

from compressai_gen.errors import CheckpointError, CodecError, OptionError
from compressai_gen.training.state_file import StateFile


def test_what_was_written_comes_back(tmp_path):
    kept = StateFile(tmp_path / "state", {"loss": "l1", "seed": 0})
    assert kept.read() is None
    for step in range(2):
        kept.write({"step": step, "best": {"w": torch.ones(2)}})
        content = kept.read()
        assert content.keys() == {"step", "best"}
        assert content["step"] == step
        assert content["best"]["w"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_the_state_of_another_training_is_refused(tmp_path):
    StateFile(tmp_path / "state", {"loss": "l1", "seed": 0}).write({})
    for identity, named in (
        ({"loss": "mse", "seed": 0}, "loss"),
        ({"loss": "mse", "seed": 1}, "loss and seed"),
        ({"loss": "l1", "seed": 0, "size": 3}, "size"),
    ):
        with pytest.raises(OptionError, match=f"is the state of another {named}: remove it"):
            StateFile(tmp_path / "state", identity).read()


def test_other_files_are_refused_and_left_alone(tmp_path):
    path = tmp_path / "state"
    kept = StateFile(path)
    kept.write({"best": torch.arange(1000)})
    whole = path.read_bytes()
    for content in ({"best": 1}, {"identity": 3}, [torch.ones(2)], torch.ones(2), print):
        torch.save(content, tmp_path / "other")
        others = [(tmp_path / "other").read_bytes(), b"", b"\x89PNG\r\n", whole[:-100], whole[:9]]
        for other in others:
            path.write_bytes(other)
            with pytest.raises(CheckpointError, match="is not a state, or damaged: remove it"):
                kept.read()
            assert path.read_bytes() == other


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(CodecError, match="does not exist"):
        StateFile(tmp_path / "no" / "state").read()
    with pytest.raises(CodecError, match="it is a folder"):
        StateFile(tmp_path).read()


@pytest.mark.parametrize("codec", ["nif", "cool-chic-v1"])
def test_the_picture_itself_as_state(cgen, tmp_path, monkeypatch, codec):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photographs.chelsea()[100:132, 100:132]).save("cat.png")
    before = (tmp_path / "cat.png").read_bytes()
    result = cgen("compress", "cat.png", "--codec", codec, "--state", "cat.png")
    message = "cannot make the folder cat.png for states (File exists): give another one"
    assert_one_line(result, message)
    assert (tmp_path / "cat.png").read_bytes() == before
    assert not (tmp_path / "cat.cgen").exists()
