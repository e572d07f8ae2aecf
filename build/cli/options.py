"""The command line: how words become options, and the options that several verbs have."""

from __future__ import annotations

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from build.base.chosen import AUTO
from build.cli import about, combinations
from build.cli.verbs import VERBS, load
from build.config import gpus
from build.engine import names
from build.errors import UsageError
from build.source.local_source import LocalSource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    # argparse has no public name for what add_subparsers() returns.
    _Verbs = argparse._SubParsersAction["_Parser"]  # noqa: SLF001

_T = TypeVar("_T")

# Options that are settings: given on the command line they win over everything else.
SETTING_OPTIONS = (
    *("state", "cache", "install", "registry", "flavor", "vllm_version", "start_timeout", "keep_bases"),
    *("builder", "cache_to", "build_secrets"),
)

_EXIT_CODES = """\
exit codes: 0 done, 1 defect of ours, 2 usage or settings, 3 source, 4 incompatible, 5 build failed, 6 smoke failed,
7 gate or registry refused, 8 engine, GPU or disk unavailable, 9 busy, 130 interrupted
"""


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


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What `dev` and `plan` work on when the command line does not name it.

    Attributes:
        source: The repository.
        ref: The ref.
    """

    source: LocalSource
    ref: str


def parse(argv: Sequence[str], defaults: Defaults, *, program: str = "python -m build") -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: Words after the program's name.
        defaults: What is not named.
        program: What the program is called.

    Raises:
        SystemExit: Help was asked for.
        UsageError: The words are off, or one of them could not take effect beside another.
    """
    # Before the verb only options without a value can stand.
    called = [word for word in argv if word in VERBS][:1]
    parser, verbs = _parser(defaults, called=called, program=program)
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


def _parser(defaults: Defaults, *, called: Collection[str], program: str) -> tuple[_Parser, _Verbs]:
    """A parser that knows all verbs, and the options of those that are called."""
    parser = _Parser(
        prog=program,
        description="From a vLLM commit to a container image that is proven to work.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version of this program and exit")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, does in VERBS.items():
        added: argparse.ArgumentParser = verbs.add_parser(
            name,
            help=does,
            description=does[0].upper() + does[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in called:
            verb = load(name)
            added.epilog = (f"example: {verb.EXAMPLE}\n\n" if verb.EXAMPLE else "") + _EXIT_CODES
            _add_common(added)
            verb.add_options(added, defaults)
    return parser, verbs


def completed(program: str) -> argparse.ArgumentParser:
    """The parser that completions are made from: the same wherever it is asked for."""
    defaults = Defaults(source=LocalSource(path=Path("~/vllm"), origin=None), ref="HEAD")
    return _parser(defaults, called=VERBS, program=program)[0]


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings that the command line gives, by name."""
    given = vars(arguments)
    return {name: given[name] for name in SETTING_OPTIONS if given.get(name) is not None}


def parse_nightly(words: Sequence[str]) -> argparse.Namespace:
    """Read the words behind `nightly`.

    Raises:
        UsageError: They are off.
    """
    return parse(["nightly", *words], Defaults(source=LocalSource(path=Path(), origin=None), ref=""))


def _add_common(parser: argparse.ArgumentParser) -> None:
    common = parser.add_argument_group("options of every verb")
    common.add_argument("--json", action="store_true", help="print one JSON document on standard output, nothing else")
    common.add_argument(
        "--summary",
        metavar="FILE",
        type=path,
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
        "--registry", metavar="HOST/NAME", type=word, help="registry repository; default: the embedded one"
    )
    common.add_argument(
        "--state", metavar="DIR", type=path, help="folder of logs, verdicts, locks, the embedded engine's data"
    )
    common.add_argument("--cache", metavar="DIR", type=path, help="folder of downloads and imported sources")


# --- Kinds of words ---


def count(text: str) -> int:
    """A number of things, perhaps none.

    Raises:
        ValueError: It is none; argparse says so.
    """
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def word(text: str) -> str:
    """A word that is not empty.

    Raises:
        ValueError: It is; argparse says so.
    """
    if not text:
        raise ValueError(text)
    return text


def path(text: str) -> Path:
    """A path, its ``~`` expanded: a shell leaves that of ``--state=~/x`` alone. An empty word is not this folder.

    Raises:
        ValueError: It is empty; argparse says so.
    """
    try:
        return Path(word(text)).expanduser()
    except RuntimeError:
        # The user after the ~ is not known: the folder may be called so.
        return Path(text)


def usable(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """A kind of words whose errors argparse can say, so that a word is checked before anything is built."""

    @functools.wraps(parse)
    def parsed(text: str) -> _T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error.what}; {error.hint}") from error

    return parsed


# --- Options of several verbs ---


def add_image(parser: argparse.ArgumentParser) -> None:
    """The image that a verb is about."""
    parser.add_argument("image", metavar="IMAGE", type=word, help="name, tag or ID")


def add_flavor(parser: argparse.ArgumentParser, whose: str) -> None:
    """The flavor."""
    parser.add_argument(
        "--flavor",
        choices=(AUTO, *names.FLAVORS),
        help=f"{whose} (default: the setting flavor; {AUTO}: cuda where the engine can pass a GPU, else cpu)",
    )


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """GPUs of the smoke test."""
    parser.add_argument(
        "--gpus",
        metavar="GPUS",
        type=usable(gpus.Selection.parse),
        default="auto",
        help=f"GPUs to pass: {gpus.HELP} (default: auto)",
    )


def add_push(parser: argparse.ArgumentParser) -> None:
    """Return whether to push."""
    parser.add_argument("--no-push", dest="push", action="store_false", help="keep the image on this engine")


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """The deadline of a server's start."""
    parser.add_argument(
        "--start-timeout", metavar="SECONDS", type=int, help="how long the server may take to become healthy"
    )


def add_version(parser: argparse.ArgumentParser) -> None:
    """The release of a cpu base."""
    parser.add_argument(
        "--vllm-version", metavar="RELEASE", help="vLLM release that the cpu flavor builds from, or newest"
    )
