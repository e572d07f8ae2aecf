"""The names of bases: of a candidate, and of a base that passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.engine import labels, names
from build.host.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from build.context import Context
    from build.engine.image import Image
    from build.gate.smoke_run import Trial
    from build.gate.transfer import Pushed
    from build.source.repository import Commit


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """A base that passed.

    Attributes:
        image: The promoted base.
        built: Whether this run made it; otherwise it existed.
        trial: Its smoke run.
        pushed: Its place in the registry; None without a push.
        ending: Next steps for the user.
    """

    image: Image
    built: bool
    trial: Trial
    pushed: Pushed | None
    ending: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """Return the document for ``--json``."""
        return {
            "image": self.image.name,
            "id": self.image.id,
            "commit": self.image.labels[labels.COMMIT],
            "version": self.image.labels[labels.VERSION],
            "built": self.built,
            "verdict": "pass",
            "pushed": list(self.pushed.names) if self.pushed else [],
            "digest": self.pushed.digest if self.pushed else None,
            "report": str(self.trial.report) if self.trial.report else None,
            **self.ending,
        }


def candidate(context: Context, image: Image) -> Image:
    """Give a base a candidate name, which overlays do not use, until it has passed.

    The name protects it from `docker image prune`. After a killed run, the next one finds the base by its fingerprint
    and does not build it again.
    """
    repository = context.settings.repository
    if not names.promoted(image, repository):
        context.engine.tag(image.id, f"{repository}:{names.candidate(image.labels[labels.FLAVOR])}")
    return context.engine.image(image.id)


def promote_nightly(context: Context, image: Image, commit: Commit) -> Image:
    """Point the names at the base: the fixed tag, the moving tag, then the file. The registry's tags follow later.

    Each change is atomic and in this order, so a base found under a later name also has the earlier ones. After a
    killed run, the next one finishes.
    """
    engine, repository, flavor = context.engine, context.settings.repository, image.labels[labels.FLAVOR]
    engine.tag(image.id, f"{repository}:{names.nightly(flavor, commit.id)}")
    engine.tag(image.id, f"{repository}:{names.nightly(flavor)}")
    write_atomic(names.base_commit_file(flavor), f"{commit.id}\n")
    engine.untag(f"{repository}:{names.candidate(flavor)}")
    return engine.image(image.id)


def promote_adopted(context: Context, image: Image) -> Image:
    """Give an adopted base its name. The moving names stay with the nightlies."""
    flavor, repository = image.labels[labels.FLAVOR], context.settings.repository
    context.engine.tag(image.id, f"{repository}:{names.adopted(flavor, image.labels[labels.COMMIT])}")
    context.engine.untag(f"{repository}:{names.candidate(flavor)}")
    return context.engine.image(image.id)
