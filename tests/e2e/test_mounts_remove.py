"""`mounts remove`, and what goes wrong with either command: hostile images, failures, bad files."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from lib import mountinfo
from lib.added import Mount, add, bind, call, inside, points, remove, table, tmpfs
from lib.bundle import Bundle
from lib.rootfs import up
from lib.runtime import Runtime

from ocirun.criu import mounts as criu

pytestmark = pytest.mark.only("ocirun")

# Removing


@pytest.mark.contract("`mounts add|remove`")
def test_the_list_that_was_added(runtime: Runtime, live: Bundle, source: Path) -> None:
    before = table(runtime, live)
    mounts = (tmpfs("/mnt"), bind("/mnt/a", source), tmpfs("/mnt"), bind("/opt/file", "/dev/null"))
    add(runtime, live, *mounts).ok()
    call(runtime, "remove", live, *mounts).ok()
    assert table(runtime, live) == before


def test_the_uppermost_goes(runtime: Runtime, live: Bundle) -> None:
    add(runtime, live, tmpfs("/mnt", "size=4k"), tmpfs("/mnt", "size=8k")).ok()
    remove(runtime, live, "/mnt").ok()
    assert "size=4k" in mountinfo.find(table(runtime, live), "/mnt").super


def test_through_a_symlink(runtime: Runtime, live: Bundle) -> None:
    os.symlink("/mnt/../mnt", live.rootfs / "opt/link")
    add(runtime, live, tmpfs("/opt/link/deep")).ok()
    assert "/mnt/deep" in points(runtime, live)
    remove(runtime, live, "/opt/link/deep").ok()
    assert "/mnt/deep" not in points(runtime, live)


def test_a_mount_of_config_json_in_use(runtime: Runtime, bundle: Bundle, source: Path) -> None:
    bundle.mount("/mnt", "bind", str(source), "bind").set("/process/cwd", "/mnt")
    remove(runtime, runtime.started(bundle), "/mnt").ok()
    assert "/mnt" not in points(runtime, bundle)
    assert (source / "file").exists()


@pytest.mark.parametrize("restored", ["", "rprivate", "unbindable"])
def test_all_or_nothing_is_removed(runtime: Runtime, live: Bundle, restored: str) -> None:
    """What is gone before the failure comes back; but what cannot be copied."""
    add(runtime, live, tmpfs("/mnt", *([restored] if restored else []))).ok()
    inside(runtime, live, "echo text > /mnt/file")
    done = remove(runtime, live, "/opt", "/mnt").failed("nothing is mounted there")
    assert "mounts.json:2:1 /0" in done.err or "/0" in done.err
    assert ("/mnt" in points(runtime, live)) == (restored != "unbindable")
    if restored != "unbindable":
        assert inside(runtime, live, "cat /mnt/file") == "text\n"


OWN = [
    "/",
    "/proc",
    "/sys",
    "/dev",
    "/dev/pts",
    "/dev/null",
    "/proc/kcore",
    "/proc/../proc/sys",
    "/x/..",
]


@pytest.mark.parametrize("place", OWN)
def test_own_mounts_stay(runtime: Runtime, live: Bundle, place: str) -> None:
    before = table(runtime, live)
    remove(runtime, live, place).failed("cannot be unmounted", "/0/destination")
    assert table(runtime, live) == before


@pytest.mark.parametrize(
    ("link", "goal"),
    [
        ("/mnt/x", "/proc/keys"),
        ("/mnt/x", "../../../proc/sys"),
        ("/mnt/x", "/"),
        ("/mnt/p", "/proc"),
    ],
)
def test_own_mounts_stay_if_a_link_leads_there(
    runtime: Runtime, live: Bundle, link: str, goal: str
) -> None:
    """A container could have its masks removed so."""
    os.symlink(goal, live.rootfs / link.strip("/"))
    before = table(runtime, live)
    remove(runtime, live, link).failed("one of the container's own")
    assert table(runtime, live) == before


@pytest.mark.parametrize(
    ("place", "words"),
    [("/opt", "nothing is mounted"), ("/opt/no", "no such"), ("/etc/passwd/x", "not a directory")],
)
def test_nothing_to_remove(runtime: Runtime, live: Bundle, place: str, words: str) -> None:
    remove(runtime, live, place).failed(words)


def test_mounts_that_came_locked(runtime: Runtime, bundle: Bundle, tree: Path) -> None:
    runtime.started(bundle.user_namespace())
    add(runtime, bundle, bind("/mnt", tree)).ok()
    remove(runtime, bundle, "/mnt/sub").failed("invalid argument", "locked")
    assert "/mnt/sub" in points(runtime, bundle)


# What an image, and a container that runs, can do about it


@pytest.mark.parametrize("style", ["absolute", "climbing"])
@pytest.mark.parametrize("mount", [bind, tmpfs], ids=["bind", "tmpfs"])
@pytest.mark.parametrize("destination", ["/link", "/link/new", "/link/new/deeper", "/link/file"])
def test_destination_through_a_symlink(
    runtime: Runtime,
    live: Bundle,
    canary: Path,
    style: str,
    mount: Any,
    destination: str,
) -> None:
    os.symlink(str(canary) if style == "absolute" else up(canary), live.rootfs / "link")
    add(runtime, live, mount(destination, *([live.rootfs / "etc"] if mount is bind else []))).ok()
    assert points(runtime, live)[-1].startswith(str(canary))


def test_magic_links_lead_nowhere(runtime: Runtime, bundle: Bundle) -> None:
    """A container with the host's pids must not have a mount made in the host's root."""
    runtime.started(bundle.drop_namespace("pid").set("/root/readonly", False))
    os.symlink("/proc/1/root/tmp", bundle.rootfs / "opt/x")
    before = table(runtime, bundle)
    add(runtime, bundle, tmpfs("/opt/x/new")).failed("symbolic links|permission denied")
    assert table(runtime, bundle) == before


def test_masks_cannot_be_covered(runtime: Runtime, live: Bundle) -> None:
    """A new procfs over /proc would have none."""
    before = table(runtime, live)
    new = {"destination": "/proc", "type": "proc", "source": "proc"}
    add(runtime, live, new).failed("/0/destination", "/proc")
    os.symlink("/proc", live.rootfs / "opt/p")
    for mount in ({**new, "destination": "/opt/p"}, bind("/opt/p", "/tmp"), tmpfs("/opt/p")):
        add(runtime, live, mount).failed("not permitted|symbolic links")
    assert table(runtime, live) == before


def test_destination_that_is_swapped(
    runtime: Runtime,
    live: Bundle,
    canary: Path,
    source: Path,
) -> None:
    """It is a folder and a link to the host's canary in turns, while mounts come and go."""
    script = (
        f"cd /opt; mkdir a b; ln -s {canary} b/x; mkdir a/x; "
        "while :; do mv -T a t; mv -T b a; mv -T t b; done"
    )
    pid_file = live.path / "pid"
    runtime.call("exec", "--detach", "--pid-file", pid_file, live.id, "sh", "-c", script).ok()
    for _ in range(12):
        if call(runtime, "add", live, bind("/opt/a/x/new", source)).status == 0:
            last = points(runtime, live)[-1]
            assert last.endswith("/x/new") or last == f"{canary}/new"
            remove(runtime, live, last)
    runtime.kill(live.id)
    os.waitpid(int(pid_file.read_text()), 0)  # the pid namespace lasts until then


