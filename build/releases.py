"""vLLM releases as commits of a local bare repository.

For machines that reach a package index but not GitHub. Everything a commit id is made of is fixed (author,
dates from the archive, no parent), so that a release has the same id on every machine.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from build import command, download
from build.errors import SourceError
from build.git import Commit, Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.console import Console
    from build.folders import Folders
    from build.index import PackageIndex

# Made by `python -m build --sdist` and its setuptools_scm plugin; not in vLLM's git tree (vLLM 0.32.0).
_MADE_BY_SDIST = ("PKG-INFO", "setup.cfg", "vllm/_version.py")
_MADE_FOLDER = "vllm.egg-info"

_IDENTITY = b"vLLM release <release@localhost>"


def ensure(folders: Folders, index: PackageIndex, version: str, *, console: Console) -> Commit:
    """The commit of a release, imported from its source distribution if it is not there yet.

    Args:
        folders: Where downloads and the repository are.
        index: Where the source distribution comes from.
        version: Release, such as ``0.32.0``.
        console: For progress.

    Returns:
        The commit, in the repository at ``folders.releases`` under the tag ``v<version>``.

    Raises:
        SourceError: The release or its source distribution cannot be had.
    """
    if (folders.releases / "HEAD").exists():
        repository = Repository(folders.releases)
        if repository.holds(f"refs/tags/v{version}"):
            return repository.commit(f"refs/tags/v{version}")
    archive = download.fetch(
        index,
        folders.downloads,
        project="vllm",
        version=version,
        wanted=lambda package: package.package_type == "sdist",
        console=console,
    )
    with console.step(f"import vLLM {version}"):
        _import(folders.releases, archive, version)
    return Repository(folders.releases).commit(f"refs/tags/v{version}")


def _import(repository: Path, archive: Path, version: str) -> None:
    """Write the release's objects, then its tag: a killed import leaves objects that nothing names."""
    command.output(["git", "init", "--quiet", "--bare", "--initial-branch=releases", repository])
    with tempfile.TemporaryFile() as stream:
        try:
            with tarfile.open(archive) as tar:
                _write_stream(tar, version, stream)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise SourceError(
                f"{archive.name} is no readable source distribution: {error}",
                hint=f"delete {archive} and run this again",
            ) from error
        stream.seek(0)
        try:
            command.output(["git", "-C", repository, "fast-import", "--quiet", "--force"], stdin=stream)
        except subprocess.CalledProcessError as error:
            raise SourceError(
                f"{archive.name} could not be imported: {error.stderr.decode(errors='replace').strip()}",
                hint=f"delete {repository} and run this again",
            ) from error


def _write_stream(tar: tarfile.TarFile, version: str, stream: IO[bytes]) -> None:
    """The archive as a fast-import stream of one commit without parents (git-fast-import(1))."""
    members = sorted(_tracked(tar), key=lambda pair: pair[0])
    newest = int(max(member.mtime for _, member in members))
    message = f"vLLM {version}\n".encode()
    # Released versions are all on one line of tags; the branch only gives the bare repository a HEAD.
    stream.write(b"commit refs/tags/v%s\n" % version.encode())
    stream.write(b"committer %s %d +0000\ndata %d\n%s" % (_IDENTITY, newest, len(message), message))
    stream.write(b"deleteall\n")
    for path, member in members:
        mode, content = _content(tar, member)
        stream.write(b"M %s inline %s\ndata %d\n" % (mode, _quoted(path), len(content)))
        stream.write(content + b"\n")
    stream.write(b"done\n")


def _tracked(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Files of the archive that are in vLLM's git tree, by path below the archive's one folder."""
    for member in tar:
        path = "/".join(PurePosixPath(member.name).parts[1:])
        made = path in _MADE_BY_SDIST or path.split("/")[0] == _MADE_FOLDER
        if (member.isfile() or member.issym()) and path and not made:
            yield path, member


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[bytes, bytes]:
    if member.issym():
        return b"120000", member.linkname.encode()
    file = tar.extractfile(member)
    assert file is not None  # noqa: S101 - for the type checker: the member is a file
    return (b"100755" if member.mode & 0o100 else b"100644"), file.read()


def _quoted(path: str) -> bytes:
    """A path as fast-import reads it: C-style quotes."""
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
