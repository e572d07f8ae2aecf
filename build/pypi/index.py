"""The package index in pip's configuration on this machine.

A build inside an engine does not see the host's settings. They are passed as BuildKit secrets and named contexts, so
that they reach the steps that install packages, but not a layer, argument or history line.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from build.errors import UsageError
from build.host import process, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# pip reads these in this order; later ones override (pip's documentation, "Configuration").
_SECTIONS = ("global", "download", "install", ":env:")
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_BUNDLE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")

SECRET_FOLDER = "/run/secrets"  # noqa: S105 - BuildKit's default mount point, not a password
FIND_LINKS_FOLDER = "/find-links"


@dataclass(frozen=True, kw_only=True)
class PackageIndex:
    """The sources of packages.

    Attributes:
        index: Address of the main index; None for pip's default.
        extra: Addresses of further indexes.
        find_links: Local folders of package files.
        bundle: Certificate bundle to trust instead of the default one.
        proxies: Proxy variables, upper-case names.
    """

    index: str | None
    extra: tuple[str, ...]
    find_links: tuple[Path, ...]
    bundle: Path | None
    proxies: Mapping[str, str]

    @classmethod
    def of_this_machine(cls, environment: Mapping[str, str]) -> PackageIndex:
        """Return what pip uses here: its configuration files and ``PIP_*``, then the usual variables.

        Args:
            environment: Environment variables of the process.

        Raises:
            UsageError: pip cannot read its configuration.
        """
        listed = _pip_config("list")
        keys = Counter(row.partition("=")[0] for row in listed.splitlines())
        # Since pip 25, `list` shows a key once for each file that sets it, sorted by file name. `get` returns the
        # effective value, which is appended because parse() takes the last.
        listed += "".join(f"{key}={_pip_config('get', key).rstrip()!r}\n" for key, times in keys.items() if times > 1)
        return cls.parse(listed, environment)

    @classmethod
    def parse(cls, listed: str, environment: Mapping[str, str]) -> PackageIndex:
        """Parse the output of ``pip config list`` (lines ``section.key='value'``) and the environment."""
        settings = _settings(listed)
        bundles = [settings.get("cert"), *(environment.get(name) for name in _BUNDLE_VARIABLES)]
        folders = (_local_folder(place) for place in settings.get("find-links", "").split())
        return cls(
            index=settings.get("index-url"),
            extra=tuple(settings.get("extra-index-url", "").split()),
            find_links=tuple(folder for folder in folders if folder and folder.is_dir()),
            bundle=next((Path(bundle) for bundle in bundles if bundle and Path(bundle).is_file()), None),
            proxies=_proxies(settings.get("proxy"), environment),
        )

    def has_local(self, prefix: str) -> bool:
        """Return whether a find-links folder holds a file whose name starts with ``prefix``."""
        return any(path.name.startswith(prefix) for folder in self.find_links for path in folder.iterdir())

    def torch_for(self, flavor: str) -> str | None:
        """Return uv's name of a flavor's PyTorch builds, or None to leave the choice to the indexes.

        Only PyTorch's own index has builds for the CPU. The package index has those for CUDA, with several GB.
        """
        return "cpu" if flavor == "cpu" and not self.has_local("torch-") else None

    def uv_settings(self, *, torch: str | None = None) -> str:
        """Return the ``uv.toml`` for use inside a build.

        Local (``file:``) indexes are left out: only find-links folders are passed to the build.

        Args:
            torch: uv's name of the PyTorch builds (``cpu``); None leaves the choice to the indexes.
        """
        lines = [f"index-url = {json.dumps(self.index)}"] if self.index else []
        remote = [address for address in self.extra if not address.startswith("file:")]
        lines.append(f"extra-index-url = {json.dumps(remote)}")
        lines.append(f"find-links = {json.dumps([FIND_LINKS_FOLDER] if self.find_links else [])}")
        # Like pip: all indexes are equal, and the best version wins.
        lines.append('index-strategy = "unsafe-best-match"')
        lines += ["[pip]", f"torch-backend = {json.dumps(torch)}"] if torch else []
        return "\n".join(lines) + "\n"

    def shell_environment(self) -> str:
        """Return shell assignments for a build step that installs packages."""
        values = dict(self.proxies) | {name.lower(): value for name, value in self.proxies.items()}
        values["UV_CONFIG_FILE"] = f"{SECRET_FOLDER}/uv.toml"
        if self.bundle:
            values["SSL_CERT_FILE"] = f"{SECRET_FOLDER}/ca.pem"
        return "".join(f"export {name}={_quote(value)}\n" for name, value in sorted(values.items()))

    @contextlib.contextmanager
    def handed_in(self, *, torch: str | None = None) -> Iterator[HandedIn]:
        """Yield secrets and contexts that pass these settings to a build.

        Args:
            torch: Argument of :meth:`uv_settings`.
        """
        with scratch.folder() as name:
            folder = Path(name)
            secrets = {"environment": folder / "environment", "uv.toml": folder / "uv.toml"}
            _write_secret(secrets["environment"], self.shell_environment())
            _write_secret(secrets["uv.toml"], self.uv_settings(torch=torch))
            if self.bundle:
                secrets["ca.pem"] = self.bundle
            links = folder / "find-links"
            links.mkdir()
            for source in self.find_links:
                _link_files(source, links)
            yield HandedIn(secrets=secrets, contexts={"find-links": links})


@dataclass(frozen=True, kw_only=True)
class HandedIn:
    """The inputs of a :class:`build.engine.buildx.ImageBuild` for installing packages like on the host.

    Attributes:
        secrets: Files by secret id (``environment``, ``uv.toml``, optionally ``ca.pem``).
        contexts: Folders by context name (``find-links``).
    """

    secrets: Mapping[str, Path]
    contexts: Mapping[str, Path]


def _settings(listed: str) -> dict[str, str]:
    """Return the settings by key. For a key in several sections, take the value that pip takes."""
    rows = [row.partition("=")[::2] for row in listed.splitlines() if "=" in row]
    return {
        key.removeprefix(f"{section}."): str(ast.literal_eval(value))
        for section in _SECTIONS
        for key, value in rows
        if key.startswith(f"{section}.")
    }


def _proxies(of_pip: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables like curl reads them, lower-case names first. pip's own proxy overrides them."""
    both = {name: environment.get(name.lower()) or environment.get(name) for name in _PROXY_VARIABLES}
    proxies = {name: value for name, value in both.items() if value}
    return proxies | (dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), of_pip) if of_pip else {})


def _pip_config(*words: str) -> str:
    try:
        # -P: otherwise modules of the current folder would shadow those of pip and Python.
        return process.output([sys.executable, "-P", "-m", "pip", "config", *words]).decode()
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or "it printed no error"
        raise UsageError(
            f"`pip config {' '.join(words)}` failed: {said}", hint="correct pip's configuration file"
        ) from error


def _local_folder(place: str) -> Path | None:
    """Return the folder of a find-links entry, or None for an address on the network."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme else Path(place).expanduser().absolute()


def _quote(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _link_files(source: Path, target: Path) -> None:
    """Gather package files in one folder, as hard links if the file system allows it."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if not path.is_file() or place.exists():
            continue
        try:
            os.link(path.resolve(), place)
        except OSError:
            shutil.copy(path, place)
