"""The menu: one session per verb, the same as `python -m build VERB`. `nox -s VERB -- --help` lists its options."""

from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
# Nothing slow or publishing runs by default: `nox` alone prints this menu.
nox.options.sessions = []

CHECKOUT = Path(__file__).resolve().parent
PINNED = ("--require-hashes", "--requirement", "requirements.txt")

# Seconds for a run to clean up after Ctrl-C before a second signal.
PATIENCE_S = 90.0


def verb(session: nox.Session, name: str) -> None:
    """Run `python -m build NAME` with the session's arguments, in the folder in which nox was called."""
    session.install(*PINNED)
    with session.chdir(session.invoked_from):
        run(session, str(CHECKOUT / "build/__main__.py"), name)


def run(session: nox.Session, *words: str) -> None:
    """Run Python with the session's arguments."""
    session.run("python", *words, *session.posargs, interrupt_timeout=PATIENCE_S, terminate_timeout=PATIENCE_S)


# Half of what a test of the engine takes is waiting, so there are more workers than processors on small machines.
AT_ONCE = ("--numprocesses", "4", "--no-loadscope-reorder")


@nox.session
def quickstart(session: nox.Session) -> None:
    """The main job from nothing: engine, registry, cpu base, overlay, smoke test, gated push."""
    verb(session, "quickstart")


@nox.session
def engine(session: nox.Session) -> None:
    """The embedded Docker Engine and registry: -- up, down or status."""
    verb(session, "engine")


@nox.session
def nightly(session: nox.Session) -> None:
    """Build the base image, smoke-test it, promote it, push it."""
    verb(session, "nightly")


@nox.session
def adopt(session: nox.Session) -> None:
    """An image that already has vLLM becomes a base: -- IMAGE."""
    verb(session, "adopt")


@nox.session
def build(session: nox.Session) -> None:
    """Overlay of a vLLM commit on GitHub, smoke-tested and pushed: -- COMMIT."""
    verb(session, "build")


@nox.session
def dev(session: nox.Session) -> None:
    """Overlay of a local vLLM commit, smoke-tested and pushed: -- [PATH] [REF]."""
    verb(session, "dev")


@nox.session
def plan(session: nox.Session) -> None:
    """Preview of an overlay's changes, and whether it can be made: -- [PATH] [REF]."""
    verb(session, "plan")


@nox.session
def smoke(session: nox.Session) -> None:
    """Start an image and test it through its API: -- IMAGE."""
    verb(session, "smoke")


@nox.session
def push(session: nox.Session) -> None:
    """Push an image that passed its smoke test: -- IMAGE."""
    verb(session, "push")


@nox.session
def status(session: nox.Session) -> None:
    """Images with their verdicts and registry names."""
    verb(session, "status")


@nox.session
def report(session: nox.Session) -> None:
    """Reports of smoke tests; -- IMAGE opens the newest of one."""
    verb(session, "report")


@nox.session
def serve(session: nox.Session) -> None:
    """Start an image as in its smoke test and serve until Ctrl-C: -- IMAGE."""
    verb(session, "serve")


@nox.session
def logs(session: nox.Session) -> None:
    """Output of the running server, else of the last one: -- [IMAGE]."""
    verb(session, "logs")


@nox.session
def shell(session: nox.Session) -> None:
    """A shell beside the running server, else in the last tested image: -- [IMAGE]."""
    verb(session, "shell")


@nox.session
def diff(session: nox.Session) -> None:
    """Source files that differ between two images: -- OLD NEW."""
    verb(session, "diff")


@nox.session
def prune(session: nox.Session) -> None:
    """List what can be removed to free disk; -- --apply removes it."""
    verb(session, "prune")


@nox.session
def schedule(session: nox.Session) -> None:
    """The timer that starts the nightly every day: -- install, show or remove."""
    verb(session, "schedule")


@nox.session
def install(session: nox.Session) -> None:
    """Put the command `llm-d-dev` into ~/.local/bin, with completion; it works from any folder."""
    verb(session, "install")


@nox.session
def uninstall(session: nox.Session) -> None:
    """Remove that command and its completion."""
    verb(session, "uninstall")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests: unit, engine, e2e; starts the engine they need: [-- OPTIONS of pytest]."""
    session.install(*PINNED)
    run(session, "-m", "pytest", *AT_ONCE, "-rs", "--durations=15")


@nox.session
def soak(session: nox.Session) -> None:
    """Tests with many repetitions; takes longer than all other tests."""
    session.install(*PINNED)
    run(session, "-m", "pytest", *AT_ONCE, "--no-skips", "-m", "soak")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and size of overlays against the goals: a table, or -- --json."""
    session.install(*PINNED)
    run(session, "-m", "tests.bench")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy, hadolint, shellcheck; warnings are errors."""
    session.install(*PINNED)
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
    "dockerfiles/content.Dockerfile",
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
