"""Release files of the package index, fetched once and checked against the index's hashes."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import zipfile
from typing import TYPE_CHECKING

import requests
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage, PyPISimple
from pypi_simple.errors import (
    DigestMismatchError,
    NoDigestsError,
    NoSuchProjectError,
    UnsupportedContentTypeError,
    UnsupportedRepoVersionError,
)
from requests.exceptions import ChunkedEncodingError
from requests.utils import should_bypass_proxies
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exponential

from build.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from build.console import Console
    from build.pypi.index import PackageIndex


def fetch(
    index: PackageIndex,
    folder: Path,
    *,
    project: str,
    version: str,
    wanted: Callable[[DistributionPackage], bool],
    console: Console,
) -> Path:
    """Return a release file of the package index. A file in the download folder is reused.

    Args:
        index: Package index.
        folder: Download folder.
        project: Project on the index.
        version: Exact version.
        wanted: Selects one of the version's files.
        console: Console for progress.

    Returns:
        The file, complete and with the hash that the index states.

    Raises:
        SourceError: The file does not exist, the index does not answer, or the hash is wrong.
    """
    with _opened(index, project) as client:
        package = _find(client, project, version, wanted)
        return _download(client, package, folder, console)


def versions(index: PackageIndex, *, project: str, wanted: Callable[[DistributionPackage], bool]) -> frozenset[Version]:
    """Return the versions of a project with a fitting file that was not yanked.

    Args:
        index: Package index.
        project: Project on the index.
        wanted: Selects fitting files.

    Raises:
        SourceError: The project does not exist, or the index does not answer.
    """
    with _opened(index, project) as client:
        packages = _packages(client, project)
    found = [package for package in packages if not package.is_yanked and wanted(package)]
    return frozenset(version for package in found if (version := _version(package.version)))


@contextlib.contextmanager
def _opened(index: PackageIndex, project: str) -> Iterator[PyPISimple]:
    """Open a client of the index.

    Raises:
        SourceError: Any index error in the block.
    """
    index_address = index.index or PYPI_SIMPLE_ENDPOINT
    with requests.Session() as session:
        if index.bundle:
            session.verify = str(index.bundle)
        proxies = dict(index.proxies)
        if not should_bypass_proxies(index_address, no_proxy=proxies.pop("NO_PROXY", None)):
            # requests reads the environment's proxies by itself, but not pip's.
            session.proxies.update({name.removesuffix("_PROXY").lower(): one for name, one in proxies.items()})
        try:
            yield PyPISimple(endpoint=index_address, session=session)
        except (*_OF_THE_INDEX, requests.RequestException) as error:
            raise _failure(error, project) from error


_UNUSABLE = (NoDigestsError, UnsupportedContentTypeError, UnsupportedRepoVersionError)
_OF_THE_INDEX = (NoSuchProjectError, DigestMismatchError, *_UNUSABLE)


def _failure(error: Exception, project: str) -> SourceError:
    """Return the error for a failure of the index."""
    settings = "check index-url with `pip config list`"
    if isinstance(error, NoSuchProjectError):
        return SourceError(f"the package index has no {project}", hint=settings)
    if isinstance(error, DigestMismatchError):
        what = f"the download of {project} has another hash than the package index states: {error}"
        return SourceError(what, hint="run this again; if the error stays, the index or a proxy serves a wrong file")
    if isinstance(error, _UNUSABLE):
        return SourceError(f"the package index is not usable for {project}: {error}", hint=settings)
    if isinstance(error, requests.HTTPError):
        what = f"the package index answered {error.response.status_code} {error.response.reason} for {project}"
        return SourceError(
            what, hint="check index-url and its credentials with `pip config list`; after a 5xx try again later"
        )
    return SourceError(
        f"the package index does not answer for {project}: {type(error).__name__}",
        hint="check the network, proxies and `pip config list`, then run this again",
    )


def wheel_for(machine: str) -> Callable[[DistributionPackage], bool]:
    """Return a predicate for Linux wheels for a processor.

    Args:
        machine: Processor in the form of ``uname -m``.
    """

    def fits(package: DistributionPackage) -> bool:
        name = package.filename
        return package.package_type == "wheel" and "manylinux" in name and name.endswith(f"_{machine}.whl")

    return fits


def runs_on(package: DistributionPackage, python: tuple[int, int]) -> bool:
    """Return whether a wheel is for a version of CPython, by its tags and its ``Requires-Python``."""
    supported = {
        (tag.interpreter, tag.abi)
        for tags in (cpython_tags(python, platforms=["any"]), compatible_tags(python, platforms=["any"]))
        for tag in tags
    }
    try:
        tags = parse_wheel_filename(package.filename)[3]
        allowed = SpecifierSet(package.requires_python or "")
    except (InvalidWheelFilename, InvalidVersion, InvalidSpecifier):
        return False
    fits = any((tag.interpreter, tag.abi) in supported for tag in tags)
    return fits and allowed.contains(".".join(map(str, python)) + ".0")


def _may_get_better(error: BaseException) -> bool:
    """Return whether a retry may help: the connection failed, or the index is overloaded."""
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in (requests.codes.too_many_requests, requests.codes.service_unavailable)
    return isinstance(error, (requests.ConnectionError, requests.Timeout, ChunkedEncodingError))


_retried = retry(
    retry=retry_if_exception(_may_get_better),
    stop=stop_after_attempt(3),
    wait=wait_exponential(multiplier=1, max=8),
    reraise=True,
)


def _find(
    client: PyPISimple, project: str, version: str, wanted: Callable[[DistributionPackage], bool]
) -> DistributionPackage:
    packages = _packages(client, project)
    same = [package for package in packages if package.version == version]
    found = [package for package in same if wanted(package)]
    if found:
        return found[0]
    known = sorted({package.version for package in packages if package.version}, key=_in_order)
    what = f"{project} {version} has no fitting file" if same else f"there is no {project} {version}"
    raise SourceError(f"{what} on the package index", hint=f"versions there: {', '.join(known[-5:]) or 'none'}")


@_retried
def _packages(client: PyPISimple, project: str) -> list[DistributionPackage]:
    return client.get_project_page(project, timeout=60).packages


def _in_order(text: str) -> tuple[bool, Version]:
    """Return a sort key: the newest version last, invalid versions (PEP 440) first."""
    version = _version(text)
    return version is not None, version or Version("0")


def _version(text: str | None) -> Version | None:
    try:
        return Version(text or "")
    except InvalidVersion:
        return None


@_retried
def _download(client: PyPISimple, package: DistributionPackage, folder: Path, console: Console) -> Path:
    target = folder / package.filename
    if target.exists() and _sha256(target) == package.digests.get("sha256"):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    size = f" ({package.size / 1e6:.0f} MB)" if package.size else ""
    console.note(f"downloading {package.filename}{size}")
    partial = folder / f".{package.filename}.{secrets.token_hex(4)}"
    try:
        client.download_package(package, partial, timeout=60)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpacked(archive: zipfile.ZipFile, name: str, *, limit: int) -> bytes:
    """Return the content of a member. Its stated size is not trusted.

    Args:
        archive: Archive, such as a wheel.
        name: Name of the member.
        limit: Maximum size in bytes.

    Raises:
        zipfile.BadZipFile: The member is larger, or damaged.
    """
    with archive.open(name) as member:
        content = member.read(limit + 1)
    if len(content) > limit:
        raise zipfile.BadZipFile(f"{name} is larger than {limit >> 20} MiB")
    return content
