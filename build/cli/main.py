"""From words to a verb, and from an error to words and an exit code. The only place that does either."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from build import errors
from build.cli import ci, launcher, options
from build.config import settings
from build.console import PROGRAM, Console, without_standard_output
from build.context import Context
from build.engine import names
from build.errors import EXIT_INTERRUPTED, LlmdDevError, UsageError
from build.host import runlog
from build.host.secrets import redacted
from build.nightly import schedule
from build.source import repository
from build.source.local import LocalSource

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import FrameType

    from build.base import chosen
    from build.cli import deliver
    from build.gate import smoke_run
    from build.overlay import choice

log = logging.getLogger("build")

_INTERRUPTED = {
    "word": "interrupted",
    "what": "interrupted; nothing half-made is left",
    "hint": "run it again",
    "exit_code": EXIT_INTERRUPTED,
}


def main(argv: Sequence[str], *, program: str = PROGRAM) -> int:
    """Run one verb.

    Args:
        argv: Words after the program's name.
        program: What the program is called in what is said to the user.

    Returns:
        The exit code: 0, 130, or that of the error's category (:mod:`build.errors`).
    """
    with runlog.ended():
        return _main(argv, program)


def _main(argv: Sequence[str], program: str) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    # Until there is a log file, and where it cannot be written, nothing may spill onto the terminal.
    logging.getLogger("build").addHandler(logging.NullHandler())
    repository.without_git_variables()
    try:
        arguments = _parsed(argv, program)
    except (UsageError, OSError) as error:
        return _fail(Console(quiet="--json" in argv, program=program), errors.as_ours(error), None)
    job = ci.Job.of(os.environ, arguments.summary)
    console = Console(quiet=arguments.json, program=program, folds=job.annotates)
    log_file: Path | None = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loaded = settings.load(_overrides(arguments))
        log_file = runlog.start(loaded.folders.logs, arguments.verb, console)
        if launcher.is_outdated():
            console.warn("the packages are those of an older requirements.txt: run `nox -s install` in the checkout")
        document = VERBS[arguments.verb](Context(settings=loaded, console=console), arguments)
        job.ended(arguments.verb, document)
    except LlmdDevError as error:
        log.debug("raised here:", exc_info=error)
        _tell(job, arguments.verb, error, console)
        return _fail(console, error, log_file)
    except KeyboardInterrupt:
        console.warn(str(_INTERRUPTED["what"]))
        _print_error(console, _INTERRUPTED, log_file)
        return EXIT_INTERRUPTED
    except Exception as error:
        log.exception("the engine failed, or a defect")
        _tell(job, arguments.verb, errors.as_ours(error), console)
        return _fail(console, errors.as_ours(error), log_file)
    try:
        _print(_json(document) if arguments.json else "")
    except OSError as error:
        return _fail(console, errors.as_ours(error), log_file)
    return 0


def _tell(job: ci.Job, verb: str, error: LlmdDevError, console: Console) -> None:
    """Tell the job of a failure, which matters more than that it could not be told."""
    try:
        job.failed(verb, error)
    except OSError as trouble:
        console.warn(f"the summary was not written: {trouble}")


def _parsed(argv: Sequence[str], program: str) -> argparse.Namespace:
    """The command line.

    Raises:
        UsageError: It cannot be used.
        OSError: It asks for a text that cannot be written.
    """
    default = LocalSource.default(os.environ)
    try:
        return options.parse(argv, default=default, default_ref=_default_ref(), program=program)
    except SystemExit:
        # After --help or --version: Python would say itself that the text could not be written, at its end.
        _print("")
        raise


def _print(text: str) -> None:
    """Print a last text; whoever reads may have read enough, and the work is done.

    Raises:
        OSError: It cannot be written, to a file on a full disk say.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        without_standard_output()
    except OSError:
        without_standard_output()
        raise


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: cleaned up."""
    raise KeyboardInterrupt


def _fail(console: Console, error: LlmdDevError, log_file: Path | None) -> int:
    hint = f"{error.hint} ({log_file})" if log_file and error.see_log else error.hint
    # Standard error may be on the disk that is full, and standard output too.
    with contextlib.suppress(OSError):
        console.fail(error.word, redacted(error.what), redacted(hint))
    document = {"word": error.word, "what": redacted(error.what), "hint": console.worded(redacted(error.hint))}
    with contextlib.suppress(OSError):
        _print_error(console, {**document, "exit_code": error.exit_code}, log_file)
        _print("")
    return error.exit_code


def _print_error(console: Console, document: dict[str, Any], log_file: Path | None) -> None:
    """Print the document of a run that failed, where documents are asked for."""
    if console.quiet:
        _print(_json({"error": {**document, "log": log_file}}))


def _json(document: Any) -> str:  # noqa: ANN401 - whatever a verb returns
    # ##[ is the beginning of a command for GitHub Actions.
    return json.dumps(document, indent=2, default=str).replace("##[", "\\u0023#[") + "\n"


def _default_ref() -> str:
    return os.environ.get("VLLM_LOCAL_REF") or "HEAD"


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    given = vars(arguments)
    return {name: given[name] for name in options.SETTING_OPTIONS if given.get(name) is not None}


# --- Verbs: call the domain, show the result, return the JSON document ---
#
# Each imports what it needs when it is called: the engine's client, or what fetches, takes as long as all the rest of a
# start, and a plan on a commit needs neither.


def _quickstart(context: Context, _: argparse.Namespace) -> dict[str, Any]:
    from build.cli import quickstart  # noqa: PLC0415

    result = quickstart.quickstart(context)
    context.console.result(result.table())
    return result.document()


def _engine(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.engine import buildx, embedded  # noqa: PLC0415
    from build.registry import local  # noqa: PLC0415

    folders, console = context.folders, context.console
    if arguments.action == "up":
        found = embedded.up(folders, install=context.settings.install, console=console)
        buildx.require_buildkit(found)
        context.embedded_registry()
    elif arguments.action == "down":
        local.stop(folders)
        embedded.down(folders, console=console)
    return _show_engine(context)


def _show_engine(context: Context) -> dict[str, Any]:
    from build.engine import embedded  # noqa: PLC0415
    from build.registry import local  # noqa: PLC0415

    folders = context.folders
    server, registry = embedded.status(folders), local.status(embedded.in_use(folders), folders)
    document = {"engine": vars(server), "registry": vars(registry)}
    for name, facts in document.items():
        lines = [f"  {key}: {value}" for key, value in facts.items() if value is not None]
        context.console.result("\n".join((f"embedded {name}", *lines)))
    return document


def _nightly(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.flavors import cuda  # noqa: PLC0415
    from build.nightly import run  # noqa: PLC0415
    from build.source import mirror  # noqa: PLC0415

    given = options.given_for_cuda(arguments)
    chosen = _chosen(context, arguments)
    wanted = {name: getattr(arguments, name) for name in given if name not in options.SETTING_OPTIONS}
    if "remote" in wanted:
        wanted["remote"] = mirror.Remote.named(wanted["remote"])
    request = run.Request(
        flavor=chosen.name,
        force=arguments.force,
        push=arguments.push,
        wishes=cuda.Wishes(**wanted),
        gpus=arguments.gpus,
    )
    if arguments.dry_run:
        recipe = run.plan(context, request)
        context.console.result("\n".join(recipe.lines()))
        return {**recipe.document(), "flavor_from": chosen.why}
    document = run.nightly(context, request).document()
    return _shown(context, document)


def _chosen(context: Context, nightly: argparse.Namespace) -> chosen.Chosen:
    """The flavor of a nightly that is started with these words.

    Where no engine answers, the nightly itself fails for that: its failure is recorded and told.
    """
    from build.base import chosen  # noqa: PLC0415

    asked = nightly.flavor or context.settings.flavor
    given = {
        names.CUDA: list(options.given_for_cuda(nightly).values()),
        names.CPU: ["--vllm-version"] if nightly.vllm_version else [],
    }
    return chosen.implied(asked, given) or chosen.chosen_without_engine(context, asked)


def _build(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.cli import build as remote  # noqa: PLC0415

    made = remote.build(context, wanted=arguments.commit, remote=arguments.remote, request=_request(arguments))
    return _shown(context, made.document())


def _dev(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.cli import dev  # noqa: PLC0415

    path = _source(context, arguments)
    made = dev.dev(context, path=path, ref=arguments.ref, dirty=arguments.dirty, request=_request(arguments))
    return _shown(context, made.document())


def _source(context: Context, arguments: argparse.Namespace) -> Path:
    """Path of the local repository; a default is said."""
    source: LocalSource = arguments.source
    path = source.require()
    if source.origin:
        context.console.note(f"{path} ({source.origin})")
    return path


def _request(arguments: argparse.Namespace) -> deliver.Request:
    from build.cli import deliver  # noqa: PLC0415

    return deliver.Request(
        wishes=_wishes(arguments),
        allow_native=arguments.allow_native,
        install_deps=arguments.install_deps,
        smoke=arguments.smoke,
        push=arguments.push,
        force=arguments.force,
        options=_trial_options(arguments),
    )


def _wishes(arguments: argparse.Namespace) -> choice.Wishes:
    from build.overlay import choice  # noqa: PLC0415

    base = None if arguments.base == options.AUTO else arguments.base
    # A shell that completes the name of a folder adds a slash.
    carried = frozenset(name.rstrip("/") for name in arguments.carried)
    flavor = None if arguments.flavor == options.AUTO else arguments.flavor
    return choice.Wishes(base=base, flavor=flavor, carried=carried)


def _plan(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.base import chosen  # noqa: PLC0415
    from build.cli import dev  # noqa: PLC0415
    from build.nightly import freshness  # noqa: PLC0415
    from build.overlay import plan  # noqa: PLC0415

    path, wishes = _source(context, arguments), _wishes(arguments)
    asked = {"dirty": arguments.dirty, "carried": wishes.carried}
    with dev.local(path, arguments.ref, **asked, console=context.console) as (target, _):
        if arguments.base_commit:
            flavor = chosen.chosen_without_engine(context, context.settings.flavor)
            made = plan.plan_on_commit(target, arguments.base_commit, flavor=flavor.name, carried=wishes.carried)
        else:
            made = plan.plan(context, target, wishes)
            if made.image:
                freshness.tell(context, made.image)
    for line in made.lines():
        context.console.result(line)
    return made.document()


def _smoke(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.gate import ending, smoke_run  # noqa: PLC0415

    image = context.engine.image(arguments.image)
    tested = smoke_run.run(context, image, _trial_options(arguments), force=arguments.force)
    document = {
        "image": arguments.image,
        "id": image.id,
        "verdict": "pass",
        "checks": list(tested.verdict.passed),
        "report": str(tested.report) if tested.report else None,
        "figures": dict(tested.figures),
        **ending.ending(context, image, model=arguments.model),
    }
    return _shown(context, document)


def _push(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.gate import ending, publish  # noqa: PLC0415

    image = context.engine.image(arguments.image)
    pushed = publish.push(context, image, allow_native=arguments.allow_native)
    document = {"pushed": list(pushed.names), "digest": pushed.digest, "bytes": pushed.size}
    return _shown(context, {**document, **ending.ending(context, image, pushed=pushed)})


def _status(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.cli import status  # noqa: PLC0415
    from build.nightly import freshness, record  # noqa: PLC0415

    found = status.rows(context)
    nights = record.recall(context.folders.nightlies, last=arguments.last)
    context.console.result(status.table(found))
    for row in found:
        if row.report:
            context.console.result(f"report of {row.called[0]}: {row.report}")
    for row in found:
        if names.is_last_good(row.image, context.settings.repository):
            freshness.tell(context, row.image)
    if nights:
        context.console.result("")
        context.console.result(record.table(nights))
    return {"images": [row.document() for row in found], "nightlies": [night.document() for night in nights]}


def _prune(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    from build.nightly import prune  # noqa: PLC0415

    done = prune.prune(context, apply=arguments.apply)
    context.console.result(done.table())
    context.console.result(done.summary)
    return done.document()


def _schedule(context: Context, arguments: argparse.Namespace) -> dict[str, Any]:
    given = {settings.ENV_PREFIX + name.upper(): str(value) for name, value in _overrides(arguments).items()}
    place = schedule.Place(folders=context.folders, environment={**os.environ, **given}, console=context.console)
    if arguments.action == "install":
        schedule.install(place, time=arguments.at, options=_scheduled(context, arguments))
    elif arguments.action == "remove":
        schedule.remove(place)
    found = schedule.show(place)
    return _shown(context, found.document() if found else {"installed": False})


def _scheduled(context: Context, arguments: argparse.Namespace) -> list[str]:
    """What the nightly is started with: the flavor is chosen now, and not by what the engine is like at night."""
    words: list[str] = arguments.nightly
    nightly = options.parse_nightly(words)
    chosen = _chosen(context, nightly)
    return words if nightly.flavor == chosen.name else [*words, "--flavor", chosen.name]


def _install(context: Context, _: argparse.Namespace) -> dict[str, Any]:
    parser = options.completed(launcher.NAME)
    place = launcher.Place.of(os.environ)
    return _shown(context, launcher.install(place, parser, environment=os.environ, console=context.console))


def _uninstall(context: Context, _: argparse.Namespace) -> dict[str, Any]:
    return _shown(context, launcher.uninstall(launcher.Place.of(os.environ), console=context.console))


def _shown(context: Context, document: dict[str, Any]) -> dict[str, Any]:
    """Print a result as lines of name and value."""
    for name, value in document.items():
        if value not in (None, [], {}):
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            context.console.result(f"{name}: {text}")
    return document


def _trial_options(arguments: argparse.Namespace) -> smoke_run.Options:
    from build.gate import smoke_run  # noqa: PLC0415

    return smoke_run.Options(expect=tuple(arguments.expect), gpus=arguments.gpus, model=arguments.model)


def _of_module(name: str) -> Callable[[Context, argparse.Namespace], Any]:
    """The verb that a module of this room is."""
    return lambda context, arguments: importlib.import_module(f"build.cli.{name}").run(context, arguments)


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
    **{name: _of_module(name) for name in options.MODULES},
    "install": _install,
    "uninstall": _uninstall,
}
