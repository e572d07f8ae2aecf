"""The command line: verbs, their options and their help."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from build.cli import about, combinations
from build.config import gpus, model_name
from build.config.expectation import Expectation
from build.engine import names
from build.errors import UsageError
from build.nightly import schedule
from build.source.local import LocalSource
from build.source.remotes import REMOTES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    # argparse has no public name for what add_subparsers() returns.
    Verbs = argparse._SubParsersAction["_Parser"]  # noqa: SLF001

# Options that are settings: given on the command line they win over everything else.
SETTING_OPTIONS = (
    *("state", "cache", "install", "registry", "flavor", "vllm_version", "start_timeout", "keep_bases"),
    *("builder", "cache_to", "build_secrets"),
)

AUTO = "auto"
"""Instead of a base's name: the newest that fits."""

_EXIT_CODES = """\
exit codes: 0 done, 1 defect of ours, 2 usage or settings, 3 source, 4 incompatible, 5 build failed, 6 smoke failed,
7 gate or registry refused, 8 engine, GPU or disk unavailable, 9 busy, 130 interrupted
"""


class _Pairs(argparse.Action):
    """Collects ``NAME=VALUE`` words into a dictionary."""

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


class _Version(argparse.Action):
    """Prints the version, which takes a run of git to find."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, help: str) -> None:  # noqa: A002 - argparse's word
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it."""
        sys.stdout.write(f"{about.version()}\n")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints look like every other error, with the usage a command away."""

    def error(self, message: str) -> NoReturn:
        """What argparse calls when the words are off.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message, hint=f"`{self.prog} --help`")


