"""What goes wrong, what is said, and that nothing is left behind (the leak check sees to that).

For every runtime: it fails, with the decisive words. For ocirun also: the step,
the line of config.json that asked for it, the system call with its error, a hint.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lib import leaks
from lib.bundle import Bundle
from lib.runtime import Runtime

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


# The bundle


@pytest.mark.parametrize("command", ["create", "run"])
def test_missing_config(runtime: Runtime, bundle: Bundle, command: str) -> None:
    runtime.call(command, "--bundle", bundle.path, bundle.id).failed("config.json")
    assert runtime.containers() == []


@pytest.mark.parametrize("command", ["create", "run"])
def test_missing_bundle(runtime: Runtime, bundle: Bundle, command: str) -> None:
    missing = bundle.path / "missing"
    runtime.call(command, "--bundle", missing, bundle.id).failed("no such file")
    assert runtime.containers() == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "nonsense", '{"ociVersion": "1.0.2",}', "[]", "null", '"x"', "{}", "\0", "\xff"],
)
def test_config_that_is_none(runtime: Runtime, bundle: Bundle, text: str) -> None:
    (bundle.path / "config.json").write_bytes(text.encode("latin-1"))
    runtime.call("run", "--bundle", bundle.path, bundle.id).failed()
    assert runtime.containers() == []


def test_config_that_is_a_folder(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "config.json").mkdir()
    runtime.call("run", "--bundle", bundle.path, bundle.id).failed("directory|not a regular file")


def test_missing_rootfs(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.set("/root/path", "nowhere")).failed(
        "nowhere|rootfs", "no such file|not exist"
    )
    assert runtime.containers() == []


def test_rootfs_that_is_a_file(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "file").touch()
    runtime.run(bundle.set("/root/path", "file")).failed()
    assert runtime.containers() == []


@pytest.mark.parametrize("path", ["", "/"])
def test_roots_that_are_none(runtime: Runtime, bundle: Bundle, path: str) -> None:
    if path == "/" and runtime.kind != "ocirun":
        pytest.skip("runc and crun take the host's root for a container's")
    runtime.run(bundle.set("/root/path", path)).failed()


def test_no_process(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.drop("/process")).failed("process")


@pytest.mark.parametrize("args", [[], None])
def test_no_args(runtime: Runtime, bundle: Bundle, args: list[str] | None) -> None:
    runtime.run(bundle.set("/process/args", args)).failed("args")


# Around it


def test_no_privilege(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    folder.chmod(0o777)
    bundle.write()
    result = runtime.call("run", "--bundle", bundle.path, bundle.id, prefix=NOBODY)
    result.failed("permission denied|operation not permitted|rootless")
    assert runtime.containers() == []


def test_state_folder_that_cannot_be_made(runtime: Runtime, bundle: Bundle) -> None:
    runtime.root.write_text("a file")
    runtime.create(bundle.sleeper()).failed()
    runtime.root.unlink()


def fill(folder: Path) -> None:
    """Mounts a file system without a free byte."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "none", folder], check=True)
    (folder / ".filler").write_bytes(b"x" * 4096)


@pytest.fixture
def full_disk(runtime: Runtime) -> Iterator[Path]:
    """The state folder is on a file system without a free byte."""
    runtime.root.mkdir()
    fill(runtime.root)
    yield runtime.root
    subprocess.run(["umount", runtime.root], check=True)


@pytest.mark.parametrize("command", ["create", "run"])
def test_full_disk(runtime: Runtime, bundle: Bundle, full_disk: Path, command: str) -> None:
    bundle.sleeper().write()
    runtime.call(command, "--bundle", bundle.path, bundle.id).failed("no space left")
    assert runtime.containers() == [".filler"]
    (full_disk / ".filler").unlink()


def test_pid_file_on_a_full_disk(runtime: Runtime, bundle: Bundle) -> None:
    disk = bundle.path / "disk"
    disk.mkdir()
    fill(disk)
    try:
        runtime.create(bundle.sleeper(), "--pid-file", disk / "pid").failed("no space left")
        assert runtime.containers() == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_no_cgroups_to_write_to(runtime: Runtime, bundle: Bundle) -> None:
    script = 'for m in /sys/fs/cgroup/*; do mount -o remount,bind,ro $m; done; exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    runtime.run(bundle, prefix=prefix).failed("read-only file system")
    assert runtime.containers() == []


