"""Compile every module that a vLLM server imports to hash-checked bytecode.

Bytecode checked by time stamp goes stale silently when an overlay replaces a file by one of equal size and time;
hash-checked bytecode does not (PEP 552). Run as ``python bytecode.py SOURCE LIST``: what bytecode vLLM has below SOURCE
in the end goes into LIST, as relative paths, each ended by a zero byte.
"""

from __future__ import annotations

import compileall
import concurrent.futures
import importlib
import importlib.util
import os
import pkgutil
import py_compile
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the API server, the engine core and the worker import, each with what it loads lazily (vLLM 0.32.0). A module
# that is missing or does not import here (no GPU in a build) is left out: it costs start-up time, nothing else.
SEEDS = (
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.registry",
    "vllm.model_executor.model_loader.default_loader",
    "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
    "vllm.distributed.elastic_ep.elastic_execute",
    "loguru",
    "setproctitle",
    "websockets.server",
)

# Packages of which every module counts: what takes requests is imported only once there is a socket and a model.
WHOLE = (
    "vllm.entrypoints",
    "compressed_tensors",
    "httptools",
    "model_hosting_container_standards",
    "prometheus_fastapi_instrumentator",
    "uvicorn",
)


def import_quietly(name: str) -> None:
    """Import a module; print what stopped it, and go on."""
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - a module may even call sys.exit when there is no GPU
        print(f"not imported: {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)


def below(name: str) -> Iterator[str]:
    """Yield the names of a package's modules."""
    package = sys.modules.get(name)
    for found in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{name}.", onerror=lambda _: None):
        if not found.name.endswith(".__main__"):
            yield found.name


def sources() -> list[str]:
    """Files of the Python modules that are loaded now."""
    found = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    # A relative file is a module that fakes its origin.
    return sorted(path for path in found if path and path.endswith(".py") and Path(path).is_absolute())


def compile_file(path: str) -> None:
    """Write the bytecode of one source file, with the owner and the permissions of the source."""
    compileall.compile_file(path, quiet=2, force=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    compiled = Path(importlib.util.cache_from_source(path))
    if compiled.is_file():
        for made, source in ((compiled, Path(path)), (compiled.parent, Path(path).parent)):
            status = source.stat()
            os.chown(made, status.st_uid, status.st_gid)
            made.chmod(status.st_mode & 0o777)


def main() -> None:
    """Import, list, compile."""
    sys.dont_write_bytecode = True
    for name in SEEDS:
        import_quietly(name)
    for package in WHOLE:
        import_quietly(package)
        for name in below(package):
            import_quietly(name)
    paths = sources()
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(compile_file, paths, chunksize=64))
    print(f"compiled {len(paths)} modules", flush=True)
    source, listed = map(Path, sys.argv[1:])
    # Beside an installed vLLM are other packages.
    top = source if (source / "setup.py").exists() else source / "vllm"
    found = sorted(os.fsencode(path.relative_to(source)) for path in top.rglob("*.pyc"))
    listed.write_bytes(b"".join(path + b"\0" for path in found))


if __name__ == "__main__":
    main()
