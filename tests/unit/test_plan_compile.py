"""Spec -> Plan, as plain data: a base config, a patch, and what the plan must hold."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from ocirun.cgroups import Layout
from ocirun.errors import BundleError, InvalidConfig, OcirunError, Unsupported
from ocirun.linux import clone as c
from ocirun.linux import mount as m
from ocirun.plan.compile import compile_plan
from ocirun.plan.describe import describe, main_call
from ocirun.plan.host import Host
from ocirun.plan.step import Plan, Step
from ocirun.spec.default import default_spec

Spec = dict[str, Any]
V1 = Layout(
    "v1",
    {"memory": "/sys/fs/cgroup/memory", "devices": "/sys/fs/cgroup/devices"},
    {"memory": "/", "devices": "/"},
)


ID = [{"containerID": 0, "hostID": 1000, "size": 10}]
BIND = {"destination": "/x", "source": "/y", "options": ["bind"]}


def base() -> Spec:
    spec = copy.deepcopy(default_spec())
    spec["process"]["terminal"] = False
    spec["mounts"] = []
    return spec


def compiled(spec: Spec, host: Host | None = None) -> Plan:
    return compile_plan(spec, host or Host(), "web", "/bundle")


def ops(plan: Plan) -> list[str]:
    return [step.op for step in plan.child]


def only(plan: Plan, op: str) -> Step:
    found = [step for step in plan.child if step.op == op]
    assert len(found) == 1, (op, ops(plan))
    return found[0]


def test_the_same_spec_makes_the_same_plan() -> None:
    spec = default_spec()
    spec["process"]["terminal"] = False
    host = Host(V1)
    first, second = compiled(spec, host), compiled(copy.deepcopy(spec), host)
    assert first.child == second.child
    assert first.unshare == second.unshare
    assert first.cgroup is not None
    assert second.cgroup is not None
    assert first.cgroup.steps == second.cgroup.steps


@pytest.mark.parametrize(
    ("options", "mapped", "mapping"),
    [
        (["bind"], False, ()),
        (["rbind", "idmap"], False, (False, b"", b"")),
        (["rbind", "idmap", "ridmap"], False, (True, b"", b"")),
        (["bind"], True, (False, b"0 1000 10\n", b"0 1000 10\n0 1000 10\n")),
    ],
)
def test_id_mapped_mounts_in_a_user_namespace(
    options: list[str], mapped: bool, mapping: tuple[object, ...]
) -> None:
    spec = base()
    spec["linux"]["namespaces"].append({"type": "user", "path": "/u"})
    maps = {"uidMappings": ID, "gidMappings": ID * 2} if mapped else {}
    spec["mounts"] = [{**BIND, "options": options, **maps}]
    assert only(compiled(spec), "bind").args[9] == mapping


def test_only_an_id_mapped_mount_has_maps() -> None:
    spec = base()
    spec["mounts"] = [BIND, {**BIND, "uidMappings": ID, "gidMappings": ID}]
    first, second = (step.args[9] for step in compiled(spec).child if step.op == "bind")
    assert (first, second) == ((), (False, b"0 1000 10\n", b"0 1000 10\n"))


LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
CONTEXT = (b"context", LABEL.encode())
SELINUX = Host(V1, security_modules=frozenset(("selinux",)))


def test_mount_label() -> None:
    """As runc: file systems of the container's get a context, the kernel's and the host's none."""
    spec = default_spec()
    spec["process"]["terminal"] = False
    spec["linux"]["mountLabel"] = LABEL
    spec["linux"]["maskedPaths"] = ["/m"]
    spec["mounts"] += [BIND, {**TMPFS, "options": ["silent", "size=1m"]}]
    plan = compiled(spec, SELINUX)
    found = {step.args[0]: step.args[5] for step in plan.child if step.op == "mount"}
    labelled = {path for path, data in found.items() if CONTEXT in data}
    assert labelled == {b"/dev", b"/dev/pts", b"/dev/shm"}
    assert found[b"/data"] == ((b"size", b"1m"), (b"context", b'"%s"' % LABEL.encode()))
    assert only(plan, "file-label").args == (b"/dev/mqueue", LABEL.encode())
    assert CONTEXT in only(plan, "cgroup-view").args[4]
    assert only(plan, "mask").args == (b"/m", (CONTEXT,))
    assert describe(only(plan, "file-label")).endswith(LABEL)
    spec["annotations"] = {"run.ocirun.overlay.lowerdir": "/l"}
    assert only(compiled(spec, SELINUX), "overlay").args[5] == (CONTEXT,)


