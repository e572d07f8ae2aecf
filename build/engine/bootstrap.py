"""mmdebstrap, which makes a root file system from the distribution's packages.

It needs root, or user namespaces with the package uidmap. For a user with neither, it runs in a container, whose root
may own files. The container has no image to start from, so it uses this machine's programs, which it cannot change.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker.errors
from docker.types import Mount

from build.engine.temporary import temporary_name
from build.host import process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from docker.models.containers import Container

    from build.engine.client import Engine

log = logging.getLogger(__name__)

# mmdebstrap's message for a user other than root without user namespaces (mmdebstrap(1), --mode).
_ONLY_ROOT = "unable to pick chroot mode"

# Programs and libraries, package sources with their keys and certificates, and the users that apt and dpkg look up.
_SHARED = ("/usr", "/etc/apt", "/etc/ssl", "/etc/alternatives", "/etc/passwd", "/etc/group")
_FOLDERS = ("tmp", "var/tmp", "var/lib/dpkg")
_MADE = "/made"
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
# moby's default capabilities without those for the network and the audit log (moby 28, oci/caps/defaults.go).
_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "SETFCAP",
    "SETGID",
    "SETUID",
    "SYS_CHROOT",
)


def make(
    engine: Engine, archive: Path, options: Sequence[str], suite: str, *, progress: process.OnLine
) -> process.Completed:
    """Make a root file system.

    Args:
        engine: The engine whose container is used where this user cannot make one.
        archive: Tar archive to write.
        options: Options of mmdebstrap.
        suite: Release of the distribution.
        progress: Called with each line of output.

    Returns:
        The end of mmdebstrap.
    """
    done = process.run(["mmdebstrap", *options, suite, archive], on_line=progress)
    if done.returncode == 0 or not (only_root(done) and engine.is_here):
        return done
    try:
        return _in_container(engine, archive, [*options, suite], progress)
    except docker.errors.APIError as error:
        # The engine does not see this machine's programs: it may run in a virtual machine.
        log.info("mmdebstrap does not run in a container: %s", error)
        return done


def only_root(done: process.Completed) -> bool:
    """Return whether mmdebstrap refused because the user may not make a root file system."""
    return _ONLY_ROOT in done.text


def _in_container(engine: Engine, archive: Path, words: Sequence[str], progress: process.OnLine) -> process.Completed:
    """Make a root file system as root of a container.

    Raises:
        docker.errors.APIError: The engine refuses the container, or finds no mmdebstrap in it.
    """
    command = ["/usr/bin/mmdebstrap", "--mode=root", "--format=directory", *words, _MADE]
    with _empty_image(engine) as image_id, engine.created(image_id, command=command, **_options()) as container:
        container.start()
        tail: list[str] = []
        for line in _lines(container):
            log.debug("| %s", line)
            tail.append(line)
            progress(line)
        status = int(container.wait()["StatusCode"])
        if status == 0:
            _copy(container, archive)
        return process.Completed(returncode=status, tail=tuple(tail[-200:]))


def _options() -> dict[str, Any]:
    return {
        "mounts": [Mount(path, path, type="bind", read_only=True) for path in _SHARED if Path(path).exists()],
        "environment": [_PATH],
        "user": "0",
        "cap_drop": ["ALL"],
        "cap_add": list(_CAPABILITIES),
        "security_opt": ["no-new-privileges"],
    }


@contextlib.contextmanager
def _empty_image(engine: Engine) -> Iterator[str]:
    """Yield the ID of an image with only the folders and links of a root file system."""
    name = temporary_name("bootstrap")
    try:
        engine.client.api.import_image_from_data(_skeleton(), *name.split(":"))
        yield engine.image(name).id
    finally:
        engine.untag(name)


def _skeleton() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for folder in _FOLDERS:
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(member)
        for path in Path("/").iterdir():
            # /bin, /sbin and /lib are links into /usr.
            if path.is_symlink() and str(path.readlink()).lstrip("/").startswith("usr"):
                tar.add(path, arcname=path.name)
    return made.getvalue()


def _lines(container: Container) -> Iterator[str]:
    rest = b""
    for chunk in container.logs(stream=True, follow=True):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").rstrip() for line in lines)
    if rest:
        yield rest.decode(errors="replace")


def _copy(container: Container, archive: Path) -> None:
    chunks, _ = container.get_archive(f"{_MADE}/.")
    with archive.open("wb") as file:
        file.writelines(chunks)
