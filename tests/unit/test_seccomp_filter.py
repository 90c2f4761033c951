"""linux.seccomp: from the section to the program, and what the program decides.

The programs are libseccomp's; an interpreter asks them about system calls.
"""

import errno
import itertools
import sys
from typing import Any

import pytest
from lib import seccomp as lib
from lib.seccomp import ARM, S390X, X32_BIT, X86, X86_64, decide

from ocirun.errors import InvalidConfig, OcirunError, Unsupported
from ocirun.plan.seccomp import ACTIONS, ARCHITECTURES, may, request_of
from ocirun.seccomp import compiler
from ocirun.seccomp.cache import Compiled
from ocirun.seccomp.compiler import compile_filter
from ocirun.seccomp.enosys import stub

ALLOW, LOG, KILL, KILL_PROCESS = 0x7FFF0000, 0x7FFC0000, 0, 0x80000000
TRAP, NOTIFY = 0x30000, 0x7FC00000
READ, WRITE, GETPID, MKDIR, PERSONALITY, CLONE3 = 0, 1, 39, 83, 135, 435
Section = dict[str, Any]


def fail(number: int) -> int:
    return 0x50000 | number


def trace(number: int) -> int:
    return 0x7FF00000 | number


def compiled(section: Section) -> Compiled:
    return compile_filter(request_of(section))


def rule(action: str, *names: str, **more: Any) -> Section:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def arg(index: int, op: str, value: int, two: int | None = None) -> Section:
    found = {"index": index, "op": f"SCMP_CMP_{op}", "value": value}
    return found if two is None else {**found, "valueTwo": two}


def allowing(*rules: Section, **more: Any) -> Section:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


@pytest.mark.parametrize(
    ("action", "number", "decision"),
    [
        ("KILL", None, KILL),
        ("KILL_THREAD", None, KILL),
        ("KILL_PROCESS", None, KILL_PROCESS),
        ("TRAP", None, TRAP),
        ("ERRNO", None, fail(errno.EPERM)),
        ("ERRNO", 0, fail(0)),
        ("ERRNO", 38, fail(38)),
        ("ERRNO", 4094, fail(4094)),
        ("TRACE", None, trace(errno.EPERM)),
        ("TRACE", 4094, trace(4094)),
        ("LOG", None, LOG),
        ("NOTIFY", None, NOTIFY),
    ],
)
def test_actions(action: str, number: int | None, decision: int) -> None:
    more = {} if number is None else {"errnoRet": number}
    program = compiled(allowing(rule(action, "mkdir", **more))).program
    assert decide(program, X86_64, MKDIR) == decision
    assert decide(program, X86_64, GETPID) == ALLOW


@pytest.mark.parametrize(
    ("action", "number", "decision"),
    [
        ("KILL", None, KILL), ("KILL_PROCESS", None, KILL_PROCESS), ("TRAP", None, TRAP),
        ("ERRNO", None, fail(1)), ("ERRNO", 13, fail(13)), ("TRACE", None, trace(1)),
        ("TRACE", 500, trace(500)), ("LOG", None, LOG),
    ],
)  # fmt: skip
def test_default_actions(action: str, number: int | None, decision: int) -> None:
    section = {"defaultAction": f"SCMP_ACT_{action}", "syscalls": [rule("ALLOW", "read", "mkdir")]}
    if number is not None:
        section["defaultErrnoRet"] = number
    program = compiled(section).program
    assert decide(program, X86_64, READ) == decide(program, X86_64, MKDIR) == ALLOW
    assert decide(program, X86_64, GETPID) == decision