def test_no_mount_label_without_selinux() -> None:
    spec = base()
    spec["linux"]["mountLabel"] = LABEL
    with pytest.raises(Unsupported) as caught:
        compiled(spec, Host(security_modules=frozenset(("apparmor",))))
    assert caught.value.pointer == "/linux/mountLabel"
    spec["linux"]["mountLabel"] = ""
    compiled(spec)


@pytest.mark.parametrize(("spaces", "op"), [(("mount",), "bind"), (("mount", "cgroup"), "mount")])
def test_the_hosts_v2_hierarchy_is_shown_not_mounted_anew(spaces: tuple[str, ...], op: str) -> None:
    spec = base()
    new(*spaces)(spec)
    spec["mounts"] = [{"destination": "/c", "type": "cgroup", "options": ["ro", "rprivate"]}]
    layout = Layout("v2", {"": "/sys/fs/cgroup"}, {"": "/"})
    step = only(compiled(spec, Host(layout)), op)
    assert step.args[:2] == (b"/c", b"/sys/fs/cgroup" if op == "bind" else b"cgroup2")


@pytest.mark.parametrize(
    ("wanted", "mounts", "again"),
    [
        ("rshared", [(["rprivate"], "/a")], [b"/a"]),
        ("shared", [(["rprivate"], "/a")], []),
        ("", [(["rprivate"], "/a")], []),
        ("rslave", [(["shared"], "/a"), (["ro"], "/a"), (["slave"], "/b/")], [b"/b"]),
    ],
)
def test_the_propagation_of_a_mount_outlives_that_of_the_root(
    wanted: str, mounts: list[tuple[list[str], str]], again: list[bytes]
) -> None:
    spec = base()
    spec["linux"]["rootfsPropagation"] = wanted
    spec["mounts"] = [{**TMPFS, "options": words, "destination": path} for words, path in mounts]
    order = compiled(spec).child
    last = max(number for number, step in enumerate(order) if step.op in ("propagation", "pivot"))
    assert [step.args[0] for step in order[last:] if step.op == "propagate"] == again


def test_the_order_of_the_steps() -> None:
    spec = base()
    spec["mounts"] = [{"destination": "/data", "type": "tmpfs", "source": "tmpfs"}]
    order = ops(compiled(spec))
    for before, after in [
        ("session", "rootfs"),
        ("propagation", "rootfs"),
        ("rootfs", "mount"),
        ("mount", "device"),
        ("device", "readonly"),
        ("readonly", "mask"),
        ("mask", "root-readonly"),
        ("root-readonly", "pivot"),
        ("pivot", "rlimit"),
        ("no-new-privileges", "bounding"),
        ("bounding", "user"),
        ("user", "capabilities"),
        ("capabilities", "umask"),
        ("cwd", "executable"),
    ]:
        assert order.index(before) < order.index(after), (before, after)
    assert order[-1] == "executable"


def new(*kinds: str) -> Callable[[Spec], None]:
    def patch(spec: Spec) -> None:
        spec["linux"]["namespaces"] = [{"type": kind} for kind in kinds]

    return patch


@pytest.mark.parametrize(
    ("kinds", "flags"),
    [
        (["mount"], c.CLONE_NEWNS),
        (["mount", "pid"], c.CLONE_NEWNS | c.CLONE_NEWPID),
        (["mount", "network", "ipc"], c.CLONE_NEWNS | c.CLONE_NEWNET | c.CLONE_NEWIPC),
        (["mount", "cgroup"], c.CLONE_NEWNS),  # made after joining the cgroup
        (["mount", "time"], c.CLONE_NEWNS),  # made by the go-between
    ],
)
def test_new_namespaces(kinds: list[str], flags: int) -> None:
    spec = base()
    del spec["hostname"]
    new(*kinds)(spec)
    plan = compiled(spec)
    assert plan.unshare == flags
    assert plan.own_time == ("time" in kinds)
    assert ("unshare-cgroup" in ops(plan)) == ("cgroup" in kinds)
    assert ("loopback" in ops(plan)) == ("network" in kinds)


def test_joined_namespaces_keep_their_order_and_pointers() -> None:
    spec = base()
    spec["linux"]["namespaces"] = [
        {"type": "mount"},
        {"type": "network", "path": "/run/netns/a"},
        {"type": "pid", "path": "/proc/1/ns/pid"},
    ]
    plan = compiled(spec)
    assert plan.joins == [
        Step("setns", "/linux/namespaces/1/path", "network", b"/run/netns/a"),
        Step("setns", "/linux/namespaces/2/path", "pid", b"/proc/1/ns/pid"),
    ]
    assert plan.unshare == c.CLONE_NEWNS


