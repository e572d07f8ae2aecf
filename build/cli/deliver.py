"""From a target to an image in the registry: base, overlay, smoke, gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from build.cli import options, smoke, wishes
from build.errors import BusyError
from build.gate import ending, publish, smoke_run
from build.nightly import freshness
from build.overlay import choice, overlay
from build.overlay.overlay import Overlay

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from build.context import Context
    from build.engine.client import Image
    from build.engine.names import Stem
    from build.gate.smoke_run import SmokeOptions, Trial
    from build.gate.transfer import Pushed
    from build.overlay.choice import BaseWishes
    from build.source.target import Target


def add_options(parser: argparse.ArgumentParser) -> None:
    """What an overlay goes through."""
    wishes.add_options(parser)
    smoke.add_test_options(parser)
    parser.add_argument(
        "--allow-native", action="store_true", help="make it although native sources differ; never pushed by this run"
    )
    parser.add_argument(
        "--install-deps", action="store_true", help="install what the commit requires and the base lacks"
    )
    parser.add_argument("--no-smoke", dest="smoke", action="store_false", help="do not test, and so do not push")
    options.add_push(parser)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What an overlay is to go through.

    Attributes:
        wishes: What is asked of the base.
        allow_native: Make it although native sources differ; such an image is not pushed by this run.
        install_deps: Install what the target requires and the base lacks.
        smoke: Whether to test the image.
        push: Whether to push it, if it passed.
        force: Test again although a verdict is known.
        options: What the smoke suite is told.
    """

    wishes: BaseWishes
    allow_native: bool
    install_deps: bool
    smoke: bool
    push: bool
    force: bool
    options: SmokeOptions

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Delivery:
        """From the command line."""
        return cls(
            wishes=wishes.of(arguments),
            allow_native=arguments.allow_native,
            install_deps=arguments.install_deps,
            smoke=arguments.smoke,
            push=arguments.push,
            force=arguments.force,
            options=smoke.options_of(arguments),
        )

    @property
    def pushes(self) -> bool:
        """Whether what passes is pushed: the gate asks for a test in the standard way."""
        return self.push and self.smoke and self.options.is_standard


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """What came of it.

    Attributes:
        image: The overlay.
        overlay: How it was made.
        built: Whether it was built now; otherwise it was there.
        trial: Its smoke run, if there was one.
        pushed: Where it is now, if it was pushed.
        ending: What the user goes on with.
    """

    image: Image
    overlay: Overlay
    built: bool
    trial: Trial | None
    pushed: Pushed | None
    ending: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        delta = self.overlay.delta
        return {
            "image": self.image.name,
            "id": self.image.id,
            "commit": self.overlay.target.commit.id,
            "version": self.overlay.version,
            "base": self.overlay.base.name,
            "built": self.built,
            "written": len(delta.written),
            "deleted": len(delta.deleted),
            "installed": list(self.overlay.installed),
            "native": list(delta.native),
            "verdict": "pass" if self.trial else None,
            "pushed": list(self.pushed.names) if self.pushed else [],
            "digest": self.pushed.digest if self.pushed else None,
            "report": str(self.trial.report) if self.trial and self.trial.report else None,
            **self.ending,
        }


def require_registry(context: Context, request: Delivery) -> None:
    """Ask the registry before the work, if it will be needed after it; else say why it will not.

    Raises:
        RegistryError: It does not answer, or refuses.
    """
    if request.pushes:
        context.open_registry().require_reachable()
    elif request.push and request.smoke:
        context.console.note(
            "not pushed by this run: --model, --profile, --serve-arg and --env test in another way than the gate asks "
            "for; the same command without them pushes"
        )


def deliver(context: Context, target: Target, request: Delivery, *, name: Stem) -> Delivered:
    """Make an overlay, test it, push it.

    Args:
        context: Settings, console, engine.
        target: What it is to hold.
        request: What it is to go through.
        name: What it is called, before the flavor of its base is known.

    Raises:
        IncompatibleError: No base fits.
        BuildError: The engine could not build it.
        SmokeError: It is broken; nothing was pushed.
        GateError: What arrived in the registry is not what was tested.
        BusyError: Another run gave the image's name to another image meanwhile.
    """
    base, delta = choice.choose(
        context, target, request.wishes, allow_native=request.allow_native, install_deps=request.install_deps
    )
    freshness.tell(context, base.image)
    if delta.left_out_text:
        with_more = "; --with carries what the base does not hold" if delta.left_out else ""
        context.console.note(f"not in the image: {delta.left_out_text}{with_more}")
    made = Overlay(
        base=base,
        target=target,
        tag=str(name.of(base.facts.flavor)),
        delta=delta,
        expires_after=context.settings.overlay_expires_after,
        installed=delta.dependencies if request.install_deps else (),
    )
    image, built = _build(context, made)
    tested = smoke_run.run(context, image, request.options, force=request.force) if request.smoke else None
    _require_name(context, image, f"{context.settings.repository}:{made.tag}")
    pushed = publish.push(context, image) if request.pushes and _may_push(context, made, image) else None
    told = ending.ending(context, image, pushed=pushed, model=request.options.model)
    return Delivered(image=image, overlay=made, built=built, trial=tested, pushed=pushed, ending=told)


def _build(context: Context, made: Overlay) -> tuple[Image, bool]:
    tag = f"{context.settings.repository}:{made.tag}"
    if found := overlay.find(context.engine, made):
        context.console.note(f"{tag} is already built")
        context.engine.tag(found.id, tag)
        # By its ID: another run may give the name to another image at this moment.
        return replace(context.engine.image(found.id), called=tag), False
    delta = made.delta
    made.target.fetch(entry.oid for entry in delta.written.values())
    with context.console.step(f"overlay ({len(delta.written)} written, {len(delta.deleted)} deleted)") as progress:
        return overlay.build(context, made, tag=tag, progress=progress), True


def _require_name(context: Context, image: Image, name: str) -> None:
    """Refuse to go on where another run has made the same on another base, and its image has the name now.

    Raises:
        BusyError: It has.
    """
    named = context.engine.find_image(name)
    if named is None or named.id != image.id:
        has = f"names {named.short_id}, which another run made" if named else "was removed"
        raise BusyError(
            f"{name} {has} meanwhile: {image.short_id}, made by this run, is not pushed",
            hint="run this again when the other run has ended",
        )


def _may_push(context: Context, made: Overlay, image: Image) -> bool:
    if made.delta.native:
        context.console.note(
            f"not pushed: native sources differ; `python -m build push --allow-native {image.name}` does it"
        )
    return not made.delta.native
