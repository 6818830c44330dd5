"""Both hosts are filled, in whichever order things are imported, by whoever imports them."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from hub_cache import write_hub_cache
from PIL import Image

COMPRESSAI_ORDERS = {
    "host first": "from compressai import zoo; import compressai_gen",
    "only a submodule": "import compressai_gen; from compressai.zoo import image",
    "probed before, reloaded after": """
        import compressai_gen, importlib.util
        importlib.util.find_spec("compressai.zoo").loader.get_source("compressai.zoo")
        from compressai import zoo
        importlib.reload(zoo)
        importlib.reload(compressai_gen)
        """,
}


@pytest.mark.parametrize("order", COMPRESSAI_ORDERS)
def test_compressai_is_filled(order, run_python):
    check = """
        import sys, compressai
        from compressai import zoo
        from compressai.registry import MODELS
        assert "compressai_gen_tiny.zoo" not in sys.modules, "imported before it is used"
        model = zoo.image_models["tiny-hyperprior"](quality=1, metric="mse", pretrained=True)
        assert zoo.models["tiny-hyperprior"] is zoo.image_models["tiny-hyperprior"]
        cls = zoo.image.model_architectures["tiny-hyperprior"]
        assert isinstance(cls, type) and isinstance(model, cls)
        assert type(cls.from_state_dict(model.state_dict())) is type(model)
        assert type(MODELS["tiny-hyperprior"](N=8, M=8)) is type(model)
        assert "cheng2020-anchor-vbr" in zoo.image_models
        assert zoo.image_models["mbt2018"].__module__ == "compressai.zoo.image"
        loaders = zoo.__loader__, zoo.__spec__.loader
        assert {type(loader).__name__ for loader in loaders} == {"SourceFileLoader"}
        print([type(finder).__name__ for finder in sys.meta_path].count("HostFinder"))
    """
    assert run_python(dedent(COMPRESSAI_ORDERS[order]) + "\n" + dedent(check)) == "1\n"


DIFFUSERS_ORDERS = {
    "all of the host first": """
        from diffusers import DiffusionPipeline
        import compressai_gen, diffusers
        """,
    "by our other package, reloaded": """
        import diffusers_codec, diffusers, importlib
        importlib.reload(diffusers)
        """,
    "imported eagerly": """
        import os; os.environ["DIFFUSERS_SLOW_IMPORT"] = "1"
        import compressai_gen, diffusers
        """,
}


@pytest.mark.parametrize("order", DIFFUSERS_ORDERS)
def test_diffusers_is_filled(order, run_python):
    check = """
        import sys, diffusers
        diffusers = sys.modules["diffusers"]
        assert "compressai_gen_tiny.pipeline" not in sys.modules, "imported before it is used"
        if "__all__" in vars(diffusers):
            assert {"TinyPipeline", "CodecPipeline"} <= set(dir(diffusers))
        from diffusers import TinyPipeline
        assert diffusers.TinyPipeline is TinyPipeline
        assert TinyPipeline.__module__ == "compressai_gen_tiny.pipeline"
        assert diffusers.DDIMScheduler.__module__ == "diffusers.schedulers.scheduling_ddim"
        assert diffusers.TinyFilter.__module__ == "compressai_gen_tiny.pipeline"
        assert not hasattr(diffusers, "NoSuchPipeline")
        from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES
        assert {"diffusers_codec", "compressai_gen_tiny.pipeline"} <= set(LOADABLE_CLASSES)
        import diffusers_codec
        assert diffusers_codec.ModelMixin is diffusers.ModelMixin
        assert diffusers_codec.SchedulerMixin is diffusers.SchedulerMixin
        assert diffusers_codec.TinyFilter.__module__ == "compressai_gen_tiny.pipeline"
        assert not hasattr(diffusers_codec, "DiffusionPipeline")
        print("filled")
    """
    assert run_python(dedent(DIFFUSERS_ORDERS[order]) + "\n" + dedent(check)) == "filled\n"


def test_a_host_keeps_its_own_names(run_python, tmp_path):
    (tmp_path / "greedy.py").write_text(
        "from compressai_gen import hookimpl\n"
        "@hookimpl\n"
        "def register_zoo_models(register):\n"
        "    register('mbt2018', 'greedy:f', architecture='greedy:C', qualities=(1, 8))\n"
        "@hookimpl\n"
        "def register_pipelines(register):\n"
        "    register('DDPMPipeline', 'greedy:P')\n"
    )
    info = tmp_path / "greedy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[compressai_gen]\ngreedy = greedy\n")
    code = """
        import warnings
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            import compressai_gen, compressai.zoo, diffusers
            assert diffusers.DDPMPipeline.__module__.startswith("diffusers.")
        assert compressai.zoo.image_models["mbt2018"].__module__ == "compressai.zoo.image"
        print(*[str(w.message) for w in warned if "greedy" in str(w.message)], sep="\\n")
    """
    lines = run_python(dedent(code), extra_path=str(tmp_path)).splitlines()
    assert lines == [
        "plugin 'greedy' registers the zoo model 'mbt2018', which CompressAI has itself; "
        "that one stays",
        "plugin 'greedy' registers the pipeline 'DDPMPipeline', which diffusers has itself; "
        "that one stays",
    ]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two small pictures with structure: gradients and a disc."""
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[0:176, 0:192] / 192.0
    disc = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1
    for name, blue in (("a", disc), ("b", ~disc)):
        pixels = (255 * np.stack([x, y, blue], axis=2)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_eval_model_and_update_model_know_our_models(run_python, photos, tmp_path):
    code = """
        import io, json, sys, torch
        from contextlib import redirect_stdout
        from pathlib import Path
        from compressai_gen.cli.main import main

        def evaluate(*arguments):
            with redirect_stdout(io.StringIO()) as printed:
                assert main(["eval-model", *arguments]) == 0
            return json.loads(printed.getvalue())

        results = [evaluate("pretrained", "photos", "-a", "tiny-hyperprior")]

        from compressai.zoo import image_models
        model = image_models["tiny-hyperprior"](1, pretrained=True)
        torch.save(model.state_dict(), "tiny.pth.tar")
        assert main(["update-model", "tiny.pth.tar", "-a", "tiny-hyperprior", "-n", "new"]) == 0
        (new,) = Path().glob("new-*.pth.tar")
        results.append(evaluate("checkpoint", "photos", "-a", "tiny-hyperprior", "-p", str(new)))

        torch.manual_seed(0)
        name, steps = "mbt2018-mean-gain-vbr", ("--vbr_quantstep", "10,1")
        torch.save(image_models[name](N=64, M=96).state_dict(), "vbr.pth.tar")
        results.append(evaluate("checkpoint", "photos", "-a", name, "-p", "vbr.pth.tar", *steps))
        print(json.dumps(results))
    """
    pretrained, checkpoint, variable = json.loads(run_python(dedent(code)))
    assert pretrained["name"] == "tiny-hyperprior-mse"
    assert pretrained["results"]["bpp"][0] > 0
    assert checkpoint["results"]["bpp"] == pretrained["results"]["bpp"]
    assert checkpoint["results"]["psnr-rgb"] == pretrained["results"]["psnr-rgb"]
    low, high = variable["results"]["bpp"]
    assert low < high


def test_pipeline_from_a_folder_and_from_the_hub_cache(run_python, tmp_path):
    save = """
        import compressai_gen, torch
        from diffusers import TinyPipeline
        from compressai_gen_tiny.pipeline import TinyFilter
        filter = TinyFilter()
        torch.nn.init.constant_(filter.conv.bias, 0.25)
        TinyPipeline(filter=filter).save_pretrained("saved")
    """
    run_python(dedent(save))
    recorded = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert recorded["filter"] == ["compressai_gen_tiny.pipeline", "TinyFilter"]

    write_hub_cache(tmp_path / "saved", tmp_path / "hf_home", "someone/tiny")
    load = """
        import compressai_gen
        from diffusers import DiffusionPipeline
        from PIL import Image
        for source in ("saved", "someone/tiny"):
            pipeline = DiffusionPipeline.from_pretrained(source)
            assert type(pipeline).__name__ == "TinyPipeline", type(pipeline)
            grey = Image.new("RGB", (8, 8), (100, 100, 100))
            print(*pipeline(grey).images[0].getpixel((4, 4)))
    """
    offline = {"HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_OFFLINE": "1"}
    assert run_python(dedent(load), **offline) == "132 132 132\n" * 2
