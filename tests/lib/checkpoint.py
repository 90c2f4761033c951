"""Containers that are written to files and made again: what such tests have in common."""

from pathlib import Path

from .bundle import Bundle
from .runtime import Result, Runtime, wait_for

SECONDS = 100
"""For what CRIU does in a lab that has other things to do."""
COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done"
FILLED = 3 << 20
FILL = f"x=$(head -c {FILLED} /dev/zero | tr '\\0' x)"
"""Fills a shell's memory with that many bytes."""


class Images:
    """Folders of images of one test, and the two commands on them."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.runtime = runtime
        self.folder = folder / "images"

    def path(self, name: str = "one") -> Path:
        return self.folder / name

    def checkpoint(self, container: str, *options: str, name: str = "one") -> Result:
        args = ("checkpoint", "--image-path", self.path(name), *options, container)
        return self.runtime.call(*args, timeout=SECONDS)

    def restore(self, bundle: Bundle, *options: str | Path, name: str = "one") -> Result:
        args = ("restore", "--image-path", self.path(name), "--bundle", bundle.path, *options)
        return self.runtime.call(*args, bundle.id, timeout=SECONDS)

    def pages(self, name: str = "one") -> int:
        """Bytes of memory in the images."""
        return sum(file.stat().st_size for file in self.path(name).glob("pages-*.img"))


def is_gone(pid: int) -> bool:
    """The process has ended, though perhaps nobody has waited for it."""
    path = Path(f"/proc/{pid}/stat")
    return not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z"


def numbers(path: Path) -> list[int]:
    """The whole lines of a file that a container counts in."""
    return [int(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def grows(path: Path) -> int:
    """Waits until two more numbers have come, one by one without a gap; returns the last."""
    before = len(numbers(path))
    wait_for(lambda: len(numbers(path)) >= before + 2, f"more numbers in {path}", SECONDS)
    seen = numbers(path)
    assert seen == list(range(1, len(seen) + 1))
    return seen[-1]
