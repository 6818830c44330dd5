"""What this distribution adds. Only strings: nothing heavy is imported until somebody uses it."""

from compressai_gen import hookimpl


@hookimpl
def register_zoo_models(register):
    register(
        "tiny-hyperprior",
        "compressai_gen_tiny.zoo:tiny_hyperprior",
        architecture="compressai_gen_tiny.zoo:TinyHyperprior",
        qualities=(1, 3),
        help="mean-scale hyperprior of 16 channels",
    )


@hookimpl
def register_components(register):
    register("TinyFilter", "compressai_gen_tiny.pipeline:TinyFilter")


@hookimpl
def register_pipelines(register):
    register("TinyPipeline", "compressai_gen_tiny.pipeline:TinyPipeline")


@hookimpl
def register_metrics(register):
    register("mae-rgb", "compressai_gen_tiny.metric:MeanAbsoluteError", help="mean absolute error")


@hookimpl
def register_commands(register):
    register("tiny-sizes", "compressai_gen_tiny.command", help="how many bytes files have")
