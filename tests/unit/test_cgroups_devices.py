"""Device rules: what they say, and that v1's writes and v2's program say the same.

Three judges of one access: the last rule that matches (the meaning), a model of
the kernel's v1 controller fed with the steps, and an interpreter of the program.
"""

import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirun.cgroups.compile import compile_cgroup
from ocirun.cgroups.devicebpf import device_program
from ocirun.cgroups.devices import compile_devices, v1_steps
from ocirun.cgroups.mounts import Layout
from ocirun.errors import InvalidConfig, Unsupported

DIRECTORY = "/cg/devices/x"


def spec(*entries: dict) -> dict:
    return {"linux": {"resources": {"devices": list(entries)}}}


def allowed(rules, kind: str, major: int, minor: int, access: str) -> bool:
    """For each single access the last rule that matches decides; without one: no."""
    return all(allowed_one(rules, kind, major, minor, one) for one in access)


def allowed_one(rules, kind: str, major: int, minor: int, access: str) -> bool:
    for rule_kind, rule_major, rule_minor, accesses, allow in reversed(rules):
        if rule_kind not in ("a", kind) or access not in accesses:
            continue
        if rule_major in (-1, major) and rule_minor in (-1, minor):
            return allow
    return False


# --- the rules


def test_the_default_spec_denies_all_but_the_default_devices():
    rules = compile_devices(spec({"allow": False, "access": "rwm"}))
    for minor in (3, 5, 7, 8, 9):
        assert allowed(rules, "c", 1, minor, "rwm")
    for minor in (0, 1, 2):
        assert allowed(rules, "c", 5, minor, "rwm")
    assert allowed(rules, "c", 136, 77, "rwm")
    assert allowed(rules, "b", 8, 0, "m")
    assert allowed(rules, "c", 1, 1, "m")
    for one in ("r", "w"):
        assert not allowed(rules, "b", 8, 0, one)
        assert not allowed(rules, "c", 1, 1, one)  # /dev/mem
        assert not allowed(rules, "c", 10, 200, one)  # /dev/net/tun


def test_no_rules_deny_as_well():
    assert compile_devices({}) == compile_devices(spec())
    assert not allowed(compile_devices({}), "b", 8, 0, "r")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"allow": True}, [("a", -1, -1, "rwm", True)]),
        ({"allow": True, "type": "a", "access": "mwr"}, [("a", -1, -1, "rwm", True)]),
        ({"allow": False, "type": "c"}, [("c", -1, -1, "rwm", False)]),
        (
            {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "r"},
            [("b", 8, 1, "r", True)],
        ),
        (
            {"allow": True, "type": "u", "major": -1, "minor": 0, "access": "w"},
            [("c", -1, 0, "w", True)],
        ),
        ({"type": "c", "major": 4}, [("c", 4, -1, "rwm", False)]),
        # Without its type a rule is for both kinds, not for everything.
        (
            {"allow": True, "major": 10, "minor": 200},
            [("b", 10, 200, "rwm", True), ("c", 10, 200, "rwm", True)],
        ),
        (
            {"allow": True, "type": "a", "access": "r"},
            [("b", -1, -1, "r", True), ("c", -1, -1, "r", True)],
        ),
    ],
)
def test_entries(entry, expected):
    assert list(compile_devices(spec(entry))[1:-11]) == expected


@pytest.mark.parametrize(
    ("entry", "member"),
    [
        ({"allow": True, "type": "p"}, "type"),
        ({"allow": True, "type": "c", "access": "rx"}, "access"),
        ({"allow": True, "type": "c", "major": -2}, "major"),
        ({"allow": True, "type": "c", "minor": 2**31}, "minor"),
    ],
)
def test_entries_that_are_refused(entry, member):
    with pytest.raises(InvalidConfig) as caught:
        compile_devices(spec({"allow": False}, entry))
    assert caught.value.pointer == f"/linux/resources/devices/1/{member}"


# --- v1


def writes(steps) -> list[tuple[str, str, str]]:
    return [(s.pointer, s.args[0].removeprefix(DIRECTORY + "/devices."), s.args[1]) for s in steps]


