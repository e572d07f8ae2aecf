"""The gate as a verb: from an image on the engine to the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import content, labels, names
from build.errors import GateError
from build.gate import fingerprints, transfer, verdict, ways
from build.source.repository import SHORT_DIGITS

if TYPE_CHECKING:
    from build.context import Context
    from build.engine.image import Image
    from build.gate.transfer import Pushed


def push(context: Context, image: Image, *, allow_native: bool = False) -> Pushed:
    """Push an image that has a passing verdict.

    Args:
        context: Settings, console, engine.
        image: The image.
        allow_native: Whether to push an image with other native sources than its base.

    Raises:
        GateError: The image has no passing verdict, was changed, has a name of another image, or differs in the
            registry.
        RegistryError: The registry does not answer, or refuses.
        BusyError: Another run pushes the image, or under one of its names.
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
        """Check again what another run may have changed during the upload."""
        _require_passed(context, image)
        if lost := set(tags) - set(_tags(context, context.engine.image(image.id))):
            raise GateError(
                f"{image.short_id} is no longer called {min(lost)}: another run gave that name to another image",
                hint=f"to give it the name again: `docker tag`, then `python -m build push {image.short_id}`",
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
    """Return the tags of an image. An image without local names keeps its names in the registry.

    Raises:
        GateError: A name belongs to another image.
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
                hint=f"`docker rmi {repository}:{tag}` removes the name; the image's other names stay",
            )
