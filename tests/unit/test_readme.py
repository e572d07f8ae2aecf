"""What the README says that the code knows better."""

from __future__ import annotations

from build.config import settings
from build.config.folders import REPOSITORY


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert settings.table() in text, f"put this into README.md:\n\n{settings.table()}"
