"""What documents say that the code knows better."""

from __future__ import annotations

import re

from build.config import settings
from build.config.folders import REPOSITORY


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert settings.table() in text, f"put this into README.md:\n\n{settings.table()}"


def test_every_test_that_the_table_of_boundaries_names_exists() -> None:
    rows = (REPOSITORY / "docs/security.md").read_text(encoding="utf-8").splitlines()
    shown = [row.rsplit(" | ", 1)[-1] for row in rows if row.startswith("| ")][1:]
    files = [*(REPOSITORY / "tests").rglob("*.py")]
    known = "".join((*(path.name for path in files), *(path.read_text(encoding="utf-8") for path in files)))
    for cell in shown:
        named = re.findall(r"`([^`]+)`", cell)
        assert named or cell == "the same |", cell
        assert not [name for name in named if name not in known], cell
