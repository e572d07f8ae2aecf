"""``report.html``: a run on one page that needs no network and no script, and gives none of the log's text power."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from build.config.folders import REPOSITORY
from build.engine import labels
from smoke.diagnosis import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from build.engine.client import Engine
    from build.engine.image import Image
    from smoke.diagnosis.cause import Diagnosis
    from smoke.results.findings import Check, Findings

_HERE = REPOSITORY / "smoke"

# A browser takes seconds for more; who needs more has server.log.
_FIRST_LINES = 400
_AROUND_CAUSE = 200
_LAST_LINES = 1000
_LINE_LIMIT = 4000
_OVERWRITTEN = " ⏎ "
_ALIKE = 80
_MEGABYTE = 1e6
_TRACEBACK = "Traceback (most recent call last)"
_TRACEBACK_LINES = 300
_FILES = 200

# What begins with which line of vLLM 0.32.0's log, in the order in which they come.
_MILESTONES = (
    ("reads its configuration", re.compile(r".")),
    ("starts the engine's process", re.compile(r"Using max model len")),
    ("starts the workers", re.compile(r"Initializing a V1 LLM engine")),
    ("loads the model", re.compile(r"Starting to load model")),
    ("makes the cache, warms up", re.compile(r"Loading weights took")),
    ("sets up the API", re.compile(r"init engine \(")),
    ("opens its port", re.compile(r"Starting vLLM server on")),
)
_LAST = _MILESTONES[-1][0]
_STAMP = re.compile(r"(?:DEBUG|INFO|WARNING|ERROR) (\d\d-\d\d \d\d:\d\d:\d\d) ")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the start.

    Attributes:
        name: What the server does.
        line: Number of the line of the log that it begins with; 0 for none.
        at_s: Seconds from the start of the container, or from the first line if the server was never healthy.
        took_s: Seconds to the next phase.
        from_percent: Where it begins, in percent of the whole.
        percent: Its share of the whole.
    """

    name: str
    line: int
    at_s: float
    took_s: float
    from_percent: float
    percent: float


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A line of the log."""

    number: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Lines of the log that follow each other.

    Attributes:
        left_out: How many before them are not shown.
        lines: The lines.
    """

    left_out: int
    lines: tuple[Shown, ...]


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """What source an image holds.

    Attributes:
        commit: The commit.
        subject: First line of its message.
        base: The commit of its base; the same for a base itself.
        changed: Files that are new, or not as in the base.
        deleted: Files of the base that are gone.
    """

    commit: str
    subject: str
    base: str
    changed: Sequence[str]
    deleted: Sequence[str]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Names and values."""
        files = [f"{path} (deleted)" if path in set(self.deleted) else path for path in self._paths[:_FILES]]
        more = len(self._paths) - len(files)
        listed = [*files, *([f"and {more} more"] if more else [])]
        rows = [("commit", self.commit), ("subject", self.subject), ("commit of the base", self.base)]
        return [*rows, ("changed files", "\n".join(listed) or "none")]

    @property
    def _paths(self) -> list[str]:
        return sorted([*self.changed, *self.deleted])


def phases(server_log: str, *, healthy_s: float | None) -> list[Phase]:
    """What a server did while it started, by its log's time stamps, which are whole seconds.

    Args:
        server_log: Everything that the server printed.
        healthy_s: Seconds from the container's start to the first healthy answer; None if there was none.
    """
    found = list(_milestones(server_log))
    if not found:
        return []
    first, last = found[0][2], found[-1][2]
    # Healthy within a second of the last milestone: that tells when the container started, long before it printed.
    silent_s = max(0.0, healthy_s - (last - first).total_seconds()) if healthy_s and found[-1][0] == _LAST else 0.0
    marks = [("starts Python, imports", 0, 0.0)] if silent_s else []
    # The clock may be set meanwhile.
    marks += [(name, line, silent_s + max(0.0, (when - first).total_seconds())) for name, line, when in found]
    end = max(marks[-1][2], healthy_s or 0.0)
    if healthy_s is not None:
        marks.append(("is healthy", 0, end))
    ends = [at for _, _, at in marks[1:]] + [end]
    whole = end or 1.0
    return [
        Phase(
            name=name,
            line=line,
            at_s=at,
            took_s=after - at,
            from_percent=round(100 * at / whole, 1),
            percent=round(100 * (after - at) / whole, 1),
        )
        for (name, line, at), after in zip(marks, ends, strict=True)
    ]


def _milestones(server_log: str) -> Iterator[tuple[str, int, datetime]]:
    wanted = list(_MILESTONES)
    for number, line in enumerate(log.split(server_log), start=1):
        text = log.plain(line[:_LINE_LIMIT])
        stamp = _STAMP.search(text)
        reached = next((index for index, (_, pattern) in enumerate(wanted) if pattern.search(text)), None)
        if stamp and reached is not None:
            with_year = f"2000-{stamp[1]}"  # a leap year: a log of February 29 has no year of its own
            try:
                when = datetime.strptime(with_year, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            except ValueError:
                continue
            yield wanted[reached][0], number, when
            del wanted[: reached + 1]


def excerpt(server_log: str, marked: Iterable[int]) -> list[Excerpt]:
    """What is shown of a log: its start, its end, and what is around the lines that tell why something failed.

    Args:
        server_log: Everything that the server printed.
        marked: Numbers of those lines.
    """
    lines = log.split(server_log)
    count = len(lines)
    wanted = {*range(_FIRST_LINES), *range(count - _LAST_LINES, count)}
    for number in marked:
        wanted |= set(range(number - _AROUND_CAUSE, number + _AROUND_CAUSE))
    parts: list[Excerpt] = []
    run: list[Shown] = []
    before = 0
    for index in sorted(wanted & set(range(count))):
        if run and run[-1].number != index:
            parts.append(Excerpt(left_out=before, lines=tuple(run)))
            before, run = index - run[-1].number, []
        run.append(Shown(number=index + 1, text=log.plain(lines[index].replace("\r", _OVERWRITTEN)[:_LINE_LIMIT])))
    return [*parts, Excerpt(left_out=before, lines=tuple(run))] if run else parts


def lineage(engine: Engine, image: Image) -> dict[str, Any]:
    """Where an image comes from, as an engine that has it knows: itself, its base, labels and layers.

    Raises:
        docker.errors.DockerException: The engine does not answer.
        requests.RequestException: The same.
    """
    base_id = image.labels.get(labels.BASE)
    base = engine.find_image(base_id) if base_id else None
    steps = engine.client.api.history(image.id)  # type: ignore[no-untyped-call]
    # What made a layer is not told: it may name secrets.
    sizes = [step["Size"] for step in reversed(steps) if step["Size"]]
    return known(image, base=base, sizes=sizes)


def known(image: Image, *, base: Image | None = None, sizes: Sequence[int] = ()) -> dict[str, Any]:
    """Where an image comes from, as far as it is known without asking the engine.

    Args:
        image: The image.
        base: The base that it stands on, if the engine has it.
        sizes: Sizes of the layers, lowest first.
    """
    base_id = image.labels.get(labels.BASE)
    absent = [("image ID", base_id), ("known", "not on this engine")] if base_id else []
    return {
        "name": image.name,
        "facts": [*_facts(image), ("layers", len(image.diff_ids))],
        "base": _facts(base) if base else absent,
        "labels": sorted(image.labels.items()),
        "layers": _layers(image, base, sizes),
    }


def unknown(name: str) -> dict[str, Any]:
    """Nothing, of a server whose image is not known."""
    return {"name": name, "facts": [], "base": [], "labels": [], "layers": []}


def _facts(image: Image) -> list[tuple[str, Any]]:
    told = [
        ("image ID", image.id),
        ("names", ", ".join(image.tags)),
        ("in registries", ", ".join(image.digests) or "not known to this engine"),
        ("kind", image.labels.get(labels.KIND)),
        ("commit", image.labels.get(labels.COMMIT)),
        ("version", image.labels.get(labels.VERSION)),
        ("created", image.created),
        ("size", _bytes(image.size)),
        ("user", image.config.get("User")),
        ("entry point", " ".join(image.config.get("Entrypoint") or ())),
    ]
    return [(name, value) for name, value in told if value]


def _layers(image: Image, base: Image | None, sizes: Sequence[int]) -> list[dict[str, str]]:
    below = set(base.diff_ids) if base else set()
    # A step that made an empty layer looks like one that made none: then the sizes cannot be told apart.
    known = sizes if len(sizes) == len(image.diff_ids) else [None] * len(image.diff_ids)
    return [
        {"id": layer, "size": _bytes(size), "of": "base" if layer in below else "this image"}
        for layer, size in zip(image.diff_ids, known, strict=True)
    ]


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size / _MEGABYTE:,.2f} MB"


def cleaned(document: Any, clean: Callable[[str], str]) -> Any:  # noqa: ANN401 - any JSON value
    """A document of whose texts each went through ``clean``."""
    if isinstance(document, dict):
        return {name: cleaned(value, clean) for name, value in document.items()}
    if isinstance(document, list):
        return [cleaned(value, clean) for value in document]
    return clean(document) if isinstance(document, str) else document


def page(
    findings: Findings,
    *,
    image: Mapping[str, Any],
    configuration: Mapping[str, Any],
    server_log: str,
    log_name: str,
    healthy_s: float | None,
    redacted: Callable[[str], str],
    source: ImageSource | None = None,
) -> str:
    """The page.

    Args:
        findings: What the run found out.
        image: The image's :func:`lineage`.
        configuration: What the checks ran with.
        server_log: Everything that the server printed.
        log_name: The file that has it.
        healthy_s: Seconds from that server's start to its first healthy answer; None if there was none.
        redacted: Takes secrets out of a text.
        source: The image's source, if that is known.
    """
    reason, failed = findings.reason, _failed(findings)
    told = {check.log_line_number: check.name for check in failed if check.log_line_number}
    parts = excerpt(server_log, [*told, *([reason.line_number] if reason and reason.line_number else [])])
    shown = {shown.number: shown.text for part in parts for shown in part.lines}
    document = {
        "result": {
            "kind": findings.result,
            "word": findings.result.upper(),
            "counts": findings.counts or "nothing ran",
        },
        "reason": reason,
        "marked": _marked(reason, shown, redacted) if reason else None,
        "told": told,
        "tracebacks": _tracebacks(shown, told),
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "phases": phases(server_log, healthy_s=healthy_s),
        "failed": failed,
        "folded": [
            (outcome, [check for check in findings.checks.values() if check.outcome == outcome])
            for outcome in ("passed", "skipped")
            if findings.named(outcome)
        ],
        "source": source,
        "figures": sorted(_figure(name, value) for name, value in findings.figures.items()),
        "configuration": sorted((name, _text(value)) for name, value in configuration.items()),
        "image": image,
        "log": parts,
        "log_name": log_name,
        "shown": shown,
        "note": f"{len(log.split(server_log)):,} lines." if server_log else "",
    }
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # Markup: the style sheet is ours, and its hash must be that of what the browser sees.
    return _template(redacted).render(**document, style=Markup(style), style_hash=f"sha256-{digest}")  # noqa: S704


def _failed(findings: Findings) -> list[Check]:
    """The checks that did not pass although they apply."""
    return [check for check in findings.checks.values() if check.outcome in ("failed", "inconclusive")]


def _tracebacks(shown: Mapping[int, str], ends: Iterable[int]) -> set[int]:
    """Numbers of the lines of the tracebacks that end with some lines."""
    found: set[int] = set()
    for end in ends:
        above = range(end, max(0, end - _TRACEBACK_LINES), -1)
        begin = next((number for number in above if _TRACEBACK in shown.get(number, "")), end)
        found |= set(range(begin, end + 1))
    return found


def _marked(reason: Diagnosis, shown: Mapping[int, str], redacted: Callable[[str], str]) -> int | None:
    """The line that shows the cause. A cause may also come from what the engine or another program said."""
    states = shown.get(reason.line_number or 0, "").split(_OVERWRITTEN)
    told = redacted(log.plain(reason.line))
    found = any(state.strip() and told.startswith(redacted(state.strip())[:_ALIKE]) for state in states)
    return reason.line_number if found else None


def _figure(name: str, value: float) -> tuple[str, str]:
    for ending, unit in (("_s", "s"), ("_mib", "MiB"), ("_bytes", "bytes")):
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " "), f"{value:,} {unit}"
    return name.replace("_", " "), f"{value:,}"


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value)) or "none"
    return "not known" if value is None else str(value)


def _style() -> str:
    return (_HERE / "report.css").read_text(encoding="utf-8")


def _template(redacted: Callable[[str], str]) -> jinja2.Template:
    """The template, in which every value goes through ``redacted`` before it is escaped: none can be forgotten."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        finalize=lambda value: (
            redacted(log.plain(value)) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")
