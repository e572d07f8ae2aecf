"""Look at the compiled parts and the modules of an image, from within, while nothing else of it runs.

A script for ``build/base/inside/apart.py``, run with FLAVOR SOURCE CHANGED…; SOURCE holds the folder ``vllm``, ``-``
looks for it; the changed files are relative to it. Files are also compared from outside the image, and that the server
works is shown by its answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import linecache
import marshal
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

    from build.base.inside.apart import Report

# Where vLLM defines the operators that every build of a flavor has, with what TORCH_EXTENSION_NAME stands for there
# (0.32.0 and 0.33.0; 0.31.0 has those for CUDA in libtorch_stable). Those in other sources depend on the architectures
# that were built for.
BINDINGS = {
    "cpu": {"csrc/cpu/torch_bindings.cpp": "_C"},
    "cuda": {
        "csrc/torch_bindings.cpp": "_C",
        "csrc/moe/torch_bindings.cpp": "_moe_C",
        "csrc/libtorch_stable/torch_bindings.cpp": "_C",
        "csrc/libtorch_stable/moe/torch_bindings.cpp": "_moe_C",
    },
}

# Macros of which it is certain whether a flavor's build defines them (CMakeLists.txt). All others, such as the
# VLLM_ENABLE_… of kernels for some architectures, may be either.
MACROS: dict[str, dict[str, bool]] = {"cpu": {}, "cuda": {"USE_CUDA": True, "USE_ROCM": False}}

# A block of definitions: the namespace of its operators, the name of the library in it, and what is in it.
LIBRARY = re.compile(
    r"^(?:STABLE_)?TORCH_LIBRARY(?:_FRAGMENT)?(?:_EXPAND)?\(\s*(\w+)\s*,\s*(\w+)\s*\)\s*\{(.*?)^\}",
    re.MULTILINE | re.DOTALL,
)

# What a server imports first, down to the engine and a model; nothing that needs a device.
SERVER = (
    "vllm.entrypoints.cli.main",
    "vllm.v1.engine.core",
    "vllm.model_executor.models.llama",
    "vllm.entrypoints.openai.api_server",
)

# Processor flags that vLLM's choice among its variants for x86 depends on (vllm/platforms/cpu.py, 0.32.0; torch's
# cpuinfo: AVX-512 counts with these four).
AVX512 = {"avx512f", "avx512vl", "avx512bw", "avx512dq"}

SHOWN = 2000


STAGES = ("torch", "libraries", "vllm", "load", "operators", "modules")
REPEATED = "importing"


def read(report: Report, arguments: Sequence[str]) -> tuple[str, SourceTree] | None:
    """Look at the files, the cheap and telling first; stop at source that does not compile."""
    flavor, source, changed = arguments[0], source_folder(arguments[1], report), arguments[2:]
    modules = [path for path in changed if path.startswith("vllm/") and path.endswith(".py")]
    # Looked at before anything is imported, which writes some.
    sealed = {module_name(path) for path in modules if has_bytecode(source / path)}
    faulty = list(uncompilable(source, [path for path in changed if path.endswith(".py")]))
    report.say("compile", faulty)
    if faulty:
        return None
    compiled = sorted(compiled_files(source))
    report.say("files", {str(path.relative_to(source)): blob_id(path) for path in (*compiled, *modules_of(source))})
    report.say("writable", shut_folders(source))
    # Those of other images are not compared with a commit either.
    report.say("bytecode", [] if arguments[1] == "-" else list(foreign_bytecode(source)))
    return flavor, SourceTree(source, compiled, modules, sealed)


class SourceTree(NamedTuple):
    """The source folder, its compiled files, and of the changed modules which the base could import."""

    source: Path
    compiled: Sequence[Path]
    modules: Sequence[str]
    sealed: set[str]


def look(report: Report, found: tuple[str, SourceTree]) -> None:
    """Look at what has to be imported."""
    flavor, tree = found
    source, compiled, modules, sealed = tree
    # As when the base was sealed: flashinfer, tilelang and numba make folders for their caches while they are imported.
    os.environ.update(dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME"), tempfile.gettempdir()))
    torch = imported("torch")
    report.say("torch", torch_facts(torch))
    own = {str(path.relative_to(source)): path for path in compiled if is_for_this_python(path)}
    report.say("libraries", {name: missing_libraries(path, torch) for name, path in own.items()})
    report.say("vllm", vllm_facts())
    report.say("load", {name: load_error(path, torch) for name, path in own.items() if path.suffix == ".so"})
    report.say("operators", operator_facts(flavor, source, compiled))
    failed: list[dict[str, Any]] = []
    for name in (*map(module_name, modules), *SERVER):
        report.say(REPEATED, name)
        if failure := import_failure(name, source):
            failed.append({**failure, "sealed": name in SERVER or name in sealed})
    report.say("modules", failed)


# --- Source ------------------------------------------------------------------------------------------------


def uncompilable(source: Path, paths: Sequence[str]) -> Iterator[list[str]]:
    """Yield path and complaint of each file that is no Python."""
    for path in paths:
        try:
            compile((source / path).read_bytes(), str(source / path), "exec", dont_inherit=True)
        except FileNotFoundError:
            continue  # that it is not there is another check's business
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            yield [path, f'File "{source / path}"{line}\n{type(error).__name__}: {first_line(error)}']


def has_bytecode(path: Path) -> bool:
    """Whether sealing compiled a module: then it could be imported in the base."""
    return any((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))


def foreign_bytecode(source: Path) -> Iterator[str]:
    """Yield the bytecode that Python would run and that is not made of the source beside it."""
    sys.pycache_prefix = os.environ.get("PYTHONPYCACHEPREFIX") or None
    for path in modules_of(source):
        for level in range(3):
            compiled = Path(importlib.util.cache_from_source(path, optimization=level or ""))
            if compiled.is_file() and is_run(compiled, path) and not is_made_of(compiled, path, level):
                yield str(compiled)
    # Beside an installed vLLM are other packages.
    for path in (source if (source / "setup.py").exists() else source / "vllm").rglob("*.pyc"):
        if path.parent.name != "__pycache__" and not path.with_suffix(".py").exists():
            yield os.fsencode(path).decode(errors="replace")


def is_run(compiled: Path, path: Path) -> bool:
    """Whether Python runs bytecode without a look at more of its source than its header tells (PEP 552)."""
    with compiled.open("rb") as file:
        magic, flags, stamp = file.read(4), int.from_bytes(file.read(4), "little"), file.read(8)
    if magic != importlib.util.MAGIC_NUMBER or flags > 0b11:  # noqa: PLR2004 - the flags that there are
        return False
    if flags & 0b10:
        return stamp == importlib.util.source_hash(path.read_bytes())
    status = path.stat()
    times = (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    return flags == 1 or stamp == b"".join(number.to_bytes(4, "little") for number in times)


def is_made_of(compiled: Path, path: Path, level: int) -> bool:
    """Whether bytecode is what Python makes of a source file at a level of optimisation."""
    try:
        made = compile(path.read_bytes(), str(path), "exec", dont_inherit=True, optimize=level)
        return bool(made == marshal.loads(compiled.read_bytes()[16:]))  # noqa: S302 - compared, not run
    except (SyntaxError, ValueError, TypeError, EOFError):
        return False


def module_name(path: str) -> str:
    """Dotted name of the module that a file holds."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def source_folder(word: str, report: Report) -> Path:
    """The folder that was named, or the one that ``import vllm`` finds."""

    def found() -> str:
        report.leave()
        spec = importlib.util.find_spec("vllm")
        return str(Path(spec.origin).parent.parent) if spec and spec.origin else ""

    return Path(word if word != "-" else in_child(found) or "/nowhere")


