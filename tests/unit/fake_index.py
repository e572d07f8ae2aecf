"""A package index that serves a few files."""

from __future__ import annotations

import hashlib
import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build.pypi.index import PackageIndex
from tests.unit.loopback import Answer

if TYPE_CHECKING:
    from tests.unit.loopback import Asked


@dataclass(kw_only=True)
class FakeIndex:
    """The simple repository API in HTML (PEP 503).

    Attributes:
        files: Contents by file name.
        projects: File names by project.
        hashes: File names by what stands for their hash instead of the right one; empty for none.
        yanked: Names of files that were withdrawn (PEP 592).
        failures: What is answered first, before anything else.
        asked: Paths that were asked for.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    projects: dict[str, list[str]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    yanked: set[str] = field(default_factory=set)
    failures: list[Answer] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def add(self, project: str, name: str, content: bytes) -> None:
        self.projects.setdefault(project, []).append(name)
        self.files[name] = content

    def __call__(self, asked: Asked) -> Answer:
        self.asked.append(asked.path)
        if self.failures:
            return self.failures.pop(0)
        kind, _, rest = asked.path.strip("/").partition("/")
        if kind == "simple" and rest in self.projects:
            return self._page(rest)
        if kind == "files" and rest in self.files:
            return Answer(body=self.files[rest])
        return Answer(status=404)

    def _page(self, project: str) -> Answer:
        rows = []
        for name in self.projects[project]:
            digest = self.hashes.get(name, hashlib.sha256(self.files[name]).hexdigest())
            fragment = f"#sha256={digest}" if digest else ""
            yanked = ' data-yanked="broken"' if name in self.yanked else ""
            rows.append(f'<a href="/files/{name}{fragment}"{yanked}>{html.escape(name)}</a>')
        return Answer(body="\n".join(rows).encode(), headers={"Content-Type": "text/html"})


def package_index(address: str, **proxies: str) -> PackageIndex:
    """How pip would be set up to use a server."""
    return PackageIndex(index=f"http://{address}/simple/", extra=(), find_links=(), bundle=None, proxies=proxies)
