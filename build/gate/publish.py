"""The gate, as a verb: from an image on the engine to the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import content, labels, names
from build.errors import GateError
from build.gate import fingerprints, transfer, verdict, ways
from build.source.repository import SHORT_DIGITS

if TYPE_CHECKING:
    from build.context import Context
    from build.engine.client import Image
    from build.gate.transfer import Pushed


def push(context: Context, image: Image, *, allow_native: bool = False) -> Pushed:
    """Push an image that has a passing verdict.

    Args:
        context: Settings, console, engine.
        image: The image.
        allow_native: Push it although it was made over other native sources.

    Raises:
        GateError: It has none, is not as this tool made it, has a name that says something else, or what arrived is
            not what was tested.
        RegistryError: The registry does not answer, or refuses.
        BusyError: Another run pushes it, or under its names.
    """
    _require_genuine(image)
    _require_passed(context, image)
    for failed in verdict.failed_otherwise(
        context.folders.verdicts, image.id, rules=fingerprints.rules(), required=ways.required(context.settings)
    ):
        context.console.warn(
            f"{image.name} passed, and failed {', '.join(failed.failed[:3])} when tested with {failed.way.text}"
        )
    if not allow_native:
        transfer.require_same_native(image)
    tags = _tags(context, image)

    def require_allowed() -> None:
        """Look again at what another run can have changed during the upload."""
        _require_passed(context, image)
        if lost := set(tags) - set(_tags(context, context.engine.image(image.id))):
            raise GateError(
                f"{image.short_id} is no longer called {min(lost)}: another run gave that name to another image",
                hint=f"`python -m build push {image.short_id}` after `docker tag`, if this image is to have the name",
            )

    with context.console.step("push") as progress:
        progress(f"{', '.join(tags)} to {context.registry}")
        return transfer.push(
            context.engine,
            image,
            context.registry,
            tags,
            locks=context.folders.locks,
            require_allowed=require_allowed,
            progress=progress,
        )


def _require_genuine(image: Image) -> None:
    if why := content.trouble(image):
        raise GateError(
            f"{image.name} {why}", hint="`python -m build dev` or `build` makes an overlay; `docker push` pushes others"
        )


def _require_passed(context: Context, image: Image) -> None:
    transfer.require_passed(
        context.folders.verdicts, image, rules=fingerprints.rules(), required=ways.required(context.settings)
    )


def _tags(context: Context, image: Image) -> list[str]:
    """The tags that an image gets; one that has lost its local names keeps those that it has in the registry.

    Raises:
        GateError: One of its names is that of another image.
    """
    for repository in (context.settings.repository, str(context.registry)):
        if found := names.for_registry(image, repository):
            _require_true(image, repository)
            return found
    return []


def _require_true(image: Image, repository: str) -> None:
    for tag in names.tags(image, repository):
        if not names.describes(tag, image):
            marks = image.labels
            holds = marks.get(labels.WORK) or marks.get(labels.COMMIT, "")[:SHORT_DIGITS]
            raise GateError(
                f"{repository}:{tag} is not a name for {image.short_id}: that is the {marks[labels.KIND]} of {holds}",
                hint=f"`docker rmi {repository}:{tag}` takes the name away; its other names stay",
            )
