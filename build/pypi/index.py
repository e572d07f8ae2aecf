"""The package index as pip on this machine is set up to use it.

Inside an engine a build sees none of the host's settings. They are handed in as BuildKit secrets and named
contexts, so that they reach the steps that install packages and no layer, argument or history line.
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

# pip reads these in this order, later ones winning (pip's documentation, "Configuration").
_SECTIONS = ("global", "download", "install", ":env:")
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_BUNDLE_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")

SECRET_FOLDER = "/run/secrets"  # noqa: S105 - BuildKit's default mount point, not a password
FIND_LINKS_FOLDER = "/find-links"


@dataclass(frozen=True, kw_only=True)
class PackageIndex:
    """Where packages come from.

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
        """What pip here uses: its configuration files and ``PIP_*``, then the usual variables.

        Args:
            environment: The process's environment variables.

        Raises:
            UsageError: pip cannot read its configuration.
        """
        listed = _pip_config("list")
        keys = Counter(row.partition("=")[0] for row in listed.splitlines())
        # Since pip 25 a key that several files set is listed for each, sorted by the files' names; `get` knows the
        # one that counts. parse() takes the last.
        listed += "".join(f"{key}={_pip_config('get', key).rstrip()!r}\n" for key, times in keys.items() if times > 1)
        return cls.parse(listed, environment)

    @classmethod
    def parse(cls, listed: str, environment: Mapping[str, str]) -> PackageIndex:
        """From the output of ``pip config list`` (``section.key='value'`` a line) and the environment."""
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
        """Whether a find-links folder holds a file whose name starts with ``prefix``."""
        return any(path.name.startswith(prefix) for folder in self.find_links for path in folder.iterdir())

    def torch_for(self, flavor: str) -> str | None:
        """The PyTorch builds that a flavor needs, in uv's words; None leaves the choice to the indexes.

        PyTorch's own index has the builds for the CPU; the package index only those for CUDA, several GB of them.
        """
        return "cpu" if flavor == "cpu" and not self.has_local("torch-") else None

    def uv_settings(self, *, torch: str | None = None) -> str:
        """``uv.toml`` for use inside a build.

        Local (``file:``) indexes are left out: only find-links folders are carried along.

        Args:
            torch: uv's name of the PyTorch builds to take (``cpu``); None leaves that to the indexes.
        """
        lines = [f"index-url = {json.dumps(self.index)}"] if self.index else []
        remote = [address for address in self.extra if not address.startswith("file:")]
        lines.append(f"extra-index-url = {json.dumps(remote)}")
        lines.append(f"find-links = {json.dumps([FIND_LINKS_FOLDER] if self.find_links else [])}")
        # As pip does it: all indexes are equal, the best version wins.
        lines.append('index-strategy = "unsafe-best-match"')
        lines += ["[pip]", f"torch-backend = {json.dumps(torch)}"] if torch else []
        return "\n".join(lines) + "\n"

    def shell_environment(self) -> str:
        """Assignments for the shell of a build step that installs packages."""
        values = dict(self.proxies) | {name.lower(): value for name, value in self.proxies.items()}
        values["UV_CONFIG_FILE"] = f"{SECRET_FOLDER}/uv.toml"
        if self.bundle:
            values["SSL_CERT_FILE"] = f"{SECRET_FOLDER}/ca.pem"
        return "".join(f"export {name}={_quote(value)}\n" for name, value in sorted(values.items()))

    @contextlib.contextmanager
    def handed_in(self, *, torch: str | None = None) -> Iterator[HandedIn]:
        """Secrets and contexts that carry these settings into a build, while the block runs.

        Args:
            torch: As :meth:`uv_settings` has it.
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
    """What a :class:`build.engine.buildx.ImageBuild` takes to install packages as the host would.

    Attributes:
        secrets: Files by secret id (``environment``, ``uv.toml``, perhaps ``ca.pem``).
        contexts: Folders by context name (``find-links``).
    """

    secrets: Mapping[str, Path]
    contexts: Mapping[str, Path]


def _settings(listed: str) -> dict[str, str]:
    """Settings by key, whichever section they are in: of several the one that pip takes."""
    rows = [row.partition("=")[::2] for row in listed.splitlines() if "=" in row]
    return {
        key.removeprefix(f"{section}."): str(ast.literal_eval(value))
        for section in _SECTIONS
        for key, value in rows
        if key.startswith(f"{section}.")
    }


def _proxies(of_pip: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Proxy variables as curl reads them, the lower-case name first; pip's own proxy outweighs them."""
    both = {name: environment.get(name.lower()) or environment.get(name) for name in _PROXY_VARIABLES}
    proxies = {name: value for name, value in both.items() if value}
    return proxies | (dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), of_pip) if of_pip else {})


def _pip_config(*words: str) -> str:
    try:
        # Safe: else modules of the current folder, such as a checkout's, come before pip's and Python's own.
        return process.output([sys.executable, "-P", "-m", "pip", "config", *words]).decode()
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or "it said nothing"
        raise UsageError(
            f"`pip config {' '.join(words)}` fails: {said}", hint="correct the file of pip's that it names"
        ) from error


def _local_folder(place: str) -> Path | None:
    """The folder behind a find-links entry; None for an address on the network."""
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
    """Gather package files in one folder, without copying where the file system allows it."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if not path.is_file() or place.exists():
            continue
        try:
            os.link(path.resolve(), place)
        except OSError:
            shutil.copy(path, place)
