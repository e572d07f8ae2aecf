"""The verdict of a smoke run about one image, as an in-toto statement.

Specification: https://github.com/in-toto/attestation, spec/v1/statement.md and
spec/predicates/test-result.md (v0.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, StringConstraints, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from build.gate.ways import STANDARD, Way
from build.host import stored

if TYPE_CHECKING:
    from pathlib import Path

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"

_KNOWN: dict[str, TypeAdapter[Any]] = {
    "suite": TypeAdapter(str),
    **dict.fromkeys(("flavor", "gpus", "driver", "checks", "profile"), TypeAdapter(str | None)),
    # Parts of file names.
    **dict.fromkeys(("model", "base"), TypeAdapter(Annotated[str, StringConstraints(pattern=r"^[\w:.-]*$")] | None)),
    "exact": TypeAdapter(bool),
    "numbers": TypeAdapter(str | None),
    **dict.fromkeys(("expect", "gpu_names", "serve_args", "env"), TypeAdapter(tuple[str, ...] | list[str])),
}
"""Types of the known configuration entries. Other entries may have any type."""


def _is_understood(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, form in _KNOWN.items():
        if name in configuration:
            form.validate_python(configuration[name], strict=True)
    return configuration


def _is_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


@checked(frozen=True, kw_only=True)
class Verdict:
    """A verdict, passed or failed, about exactly one image and one way of testing it.

    Attributes:
        image_id: ``sha256:…`` of the tested image.
        diff_ids: Digests of its layers.
        passed: Names of the checks that passed.
        failed: Names of the checks that failed.
        configuration: Configuration of the run (``suite``, ``flavor``, ``model``, ``exact``, ``expect`` …).
        finished: RFC 3339 timestamp.
    """

    image_id: str
    diff_ids: tuple[str, ...]
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    configuration: Annotated[Mapping[str, Any], AfterValidator(_is_understood)]
    finished: Annotated[str, AfterValidator(_is_time)]

    @property
    def ok(self) -> bool:
        """Whether the image passed: some checks passed, and none failed."""
        return bool(self.passed) and not self.failed

    @property
    def way(self) -> Way:
        """The way of testing."""
        return Way.of(self.configuration)

    @property
    def changes_numbers(self) -> bool:
        """Whether the image computes other numbers than its base, on purpose."""
        return self.way.changed

    def statement(self) -> dict[str, Any]:
        """Return the in-toto statement."""
        return {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": "image", "digest": _digest(self.image_id)},
                *({"name": f"layer-{n}", "digest": _digest(layer)} for n, layer in enumerate(self.diff_ids)),
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "result": "PASSED" if self.ok else "FAILED",
                "configuration": [
                    {"name": name, "annotations": {"value": value}}
                    for name, value in sorted(self.configuration.items())
                ],
                "passedTests": list(self.passed),
                "failedTests": list(self.failed),
                "annotations": {"finished": self.finished},
            },
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Verdict:
        """Parse a statement.

        Raises:
            ValueError: The document is not a statement, or its result contradicts its list of tests.
        """
        try:
            if document["_type"] != STATEMENT_TYPE or document["predicateType"] != PREDICATE_TYPE:
                raise ValueError("not a test-result statement")
            image, *layers = (f"sha256:{subject['digest']['sha256']}" for subject in document["subject"])
            predicate = document["predicate"]
            verdict = cls(
                image_id=image,
                diff_ids=tuple(layers),
                passed=tuple(predicate["passedTests"]),
                failed=tuple(predicate["failedTests"]),
                configuration={entry["name"]: entry["annotations"]["value"] for entry in predicate["configuration"]},
                finished=predicate["annotations"]["finished"],
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"incomplete statement: {error}") from error
        if predicate["result"] != ("PASSED" if verdict.ok else "FAILED"):
            raise ValueError("the result contradicts the tests")
        return verdict


def _digest(sha256: str) -> dict[str, str]:
    return {"sha256": sha256.removeprefix("sha256:")}


def record(folder: Path, verdict: Verdict) -> None:
    """Store a verdict; it replaces an earlier one about the same image and way of testing."""
    name = f"{verdict.image_id.removeprefix('sha256:')}{verdict.way.mark}.json"
    stored.write(folder / name, verdict.statement())


def read(path: Path) -> Verdict | None:
    """Read a verdict. Return None if it is missing, or damaged, which a warning reports."""
    return stored.read(path, Verdict.parse)


def about(folder: Path, image_id: str) -> list[Verdict]:
    """Return the verdicts about an image that can be read, one a way of testing, the newest first."""
    name = image_id.removeprefix("sha256:")
    paths = [folder / f"{name}.json", *sorted(folder.glob(f"{name}.*.json"))]
    found = [verdict for verdict in map(read, paths) if verdict and verdict.image_id == image_id]
    return sorted(found, key=lambda verdict: datetime.fromisoformat(verdict.finished), reverse=True)


def recall(folder: Path, image_id: str, *, required: Way = STANDARD) -> Verdict | None:
    """Return the verdict that decides about an image (:mod:`build.gate.ways`); None if no verdict does.

    Args:
        folder: Folder of verdicts.
        image_id: The image.
        required: The way of testing that is asked for.
    """
    found = about(folder, image_id)
    deciding = (verdict for verdict in found if verdict.way.answers(required, passed=verdict.ok))
    failures = (verdict for verdict in found if not verdict.ok and verdict.way.starts_as(required))
    return next(deciding, next(failures, None))


def failed_otherwise(folder: Path, image_id: str, *, rules: str, required: Way = STANDARD) -> list[Verdict]:
    """Return the failures by today's rules in other ways of testing, which take no pass in the required way back."""
    newest: dict[str, Verdict] = {}
    for verdict in about(folder, image_id):
        if verdict.configuration.get("suite") == rules:
            # Own checks that were edited since, or another model, are another way that is called the same.
            newest.setdefault(verdict.way.text, verdict)
    return [each for each in newest.values() if not each.ok and not each.way.answers(required, passed=False)]


def image_of(path: Path) -> str:
    """Return the image ID of a verdict's file."""
    return f"sha256:{path.name.partition('.')[0]}"
