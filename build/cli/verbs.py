"""The verbs: each is a module of this room with its name, loaded only when the verb is called.

The engine's client, or what fetches packages, takes as long to load as all the rest of a start, and a plan on a commit
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
    "build": "make an overlay of a commit on GitHub, test it, push it",
    "dev": "make an overlay of a local vLLM commit, test it, push it",
    "plan": "show what an overlay would change and whether it can be made; builds nothing",
    "smoke": "start an image and test it through its API",
    "push": "push an image that has passed its smoke test",
    "status": "list the images that exist, their verdicts and where they were pushed, and the last nightlies",
    "report": "list the reports of smoke tests, or open the newest of an image",
    "serve": "start an image as its smoke test does and serve until Ctrl-C",
    "logs": "show what a server prints that runs now, else what the last one printed",
    "shell": "open a shell beside a server that runs now, else in the last image that was tested",
    "diff": "list the source files that two images hold otherwise",
    "prune": "remove old bases, expired overlays, old reports and logs; without --apply it only says what would go",
    "schedule": "install, show or remove the timer that starts the nightly every day",
    "install": "put the command llm-d-dev into ~/.local/bin, with completion for bash, zsh and fish",
    "uninstall": "remove that command and its completion",
}
"""What each verb does, in the order of the help."""


class Verb(Protocol):
    """What the module of a verb holds.

    Attributes:
        EXAMPLE: A command line for its help; empty without one.
    """

    EXAMPLE: str

    def add_options(self, parser: argparse.ArgumentParser, defaults: Defaults, /) -> None:
        """Declare the verb's own options."""

    def run(self, context: Context, arguments: argparse.Namespace, /) -> dict[str, Any]:
        """Call the domain, show the result, return the document for ``--json``."""


def load(name: str) -> Verb:
    """The module of a verb.

    Args:
        name: Of :data:`VERBS`.
    """
    return cast("Verb", importlib.import_module(f"build.cli.{name}"))
