"""Configs with the properties that no row of the table of cases has: for docs/spec-coverage.md.

The generator compiles them to see where a property is planned; nothing runs them. Each
is a patch of the base config, as in `cases`, with values that change the plan.
"""

from .cases import USER_NAMESPACE, Patch

_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_RATE = [{"major": 8, "minor": 0, "rate": 1000}]
_RULE = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}
_ARG = {"index": 1, "value": 7, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}
_IDS = [{"containerID": 0, "hostID": 5000, "size": 10}]


def _limits(**resources: object) -> Patch:
    return {f"/linux/resources/{name}": value for name, value in resources.items()}


SAMPLES: dict[str, Patch] = {
    "annotations": {"/annotations": {"org.example.note": "x"}},
    "terminal": {"/process/terminal": True, "/process/consoleSize": {"height": 33, "width": 99}},
    "fair": {"/process/scheduler": {"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}},
    "realtime": {"/process/scheduler": {"policy": "SCHED_FIFO", "priority": 5}},
    "deadline": {"/process/scheduler": {"policy": "SCHED_DEADLINE", "runtime": 10**7, "deadline": 10**8,
                                        "period": 2 * 10**8}},
    "io-priority": {"/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 5}},
    "affinity": {"/process/execCPUAffinity": {"initial": "0", "final": "0"}},
    "apparmor": {"/process/apparmorProfile": "some-profile"},
    "selinux": {"/process/selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c1,c2"},
    "mount-label": {"/linux/mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c1,c2"},
    "windows-names": {"/process/commandLine": "cmd", "/process/user/username": "someone"},
    "hooks": {f"/hooks/{name}": [{"path": "/bin/true", "args": ["true", "x"], "env": ["A=b"], "timeout": 5}]
              for name in _HOOKS},
    "joined": {"/linux/namespaces/-": {"type": "user", "path": "/proc/1/ns/user"}},
    "mapped": USER_NAMESPACE,
    "id-mapped": {"/mounts/-": {"destination": "/mnt", "source": "/", "options": ["bind", "idmap"], "uidMappings": _IDS,
                                "gidMappings": _IDS}},
    "net-devices": {"/linux/netDevices": {"dummy0": {"name": "eth0"}}},
    "memory": _limits(memory={"limit": 2**28, "reservation": 2**27, "swap": 2**29, "swappiness": 50,
                              "disableOOMKiller": True, "useHierarchy": True, "checkBeforeUpdate": True}),
    "memory-v2": _limits(memory={"limit": 2**28, "reservation": 2**27, "swap": 2**29}),
    "kernel-memory": _limits(memory={"kernel": 2**26, "kernelTCP": 2**25}),
    "cpu": _limits(cpu={"shares": 500, "quota": 50000, "burst": 1000, "period": 100000, "cpus": "0", "mems": "0",
                        "idle": 1}),
    "cpu-realtime": _limits(cpu={"realtimeRuntime": 1000, "realtimePeriod": 100000}),
    "pids": _limits(pids={"limit": 50}),
    "block-io": _limits(blockIO={"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 300}]}),
    "block-io-rates": _limits(blockIO={f"throttle{name}Device": _RATE
                                       for name in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS")}),
    "block-io-leaves": _limits(blockIO={"leafWeight": 300, "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 30}]}),
    "huge-pages": _limits(hugepageLimits=[{"pageSize": "2MB", "limit": 2**22}]),
    "network": _limits(network={"classID": 7, "priorities": [{"name": "lo", "priority": 5}]}),
    "rdma": _limits(rdma={"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10}}),
    "unified": _limits(unified={"memory.high": "100000000"}),
    "device-rules": _limits(devices=[{"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"}]),
    "seccomp": {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
                                   "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                                   "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                                   "syscalls": [_RULE, {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                                                {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [_ARG]}]}},
    "seccomp-listener": {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock",
                                            "listenerMetadata": "x",
                                            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}},
    "rdt": {"/linux/intelRdt": {"closID": "guaranteed", "schemata": ["MB:0=20"], "enableMonitoring": True}},
    "rdt-old": {"/linux/intelRdt": {"l3CacheSchema": "L3:0=7f0", "memBwSchema": "MB:0=70", "enableCMT": True,
                                    "enableMBM": True}},
    "rdt-mbm": {"/linux/intelRdt": {"closID": "guaranteed", "enableMBM": True}},
    "memory-policy": {"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}},
    "personality-flags": {"/linux/personality": {"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]}},
}  # fmt: skip