def test_damaged_record_of_another_container(
    runtime: Runtime, bundle: Bundle, make_bundle: Callable[..., Bundle]
) -> None:
    """One unreadable record is no reason to lose sight of the others."""
    other = make_bundle().sleeper()
    runtime.create(other).ok()
    pid = runtime.state(other.id)["pid"]
    runtime.create(bundle.sleeper()).ok()
    for record in (runtime.root / other.id).glob("*"):
        if record.is_file() and record.stat().st_size:
            record.write_bytes(b"")
    try:
        assert bundle.id in runtime.call("list", "--quiet").out.split()
        runtime.delete(bundle.id, "--force").ok()
        runtime.delete(other.id, "--force")
    finally:
        # Where its cgroups were stood in the record alone.
        leaks.end(pid)
        leaks.remove(leaks.cgroups(other.id))
        shutil.rmtree(runtime.root / other.id, ignore_errors=True)


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["--nonsense"],
        ["create"],
        ["create", "--bundle"],
        ["create", "--nonsense", "x"],
        ["create", "a", "b"],
        ["start"],
        ["state"],
        ["state", "a", "b"],
        ["kill"],
        ["delete"],
        ["create", "--preserve-fds", "x", "y"],
    ],
    ids=" ".join,
)
def test_mistakes_on_the_command_line(runtime: Runtime, argv: list[str], bundle: Bundle) -> None:
    result = runtime.call(*argv, cwd=bundle.path)
    assert result.status > 0
    assert result.err or result.out  # runc prints its usage on standard output


# What ocirun says


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("prepare", "at", "words"),
    [
        (
            lambda b: b.mount("/mnt", "nosuchfs", "none", "ro"),
            '"nosuchfs"',
            ["mount nosuchfs on /mnt", "no such device", "/mounts/7", "ENODEV", "hint:"],
        ),
        (
            lambda b: b.mount("/mnt", "tmpfs", "tmpfs", "nonsense=1"),
            '"nonsense=1"',
            ["/mnt", "/mounts/7", "EINVAL", "nonsense"],
        ),
        (
            lambda b: b.mount("/mnt", "bind", "/not/there", "bind"),
            '"/not/there"',
            ["/not/there", "/mounts/7", "ENOENT", "hint:"],
        ),
        (
            lambda b: b.args("/bin/not-there"),
            '"/bin/not-there"',
            ["/bin/not-there", "/process/args/0", "execve", "ENOENT", "hint:"],
        ),
        (
            lambda b: b.args("not-there"),
            '"not-there"',
            ["not-there", "executable file not found in $PATH", "/process/args/0"],
        ),
        (
            lambda b: b.set("/process/cwd", "/etc/passwd"),
            '"/etc/passwd"',
            ["/etc/passwd", "/process/cwd", "ENOTDIR"],
        ),
        (
            lambda b: b.set("/root/path", "not-there"),
            '"not-there"',
            ["not-there", "/root/path", "ENOENT", "hint:"],
        ),
        (
            lambda b: b.namespace("network", "/not/there"),
            '"/not/there"',
            ["/not/there", "/linux/namespaces", "ENOENT"],
        ),
        (
            lambda b: b.set("/linux/sysctl", {"net.ipv4.nonsense": "1"}),
            '"net.ipv4.nonsense"',
            ["net.ipv4.nonsense", "/linux/sysctl", "ENOENT"],
        ),
        (
            lambda b: b.set("/hooks/createRuntime", [{"path": "/not/there"}]),
            '"/not/there"',
            ["/not/there", "/hooks/createRuntime/0", "no such file"],
        ),
        (
            lambda b: b.set("/linux/cgroupsPath", "/ocirun-test/" + "x" * 300),
            '"/ocirun-test/xxx',
            ["/linux/cgroupsPath", "255"],
        ),
        (
            lambda b: b.set("/linux/resources/cpu", {"cpus": "999"}),
            '"cpus"',
            ["cpus", "/linux/resources/cpu/cpus", "999"],
        ),
        (
            lambda b: b.set("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 40}]),
            '"rlimits"',
            ["RLIMIT_NOFILE", "/process/rlimits/0", "EPERM"],
        ),
        (
            lambda b: b.set("/process/user/uid", 4294967296),
            "4294967296",
            ["/process/user/uid", "4294967296"],
        ),
        (
            lambda b: b.namespace("nonsense"),
            '"nonsense"',
            ["/linux/namespaces", "nonsense", "expected one of"],
        ),
    ],
    ids=["filesystem", "data", "source", "program", "path", "cwd", "rootfs", "join", "sysctl", "hook",
         "cgroup", "cpus", "rlimit", "uid", "namespace"],
)  # fmt: skip
def test_where_and_why(
    runtime: Runtime, bundle: Bundle, prepare: Callable[[Bundle], Bundle], at: str, words: list[str]
) -> None:
    """The message names the step, the pointer, the error, and a line near the offending one."""
    prepare(bundle)
    result = runtime.run(bundle).failed(*words)
    line = bundle.line_of(at)
    near = [f"config.json:{number}:" for number in range(line - 6, line + 3)]
    assert any(place in result.err for place in near), f"not near line {line}: {result}"
    assert "Traceback" not in result.err
    assert result.err.startswith("ocirun: ")


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "config.json:1:1"),
        ("{\n  nonsense", "config.json:2:3"),
        ('{\n "a": 1,\n}', "config.json:3:1"),
        ('{"a": tru}', "config.json:1:7"),
        ('{\n\n"a" 1}', "config.json:3:5"),
    ],
)
def test_place_of_bad_json(runtime: Runtime, bundle: Bundle, text: str, place: str) -> None:
    (bundle.path / "config.json").write_text(text)
    runtime.call("run", "--bundle", bundle.path, bundle.id).failed(place)


