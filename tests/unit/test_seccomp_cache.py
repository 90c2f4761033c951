"""The cache of compiled filters: what is kept, what is believed, what is dropped."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocirun.plan.seccomp import request_of
from ocirun.plan.step import Plan, Step
from ocirun.seccomp import cache, compiler
from ocirun.seccomp.cache import Compiled, fill, program_for

REQUEST = request_of(
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "frobnicate"], "action": "SCMP_ACT_ERRNO"}],
    }
)
PROGRAM = bytes(range(16)) * 4


class Counted:
    """In the place of the compiler: counts, and makes what it is told to."""

    def __init__(self, library: Path) -> None:
        self.library = library
        self.calls = 0
        self.program = PROGRAM
        self.unknown = ["frobnicate"]

    def __call__(self, request: Any) -> Compiled:
        self.calls += 1
        return Compiled(self.program, self.unknown, str(self.library))


@pytest.fixture
def compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    library = tmp_path / "libseccomp.so.2"
    library.write_text("a library")
    counted = Counted(library)
    monkeypatch.setattr(compiler, "compile_filter", counted)
    return counted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def kept(root: Path) -> Path:
    (file,) = (root / ".seccomp").iterdir()
    return file


@pytest.mark.parametrize("unknown", [[], ["frobnicate"], ["a", "b"]])
@pytest.mark.parametrize("program", [PROGRAM, b"\n" * 80])
def test_the_second_time_nothing_is_compiled(
    unknown: list[str], program: bytes, compile: Counted, root: Path
) -> None:
    compile.unknown, compile.program = unknown, program
    first = program_for(REQUEST, str(root))
    second = program_for(REQUEST, str(root))
    assert compile.calls == 1
    assert first.program == second.program == program
    assert first.unknown == second.unknown == unknown


def test_another_filter_is_another_entry(compile: Counted, root: Path) -> None:
    default, architectures, rules = REQUEST
    others = [
        (default + 1, architectures, rules),
        (default, (0xC000003E,), rules),
        (default, architectures, (*rules, rules[0])),
        (default, architectures, ((("mkdir",), *rules[0][1:]),)),
    ]
    for number, request in enumerate((REQUEST, *others, REQUEST), 1):
        program_for(request, str(root))
        assert compile.calls == min(number, 5)
    assert len(list((root / ".seccomp").iterdir())) == 5


def test_equal_sections_are_one_entry(compile: Counted, root: Path) -> None:
    """However their values were made: shared, interned or not."""
    name = "".join(["mk", "dir"])
    same = (REQUEST[0], (), ((((name, "".join(["frob", "nicate"]))), *REQUEST[2][0][1:]),))
    assert same == REQUEST
    program_for(REQUEST, str(root))
    program_for(same, str(root))
    assert compile.calls == 1


def test_it_is_nobody_elses(compile: Counted, root: Path) -> None:
    old = os.umask(0)
    try:
        program_for(REQUEST, str(root))
    finally:
        os.umask(old)
    assert stat.S_IMODE((root / ".seccomp").stat().st_mode) == 0o700
    assert stat.S_IMODE(kept(root).stat().st_mode) == 0o600


def flip(place: int) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[place] ^= 1
        file.write_bytes(data)

    return change


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        file.unlink()
        make(file)

    return change


def linked(file: Path) -> None:
    aside = file.parent.with_name("elsewhere")
    file.rename(aside)
    file.symlink_to(aside)


def renamed(file: Path) -> None:
    """A good file of another filter under this one's name."""
    data = file.read_bytes()
    file.unlink()
    program_for((1, (), ()), str(file.parent.parent))
    (other,) = file.parent.iterdir()
    other.rename(file)
    assert file.read_bytes() != data


def chown(file: Path) -> None:
    os.chown(file, 1000, 1000)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "program": flip(-1),
    "magic": flip(0),
    "digest": flip(20),
    "library": flip(90),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-8]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + bytes(8)),
    "huge": lambda file: os.truncate(file, 1 << 30),
    "group": lambda file: file.chmod(0o640),
    "world": lambda file: file.chmod(0o602),
    "fifo": replace_by(os.mkfifo),
    "folder": replace_by(Path.mkdir),
    "symlink": linked,
    "another": renamed,
    "owner": chown,
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_is_not_as_it_was_written_is_not_believed(
    attack: str, compile: Counted, root: Path
) -> None:
    if attack == "owner" and os.geteuid() != 0:
        pytest.skip("needs root")
    program_for(REQUEST, str(root))
    HOSTILE[attack](kept(root))
    calls = compile.calls
    compile.program = PROGRAM[::-1][:32]
    assert program_for(REQUEST, str(root)).program == compile.program
    assert compile.calls == calls + 1
    if attack != "folder":  # which cannot be replaced by a file
        assert kept(root).is_file()
        assert not kept(root).is_symlink()
        assert program_for(REQUEST, str(root)).program == compile.program
        assert compile.calls == calls + 1


