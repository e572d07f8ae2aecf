"""The command line: verbs, their options and their help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from build.gitdir import REMOTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    # argparse has no public name for what add_subparsers() returns.
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

# Options that are settings: given on the command line they win over everything else.
SETTING_OPTIONS = ("state", "cache", "install", "registry", "vllm_version", "start_timeout")

_EXIT_CODES = """\
exit codes: 0 done, 1 defect of ours, 2 usage or settings, 3 source, 4 incompatible, 5 build failed, 6 smoke failed,
7 gate or registry refused, 8 engine, GPU or disk unavailable, 9 busy, 130 interrupted
"""


def parse(argv: Sequence[str], *, default_path: Path, default_ref: str) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: Words after the program's name.
        default_path: Repository that ``dev`` works on when none is named.
        default_ref: Ref that ``dev`` takes when none is named.

    Raises:
        SystemExit: Help was asked for (0), or the words are off (2).
    """
    parser = argparse.ArgumentParser(
        prog="python -m build",
        description="From a vLLM commit to a container image that is proven to work.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _quickstart(verbs)
    _engine(verbs)
    _nightly(verbs)
    _build(verbs)
    _dev(verbs, path=default_path, ref=default_ref)
    _plan(verbs, path=default_path, ref=default_ref)
    _smoke(verbs)
    _push(verbs)
    _add(verbs, "status", "list the images that exist, their verdicts and where they were pushed")
    return parser.parse_args(argv)


def _add(verbs: Verbs, name: str, does: str, *, example: str = "") -> argparse.ArgumentParser:
    """A verb with the options that all verbs have."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=does,
        description=does[0].upper() + does[1:] + ".",
        epilog=(f"example: {example}\n\n" if example else "") + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = parser.add_argument_group("options of every verb")
    common.add_argument("--json", action="store_true", help="print one JSON document on standard output, nothing else")
    common.add_argument(
        "--no-install",
        dest="install",
        action="store_const",
        const=False,
        help="never install packages of the distribution (for the embedded engine and registry)",
    )
    common.add_argument("--registry", metavar="HOST/NAME", help="registry repository; default: the embedded one")
    common.add_argument("--state", metavar="DIR", help="folder of logs, verdicts, locks, the embedded engine's data")
    common.add_argument("--cache", metavar="DIR", help="folder of downloads and imported sources")
    return parser


def _quickstart(verbs: Verbs) -> None:
    does = "engine, registry, base, overlay, smoke, push: the main job, from nothing"
    _with_version(_with_timeout(_add(verbs, "quickstart", does)))


def _engine(verbs: Verbs) -> None:
    does = "start, stop or show the embedded Docker Engine and image registry"
    parser = _add(verbs, "engine", does, example="python -m build engine status")
    parser.add_argument("action", choices=("up", "down", "status"))


def _nightly(verbs: Verbs) -> None:
    does = "build the base image, test it, make it the one that overlays use, push it"
    parser = _with_version(_with_timeout(_add(verbs, "nightly", does)))
    parser.add_argument("--flavor", choices=("cpu", "cuda"), default="cpu", help="kind of base (default: cpu)")
    parser.add_argument("--force", action="store_true", help="build and test again although nothing changed")
    parser.add_argument("--no-push", dest="push", action="store_false", help="keep the image on this engine")


def _build(verbs: Verbs) -> None:
    does = "make an overlay of a commit on GitHub, test it, push it"
    parser = _with_timeout(_add(verbs, "build", does, example="python -m build build pull/12345"))
    parser.add_argument("commit", metavar="COMMIT", help="full or short id, branch, tag, or pull/NUMBER")
    _with_remote(parser)
    _with_delivery(parser)


def _dev(verbs: Verbs, *, path: Path, ref: str) -> None:
    does = "make an overlay of a local vLLM commit, test it, push it"
    parser = _with_timeout(_add(verbs, "dev", does, example="python -m build dev ~/vllm HEAD"))
    _with_source(parser, path=path, ref=ref)
    _with_delivery(parser)


def _plan(verbs: Verbs, *, path: Path, ref: str) -> None:
    does = "show what an overlay would change and whether it can be made; builds nothing"
    parser = _add(verbs, "plan", does, example="python -m build plan ~/vllm my-branch")
    _with_source(parser, path=path, ref=ref)
    _with_base(parser)
    parser.add_argument(
        "--base-commit", metavar="REF", help="compare with a base that would be built from this commit; needs no engine"
    )
    parser.add_argument("--flavor", choices=("cpu", "cuda"), default="cpu", help="of that base (default: cpu)")


def _smoke(verbs: Verbs) -> None:
    does = "start an image and test it through its API"
    parser = _with_timeout(_add(verbs, "smoke", does, example="python -m build smoke llm-d-dev:nightly"))
    parser.add_argument("image", metavar="IMAGE", help="name, tag or ID")
    _with_trial(parser)


def _push(verbs: Verbs) -> None:
    does = "push an image that has passed its smoke test"
    parser = _add(verbs, "push", does, example="python -m build push llm-d-dev:nightly")
    parser.add_argument("image", metavar="IMAGE", help="name, tag or ID")
    parser.add_argument("--allow-native", action="store_true", help="although it was made over other native sources")


def _with_source(parser: argparse.ArgumentParser, *, path: Path, ref: str) -> None:
    parser.add_argument(
        "path", metavar="PATH", nargs="?", type=Path, default=path, help=f"vLLM repository (default: {path})"
    )
    parser.add_argument("ref", metavar="REF", nargs="?", default=ref, help=f"commit-ish (default: {ref})")
    parser.add_argument("--dirty", action="store_true", help="take the working tree as it is instead of REF")


def _with_remote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remote",
        metavar="NAME",
        default="vllm",
        help=f"{', '.join(REMOTES)}, or a repository's address (default: vllm)",
    )


def _with_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", metavar="IMAGE", help="base to stand on (default: the newest that fits)")
    parser.add_argument(
        "--with",
        dest="carried",
        metavar="NAME",
        action="append",
        default=[],
        help="carry a top-level folder that the base does not hold, such as tests; repeatable",
    )


def _with_delivery(parser: argparse.ArgumentParser) -> None:
    _with_base(parser)
    _with_trial(parser)
    parser.add_argument(
        "--allow-native", action="store_true", help="make it although native sources differ; never pushed by this run"
    )
    parser.add_argument(
        "--install-deps", action="store_true", help="install what the commit requires and the base lacks"
    )
    parser.add_argument("--no-smoke", dest="smoke", action="store_false", help="do not test, and so do not push")
    parser.add_argument("--no-push", dest="push", action="store_false", help="keep the image on this engine")


def _with_trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="test again although a verdict is known")
    parser.add_argument(
        "--expect",
        metavar="ROUTE=TEXT",
        action="append",
        default=[],
        help="the answer to GET ROUTE must contain TEXT; repeatable",
    )
    parser.add_argument("--gpus", choices=("auto", "all", "none"), default="auto", help="GPUs to pass (default: auto)")
    parser.add_argument(
        "--model",
        metavar="DIR|ID[@REVISION]",
        type=Path,
        help="model to serve: a folder, or its name on Hugging Face's hub (default: a tiny one, made on the spot)",
    )


def _with_timeout(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--start-timeout", metavar="SECONDS", type=int, help="how long the server may take to become healthy"
    )
    return parser


def _with_version(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--vllm-version", metavar="RELEASE", help="vLLM release that the cpu flavor builds from")
    return parser
