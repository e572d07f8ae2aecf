"""The verbs: one module of this room each, loaded only when the verb is called.

The client of the engine or of the package index takes as long to load as the rest of a start, and `plan` on a commit
needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import argparse

    from build.cli.options import Defaults
    from build.context import Context

VERBS = {
    "quickstart": "engine, registry, base, overlay, smoke, push: the main job, from nothing",
    "engine": "start, stop or show the embedded Docker Engine and image registry",
    "nightly": "build the base image, test it, make it the one that overlays use, push it",
    "adopt": "make an image that already has vLLM a base: seal it, test it, push it",
    "build": "make an overlay of a commit on GitHub, test it, push it",
    "dev": "make an overlay of a local vLLM commit, test it, push it",
    "plan": "show what an overlay would change and whether it can be made; builds nothing",
    "smoke": "start an image and test it through its API",
    "push": "push an image that has passed its smoke test",
    "status": "list the images with their verdicts and registry names, and the last nightlies",
    "report": "list the reports of smoke tests, or open an image's newest one",
    "serve": "start an image as in its smoke test and serve until Ctrl-C",
    "logs": "show the output of the running server, else of the last one",
    "shell": "open a shell beside the running server, else in the last tested image",
    "diff": "list the source files that differ between two images",
    "prune": "list old bases, expired overlays, reports and logs; --apply removes them",
    "schedule": "install, show or remove the timer of the daily nightly",
    "install": "put the command llm-d-dev into ~/.local/bin, with completion for bash, zsh and fish",
    "uninstall": "remove that command and its completion",
}
"""The description of each verb, in the order of the help."""


class Verb(Protocol):
    """The interface of a verb's module.

    Attributes:
        EXAMPLE: An example for its help; empty without one.
    """

    EXAMPLE: str

    def add_options(self, parser: argparse.ArgumentParser, defaults: Defaults, /) -> None:
        """Declare the verb's own options."""

    def run(self, context: Context, arguments: argparse.Namespace, /) -> dict[str, Any]:
        """Call the domain, show the result, return the document for ``--json``."""


def load(name: str) -> Verb:
    """Load the module of a verb.

    Args:
        name: Name in :data:`VERBS`.
    """
    return cast("Verb", importlib.import_module(f"build.cli.{name}"))
