"""Whether what an llm-d tree pins allows what a vLLM commit requires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from build.llmd import fit
from build.llmd.dockerfile import Dockerfile
from build.llmd.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"platform_machine": "x86_64", "sys_platform": "linux", "python_version": "3.12"}
DOCKERFILE = """\
FROM x AS runtime
ARG FLASHINFER_VERSION
COPY docker/constraints.txt /tmp/constraints.txt
ENV UV_CONSTRAINT=/tmp/constraints.txt
RUN uv pip install flashinfer-cubin==${FLASHINFER_VERSION#v}
"""


def pins(folder: Path, files: dict[str, str], dockerfile: str = DOCKERFILE, flashinfer: str = "v0.6.14") -> fit.Pins:
    for name, text in {"docker/constraints.txt": "", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    parsed = Dockerfile.parse(dockerfile, name="D")
    return fit.pins(Tree(path=folder, commit=None), parsed, {"FLASHINFER_VERSION": flashinfer})


def differing(folder: Path, constraints: str, *requires: str, **made: Any) -> list[str]:  # noqa: ANN401 - of pins()
    found = pins(folder, {"docker/constraints.txt": constraints}, **made)
    return [one.said for one in fit.differences(found, requires, ENVIRONMENT) if one.pin.binding]


def test_another_torch_is_named_with_its_place(tmp_path: Path) -> None:
    assert differing(tmp_path, "# for all\ntorch==2.10.0 # x\n", "torch==2.14.0", "numpy") == [
        "docker/constraints.txt:2 has torch==2.10.0, the commit requires torch==2.14.0"
    ]


@pytest.mark.parametrize(
    ("pinned", "required", "fits"),
    [
        ("torch==2.14.0", "torch==2.14.0", True),
        ("Torch == 2.14", "torch==2.14.0", True),
        ("torch==2.14.0", "torch==2.14.0+cu130", True),
        ("torch==2.14.0", "torch>=2.12", True),
        ("torch==2.14.0", "torch!=2.14.0", False),
        ("torch>=5.5", "torch<5,>=4.56", False),
        ("torch>4", "torch<4.5", True),
        ("torch~=2.10.1", "torch==2.10.*", True),
        ("torch~=2.10.1", "torch==2.11.*", False),
        ("torch", "torch==2.14.0", True),
        ("torch==1", "torch==2; platform_machine == 'aarch64'", True),
        ("torch==1; platform_machine == 'aarch64'", "torch==2", True),
        ("torch==1", "torch @ https://h/torch.whl", True),
        ("torch==1", "-r requirements/missing.txt", True),
    ],
)
def test_a_pin_differs_where_no_version_meets_both(pinned: str, required: str, tmp_path: Path, *, fits: bool) -> None:
    assert bool(differing(tmp_path, pinned, required)) is not fits


def test_flashinfer_is_compared_with_what_the_server_will_want(tmp_path: Path) -> None:
    requires = ("flashinfer-python==0.6.18.post1", "flashinfer-cubin==0.6.18.post1")
    found = fit.differences(pins(tmp_path, {}), requires, ENVIRONMENT)
    assert [one.said for one in found] == [
        f"FLASHINFER_VERSION has {name}==0.6.14, the commit requires {name}==0.6.18.post1"
        for name in ("flashinfer-python", "flashinfer-cubin")
    ]
    assert fit.flashinfer_that_fits(found) == "0.6.18.post1"
    assert not fit.differences(pins(tmp_path, {}, flashinfer="0.6.18.post1"), requires, ENVIRONMENT)


HELD = "ENV UV_CONSTRAINT=/tmp/c.txt\nRUN uv pip install vllm\n"


@pytest.mark.parametrize(
    "written",
    [
        "COPY <<EOF /tmp/c.txt\n# for all\ntorch==2.10.0\nEOF\n",
        "COPY --chmod=644 <<'c.txt' /tmp/\ntorch==2.10.0\nc.txt\n",
        "RUN cat > /tmp/c.txt <<EOF\ntorch==2.10.0\nEOF\n",
        "RUN cat <<'EOF' | tee /tmp/c.txt\ntorch==2.10.0\nEOF\n",
        "RUN <<EOF\ncat > /tmp/c.txt <<-X\n\ttorch==2.10.0\n\tX\necho done\nEOF\n",
        "RUN printf 'numpy\\ntorch==2.10.0\\n' > /tmp/c.txt\n",
        "RUN printf '%s\\n' numpy \"torch==2.10.0\" > /tmp/c.txt && true\n",
        "RUN echo numpy > /tmp/c.txt && \\\n    echo 'torch==2.10.0' >> /tmp/c.txt\n",
        'ARG TORCH=2.10.0\nRUN echo "torch==${TORCH}" | tee -a /tmp/c.txt\n',
    ],
)
def test_constraints_that_the_build_writes_itself_are_compared(written: str, tmp_path: Path) -> None:
    for held in (HELD, "RUN uv pip install vllm --constraint /tmp/c.txt\n", "RUN pip install -c /tmp/c.txt vllm\n"):
        found = pins(tmp_path, {}, dockerfile=f"FROM x\n{written}{held}")
        (one,) = fit.differences(found, ["torch==2.14.0"], ENVIRONMENT)
        assert one.pin.binding
        assert one.said.endswith("has torch==2.10.0, the commit requires torch==2.14.0")
        assert not found.unread


def test_overrides_that_the_build_writes_itself_do_not_fail_it(tmp_path: Path) -> None:
    text = "FROM x\nRUN echo torch==2.10.0 > /tmp/o.txt\nENV UV_OVERRIDE=/tmp/o.txt\nRUN uv pip install vllm\n"
    (one,) = fit.differences(pins(tmp_path, {}, dockerfile=text), ["torch==2.14.0"], ENVIRONMENT)
    assert not one.pin.binding


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("RUN { echo torch==1; } > /tmp/c.txt\n", "the constraint file /tmp/c.txt "),
        ("RUN curl -o /tmp/c.txt https://h.example/c\n", "the constraint file /tmp/c.txt "),
        ('RUN echo "torch==$(cat v)" > /tmp/c.txt\n', "D:2 "),
        ("RUN echo torch==$UNKNOWN > /tmp/c.txt\n", "D:2 "),
    ],
)
def test_constraints_that_cannot_be_read_are_said_not_to_be_compared(written: str, said: str, tmp_path: Path) -> None:
    # A file of that name in the tree, which nothing uses, does not stand for it.
    (text,) = pins(tmp_path, {"docker/constraints.txt": "torch==1\n"}, dockerfile=f"FROM x\n{written}{HELD}").unread
    assert f"{said}cannot be compared with the commit's requirements" in text


def test_what_nothing_uses_is_no_pin(tmp_path: Path) -> None:
    unused = "FROM x\nARG FLASHINFER_VERSION=0.1\nRUN uv pip install vllm\n"
    assert pins(tmp_path, {"docker/constraints.txt": "torch==1\n"}, dockerfile=unused) == fit.Pins(pins=(), unread=())


@pytest.mark.parametrize(
    "line", ["COPY docker/overrides.txt /tmp/o\nENV UV_OVERRIDE=/tmp/o", "RUN python use_existing_torch.py"]
)
def test_what_is_replaced_does_not_fail_the_build(line: str, tmp_path: Path) -> None:
    files = {"docker/constraints.txt": "torch==1\n", "docker/overrides.txt": "torch==1\n"}
    found = pins(tmp_path, files, dockerfile=f"{DOCKERFILE}{line}\n")
    told = fit.differences(found, ["torch==2"], ENVIRONMENT)
    assert told
    assert not [one for one in told if one.pin.binding]


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    found = pins(tmp_path, {"docker/constraints.txt": "--hash x\n"}, flashinfer="nightly")
    assert [one.partition(" cannot")[0] for one in found.unread] == [
        "docker/constraints.txt:1",
        "FLASHINFER_VERSION=nightly",
    ]
    (tmp_path / "docker/constraints.txt").unlink()
    parsed = Dockerfile.parse(DOCKERFILE, name="D")
    (unread,) = fit.pins(Tree(path=tmp_path, commit=None), parsed, {}).unread
    assert "constraints.txt cannot be compared" in unread


def test_long_lists_are_cut_short(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(5)]
    found = pins(tmp_path, {"docker/constraints.txt": "".join(f"{name}==1\n" for name in names)})
    told = fit.said(fit.differences(found, [f"{name}==2" for name in names], ENVIRONMENT))
    assert told.count("requires") == 3
    assert told.endswith("and 2 more")