@pytest.mark.only("ocirun")
def test_missing_config_hint(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.call("run", "--bundle", bundle.path, bundle.id)
    result.failed(f"cannot read {bundle.path}/config.json", "no such file", "ocirun spec")


@pytest.mark.only("ocirun")
def test_several_mistakes_are_told_at_once(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/cwd", 5).set("/root/readonly", "yes").set("/mounts/0/options", "ro")
    runtime.run(bundle).failed("/process/cwd", "/root/readonly", "/mounts/0/options")


@pytest.mark.only("ocirun")
def test_no_privilege_hint(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    folder.chmod(0o777)
    bundle.write()
    result = runtime.call("run", "--bundle", bundle.path, bundle.id, prefix=NOBODY)
    result.failed("needs a user namespace", "hint:", "as root", "/linux/namespaces")


@pytest.mark.only("ocirun")
def test_plain_on_a_pipe(runtime: Runtime, bundle: Bundle) -> None:
    assert "\x1b" not in runtime.run(bundle.args("/not/there")).failed().err


@pytest.mark.only("ocirun")
def test_json_on_standard_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("/not/there").write()
    result = runtime.call(
        "--log-format", "json", "run", "--bundle", bundle.path, bundle.id
    ).failed()
    (line,) = result.err.splitlines()
    assert json.loads(line)["level"] == "error"


@pytest.mark.only("ocirun")
def test_message_is_short_enough_for_conmon(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.args("/not/there/" + "x" * 3000 + "/" + "y" * 90000))
    assert len(result.failed().err.encode()) <= 8191


@pytest.mark.only("ocirun")
def test_control_characters_are_escaped(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.args("/not/\x1b[31mthere\r\n")).failed()
    assert "\x1b" not in result.err
    assert "\r" not in result.err


def test_rootfs_gone_after_create(runtime: Runtime, bundle: Bundle) -> None:
    """Deletion needs nothing of the bundle."""
    runtime.create(bundle.sleeper()).ok()
    shutil.rmtree(bundle.path)
    assert runtime.status(bundle.id) == "created"
    runtime.delete(bundle.id, "--force").ok()
    os.mkdir(bundle.path)
