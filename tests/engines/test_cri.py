"""Pods as the kubelet makes them: containerd's CRI, with the handler that a RuntimeClass names."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lib.containerd import Containerd
from lib.cri import Cri, Refused
from lib.runtime import wait_for

pytestmark = [
    pytest.mark.programs("containerd", "ctr", "containerd-shim-runc-v2", "/usr/lib/cni/bridge")
]

LOOP = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.1; done")
SHARED = {"network": "POD", "pid": "CONTAINER", "ipc": "POD"}


@pytest.fixture(scope="session")
def clients() -> Iterator[dict[str, Cri]]:
    """The clients of this session, by the runtime."""
    known: dict[str, Cri] = {}
    yield known
    for one in known.values():
        one.channel.close()


@pytest.fixture
def cri(made: Callable[[str, str], Any], runtime: str, clients: dict[str, Cri]) -> Iterator[Cri]:
    if runtime not in clients:
        containerd = made("containerd", runtime)
        assert isinstance(containerd, Containerd)
        clients[runtime] = Cri(containerd)
    yield clients[runtime]
    clients[runtime].clear()


def security(**fields: Any) -> dict[str, Any]:
    """A container's security context."""
    return {"security_context": {"namespace_options": SHARED, **fields}}


def test_life_of_a_pod(cri: Cri) -> None:
    pod = cri.sandbox()
    found = cri.call("PodSandboxStatus", pod_sandbox_id=pod)["status"]
    assert (found.get("state", "SANDBOX_READY"), found["runtime_handler"]) == (
        "SANDBOX_READY",
        cri.runtime,
    )
    container = cri.start(pod, *LOOP)
    assert cri.status(container)["state"] == "CONTAINER_RUNNING"
    wait_for(lambda: cri.log(container) == ["stdout hi"], "its words")
    cri.call("StopContainer", container_id=container, timeout=5)
    assert cri.end(container)["exit_code"] == 7
    assert cri.log(container) == ["stdout hi", "stdout bye"]
    cri.call("RemoveContainer", container_id=container)
    assert not cri.call("ListContainers")
    cri.call("StopPodSandbox", pod_sandbox_id=pod)
    found = cri.call("PodSandboxStatus", pod_sandbox_id=pod)["status"]
    assert found["state"] == "SANDBOX_NOTREADY"


def test_default_handler(cri: Cri) -> None:
    """Without a RuntimeClass: what default_runtime_name says."""
    container = cri.start(cri.sandbox(handler=""), *LOOP)
    assert cri.exec(container, "true")[0] == 0
    assert container in cri.containerd.listed("k8s.io")


def test_made_by_the_runtime(cri: Cri) -> None:
    """Its own list has the sandbox and the container."""
    pod = cri.sandbox()
    container = cri.start(pod, *LOOP)
    assert {pod, container} <= set(cri.containerd.listed("k8s.io"))


