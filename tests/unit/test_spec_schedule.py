"""process.scheduler, ioPriority, execCPUAffinity, linux.memoryPolicy: the rules, and the steps."""

import copy
from typing import Any

import pytest

from ocirun.errors import InvalidConfig, Unsupported
from ocirun.plan.compile import compile_plan
from ocirun.plan.describe import describe, main_call
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.plan.wire import decode, encode
from ocirun.spec.default import default_spec
from ocirun.spec.lists import mask_of, number_list
from ocirun.spec.strict import check


@pytest.mark.parametrize(
    ("text", "ranges", "mask"),
    [
        ("0", [(0, 0)], 0b1),
        ("0-3,7", [(0, 3), (7, 7)], 0b10001111),
        ("7,0-3", [(7, 7), (0, 3)], 0b10001111),
        (" 1 , 2-2", [(1, 1), (2, 2)], 0b110),
        ("1,1", [(1, 1), (1, 1)], 0b10),
        ("007", [(7, 7)], 1 << 7),
        ("100", [(100, 100)], 1 << 100),
    ],
)
def test_lists(text: str, ranges: list[tuple[int, int]], mask: int) -> None:
    assert number_list(text, 100) == ranges
    assert mask_of(ranges) == mask


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,", ",1", "1,,2", "-", "1-", "-1", "1--2", "1-2-3", "3-1", "a", "1 2", "1 - 2",
     "0x1", "+1", "1;2", "1\n", "\u0661", "101", "0-101", "9" * 5000, "0-4294967295", "1" * 10**6],
)  # fmt: skip
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        number_list(text, 100)
    assert len(str(caught.value)) < 120


def spec(scheduler: Any = None, **more: Any) -> dict[str, Any]:
    config = copy.deepcopy(default_spec())
    config["process"]["terminal"] = False
    config["mounts"] = []
    if scheduler:
        config["process"]["scheduler"] = scheduler
    for name, value in more.items():
        if name in ("memoryPolicy",):
            config["linux"][name] = value
        elif name == "hooks":
            config[name] = value
        else:
            config["process"][name] = value
    return config


