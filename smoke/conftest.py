"""Ties the suite to pytest: its options, the order of the checks, what they are given, and the results."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import signal
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import openai
import pytest
import requests

from build.config.folders import REPOSITORY
from build.errors import EngineError, LlmdDevError
from build.harmless import coloured, harmless, inert, is_in_actions
from smoke.diagnosis.cause import Diagnosis
from smoke.image.contents import UnreadableError
from smoke.results import summary
from smoke.results.findings import EXIT_STATUS, Check, Outcome, Tier
from smoke.server import openai_client
from smoke.server.ask import Asking
from smoke.server.server import ServerFailedError
from smoke.suite import suite_options
from smoke.suite.at_once import AtOnce, is_coroutine
from smoke.suite.image_run import NotVerifiedError, Run
from smoke.suite.own_checks import TIER, OwnChecks
from smoke.suite.url_run import UrlRun

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from types import FrameType

    from build.base.apart import Look
    from build.engine.image import Image
    from smoke.image.contents import Contents
    from smoke.server.server import ContainerServer, Server

_SUITE = REPOSITORY / "smoke"
# Answers that one check waits for in turn, at most.
_ANSWERS = 5
_AGAIN_S = 1.0
_MESSAGE_LIMIT = 2000
# What pytest puts before the words of a check.
_EXCEPTION = re.compile(r"^(?:Skipped|Failed|AssertionError): ")
_RUN: pytest.StashKey[Run | UrlRun] = pytest.StashKey()
_AT_ONCE: pytest.StashKey[AtOnce] = pytest.StashKey()
_OWN: pytest.StashKey[OwnChecks] = pytest.StashKey()
_SECONDS: pytest.StashKey[float] = pytest.StashKey()
_NOTE: pytest.StashKey[str] = pytest.StashKey()

_INHERITED = "no base: an overlay inherits what decides it, others choose their user; --any-user asks for it"

_INCOMPLETE = Diagnosis(
    cause="incomplete",
    line="only some of the checks ran",
    advice="run the whole suite: pytest smoke --image IMAGE",
    image_at_fault=False,
)


class _OfOwnChecks:
    """The hooks of this file, for the user's own checks: pytest calls a conftest's only for what lies beside it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if _is_own(item):
            pytest_runtest_setup(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        return pytest_pyfunc_call(pyfuncitem) if _is_own(pyfuncitem) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        return (yield from pytest_runtest_call(item)) if _is_own(item) else (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        return (yield from pytest_runtest_makereport(item, call)) if _is_own(item) else (yield)


# --- The run ---------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    suite_options.add(parser)


@pytest.hookimpl(tryfirst=True)  # before pytest's own junitxml looks at its option
def pytest_configure(config: pytest.Config) -> None:
    """Choose how pytest reports."""
    # What the libraries warn of is no business of the image's.
    config.addinivalue_line("filterwarnings", "default")
    report: Path | None = config.getoption("--report", default=None)
    if report and not config.option.xmlpath:
        config.option.xmlpath = str(report / "junit.xml")
    _add_own_checks(config)


def _add_own_checks(config: pytest.Config) -> None:
    with _refused():
        path = suite_options.checks(config)
    if path:
        own = config.stash[_OWN] = OwnChecks(path)
        config.pluginmanager.register(own)
        config.pluginmanager.register(_OfOwnChecks())
        config.args.append(str(own.path))


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Make a wrong word end pytest in two lines."""
    try:
        yield
    except LlmdDevError as error:
        raise pytest.UsageError(harmless(f"{error.what}\ntry: {error.hint}")) from error


def pytest_sessionstart(session: pytest.Session) -> None:
    """Find out what to test and where."""
    if session.config.option.collectonly:
        return
    try:
        chosen = suite_options.parse(session.config)
        run = UrlRun.prepare(chosen) if chosen.url else Run.prepare(chosen)
    except EngineError as error:
        text = harmless(f"error[{error.word}]: {error.what}\ntry: {error.hint}")
        pytest.exit(text, returncode=EXIT_STATUS["inconclusive"])
    except LlmdDevError as error:
        raise pytest.UsageError(harmless(f"{error.what}\ntry: {error.hint}")) from error
    session.config.stash[_RUN] = run
    session.config.stash[_AT_ONCE] = AtOnce()
    if own := session.config.stash.get(_OWN, None):
        own.run, own.at_once = run, session.config.stash[_AT_ONCE]
    _guard_terminal(session.config)
    _heed_signals(run)


class _Guarded:
    """A terminal that what is tested cannot command: of what is written, only colours are obeyed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        text = coloured(text)
        return self._stream.write(inert(text) if is_in_actions(os.environ) else text)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._stream, name)


def _guard_terminal(config: pytest.Config) -> None:
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    if terminal:
        terminal._tw._file = _Guarded(terminal._tw._file)  # noqa: SLF001 - pytest has no public name for it


def _heed_signals(run: Run | UrlRun) -> None:
    """Make SIGTERM end the run as Ctrl-C does, container and all, and remember that either came.

    Python drops an exception that a signal raises in a destructor; the run then goes on with damage done.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        run.findings.interrupted = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is tested where."""
    run = config.stash.get(_RUN, None)
    if run is None:
        return []
    return run.header


# --- Which checks, in which order ------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one check of each ``--expect``."""
    if "expectation" not in metafunc.fixturenames:
        return
    wanted = suite_options.expectations(metafunc.config.getoption("--expect"))
    none = pytest.param(None, id="none", marks=pytest.mark.skip(reason="not applicable: no --expect"))
    metafunc.parametrize("expectation", [pytest.param(one, id=str(one)) for one in wanted] or [none])


@pytest.hookimpl(trylast=True)  # after whatever else has an opinion on the order
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tiers in order, and notice that only some of the checks were asked for."""
    items.sort(key=lambda item: _tier(item).number)
    files = {path.name for path in _SUITE.glob("test_*.py")}
    found = {item.path.name for item in items if not _is_own(item)}
    if found != files or any("::" in argument for argument in config.args):
        _mark_incomplete(config)


def _is_own(item: pytest.Item) -> bool:
    own = item.config.stash.get(_OWN, None)
    return own is not None and own.holds(item.path)


def _tier(item: pytest.Item) -> Tier:
    return TIER if _is_own(item) else Tier.of(item.path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Refuse checks of the user's own that cannot be read, before anything is started."""
    own = session.config.stash.get(_OWN, None)
    if own is None or session.config.option.collectonly:
        return
    why = own.error or (None if any(map(_is_own, session.items)) else f"{own.path}: it holds no check")
    if why:
        run = session.config.stash[_RUN]
        del session.config.stash[_RUN]
        run.close()
        raise pytest.UsageError(harmless(run.redacted(f"--checks {why}\ntry: pytest --collect-only {own.path}")))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Notice what ``-k`` and the like leave out."""
    for item in items[:1]:
        _mark_incomplete(item.config)


def _mark_incomplete(config: pytest.Config) -> None:
    """Keep a part of the checks from passing an image."""
    if run := config.stash.get(_RUN, None):
        run.findings.incomplete = _INCOMPLETE


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a check that could only repeat what is known."""
    if reason := item.config.stash[_RUN].findings.reason_to_skip(_tier(item)):
        pytest.skip(reason)


class CheckTimeoutError(TimeoutError):
    """A check took longer than any may."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the checks that are coroutines at once; any other one has the server for itself."""
    at_once = pyfuncitem.config.stash[_AT_ONCE]
    if _is_own(pyfuncitem) and is_coroutine(pyfuncitem):
        names = inspect.signature(pyfuncitem.obj).parameters
        at_once.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
    if is_coroutine(pyfuncitem):
        at_once.result(pyfuncitem)
        return True
    at_once.settle()
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Bound what one check takes, whatever it waits for; the next is not tried on a server that does not answer."""
    seconds = _ANSWERS * item.config.stash[_RUN].options.answer_timeout

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise CheckTimeoutError(f"the check was not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    # Again, if something on the way takes the first for an error that it can do without.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
    try:
        yield
    except Exception as error:
        if _is_timeout(error):
            run = item.config.stash[_RUN]
            run.findings.blocked = run.findings.blocked or "a check was given up, as the server did not answer in time"
        if _has_no_template(error) and not item.config.stash[_RUN].exact:
            pytest.skip("not asked: this model has no chat template")
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _has_no_template(error: Exception) -> bool:
    """Whether the server refused a chat because its model is not made for any (vllm/renderers, 0.32.0)."""
    return isinstance(error, openai.BadRequestError) and "chat template" in str(error)


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError | openai.APITimeoutError | requests.Timeout):
            return True
        error = error.__cause__
    return False


# --- What the checks are given ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def run(pytestconfig: pytest.Config) -> Run:
    """The run, if it is one on an image."""
    found = pytestconfig.stash[_RUN]
    if isinstance(found, UrlRun):
        pytest.skip("not applicable: the server ran already")
    return found


@pytest.fixture(scope="session")
def image(run: Run) -> Image:
    """The image under test."""
    return run.image


@pytest.fixture(scope="session")
def foreseeable(pytestconfig: pytest.Config, server: Server) -> bool:
    """Whether the server serves the suite's own model, whose answers are known."""
    del server  # which model it serves is known when it was started
    return pytestconfig.stash[_RUN].exact


@pytest.fixture(scope="session")
def starting(
    run: Run, tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], None]
) -> Iterator[Callable[[], ContainerServer]]:
    """The image's server, started; the call waits until it is healthy."""
    with contextlib.ExitStack() as stack:
        with _told_shortly():
            started = stack.enter_context(run.starting(scratch=tmp_path_factory.mktemp("model"), say=say))
        yield started


