"""pip's settings of this machine, and how they get into a build."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from build.engine import buildx
from build.errors import UsageError
from build.pypi import index
from build.pypi.index import PackageIndex

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "https://user:p%40ss'w@index.example/simple/"  # noqa: S105 - nobody's


def parse(*rows: str, **environment: str) -> PackageIndex:
    return PackageIndex.parse("\n".join(rows), environment)


def uv(index: PackageIndex, **options: str) -> dict[str, Any]:
    """The uv.toml that a build gets."""
    return tomllib.loads(index.uv_settings(**options))


def shell(index: PackageIndex) -> Mapping[str, str]:
    """Variables that a step's shell has after reading the assignments."""
    done = subprocess.run(
        ["sh", "-euc", f"{index.shell_environment()}\nenv -0"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    rows = done.stdout.decode().rstrip("\0").split("\0")
    return dict(row.split("=", 1) for row in rows)


# --- Reading pip's configuration ---------------------------------------------------------------------------


def test_without_settings_everything_is_pips_default() -> None:
    index = parse()
    assert (index.index, index.extra, index.find_links, index.bundle, index.proxies) == (None, (), (), None, {})
    assert uv(index) == {"extra-index-url": [], "find-links": [], "index-strategy": "unsafe-best-match"}


@pytest.mark.parametrize(
    ("rows", "winner"),
    [
        (["global.index-url='g'"], "g"),
        (["install.index-url='i'", "global.index-url='g'"], "i"),
        ([":env:.index-url='e'", "install.index-url='i'", "global.index-url='g'"], "e"),
        (["download.index-url='d'", "install.index-url='i'"], "i"),
        (["wheel.index-url='w'", "global.index-url='g'"], "g"),
        (["global.index-url='first'", "global.index-url='last'"], "last"),
    ],
)
def test_the_nearer_section_wins(rows: list[str], winner: str) -> None:
    assert parse(*rows).index == winner


def test_lists_are_split_as_pip_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b c").mkdir()
    index = parse(
        r"global.extra-index-url='https://one.example/simple\nhttps://two.example/simple'",
        f"global.find-links='{tmp_path}/a file://{tmp_path}/b%20c https://links.example/ {tmp_path}/gone'",
    )
    assert index.extra == ("https://one.example/simple", "https://two.example/simple")
    assert index.find_links == (tmp_path / "a", tmp_path / "b c")


def test_a_folder_in_the_home_is_found(isolated: Path) -> None:
    (isolated / "wheels").mkdir()
    assert parse("global.find-links='~/wheels'").find_links == (isolated / "wheels",)


def test_the_real_pip_is_asked_and_of_several_files_the_one_that_it_uses_counts(
    isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pip 25 and newer list both, sorted by name; the first is the newer place and the one that counts.
    for folder, address in ((".config/pip", SECRET), (".pip", "https://legacy.example/")):
        (isolated / folder).mkdir(parents=True)
        (isolated / folder / "pip.conf").write_text(f"[global]\nindex-url = {address}\nextra-index-url =\n  a\n  b\n")
    monkeypatch.setenv("PIP_PROXY", "http://proxy.example:3128")
    index = PackageIndex.of_this_machine(os.environ)
    assert (index.index, index.extra) == (SECRET, ("a", "b"))
    assert index.proxies == {"HTTP_PROXY": "http://proxy.example:3128", "HTTPS_PROXY": "http://proxy.example:3128"}


def test_a_file_that_pip_cannot_read_is_named(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = isolated / "broken.conf"
    broken.write_text("index-url = x\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(broken))
    with pytest.raises(UsageError, match=r"broken\.conf"):
        PackageIndex.of_this_machine(os.environ)


# --- Proxies and certificates ------------------------------------------------------------------------------


def test_proxies_of_the_environment() -> None:
    index = parse(HTTP_PROXY="http://upper", http_proxy="http://lower", no_proxy="localhost", HTTPS_PROXY="")
    assert index.proxies == {"HTTP_PROXY": "http://lower", "NO_PROXY": "localhost"}


def test_a_proxy_of_pips_outweighs_them_but_not_the_exceptions() -> None:
    index = parse("global.proxy='http://pips'", HTTPS_PROXY="http://other", NO_PROXY="localhost")
    assert index.proxies == {"HTTP_PROXY": "http://pips", "HTTPS_PROXY": "http://pips", "NO_PROXY": "localhost"}


def test_the_first_bundle_that_exists(tmp_path: Path) -> None:
    for name in ("pip.pem", "requests.pem"):
        (tmp_path / name).touch()
    variables = {"REQUESTS_CA_BUNDLE": f"{tmp_path}/requests.pem", "SSL_CERT_FILE": f"{tmp_path}/gone.pem"}
    assert parse(f"global.cert='{tmp_path}/pip.pem'", **variables).bundle == tmp_path / "pip.pem"
    assert parse(f"global.cert='{tmp_path}/gone.pem'", **variables).bundle == tmp_path / "requests.pem"
    assert parse(SSL_CERT_FILE=str(tmp_path)).bundle is None


# --- Into a build ------------------------------------------------------------------------------------------


def test_uv_gets_the_remote_indexes_and_the_carried_folder(tmp_path: Path) -> None:
    index = parse(
        f'global.index-url="{SECRET}"',
        "global.extra-index-url='https://one.example/simple file:///srv/simple'",
        f"global.find-links='{tmp_path}'",
    )
    assert uv(index) == {
        "index-url": SECRET,
        "extra-index-url": ["https://one.example/simple"],
        "find-links": ["/find-links"],
        "index-strategy": "unsafe-best-match",
    }


def test_uv_takes_pytorchs_cpu_builds_unless_there_is_one_here(tmp_path: Path) -> None:
    index = parse(f"global.find-links='{tmp_path}'")
    assert index.torch_for("cpu") == "cpu"
    assert index.torch_for("cuda") is None
    assert uv(index, torch="cpu")["pip"] == {"torch-backend": "cpu"}
    (tmp_path / "torchvision-0.1.whl").touch()
    assert index.torch_for("cpu") == "cpu"
    (tmp_path / "torch-2.13.0+cpu.whl").touch()
    assert index.torch_for("cpu") is None


def test_the_shell_gets_proxies_in_both_cases_and_every_character_as_it_is(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    odd = "http://me:'$(touch /tmp/x)\"\\`id`@proxy.example:3128"
    variables = shell(parse(HTTPS_PROXY=odd, NO_PROXY="a, b", SSL_CERT_FILE=str(bundle)))
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == odd
    assert variables["NO_PROXY"] == variables["no_proxy"] == "a, b"
    assert variables["UV_CONFIG_FILE"] == "/run/secrets/uv.toml"
    assert variables["SSL_CERT_FILE"] == "/run/secrets/ca.pem"


def test_without_a_bundle_the_images_own_is_trusted() -> None:
    assert "SSL_CERT_FILE" not in shell(parse())


def test_secrets_are_files_that_nobody_else_reads_and_that_do_not_stay(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    umask = os.umask(0)
    try:
        with parse(f'global.index-url="{SECRET}"', SSL_CERT_FILE=str(bundle)).handed_in() as handed:
            assert set(handed.secrets) == {"environment", "uv.toml", "ca.pem"}
            for name in ("environment", "uv.toml"):
                assert handed.secrets[name].stat().st_mode & 0o777 == 0o600
                assert handed.secrets[name].parent.stat().st_mode & 0o077 == 0
            assert SECRET in handed.secrets["uv.toml"].read_text()
    finally:
        os.umask(umask)
    assert not handed.secrets["uv.toml"].exists()
    assert not handed.contexts["find-links"].exists()
    assert bundle.exists()


def test_no_setting_stands_in_the_command_line_of_a_build(tmp_path: Path) -> None:
    index = parse(f'global.index-url="{SECRET}"', HTTPS_PROXY="http://me:word@proxy.example")
    with index.handed_in() as handed:
        request = buildx.ImageBuild(
            dockerfile=tmp_path, context=tmp_path, contexts=handed.contexts, secrets=handed.secrets
        )
        words = " ".join(request.argv(metadata=tmp_path / "iid"))
    assert "example" not in words
    assert "word" not in words


def test_package_files_of_all_folders_are_gathered(tmp_path: Path) -> None:
    for folder, name, text in (("a", "x.whl", "first"), ("b", "x.whl", "second"), ("b", "y.whl", "y")):
        (tmp_path / folder / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    (tmp_path / "b/link.whl").symlink_to("y.whl")
    with parse(f"global.find-links='{tmp_path}/a {tmp_path}/b'").handed_in() as handed:
        gathered = {path.name: path.read_text() for path in handed.contexts["find-links"].iterdir()}
    assert gathered == {"x.whl": "first", "y.whl": "y", "link.whl": "y"}
    assert (tmp_path / "a/x.whl").read_text() == "first"


def test_files_of_another_disk_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "x.whl").write_text("x")
    with parse(f"global.find-links='{tmp_path}'").handed_in() as handed:
        assert Path(handed.contexts["find-links"], "x.whl").read_text() == "x"


def test_modules_of_the_current_folder_are_not_pip_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pip", "configparser", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the folder')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert "a module of the folder" not in index._pip_config("list")