def test_no_process_of_ours_is_seen(runtime: Runtime, live: Bundle, source: Path) -> None:
    """The container's processes never see the one that mounts, nor does its cgroup hold it."""
    done = threading.Event()
    seen: set[str] = set()

    pid = runtime.state(live.id)["pid"]

    def watch() -> None:
        while not done.is_set():
            seen.update(os.listdir(f"/proc/{pid}/root/proc"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for _ in range(3):
            add(runtime, live, bind("/mnt", source)).ok()
            remove(runtime, live, "/mnt").ok()
    finally:
        done.set()
        thread.join()
    assert {name for name in seen if name.isdigit()} == {"1", "2"}


# Failures


def test_all_or_nothing(runtime: Runtime, live: Bundle, source: Path) -> None:
    """The third of three fails: nothing of the others is left, no mount and no mount point."""
    before = table(runtime, live)
    done = add(
        runtime, live, bind("/opt/a/b", source), bind("/opt/file", "/dev/null"),
        bind("/etc/passwd", source),
    ).failed("not a directory", "/2")  # fmt: skip
    assert f"{live.path}/mounts.json:" in done.err
    assert "config.json" not in done.err
    assert table(runtime, live) == before
    assert os.listdir(live.rootfs / "opt") == []
    kept = json.loads((runtime.root / live.id / "config.json").read_text())
    assert kept["mounts"] == live.config["mounts"]


@pytest.mark.parametrize("users", [False, True], ids=["root", "userns"])
def test_late_failure(runtime: Runtime, bundle: Bundle, users: bool) -> None:
    if users:
        bundle.user_namespace()
    runtime.started(bundle.mount("/opt", "tmpfs", "tmpfs"))
    before = table(runtime, bundle)
    (bundle.path / "file").touch()
    mounts = (bind("/opt/a", bundle.path / "file"), tmpfs("/opt/d"), bind("/opt/d/e", "/dev/null"))
    add(runtime, bundle, *mounts, bind("/opt/a", bundle.path)).failed("not a directory")
    assert table(runtime, bundle) == before
    assert inside(runtime, bundle, "ls /opt") == ""


REFUSED = [
    (bind("/mnt", "/no/such"), "/0", "the source of the bind mount does not exist"),
    (bind("/mnt", "/etc", "bind", "ro", "remount"), "/0/options/2", "'remount'"),
    (bind("/", "/etc"), "/0/destination", "nothing can be mounted on /"),
    (bind("/mnt/..", "/etc"), "/0/destination", "nothing can be mounted on /"),
    (bind("/sys", "/etc"), "/0/destination", "nothing can be mounted on /sys"),
    (bind("/dev/null", "/dev/zero"), "/0/destination", "a device"),
    (bind("/proc/1", "/etc"), "/0/destination", "inside /proc"),
    (bind("/mnt", "/etc", "bind", "size=5"), "/0/options", "size"),
    (tmpfs("/mnt", "size=1k", "silent"), "/0/options/1", "'silent'"),
    (tmpfs("/mnt", "tmpcopyup"), "/0/options/0", "'tmpcopyup'"),
    (tmpfs("/mnt", "size=lots"), "/0", "bad value for 'size'"),
    (tmpfs("/mnt", "idmap"), "/0/options", "id-mapped"),
    ({"destination": "/mnt", "type": "nosuchfs"}, "/0", "is its module loaded"),
    ({"destination": "/mnt"}, "/0/type", "missing"),
    ({"type": "tmpfs"}, "/0/destination", "missing"),
    ({"destination": "/mnt", "type": "bind"}, "/0/source", "missing"),
    ({"destination": 5}, "/0/destination", "string"),
    (tmpfs("/mnt\0x"), "/0/destination", "nul"),
    ("/mnt", "/0", "object"),
]


@pytest.mark.parametrize(
    ("mount", "pointer", "words"), REFUSED, ids=[f"{p}-{w}" for _, p, w in REFUSED]
)
def test_refused(runtime: Runtime, live: Bundle, mount: Any, pointer: str, words: str) -> None:
    before = table(runtime, live)
    done = add(runtime, live, mount).failed(words)
    assert f" {pointer}\n" in done.err or f" {pointer}:" in done.err
    assert f"{live.path}/mounts.json:" in done.err
    assert table(runtime, live) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "mounts.json:1:2"), ("{}", "not an array"), ("", "mounts.json"), ("5", "array")],
)
@pytest.mark.parametrize("what", ["add", "remove"])
def test_bad_file(runtime: Runtime, live: Bundle, what: str, text: str, words: str) -> None:
    path = live.path / "mounts.json"
    path.write_text(text)
    runtime.call("mounts", what, live.id, path).failed(words)