def import_failure(name: str, source: Path) -> dict[str, Any] | None:
    """Why a module cannot be imported, None if it can."""
    if name.endswith(".__main__"):
        return None
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - a module may even call sys.exit
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if Path(frame.filename).is_relative_to(source)]
        file, number = (own[-1].filename, own[-1].lineno or 0) if own else (str(source), 0)
        return {
            "module": name,
            "error": f"{type(error).__name__}: {first_line(error)}",
            "file": os.path.relpath(file, source),
            "number": number,
            "text": linecache.getline(file, number).strip(),
        }
    return None


def first_line(error: BaseException) -> str:
    """The words of an error, one line."""
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(words.split())[:SHOWN]


def imported(name: str) -> ModuleType | str:
    """A module, or why it cannot be imported."""
    try:
        return importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - as above
        return f"{type(error).__name__}: {first_line(error)}"


# --- Compiled files ----------------------------------------------------------------------------------------


def compiled_files(source: Path) -> Iterator[Path]:
    """Yield what vLLM's build compiled."""
    for folder, _, names in os.walk(source / "vllm"):
        yield from (Path(folder, name) for name in names if name.endswith(".so") or name == "vllm-rs")


def is_for_this_python(path: Path) -> bool:
    """Whether this version of Python would import a compiled file: deep_gemm has one for each (vLLM 0.31.0)."""
    tag = re.search(r"\.cpython-[^.]+\.so$", path.name)
    return tag is None or tag[0] in importlib.machinery.EXTENSION_SUFFIXES


