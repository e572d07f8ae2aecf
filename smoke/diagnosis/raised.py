"""The exceptions in a log: which of them a server failed of, and which only followed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from smoke.diagnosis.log import Line, LineKind, Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

# It passes on what happened in another process (vllm/v1/engine, vllm/v1/executor, vllm/v1/utils.py, 0.33.0).
PASSED_ON = re.compile(
    r"Engine core initialization failed|Frontend process failed during|EngineDeadError|AsyncEngineDeadError"
    r"|EngineGenerateError|WorkerProc initialization failed|EngineCore encountered|[Ee]ngine ?[Cc]ore.* died"
    r"|died unexpectedly|died with exit code|LLMEngine is (?:already )?dead|MQEngineDeadError"
    r"|Engine process failed to start"
    r"|Worker failed with (?:error|KV connector output)|RuntimeError: (?:Executor failed|One or more workers failed)"
    r"|server shut down unexpectedly|managed Python headless engine exited"
)
# It follows from what happened before it in the same process, or from the end of a peer.
_FOLLOWED = re.compile(
    r"CalledProcessError|BrokenProcessPool|ChildFailedError|ProcessExitedException|ProcessRaisedException"
    r"|ExceptionGroup|Error raised in subprocess|[Nn]inja build failed|Error (?:building extension|compiling objects)"
    r"|failed to be inspected|previous error during capture|CancelledError|KeyboardInterrupt|SystemExit"
    r"|EOFError|BrokenPipe|Broken pipe|ConnectionReset|Connection reset|ConnectionAborted"
    r"|Connection closed by (?:remote )?peer|[Cc]onnection closed|DistNetworkError|DistStoreError|TCPStore"
    r"|NCCL communicator was aborted|ncclRemoteError|remote process exited|RayTaskError|ActorDiedError"
    r"|ActorUnavailableError|TimeoutError|timed out|RuntimeError: cancelled|generator didn't stop"
)
# How far below an exception what it says goes on.
_SAID_LINES = 12
_PYDANTIC = re.compile(r"\bvalidation errors? for ")
_PYDANTIC_SAID = re.compile(r"Value error, |Assertion failed, |\[type=\w")


class Raised(NamedTuple):
    """An exception.

    Attributes:
        at: Which line names it.
        shown: Which line tells what it is: of pydantic's it is one below.
        chain: Number of the first of those that it followed from; exceptions of one chain share it.
        weight: How much it tells.
        speaker: Who printed it.
        follows: 0 if it may be what the server failed of, 1 if it follows from something else, 2 if it only
            passes on what happened in another process.
    """

    at: int
    shown: int
    chain: int
    weight: Weight
    speaker: str
    follows: int


def raised(lines: Sequence[Line], *, survived: bool = False) -> list[Raised]:
    """Find the exceptions in a log, in its order.

    Args:
        lines: The log.
        survived: Whether to find those too that the server certainly survived, such as those of a request.
    """
    found: list[Raised] = []
    chains: dict[str, int] = {}
    linked: set[str] = set()
    for index, line in enumerate(lines):
        if line.kind is LineKind.CHAINED:
            linked.add(line.speaker)
        elif line.kind is LineKind.RAISED and (survived or line.weight > Weight.NOTHING):
            if line.speaker not in linked:
                chains[line.speaker] = index
            linked.discard(line.speaker)
            found.append(_raised(lines, index, chains.setdefault(line.speaker, index)))
    return found


def _raised(lines: Sequence[Line], index: int, chain: int) -> Raised:
    line = lines[index]
    shown = _shown(lines, index)
    said = line.body if shown == index else lines[shown].body
    follows = 2 if PASSED_ON.search(said) else 1 if _FOLLOWED.search(said) else 0
    return Raised(index, shown, chain, line.weight, line.speaker, follows)


def _shown(lines: Sequence[Line], index: int) -> int:
    if not _PYDANTIC.search(lines[index].body):
        return index
    for later in range(index + 1, min(index + 1 + _SAID_LINES, len(lines))):
        if lines[later].speaker == lines[index].speaker and _PYDANTIC_SAID.search(lines[later].body):
            return later
    return index


def worst(exceptions: Sequence[Raised]) -> Raised | None:
    """The exception that the server failed of.

    Of a chain it is the first that followed from nothing, and of many processes the first to report its end.
    Without such a report it is the last chain of a process, because it survived those before.

    Args:
        exceptions: In the order of the log, all of them of one weight.
    """
    for follows in (0, 1):
        told = [exception for exception in exceptions if exception.follows <= follows]
        if fatal := [exception for exception in told if exception.weight is Weight.FATAL]:
            return fatal[0]
        if told:
            last = {exception.speaker: exception.chain for exception in told}
            return next(exception for exception in told if exception.chain == min(last.values()))
    return None