@pytest.fixture(scope="session")
def contained(starting: Callable[[], ContainerServer]) -> ContainerServer:
    """A healthy server of the image."""
    with _told_shortly():
        return starting()


@pytest.fixture(scope="session")
def anybodys_server(run: Run, starting: Callable[[], ContainerServer], say: Callable[[str], None]) -> ContainerServer:
    """A healthy server of the image that runs as an arbitrary user; the one before is gone."""
    if not run.any_user:
        pytest.skip(f"not applicable: {_INHERITED}")
    del starting
    with _told_shortly():
        found = run.start_as_anybody(say)
    found.answer_s = run.options.answer_timeout
    return found


@pytest.fixture
def anybodys_client(anybodys_server: ContainerServer) -> Iterator[openai.OpenAI]:
    """An openai client of that server."""
    with openai_client.connect(anybodys_server, anybodys_server.key) as made:
        yield made


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Server:
    """The server under test, healthy if it is the image's."""
    found = pytestconfig.stash[_RUN]
    of_run: Server = found.server if isinstance(found, UrlRun) else request.getfixturevalue("contained")
    of_run.answer_s = found.options.answer_timeout
    return of_run


@pytest.fixture(scope="session")
def name(server: Server) -> str:
    """What the server calls its model."""
    return server.model


