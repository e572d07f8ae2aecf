"""What the script inside an image says, which may be anything, and which failed imports count."""

from __future__ import annotations

import importlib.machinery
import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from build.base import apart
from build.base.apart import Look
from build.source.listing import REGULAR, Entry
from smoke.image.binaries import READERS, REPEATED, SCRIPT, ImportFailure, misfits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from smoke.image.contents import Contents

CHANGED = Entry(mode=REGULAR, oid="a" * 40)


DONE = ["done", None]


def read(output: bytes, *, status: int = 0, errors: bytes = b"") -> Look:
    return Look.parse(output, status=status, errors=errors, readers=READERS, repeated=REPEATED)


def parsed(*stages: object, status: int = 0, errors: bytes = b"") -> Look:
    return read("\n".join(map(json.dumps, stages)).encode(), status=status, errors=errors)


def test_findings_are_read() -> None:
    vllm = ["vllm", {"failure": None, "file": "/opt/vllm-source/vllm/__init__.py"}]
    found = parsed(["compile", []], vllm, ["modules", []], DONE)
    assert found.end is None
    assert found.stages["vllm"].file == "/opt/vllm-source/vllm/__init__.py"


@pytest.mark.parametrize(
    "stage",
    [
        "compile",
        ["compile"],
        ["unknown", []],
        ["compile", [["a"]]],
        ["compile", {"a": "b"}],
        ["torch", {"failure": None, "version": 2, "cuda": None}],
        ["vllm", {"failure": None, "file": None, "more": 1}],
        ["files", {"a": "x" * 5000}],
    ],
)
def test_anything_else_is_refused(stage: object) -> None:
    found = parsed(["writable", []], stage)
    assert found.end is not None
    assert "printed unexpected output" in found.end
    assert found.stages == {"writable": []}


def test_finding_that_is_said_again_is_refused() -> None:
    found = parsed(["writable", ["/x"]], ["writable", []])
    assert found.end is not None
    assert found.stages == {"writable": ["/x"]}


def test_process_that_ends_early_and_well_has_not_run_through() -> None:
    assert parsed(["compile", []], ["writable", []]).end == "its Python ended before it was done"
    assert parsed(["compile", [["a.py", "SyntaxError"]]], DONE).end is None


def test_what_comes_before_and_not_what_comes_later_is_passed_over() -> None:
    assert read(b'welcome\n["compile", []]\n["done", null]\n').end is None
    assert read(b'["compile", []]\nwelcome\n["done", null]\n').end is not None


def test_end_of_the_process_names_the_module() -> None:
    found = parsed(["importing", "vllm.x"], status=139, errors=b"INFO\nFatal Python error: Segmentation fault\n\n")
    assert found.end is not None
    assert found.end.endswith("status 139 while it imported vllm.x: Fatal Python error: Segmentation fault")


class Before:
    """What a base had."""

    changed: ClassVar = {"vllm/a.py": CHANGED, "vllm/new.py": CHANGED}
    base_texts: ClassVar = {"vllm/a.py": "import aiter\nfrom vllm.b import (\n    Old,\n)\n"}


def failure(**values: Any) -> ImportFailure:  # noqa: ANN401 - as the class has them
    known = {"module": "vllm.a", "error": "ModuleNotFoundError: No module named 'aiter'", "file": "vllm/a.py"}
    return ImportFailure(**{**known, "number": 1, "text": "import aiter", "sealed": False, **values})


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ({}, False),
        ({"sealed": True}, True),
        ({"text": "import other", "error": "ModuleNotFoundError: No module named 'other'"}, True),
        ({"text": "from vllm.b import (", "error": "ImportError: cannot import name 'New' from 'vllm.b'"}, True),
        ({"text": "from vllm.b import (", "error": "ImportError: cannot import name 'Old' from 'vllm.b'"}, False),
        ({"file": "vllm/new.py"}, True),
        ({"file": "vllm/unchanged.py", "text": "import cupy"}, False),
    ],
)
def test_import_that_fails_for_what_the_base_had_too_does_not_count(values: dict[str, Any], *, counts: bool) -> None:
    assert bool(misfits([failure(**values)], cast("Contents", Before))) is counts


