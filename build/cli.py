"""From words to a verb, and from an error to words and an exit code. The only place that does either."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build import failure, git, options, schedule, settings
from build.console import Console, without_standard_output
from build.context import Context
from build.errors import EXIT_INTERRUPTED, LlmdDevError, UsageError
from build.redact import RedactingFormatter, redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from types import FrameType

    from build import choice, delivery, trial
    from build.settings import Settings

log = logging.getLogger("build")


def main(argv: Sequence[str]) -> int:
    """Run one verb.

    Args:
        argv: Words after the program's name.

    Returns:
        The exit code: 0, 130, or that of the error's category (:mod:`build.errors`).
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Until there is a log file, and where it cannot be written, nothing may spill onto the terminal.
    logging.getLogger("build").addHandler(logging.NullHandler())
    git.without_git_variables()
    try:
        arguments = options.parse(argv, default_path=_default_path(), default_ref=_default_ref())
    except UsageError as error:
        return _fail(Console(quiet="--json" in argv), error, None)
    console = Console(quiet=arguments.json)
    log_file: Path | None = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loaded = settings.load(_overrides(arguments))
        log_file = _start_log(loaded, arguments.verb)
        document = VERBS[arguments.verb](Context(settings=loaded, console=console), arguments)
    except LlmdDevError as error:
        log.debug("raised here:", exc_info=error)
        return _fail(console, error, log_file)
    except KeyboardInterrupt:
        console.warn("interrupted; nothing half-made is left")
        return EXIT_INTERRUPTED
    except Exception as error:
        log.exception("the engine failed, or a defect")
        return _fail(console, failure.as_ours(error), log_file)
    _print(f"{json.dumps(document, indent=2, default=str)}\n" if arguments.json else "")
    return 0


def _print(text: str) -> None:
    """Print a last text; whoever reads may have read enough, and the work is done."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        without_standard_output()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: cleaned up."""
    raise KeyboardInterrupt


def _fail(console: Console, error: LlmdDevError, log_file: Path | None) -> int:
    hint = error.hint
    if log_file and error.see_log:
        hint = f"{hint} ({log_file})"
    console.fail(error.word, redacted(error.what), redacted(hint))
    return error.exit_code


def _default_path() -> Path:
    """``VLLM_LOCAL_GIT_DIR`` names a git directory; its repository is what is meant."""
    # As it is written where nobody has a home folder: only who needs it finds out.
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("~")
    return Path(os.environ.get("VLLM_LOCAL_GIT_DIR") or home / "vllm" / ".git")


def _default_ref() -> str:
    return os.environ.get("VLLM_LOCAL_REF") or "HEAD"


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    given = vars(arguments)
    return {name: given[name] for name in options.SETTING_OPTIONS if given.get(name) is not None}


