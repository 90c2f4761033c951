"""A root file system that is an overlay, by annotations of the bundle: ocirun's own."""

import os
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime

pytestmark = pytest.mark.only("ocirun")
NAME = "run.ocirun.overlay."


@pytest.fixture
def layers(bundle: Bundle) -> Bundle:
    """The bundle's rootfs becomes the lower layer; root.path is an empty folder."""
    (bundle.path / "merged").mkdir()
    bundle.set("/root", {"path": "merged", "readonly": False})
    return bundle.set("/annotations", {f"{NAME}lowerdir": "rootfs", f"{NAME}upperdir": "tmpfs"})


def kept(bundle: Bundle) -> Path:
    """Turns the throw-away upper layer into folders of the bundle; returns the upper one."""
    for name in ("upper", "work"):
        (bundle.path / name).mkdir()
        bundle.config["annotations"][f"{NAME}{name}dir"] = name
    return bundle.path / "upper"


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_root_is_an_overlay(runtime: Runtime, layers: Bundle) -> None:
    assert mountinfo.find(runtime.probe(layers)["mountinfo"], "/").type == "overlay"


def test_writes_vanish(runtime: Runtime, layers: Bundle) -> None:
    before = names(layers.rootfs)
    layers.sh("echo x > /etc/new; rm /etc/passwd; echo y >> /etc/group; mkdir /etc/folder; ls /etc")
    assert runtime.run(layers).ok().out.split() == ["folder", "group", "new"]
    assert names(layers.rootfs) == before
    assert "y" not in (layers.rootfs / "etc/group").read_text().splitlines()
    assert names(layers.path / "merged") == []


def test_every_container_has_a_layer_of_its_own(runtime: Runtime, layers: Bundle) -> None:
    layers.sh("test ! -e /etc/new && touch /etc/new")
    runtime.run(layers).ok()
    runtime.run(layers).ok()


def test_upper_layer_is_kept(runtime: Runtime, layers: Bundle) -> None:
    upper = kept(layers)
    runtime.run(layers.sh("echo x > /etc/new; rm /etc/passwd")).ok()
    assert (upper / "etc/new").read_text() == "x\n"
    assert (upper / "etc/passwd").is_char_device()
    assert (layers.rootfs / "etc/passwd").exists()
    runtime.run(layers.sh("cat /etc/new; test ! -e /etc/passwd")).ok()


def test_several_lower_layers(runtime: Runtime, layers: Bundle) -> None:
    top = layers.path / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("from the top\n")
    layers.config["annotations"][f"{NAME}lowerdir"] = "top:rootfs"
    layers.sh("cat /etc/passwd; ls /etc/group")
    assert runtime.run(layers).ok().out == "from the top\n/etc/group\n"


def test_absolute_lower_layer(runtime: Runtime, layers: Bundle) -> None:
    layers.config["annotations"][f"{NAME}lowerdir"] = str(layers.rootfs)
    assert runtime.run(layers.sh("echo fine")).ok().out == "fine\n"


def test_lower_layers_only_are_readonly(runtime: Runtime, layers: Bundle) -> None:
    (layers.path / "second").mkdir()
    layers.set("/annotations", {f"{NAME}lowerdir": "rootfs:second"})
    assert runtime.run(layers.sh("touch /etc/new")).status != 0


def test_readonly_root_over_an_upper_layer(runtime: Runtime, layers: Bundle) -> None:
    layers.set("/root/readonly", True).sh("touch /etc/new")
    assert runtime.run(layers).status != 0


def test_mounts_and_masks_on_the_overlay(runtime: Runtime, layers: Bundle) -> None:
    layers.mount("/new/place", "tmpfs", "mark").add("/linux/maskedPaths", "/etc/passwd")
    layers.sh("grep -c mark /proc/mounts; cat /etc/passwd")
    assert runtime.run(layers).ok().out == "1\n"
    assert not (layers.rootfs / "new").exists()


def test_nothing_of_it_is_seen_on_the_host(runtime: Runtime, layers: Bundle) -> None:
    runtime.create(layers.sleeper()).ok()
    runtime.start(layers.id).ok()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(layers.path) not in mounts
    assert names(layers.path / "merged") == []


def test_machines_own_root_as_lower_layer(runtime: Runtime, layers: Bundle) -> None:
    layers.config["annotations"][f"{NAME}lowerdir"] = "/"
    layers.sh("cat /etc/debian_version && touch /etc/ocirun-was-here && ls /etc/ocirun-was-here")
    if not os.path.exists("/etc/debian_version"):
        pytest.skip("the machine is no Debian")
    runtime.run(layers).ok()
    assert not os.path.exists("/etc/ocirun-was-here")


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"lowerdir": "missing", "upperdir": "tmpfs"}, ["missing", "no such file", "lowerdir"]),
        (
            {"lowerdir": "rootfs", "upperdir": "missing", "workdir": "missing"},
            ["missing", "no such file"],
        ),
        ({"lowerdir": "rootfs", "upperdir": "upper"}, ["workdir"]),
        ({"lowerdir": "", "upperdir": "tmpfs"}, ["lowerdir"]),
    ],
)
def test_mistakes(
    runtime: Runtime, layers: Bundle, notes: dict[str, str], words: list[str]
) -> None:
    layers.set("/annotations", {NAME + key: value for key, value in notes.items()})
    runtime.run(layers).failed(*words)
    assert runtime.containers() == []
