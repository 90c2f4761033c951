"""Runtime: drives any OCI runtime by its command line, as an engine would.

Output goes into files, not pipes: a container inherits the standard streams of
`create`, so a pipe would only close when the container ends.
"""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundle import Bundle

TIMEOUT = 20
CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCHER = CHECKOUT / "build/prefix/bin/ocirun"


def executable() -> Path:
    """The runtime under test: $RUNTIME (name or path), else the built launcher."""
    wanted = os.environ.get("RUNTIME") or str(LAUNCHER)
    found = shutil.which(wanted)
    if not found:
        raise FileNotFoundError(
            f"{wanted}: no such runtime; build it with `make build/prefix/bin/ocirun`"
        )
    return Path(found).absolute()


def kind_of(path: Path) -> str:
    """The name that the runtime gives itself: "ocirun", "runc", "crun"."""
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TIMEOUT)
    return version.stdout.split(maxsplit=1)[0] if version.stdout else path.name


@dataclass
class Result:
    """How a command ended: its exit status (negative: killed by that signal) and output."""

    args: list[str]
    status: int
    out_file: Path
    err_file: Path

    @property
    def out(self) -> str:
        return self.out_file.read_text(errors="surrogateescape")

    @property
    def err(self) -> str:
        return self.err_file.read_text(errors="surrogateescape")

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def ok(self) -> "Result":
        """Returns itself if the command succeeded; else fails the test with what it said."""
        assert self.status == 0, f"{self}"
        return self

    def failed(self, *words: str) -> "Result":
        """Returns itself if the command failed by itself, with all the words in its message.

        Of words with a "|" between them, one is enough.
        """
        assert self.status > 0, f"should have failed: {self}"
        assert self.err, f"failed without a message: {self}"
        low = self.err.lower()
        for word in words:
            found = any(choice in low for choice in word.lower().split("|"))
            assert found, f"no {word!r} in the message: {self}"
        return self

    def __str__(self) -> str:
        shown = self.args if len(str(self.args)) < 500 else [*self.args[:4], "..."]
        return f"{shown} -> {self.status}\nstdout: {self.out[:2000]}\nstderr: {self.err[:4000]}"


class Runtime:
    """One runtime with a state folder of its own.

    `prefix` is a command that executes the rest of its command line, for instance
    ("setpriv", "--reuid=1"): every call of the runtime goes through it. `options` are
    further global options of every call.
    """

    def __init__(self, path: Path, kind: str, folder: Path) -> None:
        self.path = path
        self.kind = kind
        self.folder = folder
        self.root = folder / "state"
        self.prefix: tuple[str, ...] = ()
        self.options: tuple[str, ...] = ()
        self.calls = 0

    def argv(self, *args: str | Path) -> list[str]:
        """The command line of the runtime with its --root; `prefix` is put before it."""
        options = ("--root", str(self.root), *self.options)
        return [*self.prefix, str(self.path), *options, *map(str, args)]

    def popen(self, *args: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Starts the runtime without waiting; standard streams are /dev/null unless given."""
        null = subprocess.DEVNULL
        streams = {"stdin": null, "stdout": null, "stderr": null}
        return subprocess.Popen(self.argv(*args), **{**streams, **options})

    def call(self, *args: str | Path, prefix: tuple[str, ...] = (), **options: Any) -> Result:
        """Runs the runtime to its end, at most TIMEOUT seconds.

        `prefix` is a command line to put before it, for instance ("setpriv", ...).
        `stdin`, `env`, `cwd`, `pass_fds` and so on are handed to subprocess.run.
        """
        self.calls += 1
        out = self.folder / f"call-{self.calls}.out"
        err = self.folder / f"call-{self.calls}.err"
        argv = [*prefix, *self.argv(*args)]
        timeout = options.pop("timeout", TIMEOUT)
        options.setdefault("stdin", subprocess.DEVNULL)
        with out.open("wb") as stdout, err.open("wb") as stderr:
            ended = subprocess.run(argv, stdout=stdout, stderr=stderr, timeout=timeout, **options)
        return Result(argv, ended.returncode, out, err)

    def run(self, bundle: Bundle, *options: str | Path, **more: Any) -> Result:
        """`run` of the bundle, in the foreground."""
        return self.call("run", "--bundle", bundle.write(), *options, bundle.id, **more)

    def probe(self, bundle: Bundle, *options: str | Path, **more: Any) -> Any:
        """`run` of a bundle whose process is the probe; its report."""
        return self.run(bundle, *options, **more).ok().json

    def create(self, bundle: Bundle, *options: str | Path, **more: Any) -> Result:
        return self.call("create", "--bundle", bundle.write(), *options, bundle.id, **more)

    def start(self, container: str) -> Result:
        return self.call("start", container)

    def started(self, bundle: Bundle) -> Bundle:
        """The bundle, of which a container that sleeps runs now."""
        self.create(bundle.sleeper()).ok()
        self.start(bundle.id).ok()
        return bundle

    def kill(self, container: str, signal: str = "KILL") -> Result:
        return self.call("kill", container, signal)

    def delete(self, container: str, *options: str) -> Result:
        return self.call("delete", *options, container)

    def state(self, container: str) -> dict[str, Any]:
        """The state document of an existing container."""
        state: dict[str, Any] = self.call("state", container).ok().json
        return state

    def status(self, container: str) -> str:
        return str(self.state(container)["status"])

    def wait_status(self, container: str, wanted: str, seconds: float = 10) -> None:
        """Waits until the container has the status."""
        deadline = time.monotonic() + seconds
        while (status := self.status(container)) != wanted:
            assert time.monotonic() < deadline, f"{container} is {status}, not {wanted}"
            time.sleep(0.02)

    def containers(self) -> list[str]:
        """Ids of the containers that have a folder in the state folder."""
        names = [p.name for p in self.root.iterdir()] if self.root.is_dir() else []
        return sorted(name for name in names if name != ".seccomp")  # a cache

    def clear(self) -> None:
        """Deletes by force whatever a test has left."""
        for container in self.containers():
            self.call("delete", "--force", container)


def wait_for(condition: Any, what: str, seconds: float = 10) -> Any:
    """Polls until `condition()` is true, and returns its value; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.01)
    return value