BIG = 2**64 - 1
HIGH = 0x1234567800000000


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize(
    ("op", "value", "two", "hits", "misses"),
    [
        ("EQ", 7, None, [7], [6, 8, 7 | HIGH, 0]),
        ("EQ", BIG, None, [BIG], [BIG - 1, 2**32 - 1]),
        ("NE", 7, None, [6, 7 | HIGH], [7]),
        ("LT", 7, None, [0, 6], [7, 8, HIGH]),
        ("LE", 7, None, [0, 7], [8, HIGH]),
        ("GE", HIGH, None, [HIGH, HIGH + 1, BIG], [HIGH - 1, 7]),
        ("GT", HIGH, None, [HIGH + 1, BIG], [HIGH, 7]),
        ("MASKED_EQ", 0xF0, 0x30, [0x30, 0x3F, HIGH | 0x35], [0x40, 0, 0xF0]),
        ("MASKED_EQ", HIGH, None, [0, 7], [HIGH, 1 << 60]),
    ],
)
def test_operators(
    index: int, op: str, value: int, two: int | None, hits: list[int], misses: list[int]
) -> None:
    program = compiled(allowing(rule("ERRNO", "mkdir", args=[arg(index, op, value, two)]))).program
    for number in hits + misses:
        arguments = [9] * 6
        arguments[index] = number
        wanted = fail(1) if number in hits else ALLOW
        assert decide(program, X86_64, MKDIR, *arguments) == wanted, hex(number)


def test_comparisons_of_different_arguments_must_all_hold() -> None:
    program = compiled(
        allowing(rule("ERRNO", "mkdir", args=[arg(0, "EQ", 1), arg(1, "GT", 5)]))
    ).program
    for first, second in itertools.product((0, 1), (5, 6)):
        wanted = fail(1) if (first, second) == (1, 6) else ALLOW
        assert decide(program, X86_64, MKDIR, first, second) == wanted


def test_several_comparisons_of_one_argument_are_rules_of_their_own() -> None:
    args = [arg(0, "EQ", 1), arg(0, "EQ", 2), arg(1, "EQ", 9)]
    program = compiled(allowing(rule("ERRNO", "mkdir", args=args))).program
    for first, second, hit in ((1, 0, True), (2, 0, True), (3, 9, True), (3, 0, False)):
        wanted = fail(1) if hit else ALLOW
        assert decide(program, X86_64, MKDIR, first, second) == wanted


def test_unknown_names_are_skipped_and_told() -> None:
    section = allowing(rule("ERRNO", "mkdir", "frobnicate", "xyzzy", "xyzzy"))
    result = compiled(section)
    assert result.unknown == ["frobnicate", "xyzzy"]
    assert decide(result.program, X86_64, MKDIR) == fail(1)


@pytest.mark.parametrize(
    ("names", "decisions"),
    [
        ([], {X86_64: fail(9), X86: KILL, ARM: KILL}),
        (["X86"], {X86_64: fail(9), X86: fail(9), ARM: KILL}),
        (["X86_64", "X86", "X32"], {X86_64: fail(9), X86: fail(9), ARM: KILL}),
        (["ARM", "X86_64"], {X86_64: fail(9), X86: KILL, ARM: fail(9)}),
    ],
)
def test_architectures(names: list[str], decisions: dict[int, int]) -> None:
    """The native one is always there; what is not there is killed."""
    section = allowing(rule("ERRNO", "mkdir", errnoRet=9))
    section["architectures"] = [f"SCMP_ARCH_{name}" for name in names]
    program = compiled(section).program
    numbers = {X86_64: MKDIR, X86: 39, ARM: 39}
    assert {a: decide(program, a, numbers[a]) for a in decisions} == decisions
    x32 = decide(program, X86_64, MKDIR | X32_BIT)
    assert x32 == (fail(9) if "X32" in names else KILL)


