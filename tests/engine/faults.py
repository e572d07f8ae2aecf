"""The ways in which an image can be broken, each with what the smoke suite must say of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build.engine import labels
from tests.standin import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LLAMA = "vllm/model_executor/models/llama.py"
OWNER = "vllm/entrypoints/serve/engine/protocol.py"
MADE_NUMBERS = "vllm/entrypoints/launchers/numbers.py"
SHIFTED = Path(numbers.__file__).read_text(encoding="utf-8").replace("SHIFT = 0.0", "SHIFT = 0.01")
"""The stand-in's numbers, some of them a little off."""
GONE = "vllm/_custom_ops.py"
"""A file of the base that the overlay's commit deletes."""

# Which of the stand-in's compiled files the processor does and does not take.
_CHOSEN = '$(/opt/vllm/bin/python -c "from vllm.platforms.cpu import variant; print(variant())")'
_OTHER = f"$(ls vllm/_C*.so | grep -v vllm/{_CHOSEN}.abi3.so | tail -n 1)"
_SITE = "$(/opt/vllm/bin/python -c \"import sysconfig; print(sysconfig.get_path('purelib'))\")"
_REGISTERS = "int PyRun_SimpleString(const char *); __attribute__((constructor)) static void f(void)"


def _compiled(body: str, *options: str) -> str:
    """A script that puts another compiled file in the place of the one that the processor takes."""
    return (
        f"printf '%s\\n' '{body}' >/tmp/x.c; "
        f"gcc -shared -fPIC -o vllm/{_CHOSEN}.abi3.so /tmp/x.c {' '.join(options)}; rm /tmp/x.c"
    )


def forgery(script: str, findings: Sequence[tuple[str, Any]]) -> str:
    """Python that says findings in the place of a script: on everything that leads to its standard output.

    Args:
        script: A word of the script.
        findings: What it says.
    """
    words = "".join(json.dumps(one) + "\n" for one in (*findings, ("done", None)))
    return _FORGERY.replace("SCRIPT", repr(script.encode())).replace("WORDS", repr(words))


_FORGERY = r"""
import glob, os
if SCRIPT in open("/proc/self/cmdline", "rb").read():
    words = WORDS
    for path in sorted({*glob.glob("/proc/*/fd/*")}):
        try:
            if "pipe" in os.readlink(path):
                descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                os.write(descriptor, words.encode())
        except OSError:
            pass
    os._exit(0)
"""
_SOUND: Sequence[tuple[str, Any]] = (
    ("compile", []),
    ("files", {}),
    ("writable", []),
    ("bytecode", []),
    ("torch", {"failure": None, "version": "2", "cuda": None}),
    ("libraries", {}),
    ("vllm", {"failure": None, "file": "/opt/vllm-source/vllm/__init__.py"}),
    ("load", {}),
    ("operators", {"failure": None, "chosen": [], "expected": None, "missing": []}),
    ("modules", []),
)
_FORGED = ("binaries/source",)


def forging(module: str, script: str, findings: Sequence[tuple[str, Any]]) -> str:
    """A shell script that makes a module of the image's packages forge what a script finds (:func:`forgery`)."""
    return f"cat >{_SITE}/{module} <<'END'\n{forgery(script, findings)}\nEND\n"


# Of a distribution's own, a sitecustomize may come first.
STARTED = f"echo 'import started' >{_SITE}/started.pth; "
"""A shell script that makes the image's Python import a module ``started`` whenever it starts."""


_FORGE = """
import pathlib, py_compile, sys
source, mode = pathlib.Path(sys.argv[1]), py_compile.PycInvalidationMode[sys.argv[2].upper()]
other = pathlib.Path("/tmp/other.py")
other.write_text("class LlamaForCausalLM:\\n    forged = True\\n")
code = pathlib.Path(py_compile.compile(str(other), doraise=True)).read_bytes()[16:]
source.touch()
compiled = pathlib.Path(py_compile.compile(str(source), invalidation_mode=mode, doraise=True))
compiled.write_bytes(compiled.read_bytes()[:16] + code)
"""


