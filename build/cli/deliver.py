"""The way from a target to an image in the registry: base, overlay, smoke test, gate."""

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
    from build.engine.image import Image
    from build.engine.names import Stem
    from build.gate.smoke_run import SmokeOptions, Trial
    from build.gate.transfer import Pushed
    from build.overlay.choice import BaseWishes
    from build.source.target import Target


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of an overlay."""
    wishes.add_options(parser)
    smoke.add_test_options(parser)
    parser.add_argument(
        "--allow-native", action="store_true", help="make it although native sources differ; this run does not push it"
    )
    parser.add_argument(
        "--install-deps", action="store_true", help="install requirements of the commit that the base lacks"
    )
    parser.add_argument("--no-smoke", dest="smoke", action="store_false", help="neither test nor push the image")
    options.add_push(parser)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The steps and options of an overlay.

    Attributes:
        wishes: The user's choice about the base.
        allow_native: Whether to make it although native sources differ. This run does not push such an image.
        install_deps: Whether to install requirements of the target that the base lacks.
        smoke: Whether to test the image.
        push: Whether to push the image if it passed.
        force: Whether to test again although a verdict exists.
        options: Options of the smoke suite.
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
        """Read the command line."""
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
        """Whether an image that passes is pushed: the gate requires a test in the standard way."""
        return self.push and self.smoke and self.options.is_standard


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The result of a delivery.

    Attributes:
        image: The overlay.
        overlay: Its inputs.
        built: Whether this run built it.
        trial: Its smoke run, if any.
        pushed: The pushed image, if it was pushed.
        ending: Next steps for the user.
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
    """Check the registry before the work, if it will be needed, else note why it will not.

    Raises:
        RegistryError: The registry does not answer, or refuses.
    """
    if request.pushes:
        context.open_registry().require_reachable()
    elif request.push and request.smoke:
        context.console.note(
            "this run does not push: the gate requires a test without --model, --profile, --serve-arg and --env; the "
            "same command without them pushes"
        )


def deliver(context: Context, target: Target, request: Delivery, *, name: Stem) -> Delivered:
    """Make an overlay, test it, push it.

    Args:
        context: Settings, console, engine.
        target: Content of the overlay.
        request: Steps and options.
        name: Name without the flavor, which the base decides.

    Raises:
        IncompatibleError: No base fits.
        BuildError: The engine could not build the overlay.
        SmokeError: The overlay is broken. Nothing was pushed.
        GateError: The image in the registry is not the tested image.
        BusyError: Another run gave the name to another image meanwhile.
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
        # By its ID: another run may move the name at this moment.
        return replace(context.engine.image(found.id), called=tag), False
    delta = made.delta
    made.target.fetch(entry.oid for entry in delta.written.values())
    with context.console.step(f"overlay ({len(delta.written)} written, {len(delta.deleted)} deleted)") as progress:
        return overlay.build(context, made, tag=tag, progress=progress), True


def _require_name(context: Context, image: Image, name: str) -> None:
    """Refuse to go on if another run gave the name to its own image, made on another base.

    Raises:
        BusyError: The name has moved.
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
            f"not pushed: native sources differ; `python -m build push --allow-native {image.name}` pushes it"
        )
    return not made.delta.native
