"""Build, test and push the base image."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from build.base import chosen
from build.cli import options
from build.cli.combinations import OF_CUDA
from build.engine import names
from build.flavors.cuda_wishes import CudaWishes
from build.nightly.run import BaseRequest, nightly, plan
from build.source.mirror import Remote
from build.source.remotes import REMOTES

if TYPE_CHECKING:
    from build.base.chosen import Chosen
    from build.cli.options import Defaults
    from build.context import Context

EXAMPLE = ""


class _Pairs(argparse.Action):
    """Collect ``NAME=VALUE`` words in a dictionary."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Add one."""
        name, equals, value = str(values).partition("=")
        if not equals:
            parser.error(f"argument {option_string}: {values!r} is not {self.metavar}")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), name: value})


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the options of the base and its test."""
    options.add_timeout(parser)
    options.add_version(parser)
    options.add_flavor(parser, "of the base")
    parser.add_argument("--force", action="store_true", help="build and test again although nothing changed")
    options.add_push(parser)
    options.add_gpus(parser)
    parser.add_argument("--dry-run", action="store_true", help="show how it would be built, without an engine")
    _add_cuda(parser.add_argument_group("options of --flavor cuda"))


def _add_cuda(cuda: argparse._ArgumentGroup) -> None:
    """Declare the cuda flavor's options. Their default is None, because given options decide the flavor."""
    cuda.add_argument(
        "--commit", metavar="COMMIT", type=options.word, help="vLLM commit to build (default: the newest of main)"
    )
    cuda.add_argument(
        "--remote",
        metavar="NAME",
        type=options.word,
        help=f"{', '.join(REMOTES)}, or a repository's address (default: vllm)",
    )
    cuda.add_argument("--llm-d", metavar="PATH", type=options.path, help="tree of llm-d (default: the submodule)")
    cuda.add_argument("--llm-d-ref", metavar="REF", type=options.word, help="commit of that tree's repository to use")
    cuda.add_argument(
        "--build-arg", dest="build_args", metavar="NAME=VALUE", action="append", help="build argument; repeatable"
    )
    cuda.add_argument(
        "--build-secret",
        dest="build_secrets",
        metavar="ID=FILE",
        action=_Pairs,
        help="BuildKit secret, such as sccache's aws_access_key_id; repeatable",
    )
    cuda.add_argument(
        "--compile", action="store_true", default=None, help="compile vLLM instead of taking a wheel's binaries"
    )
    cuda.add_argument(
        "--no-preflight",
        dest="preflight",
        action="store_false",
        default=None,
        help="do not look for the wheel before building",
    )
    cuda.add_argument("--builder", metavar="NAME", type=options.word, help="buildx builder (default: the engine's own)")
    cuda.add_argument("--cache-to", choices=("registry", "local"), help="second place for the build cache")


def run(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    flavor = flavor_of(context, arguments)
    request = BaseRequest(
        flavor=flavor.name,
        force=arguments.force,
        push=arguments.push,
        wishes=_wishes(arguments),
        gpus=arguments.gpus,
    )
    if arguments.dry_run:
        recipe = plan(context, request)
        context.console.result("\n".join(recipe.lines()))
        return {**recipe.document(), "flavor_from": flavor.why}
    return context.console.show(nightly(context, request).document())


def _wishes(arguments: argparse.Namespace) -> CudaWishes:
    return CudaWishes(
        commit=arguments.commit,
        remote=Remote.named(arguments.remote or "vllm"),
        llm_d=arguments.llm_d,
        llm_d_ref=arguments.llm_d_ref,
        build_args=arguments.build_args or (),
        compile=bool(arguments.compile),
        preflight=arguments.preflight is not False,
    )


def flavor_of(context: Context, arguments: argparse.Namespace) -> Chosen:
    """Return the flavor of a nightly.

    Without an engine, the nightly itself fails, so that the failure is recorded and notified.

    Args:
        context: Settings, console, engine.
        arguments: Command line of the nightly.
    """
    asked = arguments.flavor or context.settings.flavor
    given = {
        names.CUDA: [option for name, option in OF_CUDA.items() if getattr(arguments, name) is not None],
        names.CPU: ["--vllm-version"] if arguments.vllm_version else [],
    }
    return chosen.implied(asked, given) or chosen.chosen_without_engine(context, asked)