def parse(
    argv: Sequence[str], *, default: LocalSource, default_ref: str, program: str = "python -m build"
) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: Words after the program's name.
        default: Repository that ``dev`` works on when none is named.
        default_ref: Ref that ``dev`` takes when none is named.
        program: What the program is called.

    Raises:
        SystemExit: Help was asked for.
        UsageError: The words are off, or one of them could not take effect beside another.
    """
    called = [word for word in argv if word in MODULES][:1]
    parser, verbs = _parser(source=default, ref=default_ref, program=program, called=called)
    arguments = parser.parse_args(argv)
    words = argv[list(argv).index(arguments.verb) + 1 :]
    combinations.refuse(arguments.verb, _given(verbs.choices[arguments.verb], words), arguments)
    return arguments


def _given(parser: argparse.ArgumentParser, words: Sequence[str]) -> dict[str, str]:
    """What a command line gives, defaults left out: options and positional words as they are called, by attribute."""
    actions = parser._actions  # noqa: SLF001 - argparse has no public list of a parser's options
    for action in actions:
        action.default = argparse.SUPPRESS
    given = vars(parser.parse_args(words))
    return {
        action.dest: (*action.option_strings, str(given[action.dest]) if action.choices else str(action.metavar))[0]
        for action in actions
        if action.dest in given
    }


MODULES = {
    "report": "list the reports of smoke tests, or open the newest of an image",
    "serve": "start an image as its smoke test does and serve until Ctrl-C",
    "logs": "show what a server prints that runs now, else what the last one printed",
    "shell": "open a shell beside a server that runs now, else in the last image that was tested",
    "diff": "list the source files that two images hold otherwise",
}
"""Verbs that are modules of this room with their names, loaded only when they are called; and what each does."""


def _parser(*, source: LocalSource, ref: str, program: str, called: Collection[str]) -> tuple[_Parser, Verbs]:
    parser = _Parser(
        prog=program,
        description="From a vLLM commit to a container image that is proven to work.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version of this program and exit")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _quickstart(verbs)
    _engine(verbs)
    _nightly(verbs)
    _build(verbs)
    _dev(verbs, source=source, ref=ref)
    _plan(verbs, source=source, ref=ref)
    _smoke(verbs)
    _push(verbs)
    _status(verbs)
    _prune(verbs)
    _schedule(verbs)
    for name, does in MODULES.items():
        verb = importlib.import_module(f"build.cli.{name}") if name in called else None
        added = _add(verbs, name, does, example=verb.EXAMPLE if verb else "")
        if verb:
            verb.add_options(added, None)
    _add(verbs, "install", "put the command llm-d-dev into ~/.local/bin, with completion for bash, zsh and fish")
    _add(verbs, "uninstall", "remove that command and its completion")
    return parser, verbs


def completed(program: str) -> argparse.ArgumentParser:
    """The parser that completions are made from: the same wherever it is asked for."""
    return _parser(source=LocalSource(path=Path("~/vllm"), origin=None), ref="HEAD", program=program, called=MODULES)[0]


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
        "--summary",
        metavar="FILE",
        type=_path,
        help="write what was tested and found to FILE, in Markdown (default under GitHub Actions: the job's summary)",
    )
    common.add_argument(
        "--no-install",
        dest="install",
        action="store_const",
        const=False,
        help="never install packages of the distribution (for the embedded engine and registry)",
    )
    common.add_argument(
        "--registry", metavar="HOST/NAME", type=_word, help="registry repository; default: the embedded one"
    )
    common.add_argument(
        "--state", metavar="DIR", type=_path, help="folder of logs, verdicts, locks, the embedded engine's data"
    )
    common.add_argument("--cache", metavar="DIR", type=_path, help="folder of downloads and imported sources")
    return parser


def _quickstart(verbs: Verbs) -> None:
    does = "engine, registry, base, overlay, smoke, push: the main job, from nothing"
    _with_version(_with_timeout(_add(verbs, "quickstart", does)))


def _engine(verbs: Verbs) -> None:
    does = "start, stop or show the embedded Docker Engine and image registry"
    parser = _add(verbs, "engine", does, example="%(prog)s status")
    parser.add_argument("action", choices=("up", "down", "status"))


def _nightly(verbs: Verbs) -> None:
    does = "build the base image, test it, make it the one that overlays use, push it"
    parser = _with_version(_with_timeout(_add(verbs, "nightly", does)))
    _with_flavor(parser, "of the base")
    parser.add_argument("--force", action="store_true", help="build and test again although nothing changed")
    parser.add_argument("--no-push", dest="push", action="store_false", help="keep the image on this engine")
    _with_gpus(parser)
    parser.add_argument("--dry-run", action="store_true", help="show how it would be built; needs no engine")
    cuda = parser.add_argument_group("options of --flavor cuda")
    cuda.add_argument(
        "--commit", metavar="COMMIT", type=_word, help="vLLM commit to build (default: the newest of main)"
    )
    cuda.add_argument(
        "--remote", metavar="NAME", type=_word, help=f"{', '.join(REMOTES)}, or a repository's address (default: vllm)"
    )
    cuda.add_argument("--llm-d", metavar="PATH", type=_path, help="tree of llm-d (default: the submodule)")
    cuda.add_argument("--llm-d-ref", metavar="REF", type=_word, help="another commit of that tree's repository")
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
    # None means that it was not given, which --flavor goes by.
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
    cuda.add_argument("--builder", metavar="NAME", type=_word, help="buildx builder (default: the engine's own)")
    cuda.add_argument("--cache-to", choices=("registry", "local"), help="where to keep the build cache as well")


def given_for_cuda(arguments: argparse.Namespace) -> dict[str, str]:
    """Options of the cuda flavor that were given: their names on the command line, by attribute."""
    plain = ("commit", "remote", "llm_d", "llm_d_ref", "compile", "builder", "cache_to")
    named = {name: f"--{name.replace('_', '-')}" for name in plain}
    named |= {"build_args": "--build-arg", "build_secrets": "--build-secret", "preflight": "--no-preflight"}
    return {name: option for name, option in named.items() if getattr(arguments, name) is not None}


def _build(verbs: Verbs) -> None:
    does = "make an overlay of a commit on GitHub, test it, push it"
    parser = _with_timeout(_add(verbs, "build", does, example="%(prog)s pull/12345"))
    parser.add_argument(
        "commit", metavar="COMMIT", type=_word, help="full or short id, branch, tag, pull/NUMBER; or release"
    )
    _with_remote(parser)
    _with_delivery(parser)


def _dev(verbs: Verbs, *, source: LocalSource, ref: str) -> None:
    does = "make an overlay of a local vLLM commit, test it, push it"
    parser = _with_timeout(_add(verbs, "dev", does, example="%(prog)s ~/vllm HEAD"))
    _with_source(parser, source=source, ref=ref)
    _with_delivery(parser)


def _plan(verbs: Verbs, *, source: LocalSource, ref: str) -> None:
    does = "show what an overlay would change and whether it can be made; builds nothing"
    parser = _add(verbs, "plan", does, example="%(prog)s ~/vllm my-branch")
    _with_source(parser, source=source, ref=ref)
    _with_base(parser)
    parser.add_argument(
        "--base-commit",
        metavar="REF",
        type=_word,
        help="compare with a base that would be built from this commit; needs no engine",
    )


def _smoke(verbs: Verbs) -> None:
    does = "start an image and test it through its API"
    parser = _with_timeout(_add(verbs, "smoke", does, example="%(prog)s llm-d-dev:nightly"))
    parser.add_argument("image", metavar="IMAGE", type=_word, help="name, tag or ID")
    _with_trial(parser)


def _push(verbs: Verbs) -> None:
    does = "push an image that has passed its smoke test"
    parser = _add(verbs, "push", does, example="%(prog)s llm-d-dev:nightly")
    parser.add_argument("image", metavar="IMAGE", type=_word, help="name, tag or ID")
    parser.add_argument("--allow-native", action="store_true", help="although it was made over other native sources")


def _status(verbs: Verbs) -> None:
    does = "list the images that exist, their verdicts and where they were pushed, and the last nightlies"
    parser = _add(verbs, "status", does)
    parser.add_argument("--last", metavar="N", type=_count, default=5, help="nightlies to show (default: 5)")


def _prune(verbs: Verbs) -> None:
    does = "remove old bases, expired overlays, old reports and logs; without --apply it only says what would go"
    parser = _add(verbs, "prune", does, example="%(prog)s --apply")
    parser.add_argument("--apply", action="store_true", help="do it")
    parser.add_argument("--keep-bases", metavar="N", type=int, help="good bases of each flavor that stay")


def _schedule(verbs: Verbs) -> None:
    does = "install, show or remove the timer that starts the nightly every day"
    parser = _add(verbs, "schedule", does, example="%(prog)s install --at 02:00")
    parser.add_argument("action", choices=("install", "show", "remove"))
    _with_flavor(parser, "of the nightlies, written down")
    parser.add_argument("--at", metavar="HH:MM", type=schedule.at, default="02:00", help="local time (default: 02:00)")
    parser.add_argument(
        "--nightly",
        metavar="OPTIONS",
        type=_nightly_options,
        default=[],
        help="what the nightly is started with, such as --nightly='--flavor cuda'",
    )


def _nightly_options(text: str) -> list[str]:
    """Words behind `nightly`; checked now, because at night nobody reads what argparse says."""
    words = shlex.split(text)
    made = parse_nightly(words)
    given = (made.state, made.cache, made.llm_d, *(made.build_secrets or {}).values())
    for path in given:
        if path and not Path(path).expanduser().is_absolute():
            raise argparse.ArgumentTypeError(f"{str(path)!r} is not an absolute path, and a timer has no folder")
    if made.dry_run:
        raise argparse.ArgumentTypeError("--dry-run builds nothing")
    return words


def parse_nightly(words: Sequence[str]) -> argparse.Namespace:
    """Read the words behind `nightly`.

    Raises:
        UsageError: They are off.
    """
    return parse(["nightly", *words], default=LocalSource(path=Path(), origin=None), default_ref="")


def _count(text: str) -> int:
    """A number of things, perhaps none.

    Raises:
        ValueError: It is none; argparse says so.
    """
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _with_source(parser: argparse.ArgumentParser, *, source: LocalSource, ref: str) -> None:
    # argparse fills in what follows a percent sign.
    shown, named = (str(default).replace("%", "%%") for default in (source.path, ref))
    parser.add_argument(
        "source",
        metavar="PATH",
        nargs="?",
        type=lambda text: LocalSource(path=_path(text), origin=None),
        default=source,
        help="vLLM repository (default: the one around the current folder if it is vLLM, else VLLM_LOCAL_GIT_DIR, "
        f"else ~/vllm; now: {shown})",
    )
    parser.add_argument(
        "ref",
        metavar="REF",
        nargs="?",
        default=ref,
        help=f"commit-ish (default: VLLM_LOCAL_REF, else HEAD; now: {named})",
    )
    parser.add_argument("--dirty", action="store_true", help="take the working tree as it is instead of REF")


def _word(text: str) -> str:
    """A word that is not empty.

    Raises:
        ValueError: It is; argparse says so.
    """
    if not text:
        raise ValueError(text)
    return text


def _path(text: str) -> Path:
    """A path, its ``~`` expanded: a shell leaves that of ``--state=~/x`` alone. An empty word is not this folder.

    Raises:
        ValueError: It is empty; argparse says so.
    """
    try:
        return Path(_word(text)).expanduser()
    except RuntimeError:
        # The user after the ~ is not known: the folder may be called so.
        return Path(text)


def _model(text: str) -> Path:
    """A model, checked before anything is built."""
    path = _path(text)
    try:
        model_name.chosen(path)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.what}; {error.hint}") from error
    return path


def _expectation(text: str) -> str:
    """``ROUTE=TEXT``, checked before anything is built."""
    try:
        Expectation.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.what}; {error.hint}") from error
    return text


def _with_remote(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--remote",
        metavar="NAME",
        type=_word,
        default="vllm",
        help=f"{', '.join(REMOTES)}, a repository's address, or pypi: then COMMIT is a release (default: vllm)",
    )


def _with_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        metavar="IMAGE",
        type=_word,
        default=AUTO,
        help=f"base to stand on (default: {AUTO}, the newest that fits)",
    )
    _with_flavor(parser, "of the base")
    parser.add_argument(
        "--with",
        dest="carried",
        metavar="NAME",
        type=_word,
        action="append",
        default=[],
        help="carry a top-level folder that the base does not hold, such as tests; repeatable",
    )


def _with_flavor(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--flavor",
        choices=(AUTO, *names.FLAVORS),
        help=f"{whose} (default: the setting flavor; {AUTO}: cuda where the engine can pass a GPU, else cpu)",
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


def add_start(parser: argparse.ArgumentParser) -> None:
    """How an image is started."""
    _with_timeout(parser)
    _with_gpus(parser)
    _with_model(parser)


def _with_trial(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="test again although a verdict is known")
    parser.add_argument(
        "--expect",
        metavar="ROUTE=TEXT",
        type=_expectation,
        action="append",
        default=[],
        help="the answer to GET ROUTE must contain TEXT; repeatable",
    )
    _with_gpus(parser)
    _with_model(parser)


def _with_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="DIR|ID[@REVISION]",
        type=_model,
        help="model to serve: a folder, or its name on Hugging Face's hub (default: a tiny one, made on the spot)",
    )


def _with_gpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpus", metavar="GPUS", type=_gpus, default="auto", help=f"GPUs to pass: {gpus.HELP} (default: auto)"
    )


def _gpus(text: str) -> gpus.Selection:
    try:
        return gpus.Selection.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.what}; {error.hint}") from error


def _with_timeout(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--start-timeout", metavar="SECONDS", type=int, help="how long the server may take to become healthy"
    )
    return parser


def _with_version(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--vllm-version", metavar="RELEASE", help="vLLM release that the cpu flavor builds from, or newest"
    )
    return parser