def test_an_architecture_that_libseccomp_does_not_know() -> None:
    section = allowing(architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_PPC"])
    with pytest.raises(Unsupported, match="SCMP_ARCH_PPC") as caught:
        compiled(section)
    assert caught.value.pointer == "/linux/seccomp/architectures/1"


def test_the_tables_are_those_of_the_binding() -> None:
    binding: Any = compiler.load_binding()
    for name, number in ARCHITECTURES.items():
        assert getattr(binding.Arch, name.removeprefix("SCMP_ARCH_"), number) == number, name
    for name, number in ACTIONS.items():
        theirs = getattr(binding, name.removeprefix("SCMP_ACT_"))
        assert number == (theirs(0) if callable(theirs) else theirs), name


def test_contradicting_rules() -> None:
    args = [arg(0, "EQ", 1)]
    section = allowing(rule("ERRNO", "mkdir", args=args), rule("KILL", "read", "mkdir", args=args))
    with pytest.raises(InvalidConfig, match="different action for mkdir") as caught:
        compiled(section)
    assert caught.value.pointer == "/linux/seccomp/syscalls/1/names/1"


def test_the_first_of_two_rules_without_conditions_decides() -> None:
    program = compiled(allowing(rule("ERRNO", "mkdir"), rule("KILL", "mkdir"))).program
    assert decide(program, X86_64, MKDIR) == fail(1)


def test_a_rule_with_the_default_action_changes_nothing() -> None:
    rules = [rule("ALLOW", "read"), rule("ERRNO", "mkdir"), rule("ERRNO", "read", errnoRet=1)]
    section = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    program = compiled(section).program
    assert decide(program, X86_64, READ) == ALLOW
    assert decide(program, X86_64, MKDIR) == fail(1)


def test_no_rules() -> None:
    assert decide(compiled({"defaultAction": "SCMP_ACT_ALLOW"}).program, X86_64, READ) == ALLOW
    assert decide(compiled({"defaultAction": "SCMP_ACT_ERRNO"}).program, X86_64, READ) == fail(1)


def test_too_long_a_program() -> None:
    args = [[arg(0, "EQ", i), arg(1, "EQ", i)] for i in range(1500)]
    with pytest.raises(InvalidConfig, match="more than the kernel takes"):
        compiled(allowing(*(rule("ERRNO", "mkdir", args=a) for a in args)))


# What is newer than the profile


NEW = 5000


@pytest.mark.parametrize(
    ("action", "more", "decision"),
    [
        ("ERRNO", {}, fail(38)),
        ("ERRNO", {"defaultErrnoRet": 1}, fail(38)),
        ("KILL", {}, fail(38)),
        ("TRAP", {}, fail(38)),
        ("ERRNO", {"defaultErrnoRet": 38}, fail(38)),
        ("LOG", {}, LOG),
        ("TRACE", {"defaultErrnoRet": 5}, trace(5)),
    ],
)
def test_newer_calls_do_not_exist(action: str, more: Section, decision: int) -> None:
    section = {"defaultAction": f"SCMP_ACT_{action}", **more,
               "syscalls": [rule("ALLOW", "mkdir"), rule("KILL_PROCESS", "clone3")]}  # fmt: skip
    program = compiled(section).program
    assert decide(program, X86_64, NEW) == decision
    assert decide(program, X86_64, CLONE3) == KILL_PROCESS
    assert decide(program, X86_64, CLONE3 - 1) != fail(38) or more.get("defaultErrnoRet") == 38
    assert decide(program, X86_64, MKDIR) == ALLOW


ALL_ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("last", "decisions"),
    [
        ({X86_64: 10}, {(X86_64, 10): 0, (X86_64, 11): 1, (X86_64, ALL_ONES): 0, (X86, 11): 0,
                        (X86_64, X32_BIT | 3): 0, (ARM, 99): 0}),
        ({0x4000003E: X32_BIT | 5}, {(X86_64, 99): 0, (X86_64, X32_BIT | 5): 0,
                                     (X86_64, X32_BIT | 6): 1}),
        ({X86_64: 10, 0x4000003E: X32_BIT | 5, X86: 7, ARM: 3},
         {(X86_64, 10): 0, (X86_64, 11): 1, (X86_64, X32_BIT | 5): 0, (X86_64, X32_BIT | 6): 1,
          (X86, 7): 0, (X86, 8): 1, (ARM, 3): 0, (ARM, 4): 1, (S390X, 400): 0}),
        ({S390X: 10}, {(S390X, 0): 1, (S390X, 1): 0, (S390X, 10): 0, (S390X, 11): 1}),
        ({}, {(X86_64, 1): 0}),
    ],
)  # fmt: skip
def test_the_stub(last: dict[int, int], decisions: dict[tuple[int, int], int]) -> None:
    program = stub(last) + bytes.fromhex("06000000 0000ff7f")  # ret ALLOW
    for (arch, number), new in decisions.items():
        assert decide(program, arch, number) == (fail(38) if new else ALLOW), (hex(arch), number)