def test_v1_writes_of_the_default_spec():
    found = writes(v1_steps(spec({"allow": False, "access": "rwm"}), DIRECTORY))
    assert found[0] == ("/linux/resources/devices/0", "deny", "a *:* rwm")
    assert found[1:3] == [("", "allow", "c *:* m"), ("", "allow", "b *:* m")]
    assert {value for _, _, value in found[3:]} == {
        *(f"c 1:{minor} rwm" for minor in (3, 5, 7, 8, 9)),
        *(f"c 5:{minor} rwm" for minor in (0, 1, 2)),
        "c 136:* rwm",
    }


def test_v1_privileged_is_one_write():
    found = v1_steps(spec({"allow": False}, {"allow": True, "access": "rwm"}), DIRECTORY)
    assert writes(found) == [("/linux/resources/devices/1", "allow", "a *:* rwm")]


def test_v1_cannot_take_a_part_out_of_a_wider_rule():
    wide = {"allow": True, "type": "c", "major": 4, "access": "rw"}
    narrow = {"allow": False, "type": "c", "major": 4, "minor": 1, "access": "w"}
    with pytest.raises(Unsupported) as caught:
        v1_steps(spec({"allow": False}, wide, narrow), DIRECTORY)
    assert caught.value.pointer == "/linux/resources/devices/2"
    assert "c 4:1 w" in caught.value.message
    assert "c 4:* w" in caught.value.message


def test_v1_takes_back_each_exception_of_a_wide_rule():
    one = {"allow": True, "type": "c", "major": 4, "minor": 1, "access": "rw"}
    wide = {"allow": False, "type": "c", "major": 4, "access": "w"}
    found = writes(v1_steps(spec(one, wide), DIRECTORY))
    assert ("/linux/resources/devices/1", "deny", "c 4:1 w") in found


def test_v1_may_take_back_what_was_taken_back_before():
    wide = {"type": "c", "major": 4, "access": "rw"}
    narrow = {"allow": False, "type": "c", "major": 4, "minor": 1, "access": "w"}
    asked = spec({"allow": True, **wide}, {"allow": False, **wide}, narrow)
    assert "/linux/resources/devices/2" not in [step.pointer for step in v1_steps(asked, DIRECTORY)]


class V1Kernel:
    """security/device_cgroup.c: a default, and exceptions for exact numbers."""

    def __init__(self) -> None:
        self.default = True
        self.exceptions: dict[tuple[str, str], set[str]] = {}

    def write(self, allow: bool, line: str) -> None:
        kind, number, access = line.split(" ")
        if kind == "a":
            self.default, self.exceptions = allow, {}
        elif allow != self.default:
            self.exceptions.setdefault((kind, number), set()).update(access)
        else:
            self.exceptions.get((kind, number), set()).difference_update(access)

    def allowed(self, kind: str, major: int, minor: int, access: str) -> bool:
        for (rule_kind, number), accesses in self.exceptions.items():
            rule_major, _, rule_minor = number.partition(":")
            if rule_kind != kind or access not in accesses:
                continue
            if rule_major in ("*", str(major)) and rule_minor in ("*", str(minor)):
                return not self.default
        return self.default


# Few numbers, so that rules meet each other and the devices asked for.
numbers = st.sampled_from([-1, 1, 3, 5])
kinds = st.sampled_from("abcu")
accesses = st.sets(st.sampled_from("rwm"), min_size=1).map("".join)
entries = st.fixed_dictionaries(
    {"allow": st.booleans()},
    optional={"type": kinds, "major": numbers, "minor": numbers, "access": accesses},
)
devices = st.tuples(
    st.sampled_from("bc"), st.sampled_from([0, 1, 3, 5]), st.sampled_from([1, 3, 4])
)


@given(st.lists(entries, max_size=7), devices, st.sampled_from("rwm"))
def test_v1_writes_mean_what_the_rules_mean(given_entries, device, access):
    asked = spec(*given_entries)
    kernel = V1Kernel()
    try:
        steps = v1_steps(asked, DIRECTORY)
    except Unsupported:
        return
    for step in steps:
        kernel.write(step.args[0].endswith("allow"), step.args[1])
    assert kernel.allowed(*device, access) == allowed(compile_devices(asked), *device, access)


