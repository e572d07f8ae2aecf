"""The terminal output of a verb: steps, progress, durations, tables.

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
"""Name of this program in messages. :class:`Console` replaces it with the name that the program was started by."""

_HEARTBEAT_S = 15.0
_UNBOUNDED = 10_000


@dataclass(frozen=True, kw_only=True)
class Duration:
    """The duration of a step.

    Attributes:
        within: The surrounding steps, outermost first.
        name: Its name.
        started: Start, in seconds of the monotonic clock.
        seconds: Wall time.
    """

    within: tuple[str, ...]
    name: str
    started: float
    seconds: float


class Console:
    """Prints steps and results.

    Args:
        quiet: Print only errors (for ``--json``, whose document the caller prints).
        program: Name of the program.
        folds: Whether GitHub Actions reads the output: steps are folded, and other text cannot act as a command.
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
        """Durations of the finished steps, in the order of their start."""
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
        """Fold the output of an outermost step: folds cannot be nested."""
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
        """Return a text with the name that this program was started by."""
        return text.replace(f"`{PROGRAM} ", f"`{self._program} ")

    def note(self, text: str) -> None:
        """Print a note of one line."""
        log.info("%s", text)
        self._err.print("  " * self._depth + escape(self.worded(text)))

    def warn(self, text: str) -> None:
        """Print a warning."""
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
        # Square brackets of a plain text, as in `ray[cgraph]`, are not markup.
        text = isinstance(renderable, str)
        if not text:
            # At any width of the terminal: a folded or cut name cannot be copied.
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
    """Discard later output: Python flushes the rest at its end (signal, "Note on SIGPIPE")."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class HarmlessConsole(RichConsole):
    """A console whose texts, from any source, cannot command the terminal."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the output in segments. Rich's own commands are separate segments."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


class _Rich(HarmlessConsole):
    """A console that ignores a closed pipe, because the work goes on."""

    is_read_by_actions = False

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the output in segments."""
        for segment in super().render(renderable, options):
            tame = segment.control or not self.is_read_by_actions
            yield segment if tame else segment._replace(text=inert(segment.text))

    def on_broken_pipe(self) -> None:
        """Handle a closed pipe. Rich's own method would end the process."""
        self.quiet = True
        if not self.stderr:
            without_standard_output()


def _rich(*, quiet: bool, stderr: bool, folds: bool) -> RichConsole:
    """Return a console that keeps long lines whole: a wrapped line cannot be pasted or searched for."""
    made = _Rich(highlight=False, emoji=False, quiet=quiet, stderr=stderr, soft_wrap=True)
    made.is_read_by_actions = folds
    return made


def _is_watched(console: RichConsole) -> bool:
    """Whether lines can be written over: only on a terminal, whatever FORCE_COLOR and its like say of colours."""
    return console.file.isatty() and not console.is_dumb_terminal