def modules_of(source: Path) -> Iterator[Path]:
    """Yield the files of the package that Python would import."""
    return (
        path for path in (source / "vllm").rglob("*.py") if path.is_file() and not path.is_symlink() and plain(path)
    )


def plain(path: Path) -> bool:
    """Whether a path is text that can be reported."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def blob_id(path: Path) -> str:
    """Git's id of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def missing_libraries(path: Path, torch: ModuleType | str) -> list[str]:
    """Shared libraries that the system's loader does not find for a file in a process that has torch."""
    if shutil.which("ldd") is None:
        return []
    folders = [os.environ.get("LD_LIBRARY_PATH", "")]
    if not isinstance(torch, str) and torch.__file__:
        folders.append(str(Path(torch.__file__).parent / "lib"))
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, folders)), "LC_ALL": "C"}
    done = subprocess.run(["ldd", str(path)], env=environment, capture_output=True, text=True, check=False)
    return sorted(set(re.findall(r"^\s*(\S+) => not found", done.stdout, re.MULTILINE)))


def load_error(path: Path, torch: ModuleType | str) -> str | None:
    """Why a compiled file does not load, None if it does.

    Each in a process of its own: variants for several processors define the same operators.
    """
    if isinstance(torch, str):
        return torch
    return in_child(lambda: torch.ops.load_library(str(path)))


def in_child(does: Callable[[], str | None]) -> str | None:
    """Do something in a child; what it returns, or its error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        words = ""
        try:
            words = does() or ""
        except BaseException as error:  # noqa: BLE001 - reported to the parent
            # torch says only that it could not; the loader, why.
            error = error.__cause__ or error
            words = f"{type(error).__name__}: {first_line(error)}"
        os.write(writing, words.encode(errors="replace")[:SHOWN])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as stream:
        said = stream.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return f"it kills the process with signal {os.WTERMSIG(status)}"
    return said or None


def operator_facts(flavor: str, source: Path, compiled: Sequence[Path]) -> dict[str, Any]:
    """Which of its binaries vLLM chose here, which it should have, and which operators are missing."""
    names = {path.name.partition(".")[0] for path in compiled if path.parent == source / "vllm"}
    variants = sorted(name for name in names if re.fullmatch(r"_C(_AVX\d+)?", name))
    failure = None
    try:
        importlib.import_module("vllm.platforms").current_platform.import_kernels()
    except BaseException as error:  # noqa: BLE001 - as above
        failure = f"{type(error).__name__}: {first_line(error)}"
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    mapped = {Path(line).name.partition(".")[0] for line in re.findall(r"(/\S+\.so)$", maps, re.MULTILINE)}
    return {
        "failure": failure,
        "chosen": [name for name in variants if name in mapped],
        "expected": expected_variant() if flavor == "cpu" and len(variants) > 1 else None,
        "missing": sorted({name for name in defined(flavor, source) if not registered(name)}),
    }


def expected_variant() -> str:
    """The variant for this processor, as vLLM chooses it."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    if not match:
        return "_C"
    if not flags >= AVX512:
        return "_C_AVX2"
    return "_C" if "avx512_bf16" in flags else "_C_AVX512"