# --- v2


def interpret(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """The subset of eBPF that device programs use, strict about everything else."""
    bits = sum({"m": 1, "r": 2, "w": 4}[one] for one in access)
    context = struct.pack("=III", bits << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers: dict[int, object] = {1: context}
    position = 0
    for _ in range(len(program)):
        code, packed, offset, value = struct.unpack_from("=BBhi", program, position * 8)
        low, high = packed & 15, packed >> 4
        target, source = (low, high) if sys.byteorder == "little" else (high, low)
        position += 1
        if code == 0x61:  # r = *(u32 *)(context + offset)
            assert isinstance(registers[source], bytes)
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0xB7:
            registers[target] = value
        elif code == 0xBF:
            registers[target] = registers[source]
        elif code == 0x57:
            registers[target] &= value
        elif code == 0x77:
            registers[target] >>= value
        elif code in (0x15, 0x55):
            assert offset >= 0
            if (registers[target] == value) == (code == 0x15):
                position += offset
        elif code == 0x95:
            assert registers[0] in (0, 1)
            return registers[0] == 1
        else:
            raise AssertionError(f"instruction {code:#x}")
    raise AssertionError("the program does not end")


def reachable_everywhere(program: bytes) -> bool:
    """As the kernel's verifier demands: no instruction that no path leads to."""
    count = len(program) // 8
    seen, todo = set(), [0]
    while todo:
        position = todo.pop()
        assert 0 <= position < count, "a path leads out of the program"
        if position in seen:
            continue
        seen.add(position)
        code, _, offset, _ = struct.unpack_from("=BBhi", program, position * 8)
        if code == 0x95:
            continue
        todo.append(position + 1)
        if code in (0x15, 0x55):
            todo.append(position + 1 + offset)
    return len(seen) == count


rules = st.lists(
    st.tuples(st.sampled_from("abc"), numbers, numbers, accesses, st.booleans()), max_size=8
)


@settings(deadline=None)
@given(rules, devices, accesses)
def test_the_program_means_what_the_rules_mean(given_rules, device, access):
    program = device_program(given_rules)
    assert interpret(program, *device, access) == allowed(given_rules, *device, access)
    assert reachable_everywhere(program)


@settings(deadline=None)
@given(st.lists(entries, max_size=7), devices, accesses)
def test_the_program_of_a_spec_means_what_its_rules_mean(given_entries, device, access):
    found = compile_devices(spec(*given_entries))
    program = device_program(found)
    assert interpret(program, *device, access) == allowed(found, *device, access)
    assert reachable_everywhere(program)


def test_a_denial_of_one_access_denies_both():
    rules = [("c", 1, 3, "rwm", True), ("c", 1, 3, "w", False)]
    program = device_program(rules)
    assert interpret(program, "c", 1, 3, "r")
    assert not interpret(program, "c", 1, 3, "rw")


def test_two_rules_together_allow_both():
    program = device_program([("c", 1, 3, "r", True), ("c", 1, -1, "w", True)])
    assert interpret(program, "c", 1, 3, "rw")
    assert not interpret(program, "c", 1, 4, "rw")


def test_no_access_at_all_is_a_matter_of_the_device():
    """access(2) with F_OK reaches the program with no access bit."""
    program = device_program([("a", -1, -1, "rwm", False), ("c", 1, 3, "r", True)])
    assert interpret(program, "c", 1, 3, "")
    assert not interpret(program, "c", 1, 4, "")


def test_v2_carries_out_what_v1_cannot():
    wide = {"allow": True, "type": "c", "major": 4, "access": "rw"}
    narrow = {"allow": False, "type": "c", "major": 4, "minor": 1, "access": "w"}
    asked = spec(wide, narrow)
    plan = compile_cgroup(asked, Layout("v2", {"": "/cg"}, {"": "/"}), "c1")
    step = plan.steps[-1]
    assert (step.op, step.pointer) == ("cgroup-devices-bpf", "/linux/resources/devices")
    program = device_program(step.args[1])
    assert interpret(program, "c", 4, 2, "rw")
    assert not interpret(program, "c", 4, 1, "w")
    assert interpret(program, "c", 4, 1, "r")
