"""The base image of the cuda flavor, from llm-d's own Dockerfile."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from build.base.store import NOT_IN_IMAGES
from build.engine import buildx, labels
from build.errors import BuildError, SourceError, UsageError
from build.flavors import recipe, wheels
from build.flavors.recipe import Recipe
from build.flavors.wheels import Wheel, WheelIndex
from build.host import scratch
from build.llmd import arguments, dockerfile, fit, wheel_rule
from build.llmd.arguments import Given
from build.llmd.tree import DOCKERFILE, open_tree
from build.pypi.index import PackageIndex
from build.source.listing import SUBMODULE
from build.source.mirror import Mirror, Remote
from build.source.repository import FULL_ID, Repository
from build.source.target import Target
from build.vllm.requirements import Installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from build.context import Context
    from build.engine.client import Engine
    from build.host import process
    from build.llmd.arguments import Arguments
    from build.llmd.dockerfile import Dockerfile
    from build.llmd.fit import Difference
    from build.llmd.tree import Tree
    from build.llmd.wheel_rule import WheelRule
    from build.source.repository import Commit

log = logging.getLogger(__name__)

NIGHTLY = "the nightly"
"""Origin of the arguments that every nightly gives."""

# Given by options of their own: the run itself has to know them.
_OPTIONS = {"VLLM_COMMIT_SHA": "--commit", "VLLM_REPO": "--remote", "VLLM_USE_PRECOMPILED": "--compile"}
_WHEEL_COMMIT = "VLLM_PRECOMPILED_WHEEL_COMMIT"
_WHEEL_VARIANT = "VLLM_PRECOMPILED_WHEEL_VARIANT"
_CACHE_BUSTER = "CACHE_BUSTER"
_PLATFORM = "the platform"
_TODAY = "today, as llm-d's CI"
_COMPILED = "VLLM_USE_PRECOMPILED"

_STAGE = "runtime"
"""The stage that llm-d's CI builds (.github/workflows/build-image.yaml, 2025 and 2026)."""

# The user of ssh:// is none of it.
_CREDENTIALS = re.compile(r"https?://[^\s/]+@")

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Docker's names of processors, by those of ``uname -m``."""

# What sccache reads its bucket with (llm-d at 055360044cd8, docker/Dockerfile.cuda).
_SCCACHE_SECRETS = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}

_CA_SECRET = "llm-d-dev-ca"  # noqa: S105 - the id of a secret
_CA_TARGET = f"/run/secrets/{_CA_SECRET}"
_CA_VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "PIP_CERT")

# What docker/scripts/cuda/runtime/install-vllm.sh of llm-d says before it spends an hour (2025 and 2026).
_COMPILES = "Compiling fully from source"


@dataclass(frozen=True, kw_only=True)
class CudaWishes:
    """What the command line says about a cuda base.

    Attributes:
        commit: Of vLLM; None for the newest of main.
        remote: Where vLLM comes from.
        llm_d: Another tree of llm-d than the submodule.
        llm_d_ref: Another commit of it.
        build_args: ``NAME=VALUE`` each.
        compile: Compile vLLM instead of taking a wheel's binaries.
        preflight: Whether to look for the wheel first.
    """

    commit: str | None = None
    remote: Remote = field(default_factory=lambda: Remote.named("vllm"))
    llm_d: Path | None = None
    llm_d_ref: str | None = None
    build_args: Sequence[str] = ()
    compile: bool = False
    preflight: bool = True


@contextlib.contextmanager
def opened(context: Context, wishes: CudaWishes) -> Iterator[Cuda]:
    """The flavor with its llm-d tree, while the block runs.

    Raises:
        SourceError: There is no such tree, or it cannot be fetched.
    """
    with open_tree(wishes.llm_d, wishes.llm_d_ref, cache=context.folders.cache, console=context.console) as tree:
        yield Cuda(context=context, wishes=wishes, tree=tree)


