"""Buildah: `run` in a working container, and `bud`."""

import pytest
from lib.engines import IMAGE
from lib.podman import Buildah

pytestmark = pytest.mark.programs("buildah")


def test_run(buildah: Buildah) -> None:
    name = buildah.start()
    done = buildah.in_it(name, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert done.status == 5, str(done)
    assert done.out == "out\n"
    assert done.err.startswith("err\n")


def test_run_keeps_its_changes(buildah: Buildah) -> None:
    name = buildah.start()
    buildah.in_it(name, "sh", "-c", "echo words > /file").ok()
    assert buildah.in_it(name, "cat", "/file").ok().out == "words\n"
    tag = f"localhost/{name}"
    buildah("commit", "--quiet", name, tag).ok()
    other = buildah.new_name()
    buildah("from", "--name", other, tag).ok()
    assert buildah.in_it(other, "cat", "/file").ok().out == "words\n"


def test_no_program(buildah: Buildah) -> None:
    done = buildah.in_it(buildah.start(), "nothere")
    assert done.status == 1, str(done)
    assert "executable file not found in $PATH" in done.err, str(done)


def test_input(buildah: Buildah) -> None:
    done = buildah.in_it(buildah.start(), "tr", "a-z", "A-Z", input=b"words")
    assert (done.status, done.out) == (0, "WORDS"), str(done)


def test_terminal(buildah: Buildah) -> None:
    flags = (f"--runtime={buildah.path}", *buildah.network, "--terminal")
    done = buildah.tty("run", *flags, buildah.start(), "--", "tty")
    assert done.status == 0, str(done)
    assert "/dev/pts/0" in done.out, str(done)


def test_user_and_environment(buildah: Buildah) -> None:
    flags = ("--user=5:6", "--env=A=b", "--workingdir=/tmp", "--hostname=boxed")
    done = buildah.in_it(
        buildah.start(), *flags, "--", "sh", "-c", "id -u; id -g; echo $A $PWD; hostname"
    )
    assert done.ok().out.split() == ["5", "6", "b", "/tmp", "boxed"]


def test_volume(buildah: Buildah) -> None:
    (buildah.box.folder / "shared").mkdir(exist_ok=True)
    (buildah.box.folder / "shared/file").write_text("words\n")
    flags = ("--volume", f"{buildah.box.inside}/shared:/mnt:ro")
    done = buildah.in_it(buildah.start(), *flags, "--", "cat", "/mnt/file")
    assert done.ok().out == "words\n"


def test_capabilities(buildah: Buildah) -> None:
    done = buildah.in_it(
        buildah.start(), "--cap-drop=all", "--", "grep", "CapEff", "/proc/self/status"
    )
    assert int(done.ok().out.split()[1], 16) == 0


@pytest.mark.parametrize("network", ["none", "host"])
def test_networks(buildah: Buildah, network: str) -> None:
    done = buildah.in_it(
        buildah.start(), f"--network={network}", "--", "readlink", "/proc/self/ns/net"
    )
    outside = buildah.box.call("readlink", "/proc/self/ns/net").out
    assert (done.ok().out == outside) == (network == "host")


def test_bud(buildah: Buildah) -> None:
    folder = buildah.box.folder / buildah.new_name()
    folder.mkdir()
    lines = (
        f"FROM {IMAGE} AS first",
        "RUN echo made by $(id -u) > /made",
        f"FROM {IMAGE}",
        "COPY --from=first /made /made",
        "USER 7",
        'RUN ["sh", "-c", "id -u > /tmp/who"]',
        "USER 0",
        "RUN --mount=type=tmpfs,target=/scratch df /scratch | grep -c tmpfs > /tmp/count",
    )
    (folder / "Containerfile").write_text("\n".join(lines) + "\n")
    tag = f"localhost/{folder.name}"
    flags = (f"--runtime={buildah.path}", "--network=none", "--layers", "-t", tag)
    buildah("bud", *flags, buildah.box.inside / folder.name).ok()
    name = buildah.new_name()
    buildah("from", "--name", name, tag).ok()
    done = buildah.in_it(name, "cat", "/made", "/tmp/who", "/tmp/count")
    assert done.ok().out.split("\n")[:3] == ["made by 0", "7", "1"]


def test_bud_that_fails(buildah: Buildah) -> None:
    folder = buildah.box.folder / buildah.new_name()
    folder.mkdir()
    (folder / "Containerfile").write_text(f"FROM {IMAGE}\nRUN exit 9\n")
    flags = (f"--runtime={buildah.path}", "--network=none")
    done = buildah("bud", *flags, buildah.box.inside / folder.name)
    assert done.status == 9, str(done)