@pytest.fixture(scope="session")
def contents(run: Run) -> Contents:
    """The contents of a base or an overlay."""
    with _told_shortly():
        found = run.contents
    if found is None:
        pytest.skip("not applicable: neither a base nor an overlay of this tool")
    return found


@pytest.fixture(scope="session")
def probe(run: Run, starting: Callable[[], ContainerServer]) -> Look:
    """What is found from within the image, while its server starts."""
    del starting
    with _told_shortly():
        return run.probe()


@contextlib.contextmanager
def _told_shortly() -> Iterator[None]:
    """What is in the way of a check, in words: not the way there, and not twice."""
    trouble: Exception | None = None
    try:
        yield
    except (NotVerifiedError, ServerFailedError, UnreadableError) as error:
        trouble = error
    # Out of the `except`, or pytest shows the error, and with it the log, twice.
    if isinstance(trouble, NotVerifiedError):
        pytest.skip(f"not verified: {trouble}")
    if trouble:
        pytest.fail(str(trouble), pytrace=False)


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Prints a line of progress at once."""
    terminal: Any = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture: Any = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def print_line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write(text + "\n", flush=True)

    return print_line


@pytest.fixture(scope="session")
def connect(server: Server) -> Callable[[str], openai.OpenAI]:
    """Makes an openai client of the server with a given API key. It repeats nothing and uses no proxy."""
    return lambda key: openai_client.connect(server, key)


@pytest.fixture(scope="session")
def connect_async(server: Server) -> Callable[[], openai.AsyncOpenAI]:
    """Makes an openai client of the server for many requests at once."""
    return lambda: openai_client.connect_async(server)


@pytest.fixture(scope="session")
def asking(server: Server, connect_async: Callable[[], openai.AsyncOpenAI], *, foreseeable: bool) -> Asking:
    """Asks the server in each way."""
    return Asking(server=server, connect=connect_async, exact=foreseeable)


@pytest.fixture(scope="session")
def run_now(pytestconfig: pytest.Config) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Waits for questions while nothing else is asked."""
    return pytestconfig.stash[_AT_ONCE].run