class Cuda:
    """Builds the base; a :class:`build.flavors.flavor.Flavor`.

    Args:
        context: Settings, console, engine.
        wishes: What the command line says.
        tree: The llm-d tree.
    """

    name = "cuda"

    def __init__(self, *, context: Context, wishes: CudaWishes, tree: Tree) -> None:
        self._context = context
        self._settings = context.settings
        self._wishes = wishes
        self._tree = tree
        self._mirror = Mirror(context.folders.mirror, console=context.console)
        # Git, curl and uv know the environment; what pip is set up with is for the cpu flavor's packages.
        self._network = PackageIndex.parse("", os.environ)
        self._wheel: Wheel | None = None

    @functools.cached_property
    def _dockerfile_read(self) -> Dockerfile:
        """The Dockerfile, as far as the stage that is built needs it."""
        return _of_stage(self._tree.dockerfile)

    @property
    def needed_bytes(self) -> int:
        """As the setting has it."""
        return self._settings.cuda_disk_gb * 1_000_000_000

    @property
    def rebuild_after(self) -> dt.timedelta | None:
        """Never: main moves every day, and each commit's build takes in the packages of its day."""
        return None

    # --- Which commit --------------------------------------------------------------------------------------

    def commit(self) -> Commit:
        """The commit that is built."""
        return self._mirror.commit(self._wishes.remote, self._oid())

    def _oid(self) -> str:
        wanted = self._wishes.commit
        if wanted is None:
            return self._mirror.tip(self._wishes.remote, "main")
        return wanted if FULL_ID.fullmatch(wanted) else self._mirror.commit(self._wishes.remote, wanted).id

    @contextlib.contextmanager
    def source(self, commit: Commit) -> Iterator[Repository]:
        """The mirror, with the files of the commit that a base holds."""
        with contextlib.closing(Repository(self._mirror.path)) as repository:
            files = repository.listing(commit).files.items()
            held = (
                one.oid for path, one in files if path.partition("/")[0] not in NOT_IN_IMAGES and one.mode != SUBMODULE
            )
            self._mirror.fetch_blobs(self._wishes.remote, held)
            yield repository

    # --- What it is built with -----------------------------------------------------------------------------

    def fingerprint(self, commit: Commit) -> str:
        """Digest of the commit, the llm-d tree and the arguments; which wheel is found does not count."""
        chosen = self.arguments(commit.id, wheel=commit.id, architecture=self._context.architecture)
        # The date does not make another base, and the processor is the engine's.
        given = [one.document() for one in chosen.given if one.origin not in (_TODAY, _PLATFORM)]
        parts = [commit.id, self._tree.digest(), json.dumps(given), *NOT_IN_IMAGES]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def arguments(self, oid: str, *, wheel: str, architecture: str) -> Arguments:
        """The build arguments: of the tree's versions, the nightly's own, of settings and command line.

        Args:
            oid: The commit that is built.
            wheel: The commit whose wheel gives the binaries.
            architecture: Processor of the image.

        Raises:
            SourceError: The Dockerfile does not fit; names file and line.
            UsageError: An argument that was asked for cannot be given.
        """
        file, stated = self._dockerfile_read, self._tree.stated
        decided = {
            "USE_SCCACHE": "false",
            "VLLM_COMMIT_SHA": oid,
            "VLLM_REPO": self._wishes.remote.address,
            _COMPILED: "0" if self._wishes.compile else "1",
            _WHEEL_COMMIT: wheel,
        }
        if _WHEEL_COMMIT not in file.names and wheel == oid:
            # Trees of 2025 look for the wheel of the commit itself.
            del decided[_WHEEL_COMMIT]
        decided = {name: value for name, value in decided.items() if name not in self._written(decided)}
        chosen = arguments.choose(
            file,
            versions=[
                *_today(file),
                *_platform(file, architecture),
                *(Given(name=one.name, value=one.value, origin=one.place) for one in stated.versions),
            ],
            decided=[Given(name=name, value=value, origin=NIGHTLY) for name, value in decided.items()],
            asked=self._asked(),
            unread=stated.unread,
        )
        if file.value("VLLM_PREBUILT", chosen.values) == "1":
            raise UsageError(
                "VLLM_PREBUILT=1 installs vLLM without its source, and no overlay can stand on that",
                hint="--build-arg VLLM_PREBUILT=0",
            )
        return chosen

    def _written(self, decided: Mapping[str, str]) -> dict[str, str]:
        """Arguments that the Dockerfile does not declare and does not need, because the tree does the same without.

        The trees of September 2025 name vLLM's repository and its mode outright.

        Args:
            decided: What the nightly gives.

        Returns:
            A remark by name.
        """
        file = self._dockerfile_read
        ran = "\n".join(text for _, text in self._tree.scripts_of(file))
        repository = (decided["VLLM_REPO"].removesuffix(".git"), "the tree itself clones that repository")
        mode = (f"{_COMPILED}={decided[_COMPILED]}", "the tree itself sets it to that")
        same = {
            name: remark for name, (text, remark) in {"VLLM_REPO": repository, _COMPILED: mode}.items() if text in ran
        }
        same |= {} if "sccache" in ran.lower() else {"USE_SCCACHE": "the tree does not use sccache"}
        return {name: f"{name}: not declared; {remark}" for name, remark in same.items() if name not in file.names}

    def _asked(self) -> list[Given]:
        set_up = self._settings.build_args.items()
        asked = [Given(name=name, value=value, origin="setting build_args") for name, value in set_up]
        asked += arguments.parse(self._wishes.build_args)
        for one in asked:
            if one.name in _OPTIONS:
                raise UsageError(
                    f"{one.name} ({one.origin}) is decided by {_OPTIONS[one.name]}", hint=f"use {_OPTIONS[one.name]}"
                )
            _require_no_credentials(f"{one.name} ({one.origin})", one.value)
        _require_no_credentials("--remote", self._wishes.remote.address)
        return asked

    def wheel(self, oid: str, *, architecture: str) -> Wheel | None:
        """The wheel whose binaries the base gets; None if it is to be compiled.

        Args:
            oid: The commit that is built.
            architecture: Processor of the image.

        Raises:
            SourceError: There is none that fits, or it cannot be told.
        """
        if self._wishes.compile:
            return None
        asked = {one.name: one.value for one in self._asked()}.get(_WHEEL_COMMIT)
        commit = asked or oid
        rule, variant = self._rule(commit, oid, architecture)
        if not self._wishes.preflight:
            place = rule.place if rule else None
            return Wheel(commit=commit, variant=variant, architecture=architecture, address=None, rule=place)
        if variant is None:
            raise SourceError(
                f"{DOCKERFILE} does not say for which CUDA version it builds, and its scripts not which wheel "
                "they take",
                hint="--no-preflight goes on without looking for the wheel",
            )
        with self._context.console.step("look for the wheel"):
            found = wheels.choose(
                WheelIndex(address=self._wheel_index(rule), bundle=self._network.bundle),
                commit,
                variant=variant,
                architecture=architecture,
                rule=rule,
                ancestors=lambda: (
                    () if asked else self._mirror.ancestors(self._wishes.remote, oid, count=wheels.SEARCHED)
                ),
                native=lambda ancestor: self._native(oid, ancestor),
            )
            if asked and (differing := self._native(oid, asked)):
                raise SourceError(
                    f"the wheel of {asked} was compiled from other {', '.join(differing[:5])} than {oid} has",
                    hint=f"leave {_WHEEL_COMMIT} out",
                )
        if found.behind:
            self._context.console.note(f"{oid} has no wheel yet; that of {found.commit} has the same native sources")
        return found

    def _rule(self, commit: str, oid: str, architecture: str) -> tuple[WheelRule | None, str | None]:
        """What the tree's script takes, and the variant; each None where it cannot be read.

        Args:
            commit: The commit whose wheel is to be taken.
            oid: The commit that is built.
            architecture: Processor of the image.
        """
        chosen = self.arguments(oid, wheel=commit, architecture=architecture)
        file = self._dockerfile_read
        environment = {**file.environment(chosen.values), _COMPILED: "1"}
        texts = self._tree.scripts_of(file)
        rule = wheel_rule.read(texts, environment=environment, commit=commit, machine=architecture)
        return rule, rule.variant if rule else self._cuda_variant(chosen)

    def _cuda_variant(self, chosen: Arguments) -> str | None:
        """The variant of the image's CUDA version; None where the Dockerfile does not tell."""
        file = self._dockerfile_read
        if any(one.name == _WHEEL_VARIANT and one.stage is not None for one in file.arguments):
            return file.value(_WHEEL_VARIANT, chosen.values) or ""
        major, minor = (file.value(f"CUDA_{part}", chosen.values) for part in ("MAJOR", "MINOR"))
        return f"cu{major}{minor}" if major and minor else None

    def _wheel_index(self, rule: WheelRule | None) -> str:
        """The setting, unless it is the default and the tree's script looks elsewhere."""
        address = self._settings.wheel_index
        default = type(self._settings).model_fields["wheel_index"].default
        return rule.index if rule and address == default else address

    def _native(self, oid: str, ancestor: str) -> Sequence[str]:
        """The native sources in which a commit differs from another."""
        remote = self._wishes.remote
        new, old = self._mirror.commit(remote, oid), self._mirror.commit(remote, ancestor)
        with contextlib.closing(Repository(self._mirror.path)) as repository:
            targets = [
                Target.of(repository, one, fetch=lambda oids: self._mirror.fetch_blobs(remote, oids))
                for one in (new, old)
            ]
            return wheels.native_differences(*targets)

    # --- Whether tree and commit fit -----------------------------------------------------------------------

    def require_fit(self, oid: str, chosen: Arguments) -> list[str]:
        """Check that what the tree pins allows what the commit requires.

        Args:
            oid: The commit that is built.
            chosen: The build arguments.

        Returns:
            What could not be compared, or differs without failing the build.

        Raises:
            SourceError: A version differs; names both, and a commit of llm-d that fits if its history is there.
        """
        if not self._wishes.preflight:
            return []
        requires, environment = self._requires(oid, chosen)
        pins = fit.pins(self._tree, self._dockerfile_read, chosen.values)
        differing = fit.differences(pins, requires, environment)
        if binding := [one for one in differing if one.pin.binding]:
            raise SourceError(
                f"llm-d {self._tree.revision[:12]} does not fit {oid[:12]}: {fit.said(binding)}",
                hint=self._what_fits(oid, binding, requires, environment),
            )
        unread = [f"{one} is not there to compare with" for one in requires if one.startswith("-r ")]
        return [*pins.unread, *unread, *(one.said for one in differing)]

    def _requires(self, oid: str, chosen: Arguments) -> tuple[list[str], dict[str, str]]:
        """Requirement lines of a commit, and what their markers are evaluated for."""
        remote = self._wishes.remote
        commit = self._mirror.commit(remote, oid)
        with contextlib.closing(Repository(self._mirror.path)) as repository:
            target = Target.of(repository, commit, fetch=lambda oids: self._mirror.fetch_blobs(remote, oids))
            requires = target.requires(self.name)
        python = self._dockerfile_read.environment(chosen.values).get("PYTHON_VERSION") or "3.12"
        machine = self._context.architecture
        return requires, Installed(distributions={}, extras={}, python=python, machine=machine).environment

    def _what_fits(
        self, oid: str, binding: Sequence[Difference], requires: Sequence[str], environment: Mapping[str, str]
    ) -> str:
        """Advice: a commit of llm-d, an argument that is enough."""
        ways = [f"--llm-d-ref {ref} fits"] if (ref := self._fitting_ref(oid, requires, environment)) else []
        if version := fit.flashinfer_that_fits(binding):
            ways.append(f"--build-arg {fit.FLASHINFER}={version}")
        return "; ".join((*ways, "--no-preflight goes on with what differs"))

    def _fitting_ref(self, oid: str, requires: Sequence[str], environment: Mapping[str, str]) -> str | None:
        """A commit of the tree's history that can be built from and whose pins fit."""
        for tree in self._tree.past():
            other = Cuda(context=self._context, wishes=self._wishes, tree=tree)
            with contextlib.suppress(SourceError, UsageError):
                chosen = other.arguments(oid, wheel=oid, architecture=self._context.architecture)
                pins = fit.pins(tree, other._dockerfile_read, chosen.values)
                if not any(one.pin.binding for one in fit.differences(pins, requires, environment)):
                    return tree.commit
        return None

    def recipe(self) -> Recipe:
        """How it will be built. Asks the network for main and for the wheel only where it is not told otherwise."""
        oid = self._oid()
        architecture = self._context.architecture
        wheel = self.wheel(oid, architecture=architecture)
        chosen = self.arguments(oid, wheel=wheel.commit if wheel else oid, architecture=architecture)
        remarks = [*chosen.remarks, *self._wheel_remarks(wheel), *self.require_fit(oid, chosen)]
        request = self._request(chosen, dockerfile=self._tree.path / DOCKERFILE)
        wishes, settings = self._wishes, self._settings
        return Recipe(
            flavor=self.name,
            commit=oid,
            origin="--commit" if wishes.commit else f"main of {wishes.remote.name} ({wishes.remote.address})",
            parts={"llm-d": f"{self._tree.path} ({self._tree.revision})"},
            wheel=wheel.document() if wheel else None,
            arguments=chosen,
            secrets=sorted({*request.secrets, *request.secret_variables}),
            labels={
                labels.KIND: "base",
                labels.FLAVOR: self.name,
                labels.COMMIT: oid,
                labels.QUAY_EXPIRES: settings.nightly_expires_after,
                **self._marks(wheel),
            },
            tags=recipe.tags(oid, self.name, self._context),
            command=request.argv(metadata=Path("METADATA")),
            stage=request.target or "the last one",
            remarks=[*remarks, *self._tree_remarks()],
        )

    def _wheel_remarks(self, wheel: Wheel | None) -> Iterator[str]:
        """What the tree's script takes, or that it cannot be read."""
        if not self._context.knows_engine:
            yield f"architecture: {self._context.architecture} of this machine; the engine's counts when it is built"
        if wheel is None:
            return
        rule, _ = self._rule(wheel.commit, self._oid(), wheel.architecture)
        if rule is None:
            yield "wheel: how the tree's scripts choose it cannot be read; they may take another one or none"
            return
        yield f"wheel: {rule.said}"
        chosen = self.arguments(self._oid(), wheel=wheel.commit, architecture=wheel.architecture)
        if not rule.variant and (variant := self._cuda_variant(chosen)):
            yield f"wheel: the default variant may be of another CUDA version than the image's {variant}"

    def _tree_remarks(self) -> list[str]:
        """What the tree does by itself, and what of it was not understood."""
        mode = "0" if self._wishes.compile else "1"
        written = self._written({"VLLM_REPO": self._wishes.remote.address, _COMPILED: mode})
        return [*written.values(), *(f"{one.place} was not understood: {one.text}" for one in self._tree.stated.unread)]

    def marks(self) -> Mapping[str, str]:
        """Which llm-d and which wheel it was made of."""
        return self._marks(self._wheel)

    def _marks(self, wheel: Wheel | None) -> dict[str, str]:
        return {labels.LLM_D: self._tree.revision, **({labels.WHEEL: wheel.commit} if wheel else {})}

    # --- Building it ---------------------------------------------------------------------------------------

    def build(self, engine: Engine, commit: Commit) -> str:
        """Build the base, unsealed; stops where the Dockerfile begins to compile although a wheel was found."""
        architecture = engine.architecture
        self._wheel = self.wheel(commit.id, architecture=architecture)
        wheel = self._wheel.commit if self._wheel else commit.id
        chosen = self.arguments(commit.id, wheel=wheel, architecture=architecture)
        for remark in (*chosen.remarks, *self._wheel_remarks(self._wheel), *self.require_fit(commit.id, chosen)):
            log.info("%s", remark)
        for one in chosen.given:
            if one.name == _COMPILED and one.remark:
                self._context.console.note(f"{one.name}={one.value}, {one.remark}; --compile decides")
        with self._context.console.step("base image") as progress, self._dockerfile() as file:
            request = self._request(chosen, dockerfile=file)
            return buildx.build(engine, request, progress=self._watched(progress))

    def _watched(self, progress: process.OnLine) -> process.OnLine:
        def watch(line: str) -> None:
            if line.startswith(_COMPILES) and not self._wishes.compile:
                raise BuildError(
                    f"{DOCKERFILE} does not find the wheel and begins to compile vLLM, which was not asked for",
                    hint="--compile, if that is wanted; else another commit of llm-d with --llm-d-ref",
                )
            progress(line)

        return watch

    def _request(self, chosen: Arguments, *, dockerfile: Path) -> buildx.ImageBuild:
        proxies = {name: value for upper, value in self._network.proxies.items() for name in (upper, upper.lower())}
        secrets = {name: path.expanduser().absolute() for name, path in self._settings.build_secrets.items()}
        secrets |= {_CA_SECRET: self._network.bundle} if self._network.bundle else {}
        for name, path in secrets.items():
            if not path.is_file() or "," in str(path):
                raise UsageError(f"secret {name}: {path} is no file that can be handed in", hint="check build_secrets")
        cache_to, cache_from = self._cache()
        return buildx.ImageBuild(
            dockerfile=dockerfile,
            context=self._tree.path,
            target=self._tree.dockerfile.stage(_STAGE),
            arguments=chosen.values,
            hidden_arguments={name: value for name, value in proxies.items() if name not in chosen.values},
            secrets=secrets,
            secret_variables=self._sccache(chosen, frozenset(secrets)),
            # What a killed run leaves can then be told to be ours.
            labels={labels.KIND: "unsealed", labels.REPOSITORY: self._settings.repository},
            builder=self._settings.builder,
            cache_to=cache_to,
            cache_from=cache_from,
        )

    def _sccache(self, chosen: Arguments, files: frozenset[str]) -> dict[str, str]:
        """Variables with sccache's credentials, by secret id; those that are files are not among them.

        Raises:
            UsageError: sccache is asked for, and one is nowhere.
        """
        if chosen.values.get("USE_SCCACHE") != "true":
            return {}
        variables = {name: variable for name, variable in _SCCACHE_SECRETS.items() if name not in files}
        for name, variable in variables.items():
            if not os.environ.get(variable):
                raise UsageError(
                    f"USE_SCCACHE=true needs the secret {name}",
                    hint=f"set {variable}, or name a file: --build-secret {name}=FILE",
                )
        return variables

    def _cache(self) -> tuple[str | None, str | None]:
        """Where the cache goes and where it comes from, in buildx's words."""
        if self._settings.cache_to == "registry":
            if self._settings.registry is None:
                raise UsageError("--cache-to registry needs a registry", hint="name one with --registry HOST/NAME")
            ref = f"type=registry,ref={self._settings.registry}:buildcache"
            return f"{ref},mode=max", ref
        if self._settings.cache_to == "local":
            folder = self._context.folders.cache / "buildkit"
            # buildx takes a folder without an index for an error.
            known = f"type=local,src={folder}" if (folder / "index.json").exists() else None
            return f"type=local,dest={folder},mode=max", known
        return None, None

    @contextlib.contextmanager
    def _dockerfile(self) -> Iterator[Path]:
        """The Dockerfile, or one made of it whose steps trust this machine's certificate bundle."""
        original = self._tree.path / DOCKERFILE
        if self._network.bundle is None:
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
            # BuildKit looks for it next to the Dockerfile first, then in the context.
            if (ignored := original.with_name(f"{original.name}.dockerignore")).is_file():
                shutil.copy(ignored, file.with_name(ignored.name))
            yield file


