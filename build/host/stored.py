"""Files that this tool writes atomically, and checks when it reads them again.

A document is JSON that holds the checksum of its content. A set of files has its checksums in a document beside it.
A file counts as absent if it is unreadable, changed, or of an unexpected form: a cache is then filled again, and for
other files a warning names the file. Documents without a checksum come from older versions of this tool; only their
form is checked.
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

from build.host.files import write_atomic_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

log = logging.getLogger(__name__)
"""Logger whose warnings are shown to the user: they name files that count as absent."""

_CHECKSUM = "checksum"
_LIMIT_BYTES = 64 * 2**20
"""Bytes of the largest document accepted; real ones have a megabyte or two."""
_DEEPEST = 100
"""Nesting depth accepted; real documents have less than ten levels."""


class DamagedError(ValueError):
    """A file differs from what was written to it. The message says how."""


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document, atomically.

    Args:
        path: File of the document.
        content: JSON values by name.
    """
    write_json(path, {**content, _CHECKSUM: _checksum(content)})


def read(path: Path, form: Callable[[Any], T], *, level: int = logging.WARNING) -> T | None:
    """Read a document. Return None if it is absent or damaged.

    Args:
        path: File of the document.
        form: Converts the content to its type, or raises an error.
        level: Log level of the warning about a damaged file.
    """
    try:
        return parse(_content(path, _LIMIT_BYTES), form)
    except FileNotFoundError:
        return None
    # An invalid file name, for example with a zero byte, is a ValueError too.
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        log.log(level, "%s counts as absent: %s", path, _one_line(why or "it cannot be read"))
        return None


def parse(text: bytes, form: Callable[[Any], T]) -> T:
    """Parse a document from the text of its file. ``form`` is the same as for :func:`read`.

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
    """Write a set of files to a cache, and replace what is there.

    Args:
        folder: Folder of the files.
        files: Contents by name.
        mode: Permissions of the files.
    """
    # Intact files stay: another run may be reading or writing the same ones.
    if not folder.is_dir():
        clear(folder)
    for path in (_sums(folder), *(folder / name for name in files)):
        if path.is_dir():
            clear(path)
    for name, content in files.items():
        write_atomic_bytes(folder / name, content, mode=mode)
    # Checksums come last: a killed run then leaves whole files without them, never checksums of other contents.
    write(_sums(folder), {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def read_files(folder: Path, names: Iterable[str]) -> dict[str, bytes] | None:
    """Return the contents of a set of files by name, or None if one is absent or changed.

    Args:
        folder: Folder of the files.
        names: Names of all expected files.
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
    """Read a regular file. A pipe would block, and a device never ends.

    Raises:
        OSError: The file does not exist or cannot be read.
        DamagedError: The file is larger than the limit.
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
    """Parse JSON from a file that may be damaged.

    Raises:
        DamagedError: The text is not JSON, or has numbers, characters or a depth that most programs reject.
    """
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse)
        # Half of a surrogate pair: JSON can express it, but a file cannot hold it.
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"it is not JSON ({_one_line(str(error))})") from error
    if any(depth > _DEEPEST for depth in _depths(content)):
        raise DamagedError(f"it is nested more than {_DEEPEST} deep")
    return content


def _refuse(constant: str) -> None:
    raise DamagedError(f"{constant} is not JSON")


def _one_line(text: str) -> str:
    """Return a text, which may quote a damaged file, on one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:200]


def _depths(content: Any) -> Iterator[int]:  # noqa: ANN401 - any JSON value
    """Yield the depth of each value."""
    left = [(content, 0)]
    while left:
        value, depth = left.pop()
        yield depth
        if isinstance(value, (list, dict)):
            left += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
