"""The words with which programs say why they failed."""

from __future__ import annotations

import pytest

from build.host import reason

UV = """\
Using Python 3.12.3 environment at: /opt/vllm
error: No solution found when resolving dependencies
  cause: Because you require torch==2.14.0 and torch==2.13.0, we can conclude that your requirements are unsatisfiable.

hint: try something else
"""
OLDER_UV = """\
DEBUG one
  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because only torch<=2.13.0 is available and you require
      torch==2.14.0, your requirements are unsatisfiable.

      hint: try something else
"""
UV_BUILD = """\
  \u00d7 Failed to build `vllm @ file:///opt/vllm-source`
  ├─▶ The build backend returned an error
  ╰─▶ Call to `setuptools.build_meta` failed (exit status: 1)

      [stdout]
      running build_ext

      [stderr]
      Traceback (most recent call last):
        File "<string>", line 11, in <module>
      RuntimeError: Unknown CUDA

hint: x
"""
UV_NETWORK = """\
error: Request failed after 3 retries
  cause: Failed to fetch: http://me:THE-PASSWORD@h/simple/six/
  cause: Connection refused (os error 111)
"""
PIP = """\
Collecting nothing
ERROR: Could not find a version that satisfies the requirement nothing (from versions: none)
ERROR: No matching distribution found for nothing
"""
PIP_CONFLICT = """\
ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.

The conflict is caused by:
    a 1 depends on c==1
ERROR: ResolutionImpossible: for help visit the documentation
"""
PIP_BUILD = """\
  error: subprocess-exited-with-error

  \u00d7 Getting requirements to build wheel did not run successfully.
  │ exit code: 1
  ╰─> [2 lines of output]
      Traceback (most recent call last):
      ModuleNotFoundError: No module named 'torch'
      [end of output]

  note: This error originates from a subprocess
error: subprocess-exited-with-error
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (UV, "No solution found when resolving dependencies: Because you require torch==2.14.0 and torch==2.13.0, we"),
        (OLDER_UV, "Because only torch<=2.13.0 is available and you require torch==2.14.0, your requirements are"),
        (UV_BUILD, "`setuptools.build_meta` failed (exit status: 1): RuntimeError: Unknown CUDA"),
        (UV_NETWORK, "Failed to fetch: http://[redacted]@h/simple/six/: Connection refused (os error 111)"),
        (PIP, "Could not find a version that satisfies the requirement nothing (from versions: none)"),
        (PIP_CONFLICT, "Cannot install a==1 and b==2 because these package versions have conflicting dependencies."),
        (PIP_BUILD, "did not run successfully.: ModuleNotFoundError: No module named 'torch'"),
        ("E: Unable to locate package foo\nE: Unable to fetch some archives", "E: Unable to locate package foo"),
        ("No match for argument: foo\nError: Unable to find a match: foo", "No match for argument: foo"),
        ("fatal: reference is not a tree: abc", "fatal: reference is not a tree: abc"),
        ("[1/9] x\na.cu(3): error: x is undefined\nninja: build stopped.", "a.cu(3): error: x is undefined"),
        ("/opt/x.sh: line 3: foo: command not found", "/opt/x.sh: line 3: foo: command not found"),
        ("Traceback (most recent call last):\nValueError: no\n", "ValueError: no"),
    ],
)
def test_the_line_that_says_why(text: str, said: str) -> None:
    found = reason.of(text.splitlines())
    assert found
    assert said in found
    assert "hint" not in found
    assert "THE-PASSWORD" not in found


def test_it_is_bounded() -> None:
    found = reason.of([f"E: {'x' * 10_000}"])
    assert found
    assert len(found) == 600


@pytest.mark.parametrize("text", ["", "done", "0 errors found"])
def test_other_words_are_no_reason(text: str) -> None:
    assert reason.of(text.splitlines()) is None
