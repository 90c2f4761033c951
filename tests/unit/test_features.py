"""`ocirun features` tells the truth: each claim is held against the planner, and against runc's.

What is claimed must be planned, and what is planned must be claimed. That the document is one
by the specification's schema is in test_schema_documents.py.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ocirun.cgroups.properties import ANNOTATION
from ocirun.errors import OcirunError, Unsupported
from ocirun.plan.compile import compile_plan
from ocirun.plan.namespaces import KINDS
from ocirun.plan.rootfs import OVERLAY
from ocirun.plan.step import Plan
from ocirun.runtime.features import features
from ocirun.runtime.settings import Settings
from ocirun.spec import schema
from tests.lib import cases, samples
from tools import gen_coverage, observe

CLAIMS = features()
LINUX = CLAIMS["linux"]
MAPPED = cases.mount("bind", "bind", source="/")


def planned(patch: cases.Patch, layout: int = 0) -> Plan:
    """The plan of the base config with this change; raises what the compiler raises."""
    spec = cases.apply(gen_coverage.base(), patch)
    return compile_plan(spec, observe.host(observe.LAYOUTS[layout]), "web", "/bundle")


def is_refused(patch: cases.Patch) -> bool:
    try:
        planned(patch)
    except Unsupported:
        return True
    return False


def choices(pointer: str) -> list[str]:
    """The values that the schema knows for the strings at the place."""
    sub = schema.document("config")
    for token in pointer.split("/")[1:]:
        found = schema.child(sub, token)
        assert found is not None
        sub = found
    return [str(choice) for choice in sub["enum"]]


def test_hooks() -> None:
    names = list(schema.resolve(schema.document("config")["properties"]["hooks"])["properties"])
    assert sorted(CLAIMS["hooks"]) == sorted(names)
    for name in names:
        assert planned({f"/hooks/{name}": [{"path": "/x"}]}).hooks[name]


def test_versions() -> None:
    assert CLAIMS["ociVersionMin"] == "1.0.0"
    assert CLAIMS["ociVersionMax"] == "1.3.0"


def mount_steps(*options: str, bind: bool = False) -> list[Any]:
    """The steps of a mount; of one without options, too, to compare with."""
    patch = cases.mount("bind" if bind else "tmpfs", *options, source="/etc")
    return [step for step in planned(patch).child if step.pointer.startswith("/mounts/7")]


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("word", sorted({*CLAIMS["mountOptions"]} - {"idmap", "ridmap"}))
def test_mount_option_is_no_data(word: str) -> None:
    """What is claimed never reaches the file system as an option of its own."""
    steps = mount_steps(word, bind=word.endswith("bind"))
    assert steps
    assert (word.encode(), None) not in [
        pair for step in steps for part in step.args if isinstance(part, tuple) for pair in part
    ]


def test_other_mount_options_are_data() -> None:
    assert any(((b"nonsense", None),) in step.args for step in mount_steps("nonsense"))


def test_namespaces() -> None:
    assert LINUX["namespaces"] == sorted(KINDS) == sorted(choices("/linux/namespaces/*/type"))


def test_capabilities() -> None:
    for name in LINUX["capabilities"]:
        plan = planned({"/process/capabilities": {"bounding": [name]}})
        mask = next(step.args[0] for step in plan.child if step.op == "bounding")
        assert mask, name
        assert not plan.warnings
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(LINUX["capabilities"]) >= last


@pytest.mark.parametrize("layout", [0, 1], ids=["v1", "v2"])
def test_cgroup_versions(layout: int) -> None:
    claim = LINUX["cgroup"]
    assert claim[("v1", "v2")[layout]] is True
    plan = planned({"/linux/resources/pids": {"limit": 5}}, layout)
    assert plan.cgroup is not None
    assert any("pids.max" in str(step.args) for step in plan.cgroup.steps)
    if claim["rdma"]:
        plan = planned(samples.SAMPLES["rdma"], layout)
        assert plan.cgroup is not None
        assert any("rdma.max" in str(step.args) for step in plan.cgroup.steps)


def test_systemd_driver() -> None:
    try:
        Settings(systemd_cgroup=True)
        offered = True
    except OcirunError:
        offered = False
    assert LINUX["cgroup"]["systemd"] is offered


@pytest.mark.parametrize(
    ("claim", "sample"),
    [
        ("seccomp", "seccomp"),
        ("apparmor", "apparmor"),
        ("selinux", "selinux"),
        ("intelRdt", "rdt"),
        ("netDevices", "net-devices"),
    ],
)
def test_enabled(claim: str, sample: str) -> None:
    """Where the machine has it (the facts are those of one that has everything)."""
    assert LINUX[claim]["enabled"] is not is_refused(samples.SAMPLES[sample])


def test_idmap() -> None:
    enabled = LINUX["mountExtensions"]["idmap"]["enabled"]
    assert enabled is not is_refused(samples.SAMPLES["id-mapped"])
    assert enabled == ("idmap" in CLAIMS["mountOptions"]) == ("ridmap" in CLAIMS["mountOptions"])


@pytest.mark.parametrize(
    ("claim", "pointer", "make"),
    [
        ("modes", "/linux/memoryPolicy/mode", lambda word: {"mode": word}),
        ("flags", "/linux/memoryPolicy/flags/*",
         lambda word: {"mode": "MPOL_BIND", "nodes": "0", "flags": [word]}),
    ],
)  # fmt: skip
def test_memory_policy(claim: str, pointer: str, make: Any) -> None:
    claims = LINUX["memoryPolicy"][claim]
    assert sorted(claims) == sorted(choices(pointer))
    for word in claims:
        wanted = make(word)
        if word not in ("MPOL_DEFAULT", "MPOL_LOCAL"):
            wanted["nodes"] = "0"
        plan = planned({"/linux/memoryPolicy": wanted})
        assert any(step.op == "memory-policy" for step in plan.child), word


SECCOMP = {
    "actions": ("/linux/seccomp/syscalls/*/action", lambda w: {"syscalls": [{"names": ["mkdir"], "action": w}]}),
    "operators": ("/linux/seccomp/syscalls/*/args/*/op", lambda w: {"syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": w}]}]}),
    "archs": ("/linux/seccomp/architectures/*", lambda w: {"architectures": [w]}),
    "supportedFlags": ("/linux/seccomp/flags/*", lambda w: {"flags": [w]}),
}  # fmt: skip


@pytest.mark.parametrize("claim", list(SECCOMP))
def test_seccomp(claim: str) -> None:
    """What is claimed is planned; what the schema knows and is not claimed is refused."""
    if not LINUX["seccomp"]["enabled"]:
        assert list(LINUX["seccomp"]) == ["enabled"]
        return
    pointer, make = SECCOMP[claim]
    asked = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    for word in choices(pointer):
        wanted = {"defaultAction": "SCMP_ACT_ALLOW", **make(word)}
        if word.endswith("WAIT_KILLABLE_RECV"):  # it is about notifications
            wanted["syscalls"] = asked
        if word.endswith("WAIT_KILLABLE_RECV") or word == "SCMP_ACT_NOTIFY":
            wanted["listenerPath"] = "/run/agent.sock"
        refused = is_refused({"/linux/seccomp": wanted})
        assert refused is not (word in LINUX["seccomp"][claim]), word


def test_annotations_that_do_something_are_said_to_be_unsafe() -> None:
    assert CLAIMS["potentiallyUnsafeConfigAnnotations"] == [OVERLAY, ANNOTATION]
    plan = planned({"/annotations": {f"{OVERLAY}lowerdir": "/lower"}})
    assert any(step.op == "overlay" for step in plan.child)


NOT_OURS = {
    "acl": "ocirun hands it to the file system, which no file system of today needs",
    "noacl": "as acl",
}


def test_runc_claims_nothing_that_we_lack() -> None:
    runc = shutil.which("runc")
    if not runc:
        pytest.skip("needs runc")
    done = subprocess.run([runc, "features"], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout)
    assert set(theirs["hooks"]) <= set(CLAIMS["hooks"])
    assert set(theirs["mountOptions"]) - set(CLAIMS["mountOptions"]) <= set(NOT_OURS)
    for name in ("namespaces", "capabilities"):
        assert set(theirs["linux"][name]) <= set(LINUX[name])
    assert {k for k, v in theirs["linux"]["cgroup"].items() if v} <= set(LINUX["cgroup"])
    for name in ("actions", "operators", "archs"):
        if LINUX["seccomp"]["enabled"]:
            claimed = set(theirs["linux"]["seccomp"][name]) & set(choices(SECCOMP[name][0]))
            assert claimed <= set(LINUX["seccomp"][name])