def defined(flavor: str, source: Path) -> Iterator[str]:
    """Yield the operators, with their namespace, that the sources certainly define for a flavor.

    The sources are asked, not a record of what the base had when it was sealed: a base whose binaries are another
    commit's (``VLLM_PRECOMPILED_WHEEL_COMMIT``) is sealed with them.
    """
    for name, extension in BINDINGS.get(flavor, {}).items():
        path = source / name
        if path.is_file():
            yield from operators(path.read_text(encoding="utf-8", errors="replace"), extension, MACROS[flavor])


def operators(text: str, extension: str, macros: Mapping[str, bool]) -> Iterator[str]:
    """Yield what a source text defines whatever the macros that are not given stand for."""
    for namespace, library, body in LIBRARY.findall("\n".join(certain_lines(text, macros))):
        prefix = extension if namespace == "TORCH_EXTENSION_NAME" else namespace
        # Of adjoining literals, only a name that ends in the first one is known.
        for name in re.findall(rf'\b{library}\.def\(\s*"(\w+)[(.]', body):
            yield f"{prefix}.{name}"


def certain_lines(text: str, macros: Mapping[str, bool]) -> Iterator[str]:
    """Yield the lines that a compiler certainly comes to see."""
    conditions: tuple[bool | None, ...] = ()
    for line in re.sub(r"\\\n|/\*.*?\*/", " ", text, flags=re.DOTALL).splitlines():
        if directive := re.match(r"\s*#\s*(\w+)\s*(.*)", line):
            conditions = conditions_after(directive[1], directive[2], conditions, macros)
        elif all(conditions) and not line.lstrip().startswith("//"):
            yield line


def conditions_after(
    directive: str, words: str, conditions: tuple[bool | None, ...], macros: Mapping[str, bool]
) -> tuple[bool | None, ...]:
    """Return the conditions of the lines that follow a directive, the outermost first."""
    if directive.startswith("if"):
        return (*conditions, holds(directive, words, macros))
    if directive == "endif":
        return conditions[:-1]
    if directive.startswith("el") and conditions:
        return (*conditions[:-1], holds_otherwise(directive, conditions[-1]))
    return conditions


def holds_otherwise(directive: str, condition: bool | None) -> bool | None:  # noqa: FBT001 - a value, not a switch
    """Whether the branch after a condition holds. What follows ``#elif`` depends on more than one condition."""
    return not condition if directive == "else" and condition is not None else None


def holds(directive: str, words: str, macros: Mapping[str, bool]) -> bool | None:
    """Whether a condition holds, None if that is not certain."""
    words = words.partition("//")[0].strip()
    is_defined = macros.get(words)
    if is_defined is None or directive == "if":
        return None
    return is_defined is (directive == "ifdef")


def registered(name: str) -> bool:
    """Whether vLLM finds an operator."""
    torch: Any = sys.modules.get("torch")
    namespace, _, operator = name.partition(".")
    return torch is not None and hasattr(getattr(torch.ops, namespace, None), operator)


# --- Distributions -----------------------------------------------------------------------------------------


def torch_facts(torch: ModuleType | str) -> dict[str, Any]:
    """Versions of torch and of the CUDA that it is built for."""
    if isinstance(torch, str):
        return {"failure": torch, "version": None, "cuda": None}
    version: Any = importlib.import_module("torch.version")
    return {"failure": None, "version": str(version.__version__), "cuda": version.cuda}


def vllm_facts() -> dict[str, Any]:
    """Where vllm is imported from."""
    vllm = imported("vllm")
    if isinstance(vllm, str):
        return {"failure": vllm, "file": None}
    return {"failure": None, "file": vllm.__file__ and str(Path(vllm.__file__).resolve())}


def shut_folders(source: Path) -> list[str]:
    """Folders that vLLM writes to and that a user of group 0 may not."""
    folders = [Path(os.environ.get("HOME", "/")), source / "vllm"]
    with contextlib.suppress(KeyError):
        folders.append(Path(os.environ["HF_HOME"]))
    return [str(folder) for folder in folders if folder.is_dir() and not may_write(folder.stat())]


def may_write(status: os.stat_result) -> bool:
    """Whether group 0 may write to a folder, also where it is mounted for reading only now."""
    return bool(status.st_mode & stat.S_IWOTH) or (status.st_gid == 0 and bool(status.st_mode & stat.S_IWGRP))
