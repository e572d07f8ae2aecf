"""What an image says of itself, and whether it holds that. Nothing is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from build.base import interpreter
from build.base.store import has
from build.engine import labels
from smoke.image import layer_scan, secret_patterns
from smoke.image.contents import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from build.engine.image import Image
    from smoke.image.contents import Contents
    from smoke.suite.image_run import Run

_ROOT = ("", "root", "0")
_NAMED = 5


@pytest.fixture
def ours(run: Run, image: Image) -> Image:
    """The image, if it is ours."""
    if not run.sealed:
        pytest.skip("not applicable: neither a base nor an overlay of this tool")
    return image


def _some(paths: Iterable[str]) -> str:
    listed = tuple(paths)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def test_labels(ours: Image) -> None:
    """The image's labels say that it is a base or an overlay, its flavor, commit and version."""
    kind = ours.labels.get(labels.KIND)
    assert kind in ("base", "overlay"), f"it holds what a base or an overlay holds, and label {labels.KIND} is {kind!r}"
    missing = {labels.FLAVOR, labels.COMMIT, labels.VERSION} - {key for key, value in ours.labels.items() if value}
    assert not missing, f"no label {', '.join(sorted(missing))}"


def test_user(ours: Image) -> None:
    """The image runs as somebody else than root, unless it was adopted."""
    if ours.labels.get(labels.ORIGIN):
        pytest.skip("not applicable: an adopted image keeps its user")
    user = (ours.config.get("User") or "").partition(":")[0]
    assert user not in _ROOT, f"it runs as {user or 'root'}"


def test_command(run: Run, image: Image) -> None:
    """The image has the program of its entry point, or the command `vllm`."""
    program = (image.config.get("Entrypoint") or ["vllm"])[0]
    looked_at = list(interpreter.places(image, program))
    with run.engine.created(image.id) as container:
        found = any(has(container, place) for place in looked_at)
    assert found, f"no {program!r} in {', '.join(map(str, looked_at))}"


def test_description(ours: Image, contents: Contents) -> None:
    """What sealing wrote into the image fits its labels."""
    facts, said = contents.facts, ours.labels
    assert facts.flavor == said.get(labels.FLAVOR), f"base.json says flavor {facts.flavor}"
    if said.get(labels.KIND) == "base":
        assert facts.commit == said.get(labels.COMMIT), f"base.json says commit {facts.commit}"
        assert facts.version == said.get(labels.VERSION), f"base.json says version {facts.version}"


def test_commit(ours: Image, contents: Contents) -> None:
    """The image's git directory is at the commit that the label names."""
    said = ours.labels.get(labels.COMMIT)
    assert contents.head == said, f"HEAD is {contents.head}, the label says {said}"


def test_files(contents: Contents) -> None:
    """Every file that the commit has otherwise than the base is in the image as the commit has it."""
    assert not contents.wrong, f"{len(contents.wrong)} files are not the commit's: {_some(contents.wrong)}"


def test_deletions(contents: Contents) -> None:
    """No file of the base that the commit deletes is left in the image."""
    assert not contents.stale, f"{len(contents.stale)} files that the commit deletes are there: {_some(contents.stale)}"


def test_history(run: Run, image: Image) -> None:
    """No credential is in the image's history, variables or labels."""
    rows: list[dict[str, Any]] = run.engine.client.api.history(image.id)  # type: ignore[no-untyped-call]
    texts = {f"history, step {len(rows) - number}": row.get("CreatedBy") or "" for number, row in enumerate(rows)}
    texts |= {f"variable {word.partition('=')[0]}": word for word in image.config.get("Env") or ()}
    texts |= {f"label {name}": value for name, value in image.labels.items()}
    found = [f"{place} ({kind})" for place, text in texts.items() for kind in secret_patterns.kinds(text)]
    assert not found, f"a credential is in {_some(found)}"


def test_secret_files(run: Run, image: Image, say: Callable[[str], None]) -> None:
    """No file with credentials is in any layer, where programs keep theirs; also none that a later layer deletes."""
    memory = layer_scan.Memory(run.folders.cache / "layers")
    try:
        found = layer_scan.credentials(run.engine, image, base=run.base, memory=memory, say=say)
    except UnreadableError as error:
        pytest.fail(str(error), pytrace=False)
    assert not found, f"there is {_some(found)}"
