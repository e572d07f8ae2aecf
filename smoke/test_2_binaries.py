"""The image's compiled parts and modules, looked at from within in one process while its server starts.

It runs as an arbitrary user of group 0, without network, on a root that cannot be written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from build.base.apart import CUT_SHORT
from build.vllm.paths import made_by_build
from smoke.image.binaries import misfits

if TYPE_CHECKING:
    from collections.abc import Callable

    from build.base.apart import Look
    from build.engine.image import Image
    from smoke.image.contents import Contents
    from smoke.suite.image_run import Run

# The driver's library comes with the GPU that a container is given, not with the image. Without it nothing that is
# compiled for CUDA loads, which tells nothing of the image; whether that stops the server, the server tells.
_DRIVER = "libcuda.so.1"


@pytest.fixture
def refuse(run: Run) -> Callable[[str], NoReturn]:
    """Fails the image with words that also tell the cause."""

    def refuse(words: str) -> NoReturn:
        run.blame(words)
        pytest.fail(words, pytrace=False)

    return refuse


@pytest.fixture
def look(probe: Look, run: Run, refuse: Callable[[str], NoReturn]) -> Callable[[str], Any]:
    """Gives the finding of a stage."""

    def look(stage: str) -> Any:  # noqa: ANN401 - each stage has its own
        if stage in probe.stages:
            return probe.stages[stage]
        if probe.end is None:
            pytest.skip("not run: there is source that does not compile")
        if probe.end == CUT_SHORT:
            pytest.skip("not run: the server ended first")
        if run.contents is None and not probe.stages:
            pytest.skip(f"not applicable: {probe.end}")
        if run.findings.named("failed"):
            pytest.skip(f"not run: {probe.end}")
        return refuse(probe.end)

    return look


def test_syntax(look: Callable[[str], Any], refuse: Callable[[str], NoReturn]) -> None:
    """Every Python file that the image has otherwise than its base compiles."""
    if faulty := look("compile"):
        refuse("\n".join(complaint for _, complaint in faulty))


def test_compiled_files(look: Callable[[str], Any], contents: Contents) -> None:
    """The image has every compiled file that its base was sealed with, as it was then."""
    found = look("files")
    missing = [path for path in contents.facts.made_by_build if _is_compiled(path) and path not in found]
    assert not missing, f"the compiled files are not all there: {', '.join(missing)} missing"
    sealed = {path: entry.oid for path, entry in contents.made.files.items()}
    other = sorted(path for path, oid in found.items() if _is_compiled(path) and sealed.get(path) != oid)
    assert not other, f"not what the base was sealed with: {', '.join(other)}"


def test_source(look: Callable[[str], Any], contents: Contents) -> None:
    """The modules of the package are the commit's, and there are no others."""
    found = {path: oid for path, oid in look("files").items() if path.endswith(".py")}
    entries = contents.tree.files
    # What the build made and the commit does not track is the base's: the version file, vendored packages.
    own = {path for path in found if path in entries or not made_by_build(path)}
    # A base may have been adopted with modifications; an overlay has the commit's files there.
    modified = set(contents.facts.modified) - contents.changed.keys() if contents.head == contents.facts.commit else ()
    wanted = {path: contents.held.files[path] if path in modified else entries.get(path) for path in own}
    other = sorted(path for path, entry in wanted.items() if entry is None or entry.oid != found[path])
    assert not other, f"{len(other)} modules are not the commit's: {', '.join(other[:5])}"


def test_bytecode(look: Callable[[str], Any], contents: Contents) -> None:
    """The bytecode that Python would run in the place of a module is made of that module's source."""
    del contents
    foreign = look("bytecode")
    assert not foreign, f"not made of the source beside it: {', '.join(foreign[:5])} ({len(foreign)} in all)"


def _is_compiled(path: str) -> bool:
    return path.endswith((".so", "/vllm-rs"))


def test_writable(look: Callable[[str], Any], contents: Contents) -> None:
    """An arbitrary user of group 0 may write to vLLM's source and to the folders of its caches."""
    if not contents.facts.layout.editable:
        pytest.skip("not applicable: vLLM is installed from a wheel")
    shut = look("writable")
    assert not shut, f"group 0 may not write to {', '.join(shut)}"


def test_torch(look: Callable[[str], Any], run: Run, image: Image, refuse: Callable[[str], NoReturn]) -> None:
    """The image's torch is built for what the image runs on: its CUDA version, or the CPU."""
    torch = look("torch")
    if torch.failure:
        refuse(torch.failure)
    if run.contents and torch.cuda != run.contents.facts.cuda:
        refuse(f"torch {torch.version} is built for CUDA {torch.cuda}, the base had {run.contents.facts.cuda}")
    variables = dict(word.partition("=")[::2] for word in image.config.get("Env") or ())
    system = variables.get("CUDA_VERSION", torch.cuda or "").split(".")[:2]
    if run.flavor == "cuda" and (torch.cuda is None or torch.cuda.split(".")[:1] != system[:1]):
        refuse(f"torch {torch.version} is built for CUDA {torch.cuda}, the image has {'.'.join(system)}")


def test_libraries(look: Callable[[str], Any], refuse: Callable[[str], NoReturn]) -> None:
    """The loader finds every shared library that the compiled files need."""
    # A library that torch has brought into the process need not be where the system's loader looks.
    excused = {name for name, why in look("load").items() if why is None or _DRIVER in why}
    missing = {name: them for name, them in look("libraries").items() if them and name not in excused}
    if missing:
        refuse(
            "\n".join(f"{name}: {', '.join(them)}: cannot open shared object file" for name, them in missing.items())
        )


def test_vllm(look: Callable[[str], Any], contents: Contents, refuse: Callable[[str], NoReturn]) -> None:
    """`import vllm` works and imports the source that the image is said to hold."""
    vllm = look("vllm")
    if vllm.failure:
        refuse(vllm.failure)
    assert vllm.file == f"{contents.facts.layout.source}/vllm/__init__.py", f"vllm is imported from {vllm.file}"


def test_loading(look: Callable[[str], Any], refuse: Callable[[str], NoReturn]) -> None:
    """Every compiled file loads, with every symbol that it needs."""
    failed = {name: why for name, why in look("load").items() if why and _DRIVER not in why}
    if failed:
        refuse("\n".join(f"{name}: {why}" for name, why in failed.items()))


def test_operators(look: Callable[[str], Any], refuse: Callable[[str], NoReturn]) -> None:
    """The server takes the compiled code for this processor, and that has the operators that the sources define."""
    if any(_DRIVER in (why or "") for why in look("load").values()):
        pytest.skip(f"not run: {_DRIVER} is not there")
    operators = look("operators")
    if operators.failure:
        refuse(operators.failure)
    if operators.missing:
        names = (name.split(".") for name in operators.missing)
        lines = (f"'_OpNamespace' '{namespace}' object has no attribute '{name}'" for namespace, name in names)
        refuse("\n".join((f"{len(operators.missing)} operators are missing:", *lines)))
    if operators.expected:
        chosen = ", ".join(operators.chosen) or "none"
        assert chosen == operators.expected, f"{chosen} is loaded, {operators.expected} fits this processor"


def test_modules(look: Callable[[str], Any], contents: Contents, refuse: Callable[[str], NoReturn]) -> None:
    """Every changed module that could be imported before, and what a server imports first, can be imported."""
    if failures := misfits(look("modules"), contents):
        source = contents.facts.layout.source
        refuse("\n".join(f'File "{source}/{one.file}", line {one.number}\n{one.error}' for one in failures))
