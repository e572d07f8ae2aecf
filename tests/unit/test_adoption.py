"""What an image that others built says of itself, before anything of it runs."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import docker.errors
import pytest

from build.base import claim, interpreter
from build.errors import SourceError
from build.vllm import wheel_record
from build.vllm.wheel_record import Recorded
from tests.unit.fakes import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from build.engine.client import Engine

FULL = "1234567" + "0" * 33


def claims(version: str, commit: str | None = None, **config: str) -> list[str]:
    """What an image claims, in words."""
    marks = {"ai.vllm.build.commit": config["label"]} if "label" in config else {}
    variables = [f"VLLM_BUILD_COMMIT={config['variable']}"] if "variable" in config else None
    image = replace(FakeEngine().hold("theirs:1"), labels=marks, config={"Env": variables})
    found = SimpleNamespace(version=version, commit=commit)
    return [str(one.commit or one.release) for one in claim.claims(image, cast("Any", found))]


def test_most_precise_claim_comes_first() -> None:
    assert claims("0.33.0.dev7+g1234567", "g1234567", label=FULL, variable=FULL) == [FULL, FULL, "1234567", "1234567"]


@pytest.mark.parametrize("word", ["unknown", "", "main", "0.32.0"])
def test_what_names_no_commit_is_no_claim(word: str) -> None:
    assert claims("0.33.0.dev7", label=word, variable=word) == []


@pytest.mark.parametrize("version", ["0.32.0", "0.32.0+cpu", "0.32.0+cu129"])
def test_release_is_a_claim(version: str) -> None:
    assert claims(version) == ["0.32.0"]


@pytest.mark.parametrize(("first", "second", "contradict"), [(FULL, "1234567", False), (FULL, "7654321", True)])
def test_claims_that_contradict(first: str, second: str, *, contradict: bool) -> None:
    made = [claim.Claim(commit=text, release=None, origin="x") for text in (first, second)]
    assert (claim.contradiction(made) is not None) is contradict


class Shelf:
    """An image's files: text, or a link to another path."""

    def __init__(self, files: Mapping[str, str | PurePosixPath]) -> None:
        self._files = files

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, str]]:
        if (content := self._files.get(path)) is None:
            raise docker.errors.NotFound(path)
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            member = tarfile.TarInfo(PurePosixPath(path).name)
            text = b"" if isinstance(content, PurePosixPath) else content.encode()
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        link = str(content) if isinstance(content, PurePosixPath) else ""
        return (chunk for chunk in [stream.getvalue()]), {"linkTarget": link}


def python_of(files: Mapping[str, str | PurePosixPath], entry: list[str] | None, path: str = "/usr/bin") -> str:
    """The Python that is found in an image with these files."""
    engine = FakeEngine()
    image = replace(engine.hold("theirs:1"), config={"Env": [f"PATH={path}"], "Entrypoint": entry})

    class Reading:
        def created(self, *_: object) -> Any:  # noqa: ANN401 - a context manager
            return cast("Any", _Opened(Shelf(files)))

    return str(interpreter.python_of(cast("Engine", Reading()), image))


class _Opened:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def __enter__(self) -> Shelf:
        return self._shelf

    def __exit__(self, *_: object) -> None:
        pass


PYTHON = {"/opt/venv/bin/python3": "elf", "/usr/bin/python3": "elf"}
LONG = "#!/bin/sh\n'''exec' \"/opt/venv/bin/python3\" \"$0\" \"$@\"\n' '''\n"


@pytest.mark.parametrize(
    ("files", "entry", "expected"),
    [
        ({"/usr/bin/vllm": "#!/opt/venv/bin/python3\n"}, ["vllm", "serve"], "/opt/venv/bin/python3"),
        ({"/usr/bin/vllm": LONG}, ["vllm", "serve"], "/opt/venv/bin/python3"),
        ({"/usr/bin/vllm": "#!/usr/bin/env python3\n"}, None, "/usr/bin/python3"),
        ({"/usr/bin/vllm": "#!/opt/venv/bin/python3\n"}, ["/start.sh"], "/opt/venv/bin/python3"),
        (
            {"/usr/bin/vllm": PurePosixPath("../x"), "/usr/x": "#!/opt/venv/bin/python3\n"},
            ["vllm"],
            "/opt/venv/bin/python3",
        ),
        ({"/usr/bin/vllm": PurePosixPath("vllm")}, ["vllm"], "/usr/bin/python3"),
        ({}, ["python3", "-m", "vllm.entrypoints.openai.api_server"], "/usr/bin/python3"),
        ({}, ["/opt/venv/bin/python3"], "/opt/venv/bin/python3"),
        ({"/usr/bin/vllm": "#!/gone/python3\n"}, ["vllm"], "/usr/bin/python3"),
    ],
)
def test_python_of_the_entry_point(
    files: dict[str, str | PurePosixPath], entry: list[str] | None, expected: str
) -> None:
    assert python_of({**PYTHON, **files}, entry) == expected


def test_image_without_python() -> None:
    with pytest.raises(SourceError, match="has no Python"):
        python_of({"/usr/bin/vllm": "#!/bin/sh\n"}, ["vllm"])


RECORD = """\
../../../bin/vllm,sha256=a,1
vllm/a.py,sha256=b,2
"vllm/with, comma.py",sha256=c,3
vllm/gone/x.py,sha256=d,4
vllm/gone/__pycache__/x.cpython-312.pyc,,
vllm-1.dist-info/RECORD,,
"""


def test_record_stays_true() -> None:
    folder = PurePosixPath("/opt/venv/lib/python3.12/site-packages")
    new = Recorded.of(io.BytesIO(b"text"))
    written = {folder / "vllm/a.py": new, folder / "vllm/new.py": new, PurePosixPath("/opt/venv/bin/vllm"): new}
    made = wheel_record.rewritten(RECORD, folder=folder, written=written, gone=[folder / "vllm/gone"])
    digest = "sha256=mC2ePrmW9VnmM_TRlN7zdh2Qn1o7ZH0ahR_q1nwyydE,4"
    assert made.splitlines() == [
        f"../../../bin/vllm,{digest}",
        f"vllm/a.py,{digest}",
        '"vllm/with, comma.py",sha256=c,3',
        "vllm-1.dist-info/RECORD,,",
        f"vllm/new.py,{digest}",
    ]
