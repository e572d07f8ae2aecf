"""What can become of a file that was kept: other bytes, other values, or something else than a file."""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FEW = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    # The folder is the test's own, and every example writes the files anew.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The same examples everywhere, and no wall time."""

ILL_TYPED: tuple[Any, ...] = (
    *(None, True, -1, 10**400, "", "\ud800", "\0", "a\x1b[2J\nb", "[red]x[/nothing]", [], [None], {}, {"x": None}),
    *(float("nan"), "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "../../x"),
)
"""Values that are what a program may not expect in some place."""


def bytes_instead(before: bytes) -> st.SearchStrategy[bytes]:
    """Other bytes in the place of some: cut off, a bit turned, or any."""
    last = max(len(before) - 1, 0)
    return st.one_of(
        st.binary(max_size=200),
        st.integers(0, last).map(lambda length: before[:length]),
        st.tuples(st.integers(0, last), st.integers(0, 7)).map(lambda where: _turned(before, *where)),
        st.integers(0, last).map(lambda at: before[:at] + bytes(512) + before[at + 512 :]),
    )


def _turned(before: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(before)
    if changed:
        changed[at] ^= 1 << bit
    return bytes(changed)


EDITS: tuple[bytes, ...] = (
    *(b"", b"\0", b"\xff\xfe", b"null", b"[]", b"{}", b"0", b'""', b"{", b"\xef\xbb\xbf{}", b"9" * 5000),
    *(b"[" * 100_000, b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900),
)
"""Contents that are hardly anything, or hardly bearable."""


def values_instead(before: bytes) -> Iterator[bytes]:
    """A JSON document with one value after the other replaced by each that is ill-typed, or left out."""
    document = json.loads(before)
    for path in _places(document):
        for value in ILL_TYPED:
            yield json.dumps(_with(document, path, value)).encode()
        yield json.dumps(_without(document, path)).encode()
    for value in ILL_TYPED:
        yield json.dumps(value).encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - any JSON value
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from _places(one, (*path, key))


def _with(document: Any, path: tuple[Any, ...], value: Any) -> Any:  # noqa: ANN401 - any JSON value
    changed = copy.deepcopy(document)
    _parent(changed, path)[path[-1]] = value
    return changed


def _without(document: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any JSON value
    changed = copy.deepcopy(document)
    del _parent(changed, path)[path[-1]]
    return changed


def _parent(document: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401 - any JSON value
    for key in path[:-1]:
        document = document[key]
    return document


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "content").touch()


def _link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


INSTEAD: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: path.unlink(),
    "folder": _folder,
    "dangling link": lambda path: _link(path, "nowhere"),
    "link to itself": lambda path: _link(path, path.name),
    "endless device": lambda path: _link(path, "/dev/zero"),
    "pipe": _pipe,
    "no permissions": lambda path: path.chmod(0),
}
"""What else than a file can be in the place of one."""
