"""What a Dockerfile declares, and what it cannot do without."""

from __future__ import annotations

import pytest

from build.errors import SourceError
from build.llmd.dockerfile import Dockerfile, with_secret
from build.llmd.needs import missing
from build.llmd.references import expand, unguarded

ID = "ca"


def parse(text: str) -> Dockerfile:
    return Dockerfile.parse(text, name="D")


def declared(text: str) -> list[tuple[str, str | None, int, int | None]]:
    return [(one.name, one.default, one.line, one.stage) for one in parse(text).arguments]


def lacking(text: str, **given: str) -> list[tuple[str, int]]:
    return [(one.name, one.line) for one in missing(parse(text), given)]


def test_arguments_have_their_line_default_and_stage() -> None:
    text = 'ARG A=1 B="two words"\n\narg C\nFROM x AS one\nARG A\nFROM y\nARG A=\n'
    assert declared(text) == [
        ("A", "1", 1, None),
        ("B", "two words", 1, None),
        ("C", None, 3, None),
        ("A", None, 5, 0),
        ("A", "", 7, 1),
    ]


def test_lines_go_on_over_comments_and_empty_lines() -> None:
    assert declared("ARG A=1 \\\n  # B=2\n\n  C=3\nARG D\n") == [
        ("A", "1", 1, None),
        ("C", "3", 1, None),
        ("D", None, 5, None),
    ]


def test_another_escape_character_is_heeded() -> None:
    assert declared("# syntax=docker/dockerfile:1\n# escape=`\nARG A=C:\\ `\n  B=2\n")[1] == ("B", "2", 3, None)


@pytest.mark.parametrize(
    "opening",
    [
        "RUN <<END",
        "RUN <<-END",
        'RUN <<"END"',
        "RUN cat <<'END' >/x",
        "RUN cat >/x << 'END'",
        "COPY <<END /x",
        "RUN 3<<END cat",
    ],
)
def test_the_lines_of_a_heredoc_are_no_instructions(opening: str) -> None:
    tab = "\t" if "<<-" in opening else ""
    assert declared(f"FROM x\n{opening}\nARG FAKE=1\n{tab}END\nARG REAL\n") == [("REAL", None, 5, 0)]


def test_two_heredocs_of_one_instruction() -> None:
    assert declared("FROM x\nCOPY <<A <<B /x/\nARG F\nA\nARG G\nB\nARG REAL\n") == [("REAL", None, 7, 0)]


def test_quoted_arrows_are_no_heredoc() -> None:
    assert declared("FROM x\nRUN echo 'a <<END'\nARG REAL\n") == [("REAL", None, 3, 0)]


def test_a_heredoc_without_end_is_named() -> None:
    with pytest.raises(SourceError, match=r"D:2: the heredoc END has no end"):
        parse("FROM x\nRUN <<END\necho\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a$A-${B}", "a1-"),
        ("${B:-x${A}}", "x1"),
        ("${A:-x}", "1"),
        ("${E:-x}", "x"),
        ("${E-x}", ""),
        ("${A:+yes}${B:+no}", "yes"),
        (r"\$A", r"\$A"),
    ],
)
def test_variables_are_replaced_as_buildkit_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "E": ""}) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("echo $X", {"X"}),
        ("echo ${X:?say it}", {"X"}),
        ("echo ${X:-y}", set()),
        ("echo ${X:-${Y}}", {"Y"}),
        ('if [ -n "$X" ]; then echo $X; fi', set()),
        ('[[ "${X}" == 1 ]] && go', set()),
        ('case "$X" in a) ;; esac', set()),
    ],
)
def test_what_is_tested_or_has_an_alternative_may_be_empty(text: str, names: set[str]) -> None:
    assert unguarded(text) == names


def test_what_is_used_without_a_value_is_missing() -> None:
    assert lacking("FROM x\nARG A\nRUN echo $A\n") == [("A", 2)]
    assert lacking("FROM x\nARG A\nRUN echo $A\n", A="") == []
    assert lacking("FROM x\nARG A\nRUN echo ${A:-1}\n") == []
    assert lacking("FROM x\nARG A\n") == []
    assert lacking("ARG A\nFROM x:$A\n") == [("A", 1)]
    assert lacking("ARG A=\nFROM x:$A\n") == [("A", 1)]
    assert lacking("FROM x\nARG A\nENV A=1\nRUN echo $A\n") == []
    assert lacking("FROM x\nARG TARGETARCH\nRUN echo $TARGETARCH\n") == []


def test_a_stage_has_the_value_from_before_the_first_from() -> None:
    assert lacking("ARG A=1\nFROM x\nARG A\nRUN echo $A\n") == []
    assert lacking("ARG A=1\nFROM x\nARG B=$A\nRUN echo $B\n") == []


def test_what_only_scripts_use_is_missing_too_where_builder_and_stage_declare_it() -> None:
    text = "ARG A\nFROM x\nARG A\nRUN script\n"
    assert lacking(text) == [("A", 1)]
    assert lacking(text, A="1") == []
    assert lacking("ARG A\nFROM x\nRUN script\n") == []


def test_a_default_that_names_a_later_argument_is_what_was_meant() -> None:
    text = "ARG B=${A}-x\nARG A=1\nFROM x:$B\n"
    assert parse(text).values({}) == {"B": "-x", "A": "1"}
    value, source = parse(text).late({})["B"]
    assert (value, source.line) == ("1-x", 2)
    assert parse(text).late({"A": "2"})["B"][0] == "2-x"
    assert parse(text).late({"B": "given"}) == {}
    # Declared before as well: BuildKit has a value.
    assert parse("ARG A=1\nARG B=${A}\nARG A=2\nFROM x\n").late({}) == {}