@pytest.fixture(scope="session")
def alone(pytestconfig: pytest.Config) -> bool:
    """Whether the suite is the only client of the server."""
    return isinstance(pytestconfig.stash[_RUN], Run)


@pytest.fixture(scope="session")
def client(server: Server, connect: Callable[[str], openai.OpenAI]) -> Iterator[openai.OpenAI]:
    """An openai client of the server."""
    with connect(server.key) as made:
        yield made


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says something about a check that passes."""
    return lambda text: request.node.stash.__setitem__(_NOTE, text)


# --- Results ---------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how a check came out."""
    report = yield
    run = item.config.stash[_RUN]
    item.stash[_SECONDS] = item.stash.get(_SECONDS, 0.0) + call.duration
    if report.when == "call" or not report.passed:
        message = run.redacted(_words(call.excinfo) if call.excinfo else item.stash.get(_NOTE, ""))
        lost = run.engine_lost(call.excinfo.value if call.excinfo else None)
        outcome = "inconclusive" if lost else _outcome(run, report)
        traced = run.exception_since(call.start) if outcome == "failed" else None
        _note(run, item, outcome, _EXCEPTION.sub("", message), traced)
    _shorten(run, item, call, report)
    return report


def _shorten(run: Run | UrlRun, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Leave of a failure what tells something, unless pytest was asked for more by ``--tb``."""
    report.sections = [(title, run.redacted(text)) for title, text in report.sections]
    if not report.failed or call.excinfo is None:
        return
    text = report.longreprtext
    if item.config.option.tbstyle == "auto":
        # Frames of the client's inner life say nothing about the image.
        steps = [(Path(entry.path), entry.lineno + 1) for entry in call.excinfo.traceback]
        places = [f"at smoke/{path.name}:{line}" for path, line in steps if _is_check(path)]
        if _is_own(item):
            places = [f"at {path.name}:{line}" for path, line in steps if item.config.stash[_OWN].holds(path)]
        words = _EXCEPTION.sub("", _words(call.excinfo))
        text = "\n".join([words, *places, *run.last_words])
    report.longrepr = run.redacted(text)


def _words(found: pytest.ExceptionInfo[BaseException]) -> str:
    """What went wrong; of an error that openai's client wraps, which says nothing, what it wraps."""
    cause = found.value.__cause__
    if isinstance(found.value, openai.APIConnectionError) and cause is not None:
        return "".join(traceback.format_exception_only(cause)).rstrip("\n")
    return found.exconly()


def _is_check(path: Path) -> bool:
    return path.parent == _SUITE and path.name.startswith("test_")


def _outcome(run: Run | UrlRun, report: pytest.TestReport) -> Outcome:
    if report.passed:
        return "passed"
    if report.when == "teardown":
        return "inconclusive"  # the image is not to blame for what happens while it is cleared away
    if report.skipped:
        return "inconclusive" if "not verified: " in report.longreprtext else "skipped"
    return "failed" if run.look_into_failure() else "inconclusive"


def _note(run: Run | UrlRun, item: pytest.Item, outcome: Outcome, message: str, traced: tuple[int, str] | None) -> None:
    tier = _tier(item)
    called = item.config.stash[_OWN].name(item) if _is_own(item) else item.name.removeprefix("test_")
    function: Any = getattr(item, "function", None)
    seconds: float = item.stash[_SECONDS]
    contract = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
    check = Check(
        name=f"{tier.name}/{called}",
        contract=contract,
        outcome=outcome,
        seconds=round(seconds, 2),
        message=message[:_MESSAGE_LIMIT],
        log_line=run.redacted(traced[1])[:_MESSAGE_LIMIT] if traced else None,
        log_line_number=traced[0] if traced else None,
    )
    run.findings.add(check, tier)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:  # noqa: ANN401 - pytest keeps its type private
    """Say what is known about the image."""
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    writer = terminalreporter._tw  # noqa: SLF001 - pytest has no public name for it
    shown = summary.text(run.findings, run.subject, width=writer.fullwidth, colour=writer.hasmarkup)
    terminalreporter.write_line(shown)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Write the documents and choose the exit status, after the container is gone and pytest has reported."""
    run = session.config.stash.get(_RUN, None)
    if run:
        run.conclude()
    yield
    if run is None:
        return
    if session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
        run.findings.interrupted = True
    elif run.findings.interrupted:
        session.exitstatus = pytest.ExitCode.INTERRUPTED
    else:
        session.exitstatus = EXIT_STATUS[run.findings.result]
    run.write()
    run.close()
