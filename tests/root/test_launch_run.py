"""`ocirun launch` and `ocirun image` end to end: real images, real containers, nothing left."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lib import leaks
from lib.archives import directory, docker_save, file, make_tar, symlink

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

REPOSITORY = Path(__file__).parents[2]
APPLETS = (
    "sh",
    "cat",
    "echo",
    "env",
    "hostname",
    "id",
    "ls",
    "pwd",
    "sleep",
    "touch",
    "true",
    "stat",
)
PASSWD = "root:x:0:0::/root:/bin/sh\nguest:x:1000:1001::/home:/bin/sh\n1000:x:0:0::/:/bin/sh\n"
GROUP = "root:x:0:\nguest:x:1001:\nextra:x:2000:guest\n"


@pytest.fixture(scope="module")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A `docker save` archive of busybox, in two layers."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox-static")
    base = make_tar(
        directory("bin"),
        file("bin/busybox", Path(busybox).read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
        directory("home", mode=0o777),
        directory("mnt"),
        directory("tmp", mode=0o1777),
        file("etc/passwd", PASSWD.encode()),
        file("etc/group", GROUP.encode()),
        file("etc/issue", b"from below\n"),
    )
    config = {"Env": ["PATH=/bin", "FROM=image"], "Cmd": ["echo", "default"], "WorkingDir": "/home"}
    path = tmp_path_factory.mktemp("image") / "box.tar"
    path.write_bytes(docker_save(base, make_tar(file("etc/.wh.issue")), config=config))
    return str(path)


class Cli:
    """Runs ocirun with a state folder and a data root of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.run_root = folder / "run"
        self.data = folder / "data"
        self.id = f"{leaks.PREFIX}launch"

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "ocirun", "--root", str(self.run_root), *args]

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "OCIRUN_DATA_ROOT": str(self.data), "PYTHONPATH": str(REPOSITORY)}

    def __call__(self, *args: str, status: int | None = 0, **options: Any) -> Any:
        done = subprocess.run(
            self.command(*args),
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            **{"stdin": subprocess.DEVNULL, **options} if "input" not in options else options,
        )
        if status is not None:
            assert done.returncode == status, (done.stdout, done.stderr)
        return done

    def launch(self, *args: str, status: int | None = 0, **options: Any) -> str:
        """Launch in the image `box`; what it printed. `args` from the first word that is `--`."""
        at = args.index("--")
        words = ["launch", *args[:at], self.id, "box", *args[at + 1 :]]
        return str(self(*words, status=status, **options).stdout)

    def detach(self, *args: str) -> None:
        """Launch detached. The container keeps our standard streams, so they are no pipes."""
        with (self.data / "output").open("w") as output:
            words = self.command("launch", "-d", *args)
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            status = subprocess.run(words, env=self.environ, timeout=60, **streams).returncode
        assert status == 0, (self.data / "output").read_text()

    def folders(self) -> list[str]:
        return sorted(os.listdir(self.data / "containers"))


@pytest.fixture
def cli(tmp_path: Path, image_file: str) -> Iterator[Cli]:
    before = leaks.Snapshot.take()
    cli = Cli(tmp_path)
    cli("image", "import", "box", image_file)
    yield cli
    left = leaks.leaks_since(before)
    if cli.run_root.exists():
        left += [f"state: {name}" for name in os.listdir(cli.run_root)]
        cli("delete", "--force", cli.id)
    left += [f"image folder: {n}" for n in os.listdir(cli.data / "images") if n.startswith(".")]
    if left:
        leaks.sweep(before)
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture
def gone(cli: Cli) -> Iterator[Cli]:
    """The same, for tests that keep no files."""
    yield cli
    assert cli.folders() == []


