"""Files that this tool keeps and reads again: written whole, and not trusted when they are read.

A document is JSON with the checksum of its content in it. A set of files has its checksums in a document beside it.
What cannot be read, was changed, or is not of the form that is expected counts as absent: a cache is then filled
again, and of anything else a warning names the file. Documents without a checksum, which older versions of this tool
wrote, are judged by their form alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from build.folders import write_atomic_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

log = logging.getLogger(__name__)
"""Warnings of this logger are for the user: they name files that count as absent."""

_CHECKSUM = "checksum"
_LIMIT_BYTES = 64 * 2**20
"""Of a document: the largest that are kept have a megabyte or two."""
_DEEPEST = 100
"""Lists and objects that lie in each other; those that are kept have less than ten."""


class DamagedError(ValueError):
    """A file holds something else than what was written to it; the message says what."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Keep a document, atomically.

    Args:
        path: Its file.
        content: JSON values by name.
    """
    write_json(path, {**content, _CHECKSUM: _checksum(content)})


def read(path: Path, form: Callable[[Any], T], *, level: int = logging.WARNING) -> T | None:
    """A document that was kept; None if it is absent, which a damaged one is.

    Args:
        path: Its file.
        form: Makes of its content what it is about, or raises an error.
        level: How loudly a damaged one is told.
    """
    try:
        return parse(_content(path, _LIMIT_BYTES), form)
    except FileNotFoundError:
        return None
    # A name that no file can have, with a zero byte say, is a ValueError too.
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        log.log(level, "%s counts as absent: %s", path, _one_line(why or "it cannot be read"))
        return None


def parse(text: bytes, form: Callable[[Any], T]) -> T:
    """A document from the text of its file; the form is as :func:`read` has it.

    Raises:
        DamagedError: The text is not JSON, its checksum is wrong, or it does not have the form.
    """
    content = value(text)
    if isinstance(content, dict) and _CHECKSUM in content and content.pop(_CHECKSUM) != _checksum(content):
        raise DamagedError("its content was changed since it was written")
    try:
        return form(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DamagedError(f"it is not what is expected ({place or 'as a whole'}: {first['msg']})") from error
    except (TypeError, LookupError, AttributeError, ArithmeticError, ValueError) as error:
        raise DamagedError(f"it is not what is expected ({error})") from error


def write_files(folder: Path, files: Mapping[str, bytes], *, mode: int = 0o644) -> None:
    """Keep a set of files in a cache, in place of whatever is there.

    Args:
        folder: Their folder.
        files: Their contents by name.
        mode: Their permissions.
    """
    # Nothing that is in order is removed: another run may be reading it, or writing the same.
    if not folder.is_dir():
        clear(folder)
    for path in (_sums(folder), *(folder / name for name in files)):
        if path.is_dir():
            clear(path)
    for name, content in files.items():
        write_atomic_bytes(folder / name, content, mode=mode)
    # Last: a run that is killed leaves some of the files, each whole, and never checksums of other contents.
    write(_sums(folder), {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def read_files(folder: Path, names: Iterable[str]) -> dict[str, bytes] | None:
    """Contents of a set of files that was kept, by name; None if one of them is absent or was changed.

    Args:
        folder: Their folder.
        names: All that are expected.
    """
    try:
        found = {name: _content(folder / name, None) for name in names}
    except OSError as error:
        log.debug("%s counts as absent: %s", folder, error)
        return None
    # Older versions of this tool wrote no checksums.
    if not os.path.lexists(_sums(folder)):
        return found
    sums = read(_sums(folder), _SUMS, level=logging.DEBUG) or {}
    same = all(hashlib.sha256(content).hexdigest() == sums.get(name) for name, content in found.items())
    return found if same else None


_SUMS = TypeAdapter(dict[str, str]).validate_python


def _sums(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def clear(path: Path) -> None:
    """Remove a file, a link or a folder of a cache."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _content(path: Path, limit: int | None) -> bytes:
    """Bytes of a regular file: a pipe would be waited for, and a device has no end.

    Raises:
        OSError: There is no such file, or it cannot be read.
        DamagedError: It is larger than the limit.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a file")
        content = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(content) > limit:
        raise DamagedError(f"it is larger than {limit >> 20} MiB")
    return content


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def value(text: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """A JSON value from its text, of a file that may be damaged.

    Raises:
        DamagedError: It is not JSON, or has numbers, letters or a depth that hardly any program takes.
    """
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        # Half of a character that JSON can name and no file can hold.
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is not JSON ({_one_line(str(error))})") from error
    if any(depth > _DEEPEST for depth in _depths(content)):
        raise DamagedError(f"it is nested more than {_DEEPEST} deep")
    return content


def _refuse(constant: str) -> None:
    raise DamagedError(f"{constant} is not JSON")


def _one_line(text: str) -> str:
    """A text that may quote a damaged file."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]


def _depths(content: Any) -> Iterator[int]:  # noqa: ANN401 - any JSON value
    """How deep each value lies."""
    left = [(content, 0)]
    while left:
        value, depth = left.pop()
        yield depth
        if isinstance(value, (list, dict)):
            left += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