# Engines' profiles


def engines() -> list[Any]:
    missing = not lib.PODMAN.exists()
    skip = pytest.mark.skipif(missing, reason=f"needs {lib.PODMAN}")
    return [pytest.param(lib.docker_profile, id="docker"),
            pytest.param(lib.podman_profile, id="podman", marks=skip)]  # fmt: skip


@pytest.mark.parametrize("profile", engines())
def test_a_binary_tree_decides_as_a_list_does(
    profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = profile()
    tree = compiled(section).program
    monkeypatch.setattr(compiler, "_FEW", 10**6)
    plain = compiled(section).program
    assert tree != plain
    for arch, bit in ((X86_64, 0), (X86_64, X32_BIT), (X86, 0)):
        for number in (*range(460), 600, 0x3FFFFFFF):
            call = (arch, number | bit)
            assert decide(tree, *call) == decide(plain, *call), call
    interesting = (0, 8, 9, 16, 0x20000, 0x10000000, 0x7E020000, 2**32 - 1, HIGH)
    conditional = (41, 56, PERSONALITY)  # socket, clone
    for number, first, third in itertools.product(conditional, interesting, (0, 9)):
        assert decide(tree, X86_64, number, first, 0, third) == decide(
            plain, X86_64, number, first, 0, third
        )


@pytest.mark.parametrize(
    ("number", "args", "decision"),
    [
        (READ, (), ALLOW),
        (59, (), ALLOW),
        (PERSONALITY, (0,), ALLOW),
        (PERSONALITY, (8,), ALLOW),
        (PERSONALITY, (4,), fail(1)),
        (56, (0x11,), ALLOW),
        (56, (0x10000011,), fail(1)),
        (CLONE3, (), fail(38)),
        (165, (), fail(1)),
        (250, (), fail(1)),
        (272, (0x10000000,), fail(1)),
        (NEW, (), fail(38)),
    ],
)
def test_dockers_profile(number: int, args: tuple[int, ...], decision: int) -> None:
    program = compiled(lib.docker_profile()).program
    assert decide(program, X86_64, number, *args) == decision


# Without libseccomp


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ImportError("No module named 'pyseccomp'"), "package pyseccomp"),
        (RuntimeError("Unable to find libseccomp"), "libseccomp"),
        (OSError("libseccomp.so.2: cannot open shared object file"), "cannot open"),
    ],
)
def test_without_the_binding(
    failure: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder:
        def find_spec(self, name: str, *more: object) -> None:
            if name == "pyseccomp":
                raise failure

    monkeypatch.delitem(sys.modules, "pyseccomp", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(OcirunError, match=words) as caught:
        compiled(allowing())
    assert "install" in caught.value.hint
    assert caught.value.pointer == "/linux/seccomp"


# By names alone


def test_what_a_call_may_get() -> None:
    section = {"defaultAction": "SCMP_ACT_KILL",
               "syscalls": [rule("ALLOW", "read"), rule("LOG", "write", args=[arg(0, "EQ", 1)])]}  # fmt: skip
    assert may(section, "read") == {"SCMP_ACT_ALLOW"}
    assert may(section, "write") == {"SCMP_ACT_LOG", "SCMP_ACT_KILL"}
    assert may(section, "open") == {"SCMP_ACT_KILL"}