def _forged_bytecode(mode: str, source: str = LLAMA) -> str:
    """A shell script that leaves bytecode of other source, under a header that fits the source that is there."""
    return f"/opt/vllm/bin/python -I - {source} {mode} <<'END'{_FORGE}END\n"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A broken image and what the suite must say about it.

    Attributes:
        name: In words.
        on: What is broken: the sealed ``base``, the ``overlay``, ``foreign``, an image that is not ours, or a
            ``server`` that runs without an image.
        edits: Texts by path that a commit on top of the overlay's brings, empty to delete a file.
        script: Shell script that breaks files of the image.
        later: Shell script of one more layer.
        changes: Dockerfile instructions that break its configuration.
        options: Further options of the suite.
        result: The result.
        failed: The checks that must fail, and no others.
        cause: The cause.
    """

    name: str
    on: str = "foreign"
    edits: Mapping[str, str] = field(default_factory=dict)
    script: str = ""
    later: str = ""
    changes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    result: str = "fail"
    failed: tuple[str, ...] = ()
    cause: str = "check-failed"


def _standin(fault: str, *failed: str, cause: str = "check-failed", options: tuple[str, ...] = ()) -> Fault:
    return Fault(
        name=fault,
        changes=(f"ENV STANDIN_FAULT={fault}",),
        options=options,
        failed=failed,
        cause=cause,
    )


def _served(fault: str, *failed: str, options: tuple[str, ...] = ()) -> Fault:
    """A fault that the API shows, whatever it is served from."""
    return Fault(name=fault, on="server", changes=(f"ENV STANDIN_FAULT={fault}",), options=options, failed=failed)


def _slow(fault: str, *, seconds: int, options: tuple[str, ...] = ()) -> Fault:
    """A server that is still starting when a time has passed that is shorter than the default."""
    return Fault(
        name=fault,
        changes=(f"ENV STANDIN_FAULT={fault}",),
        options=(*options, "--start-timeout", str(seconds)),
        result="inconclusive",
        cause="timeout",
    )


def _elsewhere(fault: str, cause: str) -> Fault:
    return Fault(name=fault, changes=(f"ENV STANDIN_FAULT={fault}",), result="inconclusive", cause=cause)


_UNREADABLE = ("image/description", "image/commit", "image/files", "image/deletions")

IMAGE = (
    Fault(name="no-version-label", on="overlay", changes=(f"LABEL {labels.VERSION}=",), failed=("image/labels",)),
    Fault(name="root", on="overlay", changes=("USER 0:0",), failed=("image/user",)),
    Fault(name="no-vllm", changes=("ENV PATH=/usr/bin:/bin",), failed=("image/command",)),
    Fault(name="no-program", changes=('ENTRYPOINT ["/opt/nowhere"]',), failed=("image/command",)),
    Fault(name="another-flavor", on="overlay", changes=(f"LABEL {labels.FLAVOR}=cuda",), failed=("image/description",)),
    Fault(name="wrong-commit", on="overlay", changes=(f"LABEL {labels.COMMIT}=0123",), failed=("image/commit",)),
    Fault(name="not-sealed", on="base", script="rm -r /opt/llm-d-dev", failed=_UNREADABLE),
    Fault(name="damaged-description", on="base", script="echo '{' >/opt/llm-d-dev/base.json", failed=_UNREADABLE),
    Fault(
        name="head-elsewhere",
        on="overlay",
        script="echo 0123456789012345678901234567890123456789 >.git/HEAD",
        failed=_UNREADABLE,
    ),
    Fault(name="file-altered", on="overlay", script=f"echo '# altered' >>{OWNER}", failed=("image/files",)),
    Fault(name="file-missing", on="overlay", script=f"rm {OWNER}", failed=("image/files",)),
    Fault(name="not-executable", on="overlay", script="chmod a-x tools/check.sh", failed=("image/files",)),
    Fault(name="stale-file", on="overlay", script=f"echo 'x = 1' >{GONE}", failed=("image/deletions",)),
    Fault(
        name="token-in-history",
        changes=("ENV TOKEN=ghp_0123456789abcdefghijABCDEFGHIJ012345",),
        failed=("image/history",),
    ),
    Fault(
        name="password-in-label",
        changes=("LABEL index=https://me:secret@index.example/simple",),
        failed=("image/history",),
    ),
    Fault(
        name="netrc",
        script="echo 'machine index.example login me password secret' >/root/.netrc",
        failed=("image/secret_files",),
    ),
    Fault(
        name="netrc-deleted-later",
        on="overlay",
        script="printf 'machine index.example\\nlogin me\\npassword secret\\n' >/root/.netrc",
        later="rm /root/.netrc",
        failed=("image/secret_files",),
    ),
    Fault(
        name="token-deleted-later",
        script="mkdir -p /srv/.cache/huggingface; echo hf_0123456789abcdefghijABCDEFGHIJ0123 "
        ">/srv/.cache/huggingface/token",
        later="rm -r /srv/.cache",
        failed=("image/secret_files",),
    ),
    Fault(
        name="key-emptied-later",
        script="echo '-----BEGIN OPENSSH PRIVATE KEY-----' >/tmp/id_rsa",
        later=": >/tmp/id_rsa",
        failed=("image/secret_files",),
    ),
)

BINARIES = (
    Fault(
        name="syntax-error-in-change",
        on="overlay",
        edits={OWNER: "def f(:\n"},
        failed=("binaries/syntax",),
        cause="syntax-error",
    ),
    Fault(
        name="import-error-in-model",
        on="overlay",
        edits={LLAMA: "from vllm.attention import nothing\n"},
        failed=("binaries/modules",),
        cause="import-error",
    ),
    Fault(
        name="new-import-in-module",
        on="overlay",
        edits={"vllm/model_executor/models/other.py": "import no_such_package\n"},
        failed=("binaries/modules",),
        cause="import-error",
    ),
    Fault(
        name="name-error-in-module",
        on="overlay",
        edits={"vllm/model_executor/models/other.py": "class Other(Missing):\n    pass\n"},
        failed=("binaries/modules",),
    ),
    Fault(name="compiled-file-missing", on="base", script=f"rm {_OTHER}", failed=("binaries/compiled_files",)),
    Fault(
        name="all-variants-missing",
        on="overlay",
        script="rm vllm/_C_AVX2.abi3.so vllm/_C_AVX512.abi3.so vllm/_C.abi3.so",
        failed=("binaries/compiled_files", "binaries/operators"),
        cause="missing-op",
    ),
    Fault(
        name="compiled-file-of-another-release",
        on="base",
        script=_compiled(f'{_REGISTERS} {{ PyRun_SimpleString("import torch"); }}'),
        failed=("binaries/compiled_files", "binaries/operators"),
        cause="missing-op",
    ),
    Fault(
        name="undefined-symbol",
        on="base",
        script=_compiled("int other_release(void); int f(void) { return other_release(); }"),
        failed=("binaries/compiled_files", "binaries/loading", "binaries/operators"),
        cause="undefined-symbol",
    ),
    Fault(
        name="library-missing",
        on="base",
        script="echo 'int numa(void) { return 0; }' >/tmp/n.c; gcc -shared -fPIC -o /tmp/libnone.so /tmp/n.c; "
        + _compiled("int numa(void); int f(void) { return numa(); }", "-L/tmp", "-lnone")
        + "; rm /tmp/libnone.so",
        failed=("binaries/compiled_files", "binaries/libraries", "binaries/loading", "binaries/operators"),
        cause="missing-library",
    ),
    Fault(
        name="no-driver",
        script="echo 'int cuInit(void) { return 0; }' >/tmp/n.c; "
        "gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -o /tmp/libcuda.so /tmp/n.c; "
        + _compiled("int cuInit(void); int f(void) { return cuInit(); }", "-L/tmp", "-lcuda")
        + "; rm /tmp/libcuda.so",
        changes=("ENV STANDIN_FAULT=no-driver",),
        result="inconclusive",
        cause="no-gpu",
    ),
    Fault(
        name="another-torch",
        on="base",
        script=f"echo 'cuda = \"12.9\"' >>{_SITE}/torch/version.py",
        failed=("binaries/torch",),
    ),
    Fault(
        name="no-torch",
        on="base",
        script=f"rm -r {_SITE}/torch",
        failed=("binaries/torch", "binaries/loading", "binaries/operators"),
        cause="import-error",
    ),
    Fault(
        name="start-file-forges-findings",
        on="base",
        script=f"echo '# altered' >>{LLAMA}; " + STARTED + forging("started.py", "def uncompilable", _SOUND),
        failed=_FORGED,
    ),
    Fault(
        name="module-forges-findings",
        on="base",
        script=f"echo '# altered' >>{LLAMA}; " + forging("torch/__init__.py", "def uncompilable", _SOUND),
        failed=_FORGED,
    ),
    Fault(
        name="module-ends-the-look",
        on="base",
        script=f"echo 'import os; os._exit(0)' >{_SITE}/torch/__init__.py",
        failed=("binaries/torch",),
    ),
    Fault(
        name="another-vllm",
        on="base",
        script=f"cp -R vllm {_SITE}/vllm",
        failed=("binaries/vllm",),
    ),
    Fault(
        name="module-altered",
        on="base",
        script=f"echo '# altered' >>{LLAMA}",
        failed=("binaries/source",),
    ),
    Fault(
        name="module-of-nobody",
        on="overlay",
        script="echo 'x = 1' >vllm/left_over.py",
        failed=("binaries/source",),
    ),
    *(
        Fault(name=f"bytecode-{mode}", on=on, script=_forged_bytecode(mode), failed=("binaries/bytecode",))
        for mode, on in (("unchecked_hash", "overlay"), ("timestamp", "base"), ("checked_hash", "base"))
    ),
    Fault(
        name="bytecode-without-source",
        on="overlay",
        script=_forged_bytecode("timestamp", GONE),
        later=f"mv vllm/__pycache__/_custom_ops.*.pyc {GONE}c; rm {GONE}",
        failed=("binaries/bytecode",),
    ),
    Fault(name="shut-home", on="base", script="chmod g-w /home/vllm", failed=("binaries/writable",)),
    Fault(
        name="another-variant-taken",
        on="overlay",
        edits={
            "vllm/platforms/cpu.py": "import re\nfrom pathlib import Path\n\n\ndef variant():\n"
            "    flags = set(Path('/proc/cpuinfo').read_text().split())\n"
            "    return '_C_AVX512' if 'avx512_bf16' in flags or 'avx512f' not in flags else '_C_AVX2'\n"
        },
        failed=("binaries/operators",),
    ),
    Fault(
        name="python-shut-to-others",
        on="base",
        script="chmod o-x,g-x /opt/vllm-source/vllm",
        failed=("binaries/compiled_files",),
        cause="permission",
    ),
)

WAYS = ("completions", "completions-stream", "chat", "chat-stream", "responses", "responses-stream")
"""The ways to ask for text."""

_OF_METRICS = ("server/metrics", "server/calls", "openai/counters", *(f"openai/client_gone[{way}]" for way in WAYS))

SERVER = (
    Fault(
        name="entry-point-runs-nothing",
        changes=('ENTRYPOINT ["/bin/sh", "-c", "exec nothing-here"]',),
        failed=("server/health",),
        cause="entrypoint",
    ),
    _standin("crash", "server/health", cause="unknown"),
    Fault(
        name="dies-while-it-is-looked-at",
        on="overlay",
        edits={LLAMA: "import time\n\ntime.sleep(3600)\n"},
        changes=("ENV STANDIN_FAULT=crash",),
        failed=("server/health",),
        cause="unknown",
    ),
    _standin("syntax-error", "server/health", cause="syntax-error"),
    _standin("import-error", "server/health", cause="import-error"),
    _standin("missing-op", "server/health", cause="undefined-symbol"),
    _standin("no-permission", "server/health", cause="permission"),
    _standin("bad-arguments", "server/health", cause="bad-arguments"),
    _slow("hangs", seconds=2),
    _slow("prints-without-end", seconds=4),
    _slow("drips", seconds=4),
    _served("redirects", *_OF_METRICS),
    _served("floods", *_OF_METRICS),
    Fault(
        name="commands-the-terminal",
        changes=("ENV STANDIN_FAULT=commands-the-terminal,hangs",),
        options=("--start-timeout", "3"),
        result="inconclusive",
        cause="timeout",
    ),
    _elsewhere("no-memory", "host-memory"),
    _elsewhere("hub", "hub"),
    _elsewhere("no-gpu-memory", "gpu-memory"),
    _elsewhere("dies-of-memory", "host-memory"),
    Fault(
        name="wrong-version",
        on="base",
        changes=("ENV STANDIN_FAULT=wrong-version",),
        failed=("server/version",),
    ),
    _served("no-route", "server/routes"),
    _served("breaks-messages", "server/calls"),
    _standin("no-metrics", *_OF_METRICS),
    Fault(
        name="change-not-seen",
        options=("--expect", "/v1/models=somebody", "--expect", "/v1/models=vllm"),
        failed=("server/expectation[/v1/models=somebody]",),
    ),
    Fault(
        name="route-not-there",
        on="server",
        options=("--expect", "/nowhere=vllm"),
        failed=("server/expectation[/nowhere=vllm]",),
    ),
)


# Checks of completions, as far as they are asked of a server with whatever model.
_OF_COMPLETIONS = (
    *("completion", "completion_stream", "many_at_once", "counters", "prompt_logprobs[completions]"),
    *("logit_bias[completions]", "streamed[completions-stream]", "ends[completions-stream]"),
    *(f"sampling[{name}-completions]" for name in ("temperature", "top_p", "top_k", "min_p")),
    *(
        f"{name}[{kind}completions{stream}]"
        for stream in ("", "-stream")
        for name, kind in (
            *(
                (name, "")
                for name in ["bad_parameter", "client_gone", "echo", "length", "letters", "logprobs", "n", "seed"]
            ),
            *((name, "") for name in ["stop", "text", "too_long", "unknown_model", "usage"]),
            *(("structured_output", f"{kind}-") for kind in ("choice", "json", "regex")),
        )
    ),
)
_USAGES = (
    *(f"openai/{name}" for name in ("completion", "completion_stream", "chat", "responses")),
    *(f"openai/usage[{way}]" for way in WAYS),
)
_KEYS = ("openai/key[none]", "openai/key[wrong]")

# The faults of one property in one way to ask are in test_api_contract.py.
OPENAI = (
    _standin("wrong-model", "openai/models"),
    _standin(
        "wrong-text",
        *("openai/completion_is_right", "openai/many_at_once", "openai/text[completions-stream]"),
        *("openai/stop[completions]", "openai/stop[completions-stream]", "openai/echo[completions]"),
        *(f"openai/sampling[{name}-completions]" for name in ("temperature", "top_p", "top_k", "min_p")),
    ),
    _served("wrong-tokens", "openai/tokens[plain]"),
    _served(
        "wrong-usage",
        *(f"openai/{name}" for name in ("completion", "completion_stream", "chat", "responses")),
        *_USAGES,
    ),
    _served("wrong-role", "openai/chat", "openai/chat_stream"),
    _served("no-auth", *_KEYS),
    _served("any-key", "openai/key[wrong]"),
    _served("packs", *(f"openai/{name}" for name in _OF_COMPLETIONS), *_KEYS),
    _served("streams-without-end", "openai/completion", options=("--answer-timeout", "2")),
    _served("says-nothing", "openai/completion", options=("--answer-timeout", "2")),
    _standin("dies-at-completion", "server/calls", cause="engine-died"),
)

NUMBERS = (
    _standin("unsteady", "numbers/steady"),
    Fault(
        name="other-numbers",
        on="overlay",
        edits={MADE_NUMBERS: SHIFTED},
        failed=("numbers/as_base",),
    ),
)

SHUTDOWN = (
    _standin("unhealthy", "shutdown/still_healthy"),
    _standin("traceback", "shutdown/no_traceback"),
    _standin("logs-key", "shutdown/no_key_in_log"),
    _standin("ignores-sigterm", "shutdown/sigterm"),
    _standin("bad-exit", "shutdown/sigterm"),
)

_ANYBODY = ("--any-user",)

ANY_USER = (
    Fault(
        name="writes-to-its-source",
        on="base",
        changes=("ENV STANDIN_FAULT=writes-to-its-source",),
        failed=("any_user/health",),
        cause="permission",
    ),
    Fault(
        name="command-of-one-user",
        on="base",
        script="chown 2000:2000 /opt/vllm/bin/vllm; chmod 750 /opt/vllm/bin/vllm",
        failed=("any_user/health",),
        cause="permission",
    ),
    _standin("asks-who-it-is", "any_user/health", cause="permission", options=_ANYBODY),
    _standin("healthy-without-engine", "any_user/dead_engine", options=(*_ANYBODY, "--answer-timeout", "20")),
    _slow("hangs-for-anybody", seconds=4, options=_ANYBODY),
    Fault(
        name="looks-at-home",
        script="chmod 700 /home/vllm",
        changes=("ENV STANDIN_FAULT=looks-at-home",),
        options=_ANYBODY,
        failed=("any_user/health",),
        cause="permission",
    ),
    Fault(
        name="writes-at-completion",
        on="overlay",
        changes=("ENV STANDIN_FAULT=writes-at-completion",),
        options=_ANYBODY,
        failed=("any_user/completion",),
        cause="permission",
    ),
)


def batches(faults: Iterable[Fault]) -> list[tuple[Fault, ...]]:
    """Faults that can be tried in one run: of a server that lives on, of one tier, each found by checks of its own."""
    found: list[list[Fault]] = []
    for fault in faults:
        for batch in found:
            if _fit(fault, batch):
                batch.append(fault)
                break
        else:
            found.append([fault])
    return [tuple(batch) for batch in found]


def _fit(fault: Fault, batch: list[Fault]) -> bool:
    failed = {check for one in batch for check in one.failed}
    tiers = {check.partition("/")[0] for check in (*failed, *fault.failed)}
    alone = [one for one in (*batch, fault) if one not in _TOGETHER]
    on = {one.on for one in (*batch, fault)}
    return not alone and len(tiers) == len(on) == 1 and failed.isdisjoint(fault.failed)


# A server whose answers have no end keeps others from being found.
_ENDLESS = ("packs", "streams-without-end", "says-nothing")
_TOGETHER = tuple(
    fault for fault in (*OPENAI, *SHUTDOWN) if fault.cause == "check-failed" and fault.name not in _ENDLESS
)

FAULTS = {fault.name: fault for fault in (*IMAGE, *BINARIES, *SERVER, *OPENAI, *NUMBERS, *SHUTDOWN, *ANY_USER)}
"""All of them by name."""

BATCHES = {fault.name: batch for batch in batches(FAULTS.values()) for fault in batch}
"""The faults that are tried in one run, by the name of each."""