def test_the_value_in_a_stage() -> None:
    text = "ARG V=cu${M}\nARG M=13\nARG W=cu${M}\nFROM x\nARG M\nARG W\nARG OWN=${M}0\n"
    assert parse(text).value("W", {}) == "cu13"
    assert parse(text).value("W", {"M": "12"}) == "cu12"
    assert parse(text).value("OWN", {}) == "130"
    assert parse(text).value("NONE", {}) is None


def test_buildkits_own_arguments_are_lost_where_they_are_declared_before_the_first_from() -> None:
    assert parse("ARG TARGETPLATFORM\nARG TARGETOS=rhel\nFROM x\nARG TARGETARCH\n").shadowed == {"TARGETPLATFORM"}


def test_a_secret_for_every_step_leaves_no_other_line_changed() -> None:
    text = "FROM a \\\n  AS b\n# RUN nothing\nrun one \\\n  RUN two\nRUN <<END\nRUN three\nEND\nCOPY x y\nFROM b\n"
    made = with_secret(text, name="D", secret_id=ID, target="/run/ca", variables=("SSL_CERT_FILE", "PIP_CERT"))
    mount, argument = f"--mount=type=secret,id={ID},target=/run/ca", "ARG SSL_CERT_FILE=/run/ca PIP_CERT=/run/ca"
    assert made.splitlines() == [
        *("FROM a \\", "  AS b", argument, "# RUN nothing", f"run {mount} one \\", "  RUN two"),
        *(f"RUN {mount} <<END", "RUN three", "END", "COPY x y", "FROM b", argument),
    ]


@pytest.mark.parametrize(
    "instruction",
    [
        "ENV X=$A",
        'LABEL x="$A"',
        "RUN X=$A run",
        'RUN --mount=type=bind,source=x X="${A}" Y=1 run',
        "RUN one && X=${A} two",
        'RUN bash -c "X=${A} && export Y=$A && run"',
        'ENTRYPOINT ["$A"]',
        "ENV A=${A:-1}\nRUN run $A",
    ],
)
def test_an_empty_argument_is_legal(instruction: str) -> None:
    assert lacking(f"FROM x\nARG A\n{instruction}\n") == []


@pytest.mark.parametrize(
    "instruction",
    [
        "RUN X=$A run $A",
        "RUN install name=$A",
        "RUN install name==$A",
        "RUN cmake -DX=$A",
        "WORKDIR $A",
        "COPY --from=$A . .",
        "ENV A=$A\nRUN run $A",
    ],
)
def test_but_not_where_a_command_gets_it(instruction: str) -> None:
    assert lacking(f"FROM x\nARG A\n{instruction}\n") == [("A", 2)]


STAGES = """\
FROM a AS base
ARG IN_BASE=1
FROM b AS tools
ARG IN_TOOLS
RUN use $IN_TOOLS
FROM c AS unused
ARG IN_UNUSED
RUN use $IN_UNUSED
FROM base AS Runtime
COPY --from=tools /x /x
ARG IN_RUNTIME
ENV MADE="${IN_BASE}0"
FROM runtime AS debug
ARG IN_DEBUG
RUN use $IN_DEBUG
"""


def test_a_stage_takes_along_what_it_stands_on_and_copies_from() -> None:
    whole = parse(STAGES)
    assert (whole.stage("runtime"), whole.stage("release")) == ("Runtime", None)
    built = whole.of_stage("runtime")
    assert [one.name for one in built.stages] == ["base", "tools", "Runtime"]
    assert [one.name for one in missing(built, {})] == ["IN_TOOLS"]
    assert [one.name for one in missing(whole.of_stage(None), {})] == ["IN_TOOLS", "IN_DEBUG"]


@pytest.mark.parametrize("other", ["COPY --from=0 /x /x", "RUN --mount=type=bind,from=tools,target=/t run", "ADD x y"])
def test_other_stages_are_named_in_several_ways(other: str) -> None:
    text = f"FROM a AS tools\nARG A\nRUN $A\nFROM b AS runtime\n{other}\n"
    assert bool(missing(parse(text).of_stage("runtime"), {})) is not other.startswith("ADD")


def test_a_stage_whose_name_an_argument_decides_may_be_any_that_fits() -> None:
    text = "ARG OS=x\nFROM a AS tools-x\nFROM b AS tools-y\nFROM c AS else\nFROM tools-${OS} AS runtime\n"
    assert [one.name for one in parse(text).of_stage("runtime").stages] == ["tools-x", "tools-y", "runtime"]


def test_the_environment_of_the_last_stage() -> None:
    built = parse(f"ARG G=7\n{STAGES}").of_stage("runtime")
    assert built.environment({"IN_RUNTIME": "2"}) == {"IN_BASE": "1", "IN_RUNTIME": "2", "MADE": "10"}


def test_arguments_that_only_a_script_can_use_are_told() -> None:
    text = "ARG G\nFROM x\nARG A\nARG B\nARG TARGETARCH\nARG C=1\nENV B=${B:-2}\nFROM y\nARG A\n"
    found = parse(text)
    assert [(one.name, one.line) for one in found.unset({})] == [("A", 3), ("B", 4)]
    assert [one.name for one in found.unset({"A": "1"})] == ["B"]
    assert (found.mentions("A"), found.mentions("B")) == (False, True)
