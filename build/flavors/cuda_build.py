"""The buildx request for a cuda base: secrets, caches and Dockerfile."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from build.engine import buildx, labels
from build.errors import UsageError
from build.flavors.cuda_arguments import STAGE
from build.host import scratch
from build.llmd import dockerfile
from build.llmd.tree import DOCKERFILE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from build.config.settings import Settings
    from build.llmd.arguments import Arguments
    from build.llmd.tree import Tree
    from build.pypi.index import PackageIndex

# Credentials of sccache's bucket (llm-d at 055360044cd8, docker/Dockerfile.cuda).
_SCCACHE_SECRETS = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}

_CA_SECRET = "llm-d-dev-ca"  # noqa: S105 - the id of a secret
_CA_TARGET = f"/run/secrets/{_CA_SECRET}"
_CA_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT")


@dataclass(frozen=True, kw_only=True)
class CudaBuild:
    """The build of an llm-d tree on this machine.

    Attributes:
        tree: The llm-d tree.
        settings: The settings.
        network: This machine's proxies and certificate bundle.
        cache: Folder of this machine's caches.
    """

    tree: Tree
    settings: Settings
    network: PackageIndex
    cache: Path

    def request(self, chosen: Arguments, *, dockerfile: Path) -> buildx.ImageBuild:
        """Return the build with these arguments.

        Raises:
            UsageError: A required secret or registry is missing.
        """
        proxies = {name: value for upper, value in self.network.proxies.items() for name in (upper, upper.lower())}
        secrets = {name: path.expanduser().absolute() for name, path in self.settings.build_secrets.items()}
        secrets |= {_CA_SECRET: self.network.bundle} if self.network.bundle else {}
        for name, path in secrets.items():
            if not path.is_file() or "," in str(path):
                raise UsageError(
                    f"secret {name}: {path} is not a file, or has a comma in its path", hint="check build_secrets"
                )
        cache_to, cache_from = self._cache()
        return buildx.ImageBuild(
            dockerfile=dockerfile,
            context=self.tree.path,
            target=self.tree.dockerfile.stage(STAGE),
            arguments=chosen.values,
            hidden_arguments={name: value for name, value in proxies.items() if name not in chosen.values},
            secrets=secrets,
            secret_variables=self._sccache(chosen, frozenset(secrets)),
            # Pruning recognises the leftovers of a killed run by these labels.
            labels={labels.KIND: "unsealed", labels.REPOSITORY: self.settings.repository},
            builder=self.settings.builder,
            cache_to=cache_to,
            cache_from=cache_from,
        )

    def _sccache(self, chosen: Arguments, files: frozenset[str]) -> dict[str, str]:
        """Return the variables with sccache's credentials, by secret id, without those given as files.

        Raises:
            UsageError: sccache is enabled, and a credential is missing.
        """
        if chosen.values.get("USE_SCCACHE") != "true":
            return {}
        variables = {name: variable for name, variable in _SCCACHE_SECRETS.items() if name not in files}
        for name, variable in variables.items():
            if not os.environ.get(variable):
                raise UsageError(
                    f"USE_SCCACHE=true needs the secret {name}",
                    hint=f"set {variable}, or give a file: --build-secret {name}=FILE",
                )
        return variables

    def _cache(self) -> tuple[str | None, str | None]:
        """Return buildx's options for the cache: its destination and its source."""
        if self.settings.cache_to == "registry":
            if self.settings.registry is None:
                raise UsageError("--cache-to registry needs a registry", hint="name one with --registry HOST/NAME")
            ref = f"type=registry,ref={self.settings.registry}:buildcache"
            return f"{ref},mode=max", ref
        if self.settings.cache_to == "local":
            folder = self.cache / "buildkit"
            # buildx fails for a folder without an index.
            known = f"type=local,src={folder}" if (folder / "index.json").exists() else None
            return f"type=local,dest={folder},mode=max", known
        return None, None

    @contextlib.contextmanager
    def dockerfile(self) -> Iterator[Path]:
        """Yield the Dockerfile, or a copy whose steps trust this machine's certificate bundle."""
        original = self.tree.path / DOCKERFILE
        if self.network.bundle is None:
            yield original
            return
        with scratch.folder() as name:
            file = Path(name) / original.name
            text = dockerfile.with_secret(
                original.read_text(encoding="utf-8"),
                name=DOCKERFILE,
                secret_id=_CA_SECRET,
                target=_CA_TARGET,
                variables=_CA_VARIABLES,
            )
            file.write_text(text, encoding="utf-8")
            # BuildKit looks next to the Dockerfile first, then in the context.
            if (ignored := original.with_name(f"{original.name}.dockerignore")).is_file():
                shutil.copy(ignored, file.with_name(ignored.name))
            yield file
