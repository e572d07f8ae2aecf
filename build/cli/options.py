"""The command line's parser, and the options that several verbs share."""

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

    # argparse has no public name for the result of add_subparsers().
    _Verbs = argparse._SubParsersAction["_Parser"]  # noqa: SLF001

_T = TypeVar("_T")

# Options that are settings. The command line has priority over all other sources.
SETTING_OPTIONS = (
    *("state", "cache", "install", "registry", "flavor", "vllm_version", "start_timeout", "keep_bases"),
    *("builder", "cache_to", "build_secrets"),
)

_EXIT_CODES = """\
exit codes: 0 done, 1 defect, 2 usage or settings, 3 source, 4 incompatible, 5 build failed, 6 smoke failed,
7 gate or registry refused, 8 engine, GPU or disk unavailable, 9 busy, 130 interrupted
"""


class _Version(argparse.Action):
    """Print the version. Finding it takes a run of git."""

    def __init__(self, option_strings: Sequence[str], dest: str, *, help: str) -> None:  # noqa: A002 - argparse's word
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it."""
        sys.stdout.write(f"{about.version()}\n")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A parser with errors in the usual form and without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Turn argparse's error into this tool's.

        Raises:
            UsageError: Always.
        """
        raise UsageError(message, hint=f"`{self.prog} --help`")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """The defaults of `dev` and `plan`.

    Attributes:
        source: The repository.
        ref: The ref.
    """

    source: LocalSource
    ref: str


def parse(argv: Sequence[str], defaults: Defaults, *, program: str = "python -m build") -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv: Arguments after the program's name.
        defaults: Defaults of `dev` and `plan`.
        program: Name of the program.

    Raises:
        SystemExit: Help was asked for.
        UsageError: The arguments are invalid, or two of them conflict.
    """
    # Only options without a value can precede the verb.
    called = [word for word in argv if word in VERBS][:1]
    parser, verbs = _parser(defaults, called=called, program=program)
    arguments = parser.parse_args(argv)
    words = argv[list(argv).index(arguments.verb) + 1 :]
    combinations.refuse(arguments.verb, _given(verbs.choices[arguments.verb], words), arguments)
    return arguments


def _given(parser: argparse.ArgumentParser, words: Sequence[str]) -> dict[str, str]:
    """Return the given options and positional arguments, without defaults: their spelling by attribute."""
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
    """Return a parser of all verbs, with the options of the called ones."""
    parser = _Parser(
        prog=program,
        description="Turn a vLLM commit into a container image that is proven to work.",
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
    """Return the parser for completions, the same on every machine."""
    defaults = Defaults(source=LocalSource(path=Path("~/vllm"), origin=None), ref="HEAD")
    return _parser(defaults, called=VERBS, program=program)[0]


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings on the command line, by name."""
    given = vars(arguments)
    return {name: given[name] for name in SETTING_OPTIONS if given.get(name) is not None}


def parse_nightly(words: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of `nightly`.

    Raises:
        UsageError: They are invalid.
    """
    return parse(["nightly", *words], Defaults(source=LocalSource(path=Path(), origin=None), ref=""))


def _add_common(parser: argparse.ArgumentParser) -> None:
    common = parser.add_argument_group("options of every verb")
    common.add_argument("--json", action="store_true", help="print one JSON document on standard output, nothing else")
    common.add_argument(
        "--summary",
        metavar="FILE",
        type=path,
        help="write a Markdown summary of the test to FILE (default under GitHub Actions: the job's summary)",
    )
    common.add_argument(
        "--no-install",
        dest="install",
        action="store_const",
        const=False,
        help="never install packages of the distribution (for the embedded engine and registry)",
    )
    common.add_argument(
        "--registry", metavar="HOST/NAME", type=word, help="registry repository (default: the embedded registry)"
    )
    common.add_argument(
        "--state", metavar="DIR", type=path, help="folder of logs, verdicts, locks and the embedded engine's data"
    )
    common.add_argument("--cache", metavar="DIR", type=path, help="folder of downloads and imported sources")


# --- Types of arguments ---


def count(text: str) -> int:
    """Parse a number of 0 or more.

    Raises:
        ValueError: The text is not such a number. argparse reports it.
    """
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def word(text: str) -> str:
    """Parse a non-empty word.

    Raises:
        ValueError: The word is empty. argparse reports it.
    """
    if not text:
        raise ValueError(text)
    return text


def path(text: str) -> Path:
    """Parse a path and expand its ``~``, which a shell leaves in ``--state=~/x``. An empty word is an error.

    Raises:
        ValueError: The word is empty. argparse reports it.
    """
    try:
        return Path(word(text)).expanduser()
    except RuntimeError:
        # The user after the ~ is unknown: a folder may have this name.
        return Path(text)


def usable(parse: Callable[[str], _T]) -> Callable[[str], _T]:
    """Wrap a parser so that argparse reports its errors before anything is built."""

    @functools.wraps(parse)
    def parsed(text: str) -> _T:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(f"{error.what}; {error.hint}") from error

    return parsed


# --- Options of several verbs ---


def add_image(parser: argparse.ArgumentParser) -> None:
    """Declare the image."""
    parser.add_argument("image", metavar="IMAGE", type=word, help="name, tag or ID")


def add_flavor(parser: argparse.ArgumentParser, whose: str) -> None:
    """The flavor."""
    parser.add_argument(
        "--flavor",
        choices=(AUTO, *names.FLAVORS),
        help=f"{whose} (default: the setting flavor; {AUTO}: cuda where the engine can pass a GPU, else cpu)",
    )


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Declare the GPUs of the smoke test."""
    parser.add_argument(
        "--gpus",
        metavar="GPUS",
        type=usable(gpus.Selection.parse),
        default="auto",
        help=f"GPUs to pass: {gpus.HELP} (default: auto)",
    )


def add_push(parser: argparse.ArgumentParser) -> None:
    """Declare whether to push."""
    parser.add_argument("--no-push", dest="push", action="store_false", help="keep the image on this engine")


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Declare the deadline of a server's start."""
    parser.add_argument("--start-timeout", metavar="SECONDS", type=int, help="seconds for the server to become healthy")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare the release of a cpu base."""
    parser.add_argument("--vllm-version", metavar="RELEASE", help="vLLM release for the cpu flavor, or newest")
