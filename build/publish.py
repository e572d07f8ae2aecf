"""The gate, as a verb: from an image on the engine to the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build import gate, names, suite

if TYPE_CHECKING:
    from build.context import Context
    from build.engine import Image
    from build.gate import Pushed


def push(context: Context, image: Image, *, allow_native: bool = False) -> Pushed:
    """Push an image that has a passing verdict.

    Args:
        context: Settings, console, engine.
        image: The image.
        allow_native: Push it although it was made over other native sources.

    Raises:
        GateError: It has none, or what arrived is not what was tested.
        RegistryError: The registry does not answer, or refuses.
    """
    found = gate.require_passed(context.folders.verdicts, image, rules=suite.rules())
    if not allow_native:
        gate.require_same_native(image)
    flavor = found.configuration.get("flavor")
    # An image that has lost its local names keeps those that it has in the registry.
    repositories = (context.settings.repository, str(context.registry))
    tags = next(filter(None, (names.for_registry(image, name, flavor=flavor) for name in repositories)), [])
    with context.console.step("push") as progress:
        progress(f"{', '.join(tags)} to {context.registry}")
        return gate.push(context.engine, image, context.registry, tags, progress=progress)
