"""The smoke suite against real vLLM images with one thing broken."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import git
import pytest

from build.config.folders import Folders
from build.engine import client, embedded, labels
from tests.e2e.conftest import run
from tests.standin import trial
from tests.standin.image import changed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from build.engine.client import Engine
    from tests.standin.trial import Outcome

_IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgSign=false")
_LLAMA = "vllm/model_executor/models/llama.py"
_COMPLETIONS = "vllm/entrypoints/openai/completion"
_COMPLETION = f"{_COMPLETIONS}/serving.py"
_CHAT = "vllm/entrypoints/openai/chat_completion"
_KEYS = "vllm/entrypoints/serve/middleware/authenticate.py"
_NORMS = "vllm/model_executor/layers/layernorm.py"

# Changes bytes in compiled files, as if they came from another build; the file's layout stays.
_PATCH = """\
import glob
for name in glob.glob("vllm/{files}.abi3.so"):
    content = open(name, "rb").read()
    assert {old!r} in content
    open(name, "wb").write(content.replace({old!r}, {new!r}))
"""


def _patched(files: str, old: bytes, new: bytes) -> str:
    return f"/opt/vllm/bin/python - <<'END'\n{_PATCH.format(files=files, old=old, new=new)}END\n"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A broken image of real vLLM and what the suite must say about it.

    Attributes:
        edits: Path, old and new text, of a commit that an overlay is made of; without texts the file is deleted. None:
            the base is broken.
        script: Shell script that breaks files of the image.
        changes: Dockerfile instructions that break its configuration.
        failed: The checks that must fail, and no others.
        cause: The cause.
    """

    edits: tuple[tuple[str, str, str], ...] = ()
    script: str = ""
    changes: tuple[str, ...] = ()
    failed: tuple[str, ...]
    cause: str = "check-failed"


FAULTS = {
    "syntax error in the server": Fault(
        edits=(("vllm/entrypoints/serve/engine/protocol.py", "class UsageInfo(", "class UsageInfo(("),),
        failed=("binaries/syntax",),
        cause="syntax-error",
    ),
    "import error in a model file": Fault(
        edits=((_LLAMA, "\nimport torch\n", "\nimport torch\nfrom vllm.attention.layer import Nothing\n"),),
        failed=("binaries/modules",),
        cause="import-error",
    ),
    "route removed": Fault(
        edits=(("vllm/entrypoints/serve/instrumentator/basic.py", '@router.get("/load")\n', ""),),
        failed=("server/routes", "server/calls"),
    ),
    "wrong usage": Fault(
        edits=((_COMPLETION, "total_tokens=num_prompt_tokens + num", "total_tokens=1 + num_prompt_tokens + num"),),
        failed=("openai/completion", "openai/usage[completions]"),
    ),
    "wrong usage in the last chunk of a chat": Fault(
        edits=((f"{_CHAT}/serving.py", "=num_prompt_tokens + completion_tokens", "=1 + completion_tokens"),),
        failed=("openai/usage[chat-stream]",),
    ),
    "a chat's stream without its end": Fault(
        edits=((f"{_CHAT}/serving.py", 'yield "data: [DONE]\\n\\n"\n', "pass\n"),),
        failed=("openai/ends[chat-stream]",),
    ),
    "stop sequences of chats ignored": Fault(
        edits=((f"{_CHAT}/protocol.py", "stop=self.stop,", "stop=[],"),),
        failed=("openai/stop[chat]", "openai/stop[chat-stream]"),
    ),
    "logprobs of chats with the wrong sign": Fault(
        edits=((f"{_CHAT}/serving.py", "logprob=max(p[1].logprob, -9999.0)", "logprob=-max(p[1].logprob, -9999.0)"),),
        failed=("openai/logprobs[chat]", "openai/logprobs[chat-stream]"),
    ),
    "one completion for many": Fault(
        edits=((f"{_COMPLETIONS}/protocol.py", "n=self.n,", "n=1,"),),
        failed=("openai/n[completions]", "openai/n[completions-stream]"),
    ),
    "a completion's stream without echo": Fault(
        edits=((_COMPLETION, "if request.echo and not has_echoed[i]:", "if request.stream is None:"),),
        failed=("openai/echo[completions-stream]",),
    ),
    "seed of responses ignored": Fault(
        edits=(("vllm/entrypoints/openai/responses/protocol.py", "seed=self.seed,", "seed=None,"),),
        failed=("openai/seed[responses]", "openai/seed[responses-stream]"),
    ),
    "only GET asks for a key": Fault(
        edits=((_KEYS, "if url_path.startswith(", 'if scope["method"] == "GET" and url_path.startswith('),),
        failed=("openai/key[none]", "openai/key[wrong]"),
    ),
    "stale file left": Fault(
        edits=(("vllm/model_executor/models/qwen2.py", "", ""),),
        script="echo 'x = 1' >vllm/model_executor/models/qwen2.py",
        failed=("image/deletions",),
    ),
    "wrong commit": Fault(changes=(f"LABEL {labels.COMMIT}={'0' * 40}",), failed=("image/description", "image/commit")),
    "missing .so": Fault(script="rm vllm/spinloop.abi3.so", failed=("binaries/compiled_files",)),
    "no _C_AVX2 and no _C_AVX512": Fault(
        script="rm vllm/_C_AVX2.abi3.so vllm/_C_AVX512.abi3.so",
        failed=("binaries/compiled_files",),
    ),
    ".so of another release": Fault(
        script=_patched("_C*", b"init_cpu_memory_env(", b"init_cpu_memory_old("),
        failed=("binaries/operators",),
        cause="missing-op",
    ),
    ".so for another torch": Fault(
        script=_patched("_C_AVX2", b"\0_ZN3c10", b"\0_ZN3c99"),
        failed=("binaries/loading",),
        cause="undefined-symbol",
    ),
    "norms scaled": Fault(
        edits=((_NORMS, "self.weight.data if self.pass", "1.05 * self.weight.data if self.pass"),),
        failed=("numbers/as_base",),
    ),
    "another epsilon": Fault(
        edits=((_NORMS, "self.variance_epsilon = eps", "self.variance_epsilon = 1e-2"),),
        failed=("numbers/as_base",),
    ),
    "rotary positions off by one": Fault(
        edits=((_LLAMA, "self.rotary_emb(positions, q, k)", "self.rotary_emb(positions + 1, q, k)"),),
        failed=("numbers/as_base",),
    ),
    "block of another prompt taken from the cache": Fault(
        edits=(("vllm/v1/core/kv_cache_utils.py", "hash_function((parent_block_hash, ", "hash_function((NONE_HASH, "),),
        failed=("numbers/steady", "numbers/as_base"),
    ),
    "module altered": Fault(script=f"echo '# altered' >>{_LLAMA}", failed=("binaries/source",)),
}


