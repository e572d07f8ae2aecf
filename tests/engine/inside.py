"""A look into an image: commands in one running container of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from build.base.store import OWN_LAYOUT

if TYPE_CHECKING:
    from docker.models.containers import Container


@dataclass(frozen=True)
class Inside:
    """Runs commands in a container."""

    container: Container

    def status(self, *words: str, user: str = "") -> tuple[int, str]:
        """Exit status and output of a command, as the image's user or as ``user``."""
        code, output = self.container.exec_run([*words], user=user)
        assert isinstance(code, int)
        assert isinstance(output, bytes)
        return code, os.fsdecode(output)

    def run(self, *words: str, user: str = "") -> str:
        """Output of a command that must end well."""
        code, output = self.status(*words, user=user)
        assert code == 0, output
        return output

    def git(self, *words: str, user: str = "") -> str:
        """Output of a git command on the source, less its last line end."""
        return self.run("git", "-C", str(OWN_LAYOUT.source), *words, user=user).removesuffix("\n")

    def python(self, code: str, user: str = "") -> Any:  # noqa: ANN401 - any JSON value
        """What a program prints as JSON."""
        return json.loads(self.run(str(OWN_LAYOUT.python), "-B", "-c", code, user=user))