def test_script_stops_at_source_that_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/a.py").write_text("x = 1\nprint('printed')\ndef f(:\n", encoding="utf-8")
    found = found_inside(tmp_path, "cpu", "vllm/a.py")
    assert list(found.stages) == ["compile"]
    ((path, words),) = found.stages["compile"]
    assert path == "vllm/a.py"
    assert words == f'File "{tmp_path}/vllm/a.py", line 3\nSyntaxError: invalid syntax'


# The shapes in which vLLM's sources define operators (csrc/torch_bindings.cpp and csrc/moe/torch_bindings.cpp, 0.31.0
# to 0.33.0; csrc/cpu/torch_bindings.cpp).
STABLE = """\
STABLE_TORCH_LIBRARY_FRAGMENT(_C, ops) {
  ops.def(
      "silu_and_mul(Tensor! out, "
      "Tensor input) -> ()");
  // ops.def("commented_out() -> ()");
  /* ops.def("that_too() -> ()");
   */
#ifndef USE_ROCM
  ops.def("machete_mm(Tensor a) -> Tensor");
  ops.def("scaled_fp4_quant.out(Tensor a) -> ()");
#ifdef VLLM_ENABLE_FUSED_KDA_DECODE
  ops.def("fused_kda_decode(Tensor a) -> ()");
#else
  ops.def("without_kda(Tensor a) -> ()");
#endif
#else
  ops.def("for_rocm(Tensor a) -> ()");
#endif  // !USE_ROCM
#if defined(ENABLE_SOMETHING) && \\
    ENABLE_SOMETHING
  ops.def("perhaps(Tensor a) -> ()");
#endif
#ifdef USE_ROCM
  ops.def("for_rocm_too(Tensor a) -> ()");
#elif 1
  ops.def("who_knows(Tensor a) -> ()");
#else
  ops.def("who_knows_either(Tensor a) -> ()");
#endif
  ops.def("a_name_in_" "two_parts(Tensor a) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(_C, CUDA, ops) {
  ops.impl("silu_and_mul", TORCH_BOX(&silu_and_mul));
}

STABLE_TORCH_LIBRARY_FRAGMENT(_C_custom_ar, custom_ar) {
  custom_ar.def("meta_size() -> int");
}

#ifdef USE_ROCM
TORCH_LIBRARY_FRAGMENT(CONCAT(TORCH_EXTENSION_NAME, _custom_ar), custom_ar) {
  custom_ar.def("qr_destroy(int fa) -> ()");
}
#endif

TORCH_LIBRARY_FRAGMENT(CONCAT(TORCH_EXTENSION_NAME, _cache_ops), ops) {
  ops.def("of_a_namespace_made_up() -> ()");
}

REGISTER_EXTENSION(_C_stable_libtorch)
"""
MOE = """\
TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, m) {
  m.def("topk_softmax(Tensor! topk_weights) -> ()");
#ifdef USE_CUDA
  m.def("fused_globalize(Tensor! topk_idx) -> ()");
#endif
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("no_operator(int a)", &f);
}
"""
CPU = """\
#define TORCH_EXTENSION_NAME _C
TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, ops) {
  ops.def("gelu_new(Tensor! out, Tensor input) -> ()");
#if (defined(__aarch64__) && !defined(__APPLE__))
  ops.def("activation_lut_bf16(Tensor! out) -> ()");
#endif  // (defined(__aarch64__) && !defined(__APPLE__))
}
"""
CERTAIN = {
    "_C.silu_and_mul",
    "_C.machete_mm",
    "_C.scaled_fp4_quant",
    "_C_custom_ar.meta_size",
    "_moe_C.topk_softmax",
    "_moe_C.fused_globalize",
}
# A torch whose operators are those that the module `kernels` has defined.
TORCH = """\
class Namespace:
    pass

class Operators:
    def __init__(self):
        self._C, self._moe_C, self._C_custom_ar = Namespace(), Namespace(), Namespace()

    def load_library(self, path):
        raise OSError(f"{path}: file too short")

ops = Operators()
"""
PLATFORMS = """\
import torch

class current_platform:
    @staticmethod
    def import_kernels():
        for name in {registered}:
            namespace, _, operator = name.partition(".")
            setattr(getattr(torch.ops, namespace), operator, True)
"""


def found_inside(folder: Path, flavor: str, *changed: str, **variables: str) -> Look:
    """What the script finds of a source folder, whose ``torch`` and ``vllm`` are what is imported."""
    argv = apart.words(sys.executable, SCRIPT, flavor, str(folder), *changed)
    variables = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run(argv, env=variables, capture_output=True, check=True)
    return read(done.stdout, status=done.returncode, errors=done.stderr)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a source folder with as much of torch as the script looks at."""

    def write(files: Mapping[str, str], *, registered: Iterable[str] = ()) -> Path:
        ours = {
            "torch/__init__.py": TORCH,
            "torch/version.py": "__version__, cuda = '2.13.0', '13.0'\n",
            "vllm/__init__.py": "",
            "vllm/platforms.py": PLATFORMS.format(registered=sorted(registered)),
        }
        for path, text in {**ours, **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text, encoding="utf-8")
        return tmp_path

    return write


# Where they are: since 0.32.0, and in 0.31.0, whose csrc/torch_bindings.cpp is for ROCm only.
@pytest.mark.parametrize("folder", ["csrc", "csrc/libtorch_stable"])
def test_every_operator_that_is_certain_is_demanded_of_a_cuda_build(tree: Callable[..., Path], folder: str) -> None:
    sources = {f"{folder}/torch_bindings.cpp": STABLE, f"{folder}/moe/torch_bindings.cpp": MOE}
    found = found_inside(tree({"csrc/cpu/torch_bindings.cpp": CPU, **sources}), "cuda")
    assert set(found.stages["operators"].missing) == CERTAIN


def test_operators_that_are_there_are_not_missed(tree: Callable[..., Path]) -> None:
    sources = {"csrc/torch_bindings.cpp": STABLE, "csrc/moe/torch_bindings.cpp": MOE}
    registered = CERTAIN - {"_moe_C.topk_softmax"} | {"_C.topk_softmax", "_C.fused_kda_decode"}
    found = found_inside(tree(sources, registered=registered), "cuda")
    assert found.stages["operators"].missing == ["_moe_C.topk_softmax"]


def test_cpu_build_has_its_own_operators(tree: Callable[..., Path]) -> None:
    found = found_inside(tree({"csrc/torch_bindings.cpp": STABLE, "csrc/cpu/torch_bindings.cpp": CPU}), "cpu")
    assert found.stages["operators"].missing == ["_C.gelu_new"]


def test_compiled_files_for_other_versions_of_python_need_not_load(tree: Callable[..., Path]) -> None:
    own = importlib.machinery.EXTENSION_SUFFIXES[0]
    deep_gemm = "vllm/third_party/deep_gemm/_C"
    names = (f"{deep_gemm}{own}", f"{deep_gemm}.cpython-39-x86_64-linux-gnu.so", "vllm/_C.abi3.so", "vllm/vllm-rs")
    found = found_inside(tree(dict.fromkeys(names, "no library")), "cuda")
    assert found.end is None
    assert set(found.stages["libraries"]) == {names[0], *names[2:]}
    assert set(found.stages["load"]) == {names[0], names[2]}
    assert all("file too short" in why for why in found.stages["load"].values())
    assert set(names) <= set(found.stages["files"])


def test_module_may_make_a_folder_for_its_cache_while_it_is_imported(tree: Callable[..., Path], tmp_path: Path) -> None:
    text = "from pathlib import Path\nPath.home().joinpath('.cache', 'flashinfer').mkdir(parents=True, exist_ok=True)\n"
    (tmp_path / "temporary").mkdir()
    # Nobody can make a folder there, not even root.
    variables = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path / "temporary")}
    found = found_inside(tree({"vllm/a.py": text}), "cuda", "vllm/a.py", **variables)
    assert "vllm.a" not in {one.module for one in found.stages["modules"]}
    assert (tmp_path / "temporary/.cache/flashinfer").is_dir()


MODES = list(py_compile.PycInvalidationMode)


@pytest.fixture
def modules(tree: Callable[..., Path]) -> Path:
    """A source folder with modules and the bytecode that Python makes of them."""
    source = tree({f"vllm/{mode.name.lower()}.py": "def f():\n    return 0\n" for mode in MODES})
    for mode in MODES:
        compiled(source / f"vllm/{mode.name.lower()}.py", mode)
    return source


def compiled(module: Path, mode: py_compile.PycInvalidationMode, optimize: int = 0) -> Path:
    return Path(py_compile.compile(str(module), invalidation_mode=mode, optimize=optimize, doraise=True) or "")


def forge(module: Path, mode: py_compile.PycInvalidationMode, optimize: int = 0) -> Path:
    """Put other code under the header of a module's bytecode."""
    other = module.with_name("forged.txt")
    other.write_text("def f():\n    return 1\n", encoding="utf-8")
    code = Path(py_compile.compile(str(other), cfile=f"{other}c", doraise=True) or "").read_bytes()[16:]
    path = compiled(module, mode, optimize)
    path.write_bytes(path.read_bytes()[:16] + code)
    return path


def test_bytecode_of_its_source_is_in_order_and_so_is_what_python_passes_over(modules: Path) -> None:
    checked, stamped = modules / "vllm/checked_hash.py", modules / "vllm/timestamp.py"
    for stale in (checked, stamped):
        stale.write_text("another = source\n", encoding="utf-8")
    forge(modules / "vllm/platforms.py", MODES[0]).rename(modules / "vllm/__pycache__/deleted.cpython-311.pyc")
    compiled(modules / "vllm/__init__.py", MODES[0]).write_bytes(b"of another Python")
    assert found_inside(modules, "cpu").stages["bytecode"] == []


@pytest.mark.parametrize("optimize", [0, 1])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_bytecode_of_other_source_is_found(modules: Path, mode: py_compile.PycInvalidationMode, optimize: int) -> None:
    path = forge(modules / f"vllm/{mode.name.lower()}.py", mode, optimize)
    assert found_inside(modules, "cpu").stages["bytecode"] == [str(path)]


def test_bytecode_that_is_not_checked_is_found_when_its_source_changed(modules: Path) -> None:
    (modules / "vllm/unchecked_hash.py").write_text("another = source\n", encoding="utf-8")
    (found,) = found_inside(modules, "cpu").stages["bytecode"]
    assert "unchecked_hash" in found


def test_bytecode_without_source_is_found_where_python_imports_it(modules: Path) -> None:
    paths = [modules / "vllm/deleted.pyc", modules / "torch.pyc"]
    for path in paths:
        compiled(modules / "vllm/timestamp.py", MODES[0]).rename(path)
    assert found_inside(modules, "cpu").stages["bytecode"] == [str(paths[0])]
    (modules / "setup.py").touch()
    assert set(found_inside(modules, "cpu").stages["bytecode"]) == {*map(str, paths)}


def test_bytecode_elsewhere_is_found_where_the_image_has_it(
    modules: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix = tmp_path_factory.mktemp("prefix")
    path = forge(modules / "vllm/timestamp.py", py_compile.PycInvalidationMode.UNCHECKED_HASH)
    there = prefix / path.parent.parent.relative_to("/") / path.name
    there.parent.mkdir(parents=True)
    path.rename(there)
    assert found_inside(modules, "cpu").stages["bytecode"] == []
    found = found_inside(modules, "cpu", PYTHONPYCACHEPREFIX=str(prefix))
    assert found.stages["bytecode"] == [str(there)]
