"""What the user sees while a verb runs: steps, progress, durations, tables.

Everything for a person goes to standard error except a verb's result, so that standard output can be piped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.markup import escape

from build.harmless import harmless, inert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment

log = logging.getLogger(__name__)

PROGRAM = "python -m build"
"""What messages call this program; :class:`Console` puts in the name that it was started by."""

_HEARTBEAT_S = 15.0
_UNBOUNDED = 10_000


@dataclass(frozen=True, kw_only=True)
class Duration:
    """What one step took.

    Attributes:
        within: The steps that it was part of, outermost first.
        name: Its name.
        started: When, in seconds of the monotonic clock.
        seconds: Wall time.
    """

    within: tuple[str, ...]
    name: str
    started: float
    seconds: float


class Console:
    """Prints steps and results.

    Args:
        quiet: Print nothing but errors (``--json``, whose document is the caller's to print).
        program: What the program is called.
        folds: Whether GitHub Actions reads what is printed: steps are folded, and nothing else is a command for it.
    """

    def __init__(self, *, quiet: bool, program: str = PROGRAM, folds: bool = False) -> None:
        self.quiet = quiet
        self._program = program
        self._folds = folds
        self._out = _rich(quiet=quiet, stderr=False, folds=folds)
        self._err = _rich(quiet=quiet, stderr=True, folds=folds)
        self._running: list[str] = []
        self._done: list[Duration] = []

    @property
    def durations(self) -> tuple[Duration, ...]:
        """What each step took that is done, in the order they started."""
        return tuple(sorted(self._done, key=lambda duration: duration.started))

    @property
    def _depth(self) -> int:
        return len(self._running)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Show a step from its start to its end.

        Yields:
            A function to call with one line of progress. On a terminal each line replaces the last; elsewhere
            a line is printed at most every 15 s, so that a log of a long step shows it is alive.
        """
        start = time.monotonic()
        log.info("step %s", name)
        indent = "  " * self._depth
        self._running.append(name)
        try:
            with self._folded(name), self._progress(name, indent) as report:
                yield report
        except BaseException:
            self._err.print(f"{indent}[red]✗[/] {escape(name)} [dim]{time.monotonic() - start:.1f} s[/]")
            raise
        finally:
            self._running.pop()
        seconds = time.monotonic() - start
        self._done.append(Duration(within=tuple(self._running), name=name, started=start, seconds=seconds))
        log.info("step %s done in %.1f s", name, seconds)
        self._err.print(f"{indent}[green]✓[/] {escape(name)} [dim]{seconds:.1f} s[/]")

    @contextlib.contextmanager
    def _folded(self, name: str) -> Iterator[None]:
        """Fold what is printed in the block, if it is an outermost step: folds cannot be nested."""
        if self.quiet or not self._folds or self._depth > 1:
            yield
            return
        sys.stderr.write(f"::group::{inert(harmless(name))}\n")
        try:
            yield
        finally:
            sys.stderr.write("::endgroup::\n")

    @contextlib.contextmanager
    def _progress(self, name: str, indent: str) -> Iterator[Callable[[str], None]]:
        if _is_watched(self._err) and self._depth == 1:
            with self._err.status(escape(name)) as status:
                yield lambda line: status.update(f"{escape(name)} [dim]{escape(line[:100])}[/]")
            return
        self._err.print(f"{indent}… {escape(name)}")
        last = time.monotonic()

        def report(line: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _HEARTBEAT_S:
                last = now
                self._err.print(f"{indent}  [dim]{escape(line[:100])}[/]")

        yield report

    def worded(self, text: str) -> str:
        """A text with this program called as it was started."""
        return text.replace(f"`{PROGRAM} ", f"`{self._program} ")

    def note(self, text: str) -> None:
        """Say something in one line."""
        log.info("%s", text)
        self._err.print("  " * self._depth + escape(self.worded(text)))

    def warn(self, text: str) -> None:
        """Say something that the user should not miss."""
        log.warning("%s", text)
        self._err.print(f"[yellow]warning:[/] {escape(self.worded(text))}")

    def fail(self, word: str, what: str, hint: str) -> None:
        """Show an error: what and why, then what to try. Printed also with ``--json``, on standard error."""
        log.error("error[%s]: %s (try: %s)", word, what, hint)
        err = _rich(quiet=False, stderr=True, folds=self._folds)
        err.print(f"[red]error\\[{word}]:[/] {escape(self.worded(what))}")
        err.print(f"[cyan]try:[/] {escape(self.worded(hint))}")

    def result(self, renderable: RenderableType) -> None:
        """Print a verb's result for a person, on standard output; text as it stands."""
        # Square brackets of a plain text, those of `ray[cgraph]` say, are no markup.
        text = isinstance(renderable, str)
        if not text:
            # Whatever the terminal's width: a name that is folded or cut cannot be copied.
            wide = self._out.options.update(width=_UNBOUNDED)
            self._out.width = self._out.measure(renderable, options=wide).maximum
        self._out.print(renderable, markup=False if text else None)

    def show(self, document: dict[str, Any]) -> dict[str, Any]:
        """Print a verb's document as lines of name and value; returns it."""
        for name, value in document.items():
            if value not in (None, [], {}):
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                self.result(f"{name}: {text}")
        return document


def without_standard_output() -> None:
    """Send nowhere what is still printed: Python writes out the rest at its end (signal, "Note on SIGPIPE")."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class HarmlessConsole(RichConsole):
    """A console of which no text can command the terminal, wherever it comes from."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, in pieces; the commands of rich itself are pieces of their own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


class _Rich(HarmlessConsole):
    """One that goes on when nobody reads any more, as the work does."""

    is_read_by_actions = False

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, in pieces."""
        for segment in super().render(renderable, options):
            tame = segment.control or not self.is_read_by_actions
            yield segment if tame else segment._replace(text=inert(segment.text))

    def on_broken_pipe(self) -> None:
        """What rich calls then; its own ends the process."""
        self.quiet = True
        if not self.stderr:
            without_standard_output()


def _rich(*, quiet: bool, stderr: bool, folds: bool) -> RichConsole:
    """A console that leaves long lines whole: a wrapped line cannot be pasted or searched for."""
    made = _Rich(highlight=False, emoji=False, quiet=quiet, stderr=stderr, soft_wrap=True)
    made.is_read_by_actions = folds
    return made


def _is_watched(console: RichConsole) -> bool:
    """Whether lines can be written over: only on a terminal, whatever FORCE_COLOR and its like say of colours."""
    return console.file.isatty() and not console.is_dumb_terminal