def test_deaf_container_is_stopped(cri: Cri) -> None:
    container = cri.start(cri.sandbox(), "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    cri.call("StopContainer", container_id=container, timeout=1)
    assert cri.end(container)["exit_code"] == 137


def test_exec_sync(cri: Cri) -> None:
    container = cri.start(cri.sandbox(), *LOOP)
    assert cri.exec(container, "sh", "-c", "echo out; echo err >&2; exit 5") == (
        5,
        "out\n",
        "err\n",
    )


def test_exec_sync_of_no_program(cri: Cri) -> None:
    container = cri.start(cri.sandbox(), *LOOP)
    with pytest.raises(Refused, match=r"executable file not found in \$PATH"):
        cri.exec(container, "nothere")
    assert cri.exec(container, "true")[0] == 0


def test_exec_sync_that_takes_too_long(cri: Cri) -> None:
    """A probe that hangs is killed."""
    container = cri.start(cri.sandbox(), *LOOP)
    with pytest.raises(Refused, match="timeout 1s exceeded"):
        cri.exec(container, "sleep", "1234", timeout=1)
    wait_for(lambda: "sleep 1234" not in cri.exec(container, "ps")[1], "its end")


def test_start_of_no_program(cri: Cri) -> None:
    pod = cri.sandbox()
    container = cri.create(pod, "nothere")
    with pytest.raises(Refused, match=r"executable file not found in \$PATH"):
        cri.call("StartContainer", container_id=container)
    found = cri.status(container)
    assert (found["state"], found["reason"], found["exit_code"]) == (
        "CONTAINER_EXITED",
        "StartError",
        128,
    )


def test_stats(cri: Cri) -> None:
    container = cri.start(cri.sandbox(), *LOOP)
    found = cri.stats(container)
    assert int(found["memory"]["working_set_bytes"]["value"]) > 0
    assert int(found["cpu"]["usage_core_nano_seconds"]["value"]) > 0
    assert len(cri.call("ListContainerStats")["stats"]) == 1


def limits(cri: Cri, container: str) -> list[str]:
    files = "memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares"
    return cri.exec(container, "sh", "-c", f"cd /sys/fs/cgroup; cat {files}")[1].split()


def test_limits_and_update(cri: Cri) -> None:
    given = {"memory_limit_in_bytes": 64 << 20, "cpu_quota": 50000, "cpu_period": 100000}
    container = cri.start(cri.sandbox(), *LOOP, linux={"resources": {**given, "cpu_shares": 512}})
    assert limits(cri, container) == [str(64 << 20), "50000", "512"]
    more = {"memory_limit_in_bytes": 100 << 20, "cpu_quota": 70000, "cpu_shares": 256}
    cri.call("UpdateContainerResources", container_id=container, linux=more)
    assert limits(cri, container) == [str(100 << 20), "70000", "256"]


def test_out_of_memory(cri: Cri) -> None:
    resources = {"resources": {"memory_limit_in_bytes": 16 << 20}}
    container = cri.start(
        cri.sandbox(), "sh", "-c", "a=x; while :; do a=$a$a; done", linux=resources
    )
    found = cri.end(container)
    assert (found["reason"], found["exit_code"]) == ("OOMKilled", 137)


def test_shared_namespaces(cri: Cri) -> None:
    """Containers of a pod share network, IPC and UTS, and processes if the pod says so."""
    options = {**SHARED, "pid": "POD"}
    pod = cri.sandbox(linux={"security_context": {"namespace_options": options}})
    context = {"linux": {"security_context": {"namespace_options": options}}}
    one, other = (cri.start(pod, *LOOP, **context) for _ in range(2))
    for kind in ("net", "ipc", "uts", "pid"):
        links = {cri.exec(each, "readlink", f"/proc/self/ns/{kind}")[1] for each in (one, other)}
        assert len(links) == 1, kind
    links = {cri.exec(each, "readlink", "/proc/self/ns/mnt")[1] for each in (one, other)}
    assert len(links) == 2


def test_network_of_pods(cri: Cri) -> None:
    """Each pod has an address, at which the other one finds it, and the name that it was given."""
    pods = [cri.sandbox(hostname=f"host{number}") for number in (1, 2)]
    there = cri.call("PodSandboxStatus", pod_sandbox_id=pods[0])["status"]["network"]["ip"]
    cri.start(pods[0], "nc", "-ll", "-p", "80", "-e", "hostname")
    container = cri.start(pods[1], *LOOP)
    wait_for(lambda: cri.exec(container, "nc", there, "80")[1] == "host1\n", "an answer")


def test_network_of_the_host(cri: Cri) -> None:
    options = {**SHARED, "network": "NODE"}
    pod = cri.sandbox(hostname="", linux={"security_context": {"namespace_options": options}})
    container = cri.start(pod, *LOOP, linux=security(namespace_options=options))
    outside = cri.box.call("readlink", "/proc/self/ns/net").out
    assert cri.exec(container, "readlink", "/proc/self/ns/net")[1] == outside


def test_names_and_environment(cri: Cri) -> None:
    pod = cri.sandbox(dns_config={"servers": ["10.0.0.10"], "searches": ["cluster.local"]})
    words = {"envs": [{"key": "WORD", "value": "spoken"}], "working_dir": "/tmp"}
    container = cri.start(pod, *LOOP, **words)
    done = cri.exec(container, "sh", "-c", "echo $WORD; pwd; cat /etc/resolv.conf")
    assert done[1].split() == [
        "spoken",
        "/tmp",
        "search",
        "cluster.local",
        "nameserver",
        "10.0.0.10",
    ]


def test_user_and_groups(cri: Cri) -> None:
    who = {"run_as_user": {"value": 5}, "run_as_group": {"value": 6}, "supplemental_groups": [77]}
    container = cri.start(cri.sandbox(), *LOOP, linux=security(**who))
    done = cri.exec(container, "sh", "-c", "id -u; id -g; id -G")
    assert done[1].split() == ["5", "6", "6", "77"]


def test_restricted(cri: Cri) -> None:
    """The profile "restricted" of Kubernetes: no privileges, no capabilities, seccomp, read-only."""
    context = security(
        capabilities={"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"]},
        no_new_privs=True,
        readonly_rootfs=True,
        run_as_user={"value": 5},
        seccomp={"profile_type": "RuntimeDefault"},
        masked_paths=["/proc/kcore", "/proc/keys"],
        readonly_paths=["/proc/sys"],
    )
    container = cri.start(cri.sandbox(), *LOOP, linux=context)
    script = (
        "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; touch /tmp/x; cat /proc/keys"
    )
    _, out, err = cri.exec(container, "sh", "-c", script)
    found = dict(line.split(":\t") for line in out.splitlines())
    assert (int(found["CapBnd"], 16), found["NoNewPrivs"], found["Seccomp"]) == (1 << 10, "1", "2")
    assert "Read-only file system" in err
    assert cri.exec(container, "unshare", "-m", "true")[0] != 0