@contextmanager
def running(cli: Cli, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A launch in the foreground whose script has said that it is ready."""
    with subprocess.Popen(
        cli.command("launch", cli.id, "box", "sh", "-c", script),
        env=cli.environ,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


def test_default_command_environment_and_directory(gone: Cli) -> None:
    assert gone("launch", gone.id, "box").stdout == "default\n"
    assert gone.launch("--", "env").split() == ["PATH=/bin", "FROM=image", "HOME=/root"]
    assert gone.launch("--", "pwd") == "/home\n"
    assert gone.launch("--", "cat", "/etc/issue", status=1) == ""


def test_exit_status(gone: Cli) -> None:
    gone.launch("--", "sh", "-c", "exit 7", status=7)


def test_exit_status_of_a_signal(gone: Cli) -> None:
    with running(gone, "echo ready; sleep 60") as process:
        os.kill(json.loads(gone("state", gone.id).stdout)["pid"], signal.SIGKILL)
        assert process.wait(20) == 137


def test_writes_go_to_a_layer_that_is_thrown_away(gone: Cli) -> None:
    rootfs = gone.data / "images" / "box" / "rootfs"
    before = sorted(str(path) for path in rootfs.rglob("*"))
    script = "echo new >/etc/new; rm /etc/passwd; cat /etc/new; ls /etc"
    assert gone.launch("--", "sh", "-c", script).split() == ["new", "group", "new"]
    assert sorted(str(path) for path in rootfs.rglob("*")) == before
    assert gone.launch("--", "ls", "/etc").split() == ["group", "passwd"]


def test_root_directory_looks_like_the_image_s(gone: Cli) -> None:
    assert gone.launch("--", "stat", "-c", "%a %u", "/") == "755 0\n"


def test_options(gone: Cli, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "f").write_text("shared")
    volume = ("-v", f"{tmp_path}/shared:/mnt")
    assert gone.launch("-e", "A=b c", "-e", "HOME", "--", "env").split("\n")[2:4] == [
        "A=b c",
        f"HOME={os.environ['HOME']}",
    ]
    assert gone.launch("-w", "/tmp", "--", "pwd") == "/tmp\n"
    assert gone.launch("--hostname", "web", "--", "hostname") == "web\n"
    assert gone.launch("--", "hostname") == gone.id + "\n"
    assert gone.launch(*volume, "--", "sh", "-c", "cat /mnt/f; echo x >/mnt/g") == "shared"
    assert (tmp_path / "shared" / "g").read_text() == "x\n"
    readonly = ("-v", f"{tmp_path}/shared:/mnt:ro")
    gone.launch(*readonly, "--", "touch", "/mnt/h", status=1)
    assert not (tmp_path / "shared" / "h").exists()


def test_relative_volume_is_relative_to_the_caller(gone: Cli, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "f").write_text("found")
    assert gone.launch("-v", "here:/mnt", "--", "cat", "/mnt/f", cwd=tmp_path) == "found"


USERS = [
    ("0", 0, 0, []),
    ("guest", 1000, 1001, [2000]),
    ("1000", 1000, 0, []),
    ("guest:extra", 1000, 2000, []),
    ("77:88", 77, 88, []),
]


@pytest.mark.parametrize(("user", "uid", "gid", "groups"), USERS)
def test_users(gone: Cli, user: str, uid: int, gid: int, groups: list[int]) -> None:
    lines = gone.launch("-u", user, "--", "cat", "/proc/self/status").splitlines()
    found = {
        key: [int(word) for word in rest.split()]
        for key, rest in (
            line.split(":", 1) for line in lines if line.startswith(("Uid:", "Gid:", "Groups:"))
        )
    }
    assert found == {"Uid": [uid] * 4, "Gid": [gid] * 4, "Groups": groups}


def test_read_only(gone: Cli) -> None:
    gone.launch("--read-only", "--", "touch", "/etc/x", status=1)
    assert gone.launch("--read-only", "--", "sh", "-c", "touch /dev/shm/x && echo ok") == "ok\n"


def test_host_image(gone: Cli) -> None:
    mark = Path(f"/root/ocirun-mark-{os.getpid()}")
    script = f"touch {mark} && ls {mark} && cat /proc/1/comm"
    done = gone("launch", gone.id, "host", "sh", "-c", script)
    assert done.stdout == f"{mark}\nsh\n"
    assert not mark.exists()
    gone("launch", "--read-only", gone.id, "host", "touch", str(mark), status=1)


def test_network(gone: Cli) -> None:
    assert gone.launch("--", "ls", "/sys/class/net").split() == ["lo"]
    shown = gone.launch("--network", "host", "--", "ls", "/sys/class/net").split()
    assert sorted(shown) == sorted(os.listdir("/sys/class/net"))
    if os.path.isfile("/etc/resolv.conf"):
        resolver = gone.launch("--network", "host", "--", "cat", "/etc/resolv.conf")
        assert resolver == Path("/etc/resolv.conf").read_text()


LIMITS = [
    (("--memory", "64m"), ("memory.limit_in_bytes", "memory.max"), "67108864"),
    (("--cpus", "0.5"), ("cpu.cfs_quota_us",), "50000"),
    (("--pids-limit", "12"), ("pids.max",), "12"),
]


@pytest.mark.parametrize(("option", "files", "value"), LIMITS)
def test_limits(gone: Cli, option: tuple[str, ...], files: tuple[str, ...], value: str) -> None:
    gone.detach(*option, gone.id, "box", "sleep", "60")
    try:
        found = [
            Path(folder, name).read_text().strip()
            for folder in sorted(leaks.cgroups(gone.id))
            for name in files
            if Path(folder, name).exists()
        ]
    finally:
        gone("delete", "--force", gone.id)
    if not found:
        pytest.skip(f"no cgroup controller here has {files[0]}")
    assert found == [value]


def test_standard_input(gone: Cli) -> None:
    assert gone.launch("-i", "--", "cat", input="typed") == "typed"
    assert gone.launch("--", "cat", input="typed") == ""


def test_terminal(gone: Cli) -> None:
    """With -t the command has a terminal whose size is ours."""
    from lib.terminal import Terminal

    os.environ["OCIRUN_DATA_ROOT"] = str(gone.data)
    try:
        with Terminal() as terminal:
            terminal.resize(33, 99)
            script = "test -t 0 && test -t 1 && echo yes; read x; echo got:$x"
            terminal.spawn(gone.command("launch", "-t", gone.id, "box", "sh", "-c", script))
            terminal.read_until(b"yes")
            terminal.write(b"line\n")
            terminal.read_until(b"got:line")
            assert terminal.process is not None
            assert terminal.process.wait(20) == 0
    finally:
        del os.environ["OCIRUN_DATA_ROOT"]


def test_signals_reach_the_command(gone: Cli) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    with running(gone, script) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 5


def test_detach(cli: Cli) -> None:
    cli.detach(cli.id, "box", "sh", "-c", "echo x >/tmp/f; sleep 60")
    assert (cli.data / "output").read_text() == ""
    state = json.loads(cli("state", cli.id).stdout)
    assert state["status"] == "running"
    assert state["bundle"] == str(cli.data / "containers" / cli.id)
    upper = cli.data / "containers" / cli.id / "upper" / "tmp" / "f"
    deadline = time.monotonic() + 10
    while not upper.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert upper.read_text() == "x\n"
    assert "in use" in cli("image", "remove", "box", status=1).stderr
    assert "already exists" in cli("launch", cli.id, "box", "true", status=1).stderr
    cli("kill", cli.id, "KILL")
    deadline = time.monotonic() + 10
    while json.loads(cli("state", cli.id).stdout)["status"] != "stopped":
        assert time.monotonic() < deadline
    cli("delete", cli.id)
    assert cli.folders() == []
    cli("image", "remove", "box")
    assert cli("image", "list", "--quiet").stdout == ""


def test_keep(cli: Cli) -> None:
    cli.launch("--keep", "--", "sh", "-c", "echo 1 >>/etc/kept")
    assert cli.folders() == [cli.id]
    assert cli.launch("--keep", "--", "sh", "-c", "echo 2 >>/etc/kept; cat /etc/kept") == "1\n2\n"
    assert "were kept" in cli("launch", cli.id, "box", "true", status=1).stderr
    assert (cli.data / "containers" / cli.id / "upper" / "etc" / "kept").read_text() == "1\n2\n"
    cli("list")
    assert json.loads(cli("list", "--format", "json").stdout) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing-image", "true"], "there is no image 'missing-image'"),
        (["box", "no-such-command"], "no-such-command"),
        (["-u", "nobody", "box", "true"], "the image has no user 'nobody'"),
        (["-v", "/nowhere/at/all:/x", "box", "true"], "does not exist"),
        (["--memory", "1x", "box", "true"], "invalid memory limit"),
        (["-v", "/tmp:/etc/passwd/x", "box", "true"], "/etc/passwd/x"),
    ],
)
def test_failures_leave_nothing(gone: Cli, args: list[str], message: str) -> None:
    for mode in ([], ["-d"], ["--keep"]):  # nothing that runs holds the pipes
        done = gone("launch", *mode, gone.id, *args, status=None)
        assert done.returncode != 0
        assert message in done.stderr
        assert gone.folders() == []


def test_killed_launch_can_be_deleted(gone: Cli) -> None:
    """SIGKILL of the launcher: `delete --force` clears container and folder."""
    with running(gone, "echo ready; sleep 60") as process:
        process.kill()
        process.wait(20)
        assert gone.folders() == [gone.id]
        gone("delete", "--force", gone.id)
        gone("delete", "--force", gone.id)
    assert gone.launch("--", "echo", "again") == "again\n"


def test_bundle_only_runs_as_any_bundle(gone: Cli, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    words = (
        "launch",
        "--bundle-only",
        str(bundle),
        gone.id,
        "box",
        "sh",
        "-c",
        "echo x | cat >/u; cat /u",
    )
    gone(*words)
    moved = bundle.rename(tmp_path / "moved")
    assert gone("run", "--bundle", str(moved), gone.id).stdout == "x\n"
    assert (moved / "upper" / "u").read_text() == "x\n"


def test_image_list(cli: Cli) -> None:
    lines = cli("image", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "SOURCE", "SIZE", "FILES", "IMPORTED", "DIGEST"]
    assert lines[1].split()[:2] == ["box", "docker"]
    (image,) = json.loads(cli("image", "list", "--format", "json").stdout)
    assert image["name"] == "box"
    assert image["config"]["cmd"] == ["echo", "default"]
    assert cli("image", "list", "-q").stdout == "box\n"
    cli("image", "remove", "box")
    assert "there is no image 'box'" in cli("image", "remove", "box", status=1).stderr


def test_import_is_silent_on_a_pipe(cli: Cli, image_file: str) -> None:
    done = cli("image", "import", "other", image_file)
    assert (done.stdout, done.stderr) == ("", "")


def test_import_from_standard_input(cli: Cli, image_file: str) -> None:
    with open(image_file, "rb") as stream:
        cli("image", "import", "other", "-", stdin=stream)
    assert cli("launch", cli.id, "other").stdout == "default\n"


def test_import_shows_its_progress_on_a_terminal(cli: Cli, image_file: str) -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\0\x78\0\0\0\0\0")
    environ = {**cli.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = cli.command("image", "import", "other", image_file)
    with subprocess.Popen(
        command, env=environ, stdin=slave, stdout=subprocess.PIPE, stderr=slave
    ) as process:
        os.close(slave)
        seen = b""
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:  # EIO: the other side is closed
            pass
        os.close(master)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert b"other" in seen
    assert b"unpacking" in seen
    assert "━".encode() in seen
