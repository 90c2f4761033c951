"""linux.seccomp in the plan: which steps, where, with what flags; in words; on the wire."""

from typing import Any

import pytest

from ocirun.errors import InvalidConfig
from ocirun.executor.protocol import EXECUTE, failed
from ocirun.plan.compile import compile_plan
from ocirun.plan.describe import describe, main_call
from ocirun.plan.host import ALL_CAPABILITIES, Host
from ocirun.plan.seccomp import FETCH, SEND
from ocirun.plan.step import Plan, Step
from ocirun.plan.wire import decode, encode
from ocirun.spec.default import default_spec

ADMIN = 1 << 21
NEW_LISTENER, TSYNC_ESRCH, SPEC_ALLOW = 8, 16, 4
Section = dict[str, Any]


def rule(action: str, *names: str, **more: Any) -> Section:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def plan_of(section: Section, host: Host | None = None, **process: Any) -> Plan:
    spec = default_spec()
    spec["mounts"] = []
    spec["process"].update(terminal=False, noNewPrivileges=True)
    hooks = process.pop("hooks", None)
    if hooks:
        spec["hooks"] = hooks
    spec["process"].update(process)
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", **section}
    return compile_plan(spec, host or Host(), "web", "/bundle")


def ops(steps: list[Step]) -> list[str]:
    return [step.op for step in steps]


def test_it_comes_last_of_all() -> None:
    plan = plan_of({})
    assert ops(plan.last) == ["seccomp"]
    assert "seccomp" not in ops(plan.child)


def test_without_no_new_privileges_a_capability_is_kept_until_then() -> None:
    plan = plan_of({}, noNewPrivileges=False)
    plain = plan_of({})
    assert ops(plan.last) == ["seccomp", "drop-privilege"]
    (kept,) = [step for step in plan.child if step.op == "capabilities"]
    (wanted,) = [step for step in plain.child if step.op == "capabilities"]
    effective, permitted, *rest = wanted.args
    assert isinstance(effective, int)
    assert isinstance(permitted, int)
    assert kept.args == (effective | ADMIN, permitted | ADMIN, *rest)
    assert plan.last[1].args == wanted.args[:3]


def test_a_capability_that_the_container_has_anyway_is_left() -> None:
    sets = ("bounding", "effective", "permitted")
    capabilities = {name: ["CAP_SYS_ADMIN"] for name in sets}
    plan = plan_of({}, noNewPrivileges=False, capabilities=capabilities)
    assert ops(plan.last) == ["seccomp"]


def test_a_capability_that_nobody_has_cannot_be_kept() -> None:
    plan = plan_of({}, Host(capabilities=ALL_CAPABILITIES & ~ADMIN), noNewPrivileges=False)
    assert ops(plan.last) == ["seccomp"]


NOTIFY = rule("NOTIFY", "mkdir")


@pytest.mark.parametrize(
    ("section", "hooks"),
    [
        ({"syscalls": [NOTIFY], "listenerPath": "/agent"}, {}),
        ({}, {"startContainer": [{"path": "/hook"}]}),
    ],
)
def test_with_an_agent_or_hooks_under_it_it_comes_with_create(
    section: Section, hooks: Section
) -> None:
    plan = plan_of(section, hooks=hooks, noNewPrivileges=False)
    assert ops(plan.child)[-3:] == ["executable", "seccomp", "drop-privilege"]
    assert plan.last == []


@pytest.mark.parametrize(
    ("flags", "listener", "number"),
    [
        (None, False, SPEC_ALLOW),
        ([], False, 0),
        (["TSYNC"], False, 1),
        (["LOG", "SPEC_ALLOW"], False, 6),
        (None, True, SPEC_ALLOW | NEW_LISTENER),
        (["TSYNC"], True, 1 | NEW_LISTENER | TSYNC_ESRCH),
        (["WAIT_KILLABLE_RECV"], True, 32 | NEW_LISTENER),
    ],
)
def test_flags(flags: list[str] | None, listener: bool, number: int) -> None:
    section: Section = {"syscalls": [NOTIFY], "listenerPath": "/agent"} if listener else {}
    if flags is not None:
        section["flags"] = [f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags]
    plan = plan_of(section)
    (step,) = [step for step in (*plan.child, *plan.last) if step.op == "seccomp"]
    assert step.args[1] == number