def test_privileged(cri: Cri) -> None:
    pod = cri.sandbox(linux={"security_context": {"privileged": True}})
    container = cri.start(pod, *LOOP, linux=security(privileged=True))
    status, out, err = cri.exec(container, "sh", "-c", "mount -t tmpfs x /mnt && ls /dev")
    assert status == 0, err
    assert {"null", "kmsg"} <= set(out.split())


def test_volumes(cri: Cri) -> None:
    pod = cri.sandbox()
    place = cri.box.folder / f"volume-{pod[:8]}"
    place.mkdir()
    (place / "file").write_text("words\n")
    inside = str(cri.box.inside / place.name)
    mounts = [
        {"container_path": "/ro", "host_path": inside, "readonly": True},
        {"container_path": "/new/place", "host_path": inside},
    ]
    container = cri.start(pod, *LOOP, mounts=mounts)
    status, out, _ = cri.exec(
        container, "sh", "-c", "cat /ro/file; touch /new/place/new; touch /ro/no"
    )
    assert (status, out) == (1, "words\n")
    assert (place / "new").exists()


def test_sysctls(cri: Cri) -> None:
    pod = cri.sandbox(linux={"sysctls": {"kernel.shm_rmid_forced": "1"}})
    container = cri.start(pod, *LOOP)
    assert cri.exec(container, "cat", "/proc/sys/kernel/shm_rmid_forced")[1] == "1\n"


def test_containerd_starts_again(cri: Cri) -> None:
    """The pods go on meanwhile, and are known afterwards."""
    container = cri.start(cri.sandbox(), *LOOP)
    cri.containerd.restart()
    wait_for(cri.answers, "containerd", seconds=20)
    assert cri.status(container)["state"] == "CONTAINER_RUNNING"
    assert cri.exec(container, "echo", "hi") == (0, "hi\n", "")
    cri.call("StopContainer", container_id=container, timeout=5)
    assert cri.end(container)["exit_code"] == 7