def _of_stage(file: Dockerfile) -> Dockerfile:
    return file.of_stage(file.stage(_STAGE))


def _today(file: Dockerfile) -> list[Given]:
    """The argument that llm-d's CI gives a new value with every build: here the same all day."""
    date = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return [Given(name=_CACHE_BUSTER, value=date, origin=_TODAY)] if _CACHE_BUSTER in file.names else []


def _require_no_credentials(name: str, value: str) -> None:
    """Refuse an argument that anybody who has the image could read a password in.

    Raises:
        UsageError: It holds an address with one.
    """
    if _CREDENTIALS.search(value):
        raise UsageError(
            f"{name} is an address with a password or token, which would stay in the image's history",
            hint="leave it out of the address; --build-secret hands secrets in",
        )


def _platform(file: Dockerfile, architecture: str) -> list[Given]:
    """The platform's arguments as far as the Dockerfile keeps BuildKit's own from its stages."""
    docker = _ARCHITECTURES.get(architecture, architecture)
    values = {"PLATFORM": f"linux/{docker}", "OS": "linux", "ARCH": docker}
    return [
        Given(name=f"{where}{what}", value=value, origin=_PLATFORM)
        for where in ("BUILD", "TARGET")
        for what, value in values.items()
        if f"{where}{what}" in file.shadowed
    ]
