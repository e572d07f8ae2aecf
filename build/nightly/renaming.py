"""The renaming of images that have another flavor's name.

Earlier versions called a cpu base ``nightly``, which is now the name of the CUDA base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from build.engine import content, labels, names
from build.host.files import write_atomic

if TYPE_CHECKING:
    from build.context import Context
    from build.engine.image import Image
    from build.engine.names import Tag


def rename(context: Context) -> None:
    """Remove the names of other flavors from every image of the local repository.

    The image gets the name of its own flavor, unless another image has that name. No image is removed.
    """
    repository = context.settings.repository
    for image in context.engine.images():
        flavor = names.flavor_of(image)
        if flavor in names.FLAVORS and not content.is_derived(image):
            for tag in names.tags(image, repository):
                if tag.flavor != flavor:
                    _rename(context, image, tag, tag.of(flavor))


def _rename(context: Context, image: Image, wrong: Tag, right: Tag) -> None:
    engine, repository = context.engine, context.settings.repository
    named = engine.find_image(f"{repository}:{right}")
    taken = named is not None and named.id != image.id
    if not taken:
        engine.tag(image.id, f"{repository}:{right}")
    if wrong.moves:
        _move_commit(image, wrong, right)
    engine.release(f"{repository}:{wrong}")
    becomes = f"which a newer image has as {right}" if taken else f"now {repository}:{right}"
    context.console.note(f"{image.short_id} is a {right.flavor} image: no more {repository}:{wrong}, {becomes}")


def _move_commit(image: Image, wrong: Tag, right: Tag) -> None:
    """Move the file with the commit along with the moving name, if the file is about that image."""
    before, after = names.base_commit_file(wrong.flavor), names.base_commit_file(right.flavor)
    commit = image.labels.get(labels.COMMIT)
    if commit and before.exists() and before.read_text(encoding="utf-8", errors="replace").strip() == commit:
        if not after.exists():
            write_atomic(after, f"{commit}\n")
        before.unlink()