@pytest.mark.parametrize("size", [0, 12, 4097 * 8])
def test_a_size_that_no_program_has(size: int, compile: Counted, root: Path) -> None:
    compile.program = bytes(size)
    program_for(REQUEST, str(root))
    program_for(REQUEST, str(root))
    assert compile.calls == 2


def test_another_libseccomp(compile: Counted, root: Path) -> None:
    program_for(REQUEST, str(root))
    compile.library.write_text("a newer library")
    program_for(REQUEST, str(root))
    compile.library.unlink()
    program_for(REQUEST, str(root))
    assert compile.calls == 3


def test_another_kernel(compile: Counted, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_for(REQUEST, str(root))
    uname = os.uname()
    other = type(uname)(("Linux", "host", "9.9.9", *tuple(uname)[3:]))
    monkeypatch.setattr(cache.posix, "uname", lambda: other)
    program_for(REQUEST, str(root))
    assert compile.calls == 2


def open_to_all(root: Path) -> None:
    (root / ".seccomp").mkdir()
    (root / ".seccomp").chmod(0o777)


FOLDERS: dict[str, Callable[[Path], None]] = {
    "open": open_to_all,
    "file": lambda root: (root / ".seccomp").write_text(""),
    "symlink": lambda root: (root / ".seccomp").symlink_to(root.parent),
    "dangling": lambda root: (root / ".seccomp").symlink_to("nowhere"),
    "root": Path.rmdir,
}


@pytest.mark.parametrize("attack", FOLDERS)
def test_without_a_good_folder_there_is_no_cache(attack: str, compile: Counted, root: Path) -> None:
    FOLDERS[attack](root)
    before = sorted(root.parent.rglob("*"))
    for calls in (1, 2):
        assert program_for(REQUEST, str(root)).program == PROGRAM
        assert compile.calls == calls
    assert sorted(root.parent.rglob("*")) == before


def test_the_oldest_are_dropped(
    compile: Counted, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "FILES", 3)
    names = []
    for number in range(5):
        before = set((root / ".seccomp").glob("*"))
        program_for((number, (), ()), str(root))
        (new,) = set((root / ".seccomp").iterdir()) - before
        os.utime(new, (number, number))
        names.append(new.name)
    assert sorted(p.name for p in (root / ".seccomp").iterdir()) == sorted(names[2:])


def test_all_of_them_have_a_limit(
    compile: Counted, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile.program = bytes(8 * 1000)
    monkeypatch.setattr(cache, "BYTES", 20_000)
    (root / ".seccomp").mkdir(0o700)
    left_by_a_crash = root / ".seccomp/.1.x"
    left_by_a_crash.write_bytes(bytes(5000))
    os.utime(left_by_a_crash, (1, 1))
    for number in range(4):
        program_for((number, (), ()), str(root))
    left = list((root / ".seccomp").iterdir())
    assert sum(p.stat().st_size for p in left) <= 20_000
    assert len(left) == 2
    assert left_by_a_crash not in left


def test_a_full_disk_is_no_error(
    compile: Counted, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.posix, "write", full)
    assert program_for(REQUEST, str(root)).program == PROGRAM
    assert list((root / ".seccomp").iterdir()) == []


def test_a_plan_gets_its_program_and_what_was_skipped(compile: Counted, root: Path) -> None:
    for place in ("child", "last"):
        plan = Plan("x", "/b")
        getattr(plan, place).append(Step("seccomp", "/linux/seccomp", REQUEST, 4, ""))
        fill(plan, str(root))
        (step,) = getattr(plan, place)
        assert step == Step("seccomp", "/linux/seccomp", PROGRAM, 4, "")
        assert plan.warnings == ["seccomp: unknown system calls, skipped: frobnicate"]


def test_what_libseccomp_makes_is_kept_with_its_path(root: Path) -> None:
    made = program_for(REQUEST, str(root))
    assert "libseccomp" in made.library
    assert os.path.exists(made.library)
    again = program_for(REQUEST, str(root))
    assert (again.program, again.unknown) == (made.program, ["frobnicate"])
    assert made.library.encode() in kept(root).read_bytes()
