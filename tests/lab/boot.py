"""Lab: boots a kernel, runs one command in it as root, brings back its status and output.

What the labs share is here: the folder that host and guest exchange, the script that
the guest runs, time limits. How each kernel is booted: uml.py, qemu.py. What is run in
them: selection.py.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.rootfs import build_probe

CHECKOUT = Path(__file__).resolve().parents[2]
APT_WORDS = CHECKOUT / ".stamps/lab-packages"


class Missing(Exception):
    """The lab cannot be had on this machine; the text says why."""


def need(*programs: str) -> None:
    """Raises Missing, with apt's words if it has failed to install them."""
    if absent := [program for program in programs if not shutil.which(program)]:
        words = APT_WORDS.read_text().strip() if APT_WORDS.exists() else "see LAB_PACKAGES"
        raise Missing(f"no {', '.join(absent)}: {words}")


@dataclass(frozen=True)
class Result:
    """How a command ended in the guest: exit status, stdout with stderr, files that it left."""

    status: int
    output: str
    files: dict[str, str]


class Lab:
    """A kernel to boot. `provides` are the names that `pytest.mark.lab` knows."""

    name = ""
    provides: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Makes what booting takes; raises Missing."""
        raise NotImplementedError

    def argv(self, folder: Path, interactive: bool) -> list[str]:
        """The command line that boots it; `folder` is what host and guest share."""
        raise NotImplementedError

    def python(self) -> str:
        """Path of the interpreter in the guest."""
        return str(CHECKOUT / ".venv/bin/python")

    def fill(self, folder: Path) -> None:
        """Puts what this lab needs besides the command into the folder."""

    def collect(self, folder: Path) -> None:
        """Brings what the guest has written into the folder."""

    def environment(self) -> dict[str, str]:
        """What the command finds set."""
        return {
            "OCIRUN_LAB": self.name,
            "OCIRUN_LAB_PROVIDES": " ".join(self.provides),
            "OCIRUN_TEST_PROBE": "/run/lab/probe",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"RUNTIME": os.environ["RUNTIME"]} if "RUNTIME" in os.environ else {}),
        }

    def run(self, command: list[str], timeout: float = 300) -> Result:
        """Boots, runs the command in the checkout, and shuts down, in `timeout` seconds.

        The guest has /run/lab as a folder for results. Raises RuntimeError with what
        the kernel said if the command's end was not seen.
        """
        with self._folder(command) as folder, (folder / "console").open("w+b") as console:
            booted = subprocess.Popen(
                [*bounded(), *self.argv(folder, interactive=False)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
            try:
                booted.wait(timeout)
                ended = "it ended"
            except subprocess.TimeoutExpired:
                ended = f"it was killed after {timeout:.0f} s"
            finally:
                booted.kill()
                booted.wait()
            self.collect(folder)
            files = {path.name: path.read_text(errors="replace") for path in written(folder)}
        try:
            status = int(files.get("status", ""))
        except ValueError:
            said = files.get("output", "")[-4000:] + files["console"][-4000:]
            raise RuntimeError(f"the {self.name} lab did not finish, {ended}:\n{said}") from None
        return Result(status, files.get("output", ""), files)

    def shell(self, command: list[str]) -> int:
        """Boots with the console on this terminal and runs the command; returns its status."""
        with self._folder(command, captured=False) as folder:
            booted = subprocess.Popen([*bounded(), *self.argv(folder, sys.stdin.isatty())])
            try:
                booted.wait()
            finally:
                booted.kill()
                booted.wait()
                if sys.stdin.isatty():
                    subprocess.run(["stty", "sane"], check=False)
            self.collect(folder)
            status = folder / "status"
            return int(status.read_text() or 1) if status.exists() else 1

    @contextmanager
    def _folder(self, command: list[str], captured: bool = True) -> Iterator[Path]:
        self.prepare()
        folder = Path(tempfile.mkdtemp(prefix=f"ocirun-{self.name}-"))
        try:
            shutil.copy(build_probe(), folder / "probe")
            (folder / "command.sh").write_text(script(command, self.environment(), captured))
            self.fill(folder)
            yield folder
        finally:
            shutil.rmtree(folder)


def script(command: list[str], environment: dict[str, str], captured: bool) -> str:
    """What the guest's init runs with sh."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines += [f"cd {shlex.quote(str(CHECKOUT))}"]
    lines += [shlex.join(command) + (" >/run/lab/output 2>&1" if captured else "")]
    return "\n".join(lines) + "\n"


def written(folder: Path) -> Iterator[Path]:
    """The text files that the guest, or its console, has left."""
    for name in ("console", "output", "status", "report.xml"):
        if (folder / name).exists():
            yield folder / name


def bounded() -> list[str]:
    """The start of a command line: all processes of the rest end with it, and it with us.

    They are in a pid namespace, whose first process dies when `unshare` does.
    """
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.geteuid() != 0:
        alone += ["--user", "--map-root-user"]
    return ["setpriv", "--pdeathsig", "KILL", *alone]
