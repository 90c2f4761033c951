"""The box: namespaces and cgroups for whole engines (`box_init.py` is its first process).

What belongs here is how commands get into it and what comes out; nothing about any engine.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INIT = Path(__file__).with_name("box_init.py")
NAMESPACES = ("mount", "net", "ipc", "uts", "pid")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run/box/home",
    "TMPDIR": "/run/box/tmp",
    "LANG": "C.UTF-8",
}
# The box's cgroups are the caller's, whatever cgroup the tests run in.
# And so is its root the working directory: nsenter's --wd is opened outside.
JOIN = """cd /; for group in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/init/cgroup.procs \
/sys/fs/cgroup/*/init/cgroup.procs; do echo 0 2>/dev/null >"$group"; done 2>/dev/null; exec "$@" """


@dataclass
class Done:
    """How a command in the box ended."""

    argv: list[str]
    status: int
    out: str
    err: str

    def ok(self) -> "Done":
        """Itself if the command succeeded; else fails the test with what it said."""
        assert self.status == 0, str(self)
        return self

    def __str__(self) -> str:
        words = " ".join((self.err.strip() or self.out.strip()).split("\n")[-4:])
        return f"{shlex.join(self.argv)[:300]} -> {self.status}: {words[-1500:]}"


class Box:
    """One box, with an empty folder that is `self.inside` in it."""

    inside = Path("/run/box")

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ocirun-box-"))
        self.folder.chmod(0o711)
        self.name = self.folder.name
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(mode=0o755)
        self.log = (self.folder / "log").open("wb")
        self.unshare = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", *(f"--{name}" for name in NAMESPACES), "--fork", "--kill-child"),
                *(sys.executable, "-I", "-S", str(INIT), str(self.folder), self.name),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip
        assert self.unshare.stdout
        if self.unshare.stdout.readline() != b"ready\n":
            words = (self.folder / "log").read_text()
            self.close()
            raise OSError(f"no box: {words}")
        children = Path(f"/proc/{self.unshare.pid}/task/{self.unshare.pid}/children")
        self.init = int(children.read_text())

    def argv(self, *argv: str | Path) -> list[str]:
        """A command line that executes another one in the box."""
        enter = [f"--{name}" for name in (*NAMESPACES, "cgroup")]
        return [
            *("nsenter", "--target", str(self.init), *enter),
            *("sh", "-c", JOIN, "enter", *map(str, argv)),
        ]

    def popen(self, *argv: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
        """Starts a command in the box; its standard streams are the log unless given."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        return subprocess.Popen(self.argv(*argv), **{"env": ENVIRONMENT, **streams, **options})

    def call(self, *argv: str | Path, env: dict[str, str] | None = None, **options: Any) -> Done:
        """Runs a command to its end; fails the test if that is not there after 30 seconds.

        Output goes through files: a container that stays may hold the streams.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            streams = {"stdout": out, "stderr": err}
            if "input" not in options:
                streams["stdin"] = subprocess.DEVNULL
            options = {"timeout": 30, "env": {**ENVIRONMENT, **(env or {})}, **streams, **options}
            try:
                status = subprocess.run(self.argv(*argv), **options).returncode
            except subprocess.TimeoutExpired as late:
                words = shlex.join(map(str, argv))[:300]
                raise AssertionError(f"{words} -> no end in {late.timeout} s") from None
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace").replace("\r\n", "\n"))
        return Done(list(map(str, argv)), status, *texts)

    def close(self) -> None:
        """Ends all processes in it and removes its cgroups and its folder."""
        self.unshare.send_signal(signal.SIGKILL)
        self.unshare.wait()
        self.log.close()
        deadline = time.monotonic() + 10
        for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
            while not remove_tree(hierarchy / self.name) and time.monotonic() < deadline:
                time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_tree(group: Path) -> bool:
    """Removes a cgroup and those below it; whether none is left."""
    for folder, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            return False
    return True
