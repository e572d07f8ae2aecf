"""A run of the suite on a server that already runs: only what can be asked through its API, and no engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from build.harmless import harmless
from build.host import secrets
from build.host.files import write_atomic, write_json
from smoke.results import report
from smoke.results.findings import Findings
from smoke.server.launch import MODEL_NAME
from smoke.server.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoke.suite.suite_options import Options


@dataclass(kw_only=True)
class UrlRun:
    """One run of the suite on a server that already runs.

    Attributes:
        options: The command line.
        server: The server.
        findings: What is known so far.
        last_words: Nothing: its log cannot be read.
    """

    options: Options
    server: Server
    findings: Findings = field(default_factory=Findings)
    last_words: Sequence[str] = ()

    @classmethod
    def prepare(cls, options: Options) -> UrlRun:
        """Take the address and the key from the command line."""
        assert options.url is not None, "the command line was validated"
        return cls(options=options, server=Server(url=options.url, key=options.key or ""))

    @property
    def exact(self) -> bool:
        """Whether the server says that it was started as the suite starts one, with the suite's own model."""
        return self.server.is_own_model and self.server.model == MODEL_NAME

    @property
    def subject(self) -> str:
        """What is tested, for a table's heading."""
        return self.server.url

    @property
    def header(self) -> list[str]:
        """What is tested where, in words."""
        return [f"server: {self.server.url}"]

    def redacted(self, text: str) -> str:
        """A text without the API key, without passwords and tokens that can be told by their form, and harmless."""
        return harmless(secrets.redacted(self.server.redacted(text)))

    def engine_lost(self, error: BaseException | None) -> bool:
        """There is no engine."""
        del error
        return False

    def look_into_failure(self) -> bool:
        """Return whether the server is to blame: nothing else is known of it."""
        return True

    def exception_since(self, moment: float) -> tuple[int, str] | None:
        """Nothing: its log cannot be read."""
        del moment
        return None

    def conclude(self) -> None:
        """Leave the findings as they are: there is no verdict that they could be too few for."""

    def write(self) -> None:
        """Write the documents, if a folder for them was named. There is no verdict: that is about an image."""
        folder = self.options.report
        if folder is None:
            return
        write_json(folder / "report.json", report.cleaned(self.findings.report(None, self.header), self.redacted))
        expect = [str(expectation) for expectation in self.options.expect]
        page = report.page(
            self.findings,
            image=report.unknown(self.subject),
            configuration={"url": self.server.url, "expect": expect},
            server_log="",
            log_name="",
            healthy_s=None,
            redacted=self.redacted,
        )
        write_atomic(folder / "report.html", page)

    def close(self) -> None:
        """Drop the connections."""
        self.server.close()