def test_a_user_namespace_waits_for_its_mappings_first() -> None:
    spec = base()
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 10}]
    plan = compiled(spec)
    assert plan.uid_map == b"0 100000 65536\n"
    assert plan.gid_map == b"0 200000 10\n"
    assert ops(plan)[:2] == ["await", "become-root"]
    assert ops(plan).count("await") == 1
    # mknod(2) is not for user namespaces: the host's nodes are shown instead.
    assert all(step.args[-1] is True for step in plan.child if step.op == "device")


def test_time_offsets() -> None:
    spec = base()
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 5, "nanosecs": 6}, "monotonic": {}}
    assert compiled(spec).time_offsets == b"boottime 5 6\nmonotonic 0 0\n"


TMPFS = {"destination": "/data", "type": "tmpfs", "source": "tmpfs"}


@pytest.mark.parametrize(
    ("entry", "step"),
    [
        (
            {**TMPFS, "options": ["nosuid", "ro", "size=1m", "sync"]},
            Step(
                "mount", "/mounts/0", b"/data", b"tmpfs", b"tmpfs",
                m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_RDONLY, (b"sync",), ((b"size", b"1m"),), 0,
                (0, 0), (),
            ),
        ),
        (
            {"destination": "data/../x", "source": "src", "options": ["rbind", "ro", "rslave"]},
            Step(
                "bind", "/mounts/0", b"/x", b"/bundle/src", True, m.MOUNT_ATTR_RDONLY, 0, 0, 0,
                (m.MS_SLAVE | m.MS_REC,), False, (),
            ),
        ),
        (
            {"destination": "/proc/meminfo", "type": "bind", "source": "/m", "options": ["rro"]},
            Step(
                "bind", "/mounts/0", b"/proc/meminfo", b"/m", False, 0, 0, m.MOUNT_ATTR_RDONLY, 0,
                (), True, (),
            ),
        ),
        (
            {**TMPFS, "options": ["iversion", "sync"]},
            Step(
                "mount", "/mounts/0", b"/data", b"tmpfs", b"tmpfs", 0, (), (), 0x800010, (0, 0), (),
            ),
        ),
        (
            {"destination": "/data", "options": ["remount", "ro", "size=2m"]},
            Step(
                "remount", "/mounts/0", b"/data", m.MOUNT_ATTR_RDONLY, 0, (), ((b"size", b"2m"),),
                (), (0, 0),
            ),
        ),
    ],
)  # fmt: skip
def test_mounts(entry: Spec, step: Step) -> None:
    spec = base()
    spec["mounts"] = [entry]
    plan = compiled(spec)
    assert [s for s in plan.child if s.pointer == "/mounts/0"] == [step]


def test_a_read_only_dev_is_written_first() -> None:
    spec = base()
    spec["mounts"] = [{**TMPFS, "destination": "/dev", "options": ["ro"]}]
    plan = compiled(spec)
    order = ops(plan)
    assert order.index("device") < order.index("attributes") < order.index("pivot")
    assert only(plan, "mount").args[3] == 0


def test_the_hosts_dev_is_left_alone() -> None:
    spec = base()
    spec["mounts"] = [{"destination": "/dev", "source": "/dev", "options": ["rbind"]}]
    assert "device" not in ops(compiled(spec))
    assert "symlink" not in ops(compiled(spec))


def test_the_view_of_the_cgroups_waits_for_them() -> None:
    spec = base()
    spec["mounts"] = [
        TMPFS,
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid", "ro"]},
    ]
    plan = compiled(spec, Host(V1))
    order = ops(plan)
    assert order.index("mount") < order.index("await") < order.index("cgroup-view")
    assert only(plan, "cgroup-view").args == (
        b"/sys/fs/cgroup",
        m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_RDONLY,
        (
            (b"memory", b"/sys/fs/cgroup/memory/web", ()),
            (b"devices", b"/sys/fs/cgroup/devices/web", ()),
        ),
        (),
        ((b"mode", b"755"),),
    )
    spec["linux"]["namespaces"].append({"type": "cgroup"})
    views = only(compiled(spec, Host(V1)), "cgroup-view").args[2]
    assert views[0] == (b"memory", b"", ((b"memory", None),))


def test_overlay() -> None:
    spec = base()
    spec["annotations"] = {
        "run.ocirun.overlay.lowerdir": "/images/a:layers/b",
        "run.ocirun.overlay.upperdir": "up",
        "run.ocirun.overlay.workdir": "/w",
    }
    plan = compiled(spec)
    assert only(plan, "overlay").args == (
        b"/bundle/rootfs",
        (b"/images/a", b"/bundle/layers/b"),
        b"/bundle/up",
        b"/w",
        False,
        (),
    )
    assert "rootfs" not in ops(plan)
    spec["annotations"]["run.ocirun.overlay.upperdir"] = "tmpfs"
    assert only(compiled(spec), "overlay").args[2] == b"tmpfs"


