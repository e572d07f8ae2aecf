"""The menu: one session a verb. Each also is `python -m build VERB`; `nox -s VERB -- --help` teaches its options."""

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
# Nothing slow or publishing runs by default: `nox` alone prints this menu.
nox.options.sessions = []

# How long a run may clean up after Ctrl-C before it is told twice.
PATIENCE_S = 90.0


def verb(session: nox.Session, *words: str) -> None:
    """Run `python -m build` with the session's arguments."""
    session.install("--require-hashes", "--requirement", "requirements.txt")
    session.run("python", "-m", *words, *session.posargs, interrupt_timeout=PATIENCE_S, terminate_timeout=PATIENCE_S)


@nox.session
def quickstart(session: nox.Session) -> None:
    """The main job from nothing: engine, registry, cpu base, overlay, smoke test, gated push."""
    verb(session, "build", "quickstart")


@nox.session
def engine(session: nox.Session) -> None:
    """The embedded Docker Engine and registry: -- up, down or status."""
    verb(session, "build", "engine")


@nox.session
def nightly(session: nox.Session) -> None:
    """Build the base image, smoke-test it, promote it, push it."""
    verb(session, "build", "nightly")


@nox.session
def build(session: nox.Session) -> None:
    """Overlay of a vLLM commit on GitHub, smoke-tested and pushed: -- COMMIT."""
    verb(session, "build", "build")


@nox.session
def dev(session: nox.Session) -> None:
    """Overlay of a local vLLM commit, smoke-tested and pushed: -- [PATH] [REF]."""
    verb(session, "build", "dev")


@nox.session
def plan(session: nox.Session) -> None:
    """What an overlay would change and whether it can be made: -- [PATH] [REF]."""
    verb(session, "build", "plan")


@nox.session
def smoke(session: nox.Session) -> None:
    """Start an image and test it through its API: -- IMAGE."""
    verb(session, "build", "smoke")


@nox.session
def push(session: nox.Session) -> None:
    """Push an image that passed its smoke test: -- IMAGE."""
    verb(session, "build", "push")


@nox.session
def status(session: nox.Session) -> None:
    """Images that exist, their verdicts, where they were pushed."""
    verb(session, "build", "status")


@nox.session
def prune(session: nox.Session) -> None:
    """What can be removed to free disk; -- --apply removes it."""
    verb(session, "build", "prune")


@nox.session
def schedule(session: nox.Session) -> None:
    """The timer that starts the nightly every day: -- install, show or remove."""
    verb(session, "build", "schedule")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests: unit, engine, e2e; starts the engine they need."""
    verb(session, "pytest")


@nox.session
def bench(session: nox.Session) -> None:
    """How fast and how small overlays are, against the goals: a table, or -- --json."""
    verb(session, "tests.bench")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, hadolint, shellcheck; warnings are errors."""
    session.install("--require-hashes", "--requirement", "requirements.txt")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("hadolint", "--failure-threshold", "style", *DOCKERFILES)
    session.run("shellcheck", ".ci/run", "tests/standin_llmd/2026/docker/scripts/install-vllm.sh")


@nox.session
def pins(session: nox.Session) -> None:
    """Refresh requirements.txt: newest versions that pyproject.toml allows, with hashes."""
    session.install("uv")
    session.run("uv", "pip", "compile", *PIN_OPTIONS, "pyproject.toml", "--output-file", "requirements.txt")


DOCKERFILES = (
    "dockerfiles/cpu.Dockerfile",
    "dockerfiles/overlay.Dockerfile",
    "dockerfiles/registry.Dockerfile",
    "dockerfiles/seal.Dockerfile",
    "tests/bench/original.Dockerfile",
    "tests/bench/original_base.Dockerfile",
    "tests/standin/Dockerfile",
    "tests/standin_llmd/2025/docker/Dockerfile.cuda",
    "tests/standin_llmd/2026/docker/Dockerfile.cuda",
)

PIN_OPTIONS = (
    "--quiet",
    "--upgrade",
    "--universal",
    "--generate-hashes",
    "--group=dev",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-annotate",
    "--custom-compile-command=nox -s pins",
)
