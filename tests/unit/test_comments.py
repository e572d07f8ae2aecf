"""Comments are told from code, and what is in doubt is code."""

from __future__ import annotations

import pytest

from build.comments import same_code

SAME = [
    ("csrc/a.h", "#define A 1 \\\n  + 2\nint b;\n", "// what it is\n\n#define A 1 \\\n  + 2\nint b;\n"),
    ("csrc/a.cu", "int a;\n", "// what it is\nint a;  // more\n\n"),
    ("csrc/a.cu", "int a; /* old */ int b;\n", "int a; /* new\n   lines */ int b;\n".replace("\n   lines", " words")),
    ("csrc/a.h", "int a; // one \\\n still one\nint b;\n", "int a;\nint b;\n"),
    ("csrc/a.cpp", 'f("// kept"); // x\n', 'f("// kept");\n'),
    ("csrc/a.cpp", "char c = '\"'; // x\n", "char c = '\"'; // y\n"),
    ("csrc/a.cpp", 'auto s = R"x(/* " kept */)x"; // x\n', 'auto s = R"x(/* " kept */)x";\n'),
    ("CMakeLists.txt", "set(A 1) # one\n", "#[[ many\nlines ]]\nset(A 1)\n"),
    ("cmake/utils.cmake", 'set(A "#1") # one\n', 'set(A "#1")\n'),
    ("setup.py", "a = 1  # one\n", "# two\n\na = 1\n"),
    ("requirements/build/cuda.txt", "torch==2 # one\n", "# two\ntorch==2\n"),
]

OTHER = [
    ("csrc/a.cu", "int a;\n", "int b;\n"),
    ("csrc/a.cu", 'f("a // b");\n', 'f("a // c");\n'),
    ("csrc/a.cu", 'f("a /* b */");\n', 'f("a /* c */");\n'),
    ("csrc/a.cu", 'R"(// a)"\n', 'R"(// b)"\n'),
    # The backslash makes the next line a comment too.
    ("csrc/a.cu", "// a\nint b;\n", "// a \\\nint b;\n"),
    # White space in a literal is content.
    ("csrc/a.cu", 'R"(a\n\nb)"\n', 'R"(a\nb)"\n'),
    ("CMakeLists.txt", 'set(A "a \n\nb")\n', 'set(A "a\nb")\n'),
    # An empty line ends a macro.
    ("csrc/a.cu", "#define A 1 \\\n\nint b;\n", "#define A 1 \\\nint b;\n"),
    # A comment separates two words.
    ("csrc/a.cu", "int/**/a;\n", "inta;\n"),
    ("csrc/a.cu", "#define A 1 // x\nint b;\n", "#define A 1 int b;\n"),
    ("CMakeLists.txt", 'set(A "# a")\n', 'set(A "# b")\n'),
    ("CMakeLists.txt", "set(A [[# a]])\n", "set(A [[# b]])\n"),
    ("setup.py", '"""Doc."""\n', '"""Other."""\n'),
    ("setup.py", "if a:\n    b\n", "if a:\n        pass\n    b\n"),
    ("setup.py", "a = '# b'\n", "a = '# c'\n"),
    ("setup.py", "a = (\n", "a = ( # b\n"),
    ("requirements/build/cuda.txt", "a @ https://x/#egg=a\n", "a @ https://x/#egg=b\n"),
    # No language that is known here.
    ("rust/src/a.rs", "// a\n", "// b\n"),
]


@pytest.mark.parametrize(("path", "old", "new"), SAME)
def test_comments_are_not_code(path: str, old: str, new: str) -> None:
    assert same_code(path, old, new)
    assert same_code(path, new, old)


@pytest.mark.parametrize(("path", "old", "new"), OTHER)
def test_code_is_code_whatever_it_looks_like(path: str, old: str, new: str) -> None:
    assert not same_code(path, old, new)
    assert not same_code(path, new, old)