def _start_log(loaded: Settings, verb: str) -> Path:
    folder = loaded.folders.logs
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{verb}-{os.getpid()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(
            f"the state folder cannot be written: {error}", hint="name another one with --state or LLM_D_DEV_STATE"
        ) from error
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    ours = logging.getLogger("build")
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    return path


# --- Verbs: call the domain, show the result, return the JSON document ---
#
# Each imports what it needs when it is called: the engine's client, or what fetches, takes as long as all the rest of a
# start, and a plan on a commit needs neither.


def _quickstart(context: Context, _: argparse.Namespace) -> dict[str, Any]:
    from build import quickstart  # noqa: PLC0415

    result = quickstart.quickstart(context)
    context.console.result(result.table())
    return result.document()


def _engine(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import embedded  # noqa: PLC0415

    folders, console = context.folders, context.console
    if arguments.action == "up":
        found = embedded.up(folders, install=context.settings.install, console=console)
        embedded.require_buildkit(found)
        context.embedded_registry(install=context.settings.install)
    elif arguments.action == "down":
        embedded.down(folders, console=console)
    return _show_engine(context)


def _show_engine(context: Context) -> dict[str, Any]:
    from build import embedded, registry_server  # noqa: PLC0415

    server, registry = embedded.status(context.folders), registry_server.status(context.folders)
    document = {"engine": vars(server), "registry": vars(registry)}
    for name, facts in document.items():
        lines = [f"  {key}: {value}" for key, value in facts.items() if value is not None]
        context.console.result("\n".join((f"embedded {name}", *lines)))
    return document


def _nightly(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import cuda, mirror, nightly  # noqa: PLC0415

    given = options.given_for_cuda(arguments)
    flavor = arguments.flavor or ("cuda" if given else "cpu")
    if given and flavor != "cuda":
        raise UsageError(f"{', '.join(given.values())} is for bases of the cuda flavor", hint="add --flavor cuda")
    wanted = {name: getattr(arguments, name) for name in given if name not in options.SETTING_OPTIONS}
    if "remote" in wanted:
        wanted["remote"] = mirror.Remote.named(wanted["remote"])
    request = nightly.Request(
        flavor=flavor,
        force=arguments.force,
        push=arguments.push,
        wishes=cuda.Wishes(**wanted),
        gpus=arguments.gpus,
    )
    if arguments.dry_run:
        recipe = nightly.plan(context, request)
        context.console.result("\n".join(recipe.lines()))
        return recipe.document()
    document = nightly.nightly(context, request).document()
    return _shown(context, document)


def _build(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import remote  # noqa: PLC0415

    made = remote.build(context, wanted=arguments.commit, remote=arguments.remote, request=_request(arguments))
    return _shown(context, made.document())


def _dev(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import dev  # noqa: PLC0415

    made = dev.dev(context, path=arguments.path, ref=arguments.ref, dirty=arguments.dirty, request=_request(arguments))
    return _shown(context, made.document())


def _request(arguments: argparse.Namespace) -> delivery.Request:
    from build import delivery  # noqa: PLC0415

    return delivery.Request(
        wishes=_wishes(arguments),
        allow_native=arguments.allow_native,
        install_deps=arguments.install_deps,
        smoke=arguments.smoke,
        push=arguments.push,
        force=arguments.force,
        options=_trial_options(arguments),
    )


def _wishes(arguments: argparse.Namespace) -> choice.Wishes:
    from build import choice  # noqa: PLC0415

    base = None if arguments.base == options.AUTO else arguments.base
    # A shell that completes the name of a folder adds a slash.
    carried = frozenset(name.rstrip("/") for name in arguments.carried)
    return choice.Wishes(base=base, flavor=arguments.flavor, carried=carried)


def _plan(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import dev, plan  # noqa: PLC0415

    wishes = _wishes(arguments)
    asked = {"dirty": arguments.dirty, "carried": wishes.carried}
    with dev.local(arguments.path, arguments.ref, **asked, console=context.console) as (target, _):
        if arguments.base_commit:
            made = plan.plan_on_commit(
                target, arguments.base_commit, flavor=wishes.flavor or "cpu", carried=wishes.carried
            )
        else:
            made = plan.plan(context, target, wishes)
    for line in made.lines():
        context.console.result(line)
    return made.document()


def _smoke(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import trial  # noqa: PLC0415

    image = context.engine.image(arguments.image)
    tested = trial.run(context, image, _trial_options(arguments), force=arguments.force)
    document = {
        "image": arguments.image,
        "id": image.id,
        "verdict": "pass",
        "checks": list(tested.verdict.passed),
        "report": str(tested.report) if tested.report else None,
        "figures": dict(tested.figures),
    }
    return _shown(context, document)


def _push(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import publish  # noqa: PLC0415

    image = context.engine.image(arguments.image)
    pushed = publish.push(context, image, allow_native=arguments.allow_native)
    return _shown(context, {"pushed": list(pushed.names), "digest": pushed.digest, "bytes": pushed.size})


def _status(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import freshness, record, status  # noqa: PLC0415

    found = status.rows(context)
    nights = record.recall(context.folders.nightlies, last=arguments.last)
    context.console.result(status.table(found))
    for row in found:
        if f"{context.settings.repository}:nightly" in row.names:
            freshness.tell(context, row.image)
    if nights:
        context.console.result("")
        context.console.result(record.table(nights))
    return {"images": [row.document() for row in found], "nightlies": [night.document() for night in nights]}


def _prune(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build import prune  # noqa: PLC0415

    done = prune.prune(context, apply=arguments.apply)
    context.console.result(done.table())
    context.console.result(done.summary)
    return done.document()


def _schedule(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    given = {settings.ENV_PREFIX + name.upper(): str(value) for name, value in _overrides(arguments).items()}
    place = schedule.Place(folders=context.folders, environment={**os.environ, **given}, console=context.console)
    if arguments.action == "install":
        schedule.install(place, time=arguments.at, options=arguments.nightly)
    elif arguments.action == "remove":
        schedule.remove(place)
    found = schedule.show(place)
    return _shown(context, found.document() if found else {"installed": False})


def _shown(context: Context, document: dict[str, Any]) -> dict[str, Any]:
    """Print a result as lines of name and value."""
    for name, value in document.items():
        if value not in (None, [], {}):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            context.console.result(f"{name}: {text}")
    return document


def _trial_options(arguments: argparse.Namespace) -> trial.Options:
    from build import trial  # noqa: PLC0415

    return trial.Options(expect=tuple(arguments.expect), gpus=arguments.gpus, model=arguments.model)


VERBS: dict[str, Callable[[Context, argparse.Namespace], Any]] = {
    "quickstart": _quickstart,
    "engine": _engine,
    "nightly": _nightly,
    "build": _build,
    "dev": _dev,
    "plan": _plan,
    "smoke": _smoke,
    "push": _push,
    "status": _status,
    "prune": _prune,
    "schedule": _schedule,
}