HOOKS = {"startContainer": [{"path": "/bin/true"}]}
DEADLINE = {"policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 2000, "period": 3000}
S, M = "/process/scheduler", "/linux/memoryPolicy"
BAD = [
    (spec({"policy": "SCHED_ISO"}), f"{S}/policy", "no SCHED_ISO"),
    (spec({"policy": "SCHED_OTHER", "nice": 20}), f"{S}/nice", "-20 to 19"),
    (spec({"policy": "SCHED_BATCH", "nice": -21}), f"{S}/nice", "-20 to 19"),
    (spec({"policy": "SCHED_IDLE", "nice": 1}), f"{S}/nice", "without effect"),
    (spec({"policy": "SCHED_FIFO"}), f"{S}/priority", "1 to 99"),
    (spec({"policy": "SCHED_RR", "priority": 100}), f"{S}/priority", "1 to 99"),
    (spec({"policy": "SCHED_RR", "priority": -1}), f"{S}/priority", "1 to 99"),
    (spec({"policy": "SCHED_OTHER", "priority": 1}), f"{S}/priority", "refuses"),
    (spec({"policy": "SCHED_OTHER", "runtime": 1}), f"{S}/runtime", "without effect"),
    (spec({"policy": "SCHED_FIFO", "priority": 1, "period": 1}), f"{S}/period", "without effect"),
    (spec({"policy": "SCHED_DEADLINE"}), f"{S}/runtime", "1024"),
    (spec(DEADLINE | {"runtime": 1023}), f"{S}/runtime", "1024"),
    (spec(DEADLINE | {"deadline": 1023}), f"{S}/deadline", "before"),
    (spec(DEADLINE | {"period": 1999}), f"{S}/period", "shorter"),
    (spec(DEADLINE | {"period": 1 << 63}), f"{S}/period", "above"),
    (spec({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RECLAIM"]}), f"{S}/flags/0", "effect"),
    (spec(DEADLINE, hooks=HOOKS), "/hooks/startContainer", "makes no others"),
    (
        spec(ioPriority={"class": "IOPRIO_CLASS_RT", "priority": 8}),
        "/process/ioPriority/priority",
        "0 to 7",
    ),
    (spec(execCPUAffinity={"initial": "0-"}), "/process/execCPUAffinity/initial", "neither"),
    (spec(execCPUAffinity={"final": "3-1"}), "/process/execCPUAffinity/final", "backwards"),
    (spec(execCPUAffinity={"final": "8192"}), "/process/execCPUAffinity/final", "above 8191"),
    (spec(memoryPolicy={}), f"{M}/mode", "missing"),
    (spec(memoryPolicy={"mode": "MPOL_BIND"}), f"{M}/nodes", "missing"),
    (spec(memoryPolicy={"mode": "MPOL_LOCAL", "nodes": "0"}), f"{M}/nodes", "refuses"),
    (spec(memoryPolicy={"mode": "MPOL_BIND", "nodes": "x"}), f"{M}/nodes", "neither"),
    (spec(memoryPolicy={"mode": "MPOL_BIND", "nodes": "1024"}), f"{M}/nodes", "above 1023"),
    (
        spec(memoryPolicy={"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES"]}),
        f"{M}/flags",
        "without effect",
    ),
    (
        spec(
            memoryPolicy={
                "mode": "MPOL_BIND",
                "nodes": "0",
                "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
            }
        ),
        f"{M}/flags",
        "exclude",
    ),
]


@pytest.mark.parametrize(("config", "pointer", "words"), BAD)
def test_what_the_kernel_would_refuse_or_ignore(
    config: dict[str, Any], pointer: str, words: str
) -> None:
    (problem,) = check(config)
    assert problem[0] == pointer
    assert words in problem[1]
    with pytest.raises(InvalidConfig) as caught:
        compile_plan(config, Host(), "id", "/b")
    assert caught.value.pointer == pointer


GOOD: list[tuple[dict[str, Any], str, tuple[object, ...], str, str]] = [
    (
        spec({"policy": "SCHED_OTHER", "nice": -5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        S,
        (0, 1, -5, 0, 0, 0, 0),
        "schedule the process by SCHED_OTHER, nice -5, SCHED_FLAG_RESET_ON_FORK",
        "sched_setattr(SCHED_OTHER, SCHED_FLAG_RESET_ON_FORK)",
    ),
    (
        spec({"policy": "SCHED_FIFO", "priority": 99}),
        S,
        (1, 0, 0, 99, 0, 0, 0),
        "schedule the process by SCHED_FIFO, priority 99",
        "sched_setattr(SCHED_FIFO, 0)",
    ),
    (
        spec(DEADLINE | {"flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]}),
        S,
        (6, 6, 0, 0, 1024, 2000, 3000),
        "schedule the process by SCHED_DEADLINE, 1024 ns within 2000 ns of each 3000 ns, "
        "SCHED_FLAG_RECLAIM|SCHED_FLAG_DL_OVERRUN",
        "sched_setattr(SCHED_DEADLINE, SCHED_FLAG_RECLAIM|SCHED_FLAG_DL_OVERRUN)",
    ),
    (
        spec(ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 3}),
        "/process/ioPriority",
        (2, 3),
        "set the I/O priority to IOPRIO_CLASS_BE 3",
        "ioprio_set(IOPRIO_WHO_PROCESS, IOPRIO_CLASS_BE, 3)",
    ),
    (
        spec(
            memoryPolicy={
                "mode": "MPOL_INTERLEAVE",
                "nodes": "0,2-3",
                "flags": ["MPOL_F_RELATIVE_NODES"],
            }
        ),
        M,
        (3 | 1 << 14, 0b1101),
        "set the memory policy MPOL_INTERLEAVE with nodes 0, 2, 3, MPOL_F_RELATIVE_NODES",
        "set_mempolicy(MPOL_INTERLEAVE|MPOL_F_RELATIVE_NODES, 0xd)",
    ),
    (
        spec(memoryPolicy={"mode": "MPOL_DEFAULT"}),
        M,
        (0, 0),
        "set the memory policy MPOL_DEFAULT",
        "set_mempolicy(MPOL_DEFAULT, 0x0)",
    ),
]


@pytest.mark.parametrize(("config", "pointer", "args", "words", "call"), GOOD)
def test_steps(
    config: dict[str, Any], pointer: str, args: tuple[object, ...], words: str, call: str
) -> None:
    assert check(config) == []
    plan = compile_plan(config, Host(), "id", "/b")
    (step,) = [step for step in plan.child if step.pointer == pointer]
    assert step.args == args
    assert describe(step) == words
    assert main_call(step, call.partition("(")[0]) == call
    before, after = plan.child.index(step), [step.op for step in plan.child].index("bounding")
    assert before < after, "with all privileges"


def test_affinity_is_for_exec() -> None:
    config = spec(execCPUAffinity={"initial": "0-1", "final": " 3"})
    plan = compile_plan(config, Host(), "id", "/b")
    assert plan.exec == [
        Step("cpu-affinity", "/process/execCPUAffinity/initial", "initial", "0-1", 0b11),
        Step("cpu-affinity", "/process/execCPUAffinity/final", "final", " 3", 0b1000),
    ]
    assert "until" in describe(plan.exec[0])
    assert "once" in describe(plan.exec[1])
    assert not [step for step in plan.child if step.op == "cpu-affinity"]
    assert decode(encode(plan)).exec == plan.exec


def test_empty_affinity_is_none() -> None:
    config = spec(execCPUAffinity={"initial": "", "final": ""})
    assert check(config) == []
    assert compile_plan(config, Host(), "id", "/b").exec == []


def labels(plan: Plan) -> list[Step]:
    return [step for step in plan.child if step.op == "security-label"]


@pytest.mark.parametrize(
    ("name", "module", "value", "written", "words"),
    [
        ("apparmorProfile", "apparmor", "docker-default", b"exec docker-default",
         "choose the AppArmor profile docker-default"),
        ("apparmorProfile", "apparmor", "unconfined", b"exec unconfined",
         "choose the AppArmor profile unconfined"),
        ("selinuxLabel", "selinux", "system_u:system_r:container_t:s0",
         b"system_u:system_r:container_t:s0",
         "choose the SELinux label system_u:system_r:container_t:s0"),
    ],
)  # fmt: skip
def test_labels(name: str, module: str, value: str, written: bytes, words: str) -> None:
    config = spec(**{name: value})
    host = Host(security_modules=frozenset((module,)))
    (step,) = labels(compile_plan(config, host, "id", "/b"))
    assert step == Step("security-label", f"/process/{name}", module, written)
    assert describe(step) == words
    with pytest.raises(Unsupported) as caught:
        compile_plan(config, Host(security_modules=frozenset(("bpf",))), "id", "/b")
    assert caught.value.pointer == f"/process/{name}"
    assert "not enabled" in caught.value.message


def test_empty_labels_are_none() -> None:
    config = spec(apparmorProfile="", selinuxLabel="")
    assert labels(compile_plan(config, Host(security_modules=frozenset()), "id", "/b")) == []
