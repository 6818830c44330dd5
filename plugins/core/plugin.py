"""Metrics, losses, the CompressAI converter and the diffusers face of a CompressAI model."""

from __future__ import annotations

from compressai_gen.hookspecs import Register, hookimpl


@hookimpl
def register_components(register: Register) -> None:
    register(
        "CompressionModelComponent",
        "diffusers_codec.models.compression_model:CompressionModelComponent",
        help="any CompressAI model as a part of a pipeline",
    )


@hookimpl
def register_pipelines(register: Register) -> None:
    register(
        "CodecPipeline",
        "diffusers_codec.pipelines.codec.pipeline_codec:CodecPipeline",
        help="compress and decompress with one CompressAI model",
    )


@hookimpl
def register_losses(register: Register) -> None:
    losses = "compressai_gen.losses.rate_distortion"
    register("mse", f"{losses}:mse", help="squared error on the 8-bit scale")
    register("ms-ssim", f"{losses}:ms_ssim", help="1 - MS-SSIM")
    pictures = "compressai_gen.losses.pictures"
    register("l1", f"{pictures}:l1", help="mean absolute error, pixels in [0, 1]")
    register("rmse", f"{pictures}:rmse", help="root of the mean squared error, likewise")
    register("log-cosh", f"{pictures}:log_cosh", help="mean of ln cosh of the error, likewise")
    register("lc-ssim", f"{pictures}:lc_ssim", help="log-cosh + 0.01 (1 - SSIM)")
    register("l1-ssim", f"{pictures}:l1_ssim", help="0.8 l1 + 0.2 (1 - SSIM)")
    networks = "compressai_gen.losses.perceptual"
    register("lpips-squeeze", f"{networks}:LpipsSqueeze", help="LPIPS 0.1, SqueezeNet")
    register("lpips-alex", f"{networks}:LpipsAlex", help="LPIPS 0.1, AlexNet")
    register("lpips-vgg", f"{networks}:LpipsVgg", help="LPIPS 0.1, VGG16")


@hookimpl
def register_metrics(register: Register) -> None:
    metrics = "compressai_gen.metrics"
    register("psnr-rgb", f"{metrics}.psnr:PsnrRgb", help="PSNR of 8-bit RGB, dB")
    register("ms-ssim-rgb", f"{metrics}.ms_ssim:MsSsimRgb", help="MS-SSIM of 8-bit RGB")
    register("lpips-squeeze", f"{metrics}.lpips:LpipsSqueeze", help="LPIPS 0.1, SqueezeNet")
    register("lpips-alex", f"{metrics}.lpips:LpipsAlex", help="LPIPS 0.1, AlexNet")
    register("lpips-vgg", f"{metrics}.lpips:LpipsVgg", help="LPIPS 0.1, VGG16")
    register("niqe", f"{metrics}.niqe:Niqe", help="NIQE, no reference")


@hookimpl
def register_converters(register: Register) -> None:
    register(
        "compressai",
        "compressai_gen.checkpoints:convert_compressai",
        help="a .pth.tar of CompressAI's own training",
    )
