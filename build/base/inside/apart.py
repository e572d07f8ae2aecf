"""Look into an image by a script, apart from what is looked at.

Run as ``python -I -S -c "$(cat apart.py)" "$(cat SCRIPT)" ARGUMENT…``. A script has a function ``read(report,
arguments)``, which reads files and returns what ``look(report, found)`` needs to import; None if nothing is to be
imported. ``STAGES`` names what the second says, each once and in this order, but for ``REPEATED``, which comes any
number of times before the last. Each stage prints one line of JSON, ``[stage, finding]``, so that what was found is
known also when a later one takes the process down; ``["done", null]`` is the last.

What is looked at may lie. So Python starts without the image's ``site``, its ``PYTHON*`` variables and start files,
and imports what it needs of the standard library before anything else. Files are read by this process, which alone
holds the standard output and which no process of its user may look into. What has to be imported is imported by a
child, after all that was read: it says its findings through a pipe, and this process passes them on. A child that ends
early, says a stage twice or out of turn, ends the run as a failure.

What stays inherent: the image's loader (``LD_PRELOAD``, ``ld.so.preload``), C library, interpreter and standard library
are believed, and code that is imported could make up what it says of itself, such as torch's version or that a module
can be imported.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import types
from typing import Any

LINE_BYTES = 1 << 22

PR_SET_DUMPABLE = 4  # prctl(2)


class Report:
    """Says what was found on a file descriptor, line by line."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")

    def say(self, stage: str, finding: Any) -> None:  # noqa: ANN401 - any JSON value
        """Print one stage's finding."""
        self._stream.write(json.dumps([stage, finding]) + "\n")
        self._stream.flush()

    def leave(self) -> None:
        """Make this process, a child, what Python usually is: with the image's packages, and without the report."""
        self._stream.close()
        set_dumpable(1)
        if sys.flags.no_site:
            sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(":"))
            importlib.import_module("site").main()


def set_dumpable(value: int) -> None:
    """Say whether other processes of this user may look into this one (/proc/PID/fd, ptrace)."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        importlib.import_module("ctypes").CDLL(None).prctl(PR_SET_DUMPABLE, value, 0, 0, 0)


def main() -> None:
    """Read, import in a child, and say what was found."""
    report = Report(os.dup(1))
    # What libraries print while they are imported would otherwise come between the lines.
    os.dup2(2, 1)
    set_dumpable(0)
    script: Any = types.ModuleType("script")
    sys.modules["script"] = script
    exec(compile(sys.argv[1], "<script>", "exec"), script.__dict__)  # noqa: S102 - this tool's own
    found = script.read(report, sys.argv[2:])
    if found is not None and (wrong := imported(report, script, found)):
        sys.exit(wrong)
    report.say("done", None)


def imported(report: Report, script: Any, found: Any) -> str | int:  # noqa: ANN401 - a module; what it returned
    """Let a child import, and pass on what it says; what was wrong about it, or its exit status."""
    reading, writing = os.pipe()
    sys.stderr.flush()
    if not (pid := os.fork()):
        os.close(reading)
        report.leave()
        script.look(Report(writing), found)
        sys.stderr.flush()
        os._exit(0)
    os.close(writing)
    due = list(script.STAGES)
    wrong = pass_on(reading, report, due, getattr(script, "REPEATED", None))
    return wrong or ended(pid) or (f"what is imported ended before it said {due[0]}" if due else 0)


def pass_on(reading: int, report: Report, due: list[str], repeated: str | None) -> str | None:
    """Pass on what the child says as long as it is what it is to say; what was wrong about it, if anything."""
    with os.fdopen(reading, "rb") as stream:
        while line := stream.readline(LINE_BYTES):
            try:
                stage, finding = json.loads(line)
            except (ValueError, TypeError):
                return "what is imported printed something else than its findings"
            if stage == repeated and len(due) != 1:
                return "what is imported said its findings in another order"
            if stage != repeated and (not due or stage != due.pop(0)):
                return "what is imported said more than its findings"
            report.say(stage, finding)
    return None


def ended(pid: int) -> str | int:
    """The status that the child ended with, as a shell has it."""
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


main()