@pytest.mark.parametrize(
    ("rules", "way"),
    [
        ([NOTIFY], SEND),
        ([rule("NOTIFY", "connect", "sendmsg")], FETCH),
        ([NOTIFY, rule("LOG", "sendmsg")], SEND),
        ([NOTIFY, rule("ERRNO", "sendmsg")], FETCH),
        ([NOTIFY, rule("ERRNO", "sendmsg", args=[{"index": 0, "value": 9, "op": "SCMP_CMP_GT"}])], FETCH),
    ],
)  # fmt: skip
def test_ways_of_the_listener(rules: list[Section], way: str) -> None:
    plan = plan_of({"syscalls": rules, "listenerPath": "/agent", "listenerMetadata": "m"})
    assert plan.child[-1].args[2] == way
    assert plan.listener == ("/agent", "m")


@pytest.mark.parametrize(
    ("section", "pointer", "words"),
    [
        ({"syscalls": [rule("NOTIFY", "sendmsg", "write")], "listenerPath": "/a"}, "/syscalls",
         "neither sendmsg nor write"),
        ({"syscalls": [NOTIFY], "listenerPath": "/a\0"}, "/listenerPath", "NUL"),
        ({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]},
         "/flags/1", "notifications"),
        ({"syscalls": [rule("ERRNO", "capset")]}, "", "capset"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(section: Section, pointer: str, words: str) -> None:
    with pytest.raises(InvalidConfig, match=words) as caught:
        plan_of(section, noNewPrivileges=False)
    assert caught.value.pointer == "/linux/seccomp" + pointer


def test_a_listener_that_is_never_asked_is_told() -> None:
    plan = plan_of({"listenerPath": "/agent"})
    assert any("listenerPath has no effect" in line for line in plan.warnings)
    assert plan.listener == ("", "")


def test_in_words() -> None:
    section = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            rule("ALLOW", "read", "write", "open", "close", "execve"),
            rule("ALLOW", "clone", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]),
            rule("ERRNO", "clone3", errnoRet=38),
            rule("KILL_PROCESS", "reboot"),
        ],
    }
    step = plan_of(section).last[0]
    assert describe(step) == (
        "filter system calls (x86_64, x86): ALLOW for 5 calls and clone by their arguments, "
        "ERRNO(ENOSYS) for clone3, KILL_PROCESS for reboot, ERRNO(EPERM) for all others"
    )
    filled = Step("seccomp", step.pointer, bytes(80), 0, SEND)
    assert describe(filled) == (
        "install the filter of system calls (10 instructions), and hand its listener to the agent"
    )
    assert main_call(filled, "") == "seccomp(SECCOMP_SET_MODE_FILTER)"
    dropped = plan_of({}, noNewPrivileges=False).last[1]
    assert describe(dropped) == "give up CAP_SYS_ADMIN, which the filter needed"


def test_on_the_wire() -> None:
    plan = plan_of({"syscalls": [NOTIFY], "listenerPath": "/agent"}, noNewPrivileges=False)
    plan.last = [Step("seccomp", "/linux/seccomp", b"program", 4, "")]
    copy = decode(encode(plan))
    assert (copy.child, copy.last, copy.listener) == (plan.child, plan.last, plan.listener)


@pytest.mark.parametrize(
    ("place", "pointer", "words"),
    [(0, "/linux/seccomp", "CAP_SYS_ADMIN or"), (1, "/process/capabilities", "allow capset")],
)
def test_failures_of_the_last_steps(place: int, pointer: str, words: str) -> None:
    from ocirun.executor.failures import explain

    plan = plan_of({}, noNewPrivileges=False)
    error = explain(plan, failed(len(plan.child) + place, 13 if place == 0 else 1))
    assert error.pointer == pointer
    assert words in error.hint


def test_an_execve_that_the_filter_refuses() -> None:
    from ocirun.executor.failures import died, explain

    assert "execve" in explain(plan_of({}), failed(EXECUTE, 1)).hint
    early = plan_of({}, hooks={"startContainer": [{"path": "/hook"}]})
    assert died(early).pointer == "/linux/seccomp"
    assert died(plan_of({})).pointer != "/linux/seccomp"
