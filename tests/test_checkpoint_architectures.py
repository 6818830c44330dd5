"""Architectures by name, their arguments read off a model, and the zoo's ``checkpoint=``."""

from __future__ import annotations

import pytest
from compressai.models import MeanScaleHyperprior
from compressai.zoo import image_models
from hub_cache import write_hub_cache
from small_checkpoints import NAME, WEIGHTS
from small_models import ARCHITECTURES, OURS, picture, small_model

from compressai_gen.checkpoints import (
    architecture_class,
    architecture_names,
    architecture_of,
    build_model,
    constructor_arguments,
    save_model,
)
from compressai_gen.entropy import export
from compressai_gen.errors import CheckpointError, UnknownNameError


class TestArchitectures:
    def test_every_name_is_known(self):
        assert set(ARCHITECTURES) <= set(architecture_names())

    @pytest.mark.parametrize("name", ARCHITECTURES)
    def test_arguments_and_name_are_read_off_the_model(self, name):
        model = build_model(name, ARCHITECTURES[name])
        arguments = constructor_arguments(model)
        assert arguments.items() >= ARCHITECTURES[name].items()
        again = build_model(name, arguments)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            assert one.shape == other.shape
        assert architecture_of(model) == name
        assert architecture_class(name) is type(model)

    def test_unknown_name_suggests_the_nearest(self):
        with pytest.raises(UnknownNameError, match="mbt2018-mean"):
            architecture_class("mbt2018-maen")

    def test_wrong_arguments_name_the_right_ones(self):
        with pytest.raises(CheckpointError, match="its arguments are N, M"):
            build_model(NAME, {"width": 3})

    def test_unregistered_class(self):
        class Mine(MeanScaleHyperprior):
            pass

        with pytest.raises(CheckpointError, match="register"):
            architecture_of(Mine(8, 8))

    def test_argument_that_is_not_kept(self):
        class Mine(MeanScaleHyperprior):
            def __init__(self, depth: object) -> None:
                super().__init__(8, 8)

        with pytest.raises(CheckpointError, match="'depth'"):
            constructor_arguments(Mine(1))


@pytest.mark.parametrize("architecture", OURS)
class TestZooFactory:
    """``compressai.zoo.image_models[name](checkpoint=...)`` of our models."""

    @pytest.fixture
    def model(self, architecture):
        model = small_model(architecture)
        model.add_module("portable", export(model))
        return model

    @pytest.fixture
    def folder(self, tmp_path, model, architecture):
        arguments = constructor_arguments(model)
        return save_model(model, tmp_path / "c", architecture=architecture, arguments=arguments)

    def test_folder_file_and_repo_id(self, model, folder, architecture, tmp_path, monkeypatch):
        factory = image_models[architecture]
        for source in (folder, str(folder), folder / WEIGHTS):
            assert factory(checkpoint=source).compress(picture()) == model.compress(picture())
        cache = write_hub_cache(folder, tmp_path, "org/codec")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        loaded = factory(checkpoint="org/codec")
        assert loaded.compress(picture()) == model.compress(picture())

    def test_eval_models_forced_update_changes_nothing(self, model, folder, architecture):
        loaded = image_models[architecture](checkpoint=folder)
        loaded.update(force=True)
        assert loaded.compress(picture()) == model.compress(picture())

    def test_another_architecture_is_refused(self, folder, architecture):
        other = next(name for name in reversed(OURS) if name != architecture)
        if issubclass(architecture_class(architecture), architecture_class(other)):
            pytest.skip("it is one of them")
        with pytest.raises(CheckpointError, match=f"not a {other}"):
            image_models[other](checkpoint=folder)