@pytest.mark.parametrize("entry", ["/mnt", {}, {"destination": ""}, {"destination": 7}])
def test_bad_entry_to_remove(runtime: Runtime, live: Bundle, entry: Any) -> None:
    call(runtime, "remove", live, {"destination": "/a"}, entry).failed("mounts.json:", " /1")


def test_what_cannot_be_noted_is_not_done(runtime: Runtime, live: Bundle) -> None:
    before = table(runtime, live)
    blocker = runtime.root / live.id / "config.json.new"
    blocker.mkdir()
    try:
        add(runtime, live, tmpfs("/mnt")).failed("config.json")
    finally:
        blocker.rmdir()
    assert table(runtime, live) == before


def test_kept_config_has_them(runtime: Runtime, live: Bundle) -> None:
    """For a checkpoint, which names mounts from the host as config.json does."""

    def kept() -> list[Mount]:
        text = (runtime.root / live.id / "config.json").read_text()
        return json.loads(text)["mounts"][len(live.config["mounts"]) :]  # type: ignore[no-any-return]

    add(runtime, live, tmpfs("/mnt"), tmpfs("/opt")).ok()
    assert kept() == [tmpfs("/mnt"), tmpfs("/opt")]
    remove(runtime, live, "//mnt/").ok()
    assert kept() == [tmpfs("/opt")]


def test_usage(runtime: Runtime, live: Bundle) -> None:
    runtime.call("mounts", "add", live.id).failed("file")
    runtime.call("mounts", "change", live.id, "-").failed("no such command")
    runtime.call("mounts", "add", live.id, "/no/such/file").failed("no such file")


def test_checkpoint_knows_them(runtime: Runtime, live: Bundle, source: Path) -> None:
    """CRIU is told of an added bind mount as of one of config.json, and restore where it is from."""
    mounts = [bind("/mnt", source), tmpfs("/opt/scratch")]
    add(runtime, live, *mounts).ok()
    spec = json.loads((runtime.root / live.id / "config.json").read_text())
    pid = runtime.state(live.id)["pid"]
    outer = criu.external(criu.read_mounts(pid), criu.read_mounts("self"))
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    named = criu.names(outer, spec, root, {})
    os.close(root)
    assert named["/mnt"] == "/mnt"
    assert "/opt/scratch" not in named  # it is the container's alone, and in the images
    known = criu.sources([*named.values()], spec, str(live.path), {}, {})
    assert known["/mnt"] == str(source)