def test_process() -> None:
    spec = base()
    spec["process"] = {
        "args": ["ls", "-l"],
        "cwd": "/srv",
        "env": ["PATH=/a::/b", "HOME=/h"],
        "user": {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o77},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL", "CAP_CHOWN"],
        },
        "oomScoreAdj": 3,
    }
    plan = compiled(spec)
    assert plan.candidates == [b"/a/ls", b"./ls", b"/b/ls"]
    assert only(plan, "user").args == (5, 6, (7,))
    assert only(plan, "umask").args == (0o77,)
    assert only(plan, "rlimit").args == (4, 1, 2)
    assert only(plan, "bounding").args == (1 << 5 | 1,)
    assert only(plan, "capabilities").args == (1 << 5, 1 << 5, 1 << 5, 1 << 5)
    assert only(plan, "make-directory").args == (b"/srv",)
    assert plan.oom_score_adj == Step("oom-score-adj", "/process/oomScoreAdj", 3)
    assert "home" not in ops(plan)
    assert plan.warnings == ["ambient capabilities that are not permitted and inheritable"]


def test_capabilities_that_cannot_be_granted_are_left_out_with_a_warning() -> None:
    spec = base()
    spec["process"]["capabilities"] = {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE", "CAP_NEW"]}
    plan = compiled(spec, Host(capabilities=1 << 5))
    assert only(plan, "bounding").args == (1 << 5,)
    assert plan.warnings == [
        "CAP_SYS_RESOURCE cannot be granted: the runtime does not have it",
        "unknown capability CAP_NEW",
    ]


def test_sysctl() -> None:
    spec = base()
    spec["linux"]["sysctl"] = {"net.ipv4.conf.eth0/1.forwarding": "1", "fs/mqueue/msg_max": "5"}
    plan = compiled(spec)
    assert [step for step in plan.child if step.op == "sysctl"] == [
        Step(
            "sysctl", "/linux/sysctl/net.ipv4.conf.eth0~11.forwarding",
            b"net/ipv4/conf/eth0.1/forwarding", b"1",
        ),
        Step("sysctl", "/linux/sysctl/fs~1mqueue~1msg_max", b"fs/mqueue/msg_max", b"5"),
    ]  # fmt: skip
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    with pytest.raises(InvalidConfig, match="network namespace"):
        compiled(spec)


def test_hooks() -> None:
    spec = base()
    spec["hooks"] = {
        "createContainer": [{"path": "/h", "args": ["h", "x"], "env": ["A=b=c"], "timeout": 3}],
        "poststop": [{"path": "/s"}],
    }
    plan = compiled(spec)
    hook = plan.hooks["createContainer"][0]
    assert (hook.path, hook.args, hook.env, hook.timeout, hook.pointer) == (
        b"/h", [b"h", b"x"], {b"A": b"b=c"}, 3, "/hooks/createContainer/0",
    )  # fmt: skip
    assert plan.hooks["poststop"][0].args == [b"/s"]
    order = ops(plan)
    assert order.index("mask") < order.index("hooks") < order.index("pivot")


def setting(*path: str | int, value: object) -> Callable[[Spec], None]:
    def patch(spec: Spec) -> None:
        place: Any = spec
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return patch


@pytest.mark.parametrize(
    ("patch", "error", "pointer", "words"),
    [
        (new("pid"), Unsupported, "/linux/namespaces", "mount namespace"),
        (setting("linux", "namespaces", 0, value={"type": "gpu"}), InvalidConfig,
         "/linux/namespaces/0/type", "gpu"),
        (new("mount", "user"), InvalidConfig, "/linux", "uidMappings"),
        (setting("linux", "timeOffsets", value={"boottime": {"secs": 1}}), InvalidConfig,
         "/linux/timeOffsets", "time namespace"),
        (setting("root", value={"path": "/"}), BundleError, "", "root of the host"),
        (setting("mounts", value=[{"destination": "/", "type": "tmpfs", "options": ["silent"]}]),
         Unsupported, "/mounts/0/destination", "cannot be the root"),
        (setting("mounts", value=[{"destination": "/proc/sys", "type": "tmpfs"}]), InvalidConfig,
         "/mounts/0/destination", "inside /proc"),
        (setting("mounts", value=[{"destination": "/proc", "type": "tmpfs"}]), InvalidConfig,
         "/mounts/0/type", "procfs"),
        (setting("mounts", value=[{"destination": "/x"}]), InvalidConfig, "/mounts/0", "type"),
        (setting("mounts", value=[{"destination": "/x", "options": ["bind"]}]), InvalidConfig,
         "/mounts/0", "source"),
        (setting("mounts", value=[{"destination": "/x", "source": "/", "options": ["bind", "a=1"]}]),
         InvalidConfig, "/mounts/0/options", "'a'"),
        (setting("mounts", value=[{"destination": "/x", "type": "tmpfs", "options": ["idmap"]}]),
         Unsupported, "/mounts/0/options", "id-mapped"),
        (setting("mounts", value=[{"destination": "/x", "type": "tmpfs", "gidMappings": ID}]),
         Unsupported, "/mounts/0", "id-mapped"),
        (setting("mounts", value=[{**BIND, "options": ["rbind", "ridmap"]}]),
         InvalidConfig, "/mounts/0/options", "without mappings"),
        (setting("mounts", value=[{**BIND, "uidMappings": ID}]),
         InvalidConfig, "/mounts/0", "needs gidMappings"),
        (setting("mounts", value=[{**BIND, "gidMappings": ID}]),
         InvalidConfig, "/mounts/0", "needs uidMappings"),
        (setting("mounts", value=[{**BIND, "uidMappings": ID, "gidMappings": ID * 341}]),
         InvalidConfig, "/mounts/0/gidMappings", "341"),
        (setting("linux", "sysctl", value={"vm.swappiness": "1"}), InvalidConfig,
         "/linux/sysctl/vm.swappiness", "no namespace"),
        (setting("linux", "sysctl", value={"net/../vm/x": "1"}), InvalidConfig,
         "/linux/sysctl/net~1..~1vm~1x", "no namespace"),
        (setting("linux", "personality", value={"domain": "LINUX", "flags": ["X"]}), Unsupported,
         "/linux/personality/flags", "flag"),
        (setting("process", "apparmorProfile", value="x"), Unsupported,
         "/process/apparmorProfile", "apparmorProfile"),
        (setting("process", "args", value=["a\0b"]), InvalidConfig, "/process/args/0", "NUL"),
        (setting("process", "args", value=["\ud800"]), InvalidConfig, "/process/args/0", "Unicode"),
        (setting("process", "user", value={"uid": 2**32 - 1, "gid": 0}), InvalidConfig,
         "/process/user/uid", "4294967295"),
        (setting("annotations", value={"run.ocirun.overlay.lowerdir": "/a",
                                       "run.ocirun.overlay.upperdir": "/b"}),
         InvalidConfig, "/annotations/run.ocirun.overlay.upperdir", "workdir"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_pointer(
    patch: Callable[[Spec], None], error: type[OcirunError], pointer: str, words: str
) -> None:
    spec = base()
    patch(spec)
    with pytest.raises(error) as caught:
        compiled(spec)
    assert caught.value.pointer == pointer
    assert words in caught.value.message


def test_every_step_can_be_put_into_words() -> None:
    spec = default_spec()
    spec["linux"]["namespaces"] += [{"type": "time"}, {"type": "ipc", "path": "/p"}]
    spec["domainname"] = "example"
    spec["mounts"] += [
        {"destination": "/b", "source": "/b", "options": ["rbind", "ro", "shared"]},
        {"destination": "/b", "options": ["remount", "noexec"]},
    ]
    spec["mounts"] += [{**BIND, "uidMappings": ID, "gidMappings": ID * 2}]
    spec["hooks"] = {"prestart": [{"path": "/h"}]}
    plan = compiled(spec, Host(V1))
    assert plan.cgroup is not None
    for step in (*plan.child, *plan.joins, *plan.cgroup.steps, *plan.cgroup.join):
        words = describe(step)
        assert words, step.op
        assert "b'" not in words, words
        assert isinstance(main_call(step, ""), str)


def test_flags_are_symbolic() -> None:
    step = Step(
        "bind", "/mounts/0", b"/x", b"/y", True, m.MOUNT_ATTR_RDONLY, 0, 0, 0, (), False, ()
    )
    assert main_call(step, "open_tree") == 'open_tree("/y", OPEN_TREE_CLONE|AT_RECURSIVE)'
    assert main_call(step, "mount_setattr") == "mount_setattr(set MOUNT_ATTR_RDONLY, clear 0)"
    clone = Step("clone", "/linux/namespaces", c.CLONE_NEWPID | c.CLONE_NEWNS)
    assert main_call(clone, "clone3") == "clone3(CLONE_NEWPID|CLONE_NEWNS)"
