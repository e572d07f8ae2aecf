"""Whether a driver is what an image requires: its variables ``NVIDIA_REQUIRE_*``.

Rules: NVIDIA Container Toolkit, "Specialized Configurations with Docker", section "Constraints". Within a variable
a space means *or*, a comma *and*; all variables must be satisfied, unless ``NVIDIA_DISABLE_REQUIRE`` is true.
The NVIDIA runtime enforces them; a CDI specification does not.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from smoke.gpu.nvidia import Machine

_CONSTRAINT = re.compile(r"(?P<fact>[a-z]+)(?P<compare>==|=|!=|<=|>=|<|>)(?P<value>[\w.+-]+)")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TRUE = ("1", "t", "true")


def unsatisfied(variables: Sequence[str], machine: Machine) -> str | None:
    """The first requirement that a driver certainly does not satisfy.

    Args:
        variables: An image's environment, ``NAME=value`` each.
        machine: The driver. What it does not tell counts as satisfied.

    Returns:
        ``NAME=value``, or None.
    """
    pairs = [variable.partition("=") for variable in variables]
    if any(name == "NVIDIA_DISABLE_REQUIRE" and value.lower() in _TRUE for name, _, value in pairs):
        return None
    facts = {"cuda": machine.cuda, "driver": machine.driver, "brand": machine.brand}
    for name, _, value in pairs:
        if name.startswith("NVIDIA_REQUIRE_") and value.strip() and not _holds(value, facts):
            return f"{name}={value}"
    return None


def _holds(requirement: str, facts: Mapping[str, str | None]) -> bool:
    return any(all(_true(one, facts) for one in choice.split(",") if one) for choice in requirement.split())


def _true(constraint: str, facts: Mapping[str, str | None]) -> bool:
    match = _CONSTRAINT.fullmatch(constraint.lower())
    known = facts.get(match["fact"]) if match else None
    if match is None or known is None:
        return True
    compare, value = _COMPARISONS[match["compare"]], match["value"]
    return compare(known, value) if match["fact"] == "brand" else compare(_version(known), _version(value))


def _version(text: str) -> tuple[int, ...]:
    """Its numbers, less zeros at the end: 13 and 13.0 are equal."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
