"""The main job on any machine: engine, registry, base, overlay, smoke, push."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from build.cli import deliver, dev, options, sample, status
from build.engine import buildx, embedded, names
from build.flavors import cpu
from build.gate.smoke_run import SmokeOptions
from build.nightly.run import BaseRequest, nightly
from build.overlay.choice import BaseWishes

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from build.cli.options import Defaults
    from build.cli.sample import Sample
    from build.console import Duration
    from build.context import Context
    from build.nightly.promotion import Promoted

EXAMPLE = ""


def add_options(parser: argparse.ArgumentParser, _: Defaults) -> None:
    """Declare the release of the base, and a deadline."""
    options.add_timeout(parser)
    options.add_version(parser)


def run(context: Context, _: argparse.Namespace) -> dict[str, Any]:
    """Run the verb."""
    result = quickstart(context)
    context.console.result(result.table())
    return result.document()


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The result of a quickstart.

    Attributes:
        base: The base.
        overlay: The overlay of the sample commit.
        sample: The sample repository.
        images: All images of this tool.
        durations: Durations of the steps.
    """

    base: Promoted
    overlay: deliver.Delivered
    sample: Sample
    images: tuple[status.Row, ...]
    durations: tuple[Duration, ...]

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "base": self.base.document(),
            "overlay": self.overlay.document(),
            "sample": {"path": str(self.sample.path), "ref": self.sample.ref},
            "images": [row.document() for row in self.images],
            "durations": [
                {"within": list(done.within), "name": done.name, "seconds": done.seconds} for done in self.durations
            ],
        }

    def table(self) -> RenderableType:
        """The result for a person: images, durations, and next commands."""
        steps = Table(box=None, pad_edge=False, header_style="bold")
        steps.add_column("step")
        steps.add_column("seconds", justify="right")
        for duration in self.durations:
            steps.add_row("  " * len(duration.within) + duration.name, f"{duration.seconds:.1f}")
        path = escape(str(self.sample.path))
        commands = (
            f"nox -s plan -- {path} HEAD~1 --flavor cpu",
            f"nox -s dev -- {path} HEAD --flavor cpu --no-push    # after a commit of your own there",
            "nox -s status",
        )
        hints = "\n".join(f"  {line}" for line in commands)
        served = f"  {escape(self.overlay.ending['run'])}"
        return Group(status.table(self.images), "", steps, "", f"[bold]try next[/]\n{hints}\n{served}")


def quickstart(context: Context) -> Inventory:
    """Start and make what is missing, then make the sample overlay. Finished steps are not repeated.

    Raises:
        LlmdDevError: A step failed.
    """
    settings, console = context.settings, context.console
    with console.step("engine"):
        engine = embedded.up(context.folders, install=settings.install, console=console)
        buildx.require_buildkit(engine)
        facts = engine.capabilities
        console.note(f"Docker Engine {facts.server_version} ({engine.origin}), {facts.storage_driver}")
    if not settings.registry:
        with console.step("registry"):
            console.note(f"image registry at {context.embedded_registry().address}")
    with console.step("cpu nightly"):
        base = nightly(context, BaseRequest(flavor=names.CPU, force=False, push=True))
    with console.step("overlay of a local commit"):
        working = sample.ensure(context, cpu.Cpu(context=context).commit())
        request = deliver.Delivery(
            wishes=BaseWishes(base=base.image.id, flavor=None, carried=frozenset()),
            allow_native=False,
            install_deps=False,
            smoke=True,
            push=True,
            force=False,
            options=SmokeOptions(expect=(sample.EXPECTATION,)),
        )
        overlay = dev.dev(context, path=working.path, ref=working.ref, dirty=False, request=request)
    images = tuple(status.rows(context))
    return Inventory(base=base, overlay=overlay, sample=working, images=images, durations=console.durations)