@pytest.fixture(scope="session")
def engine(quickstart: Any) -> Iterator[Engine]:  # noqa: ANN401 - JSON
    """The engine that the quickstart used, and started if it was down."""
    del quickstart
    found = client.find(embedded_socket=str(embedded.socket(Folders.default())))
    assert found is not None
    with contextlib.closing(found):
        yield found


@contextlib.contextmanager
def overlay(engine: Engine, quickstart: Any, folder: Path, fault: Fault) -> Iterator[str]:  # noqa: ANN401 - JSON
    """An overlay of a commit with the fault's edits while the block runs."""
    sample = quickstart["sample"]
    with contextlib.closing(git.Repo.clone_from(sample["path"], folder, branch=sample["ref"])) as repository:
        for path, old, new in fault.edits:
            edit(folder / path, old, new)
        repository.git.execute(["git", *_IDENTITY, "commit", "--quiet", "--all", "--message", "Break it"])
    done = run("dev", str(folder), "--no-smoke", "--json")
    assert done.returncode == 0
    made = json.loads(done.stdout)
    try:
        yield made["id"]
    finally:
        for name in engine.image(made["id"]).tags:
            engine.untag(name)


def edit(file: Path, old: str, new: str) -> None:
    if not old and not new:
        file.unlink()
        return
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_and_named(engine: Engine, quickstart: Any, tmp_path: Path, name: str) -> None:  # noqa: ANN401
    fault = FAULTS[name]
    outcome = tried(engine, quickstart, tmp_path, fault)
    assert outcome.report["cause"] == fault.cause, outcome.text
    assert outcome.status == 1
    # Every change to a compiled file also shows in what the base was sealed with.
    assert outcome.named("failed") - {"binaries/compiled_files"} == set(fault.failed) - {"binaries/compiled_files"}, (
        outcome.text
    )
    assert set(fault.failed) <= outcome.named("failed")


def tried(engine: Engine, quickstart: Any, folder: Path, fault: Fault) -> Outcome:  # noqa: ANN401 - JSON
    with contextlib.ExitStack() as stack:
        image_id = quickstart["base"]["id"]
        if fault.edits:
            image_id = stack.enter_context(overlay(engine, quickstart, folder / "vllm", fault))
        if fault.script or fault.changes:
            image_id = stack.enter_context(changed(engine, image_id, fault.changes, script=fault.script))
        return trial.run(engine, image_id, folder / "report")
