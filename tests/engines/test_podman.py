"""What only Podman does: pods, Kubernetes files, user namespaces, its own networks."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lib.engines import IMAGE, give_ids
from lib.notifysocket import NotifySocket
from lib.podman import Podman
from lib.runtime import wait_for
from lib.user import UID, give
from test_both import MOST_MEMORY

pytestmark = pytest.mark.programs("podman", "conmon")

LOOP = ("sh", "-c", "trap 'exit 7' TERM; echo hi; while :; do sleep 0.1; done")

KUBE = f"""
apiVersion: v1
kind: Pod
metadata:
  name: NAME
spec:
  hostNetwork: true
  restartPolicy: Never
  containers:
    - name: one
      image: {IMAGE}
      imagePullPolicy: Never
      command: [sh, -c, "echo $WORD; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
      env: [{{name: WORD, value: spoken}}]
      securityContext: {{readOnlyRootFilesystem: true, runAsUser: 5}}
"""


def test_user_namespace(podman: Podman) -> None:
    maps = ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536")
    done = podman.run(*maps, "--", "sh", "-c", "cat /proc/self/uid_map; id -u; touch /new")
    assert done.ok().out.split() == ["0", "100000", "65536", "0"]


def test_user_namespace_with_own_limits(podman: Podman) -> None:
    maps = ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536", "--memory=64m")
    name = podman.start(*maps, "--", *LOOP)
    assert podman("exec", "-u", "3", name, "id", "-u").ok().out == "3\n"


def test_automatic_user_namespace(podman: Podman) -> None:
    """Podman takes an own range for each container out of that of "containers"."""
    give_ids(podman.box, podman.box.folder, "/", "containers")
    starts = [
        int(
            podman.run("--userns=auto:size=1000", "--", "cat", "/proc/self/uid_map")
            .ok()
            .out.split()[1]
        )
        for _ in range(2)
    ]
    assert all(start >= UID + 100000 for start in starts), starts


def test_pod(podman: Podman) -> None:
    """Containers of a pod share the namespaces of its infra container."""
    pod = podman.new_name()
    podman("pod", "create", "--name", pod, "--network=none", "--share=ipc,net,uts").ok()
    try:
        flags = ("run", "--detach", "--pod", pod)
        name, other = podman.new_name(), podman.new_name()
        podman(*flags, "--name", name, IMAGE, *LOOP).ok()
        podman(*flags, "--name", other, IMAGE, "nc", "-l", "-p", "99", "-e", "echo", "heard").ok()
        shown = [
            podman("exec", each, "readlink", f"/proc/self/ns/{kind}").ok().out
            for kind in ("net", "ipc", "uts")
            for each in (name, other)
        ]
        assert shown[0::2] == shown[1::2]
        wait_for(lambda: podman("exec", name, "nc", "127.0.0.1", "99").out == "heard\n", "a word")
        podman("pod", "stop", "-t", "2", pod).ok()
        assert podman.inspect(name, "{{.State.Status}} {{.State.ExitCode}}") == "exited 7"
    finally:
        podman("pod", "rm", "-f", "-t", "0", pod).ok()


def test_pause_of_a_pod(podman: Podman) -> None:
    pod, name = podman.new_name(), podman.new_name()
    podman("pod", "create", "--name", pod, "--network=none").ok()
    try:
        podman("run", "--detach", "--pod", pod, "--name", name, IMAGE, *LOOP).ok()
        podman("pod", "pause", pod).ok()
        assert podman.inspect(name, "{{.State.Status}}") == "paused"
        podman("pod", "unpause", pod).ok()
        assert podman.inspect(name, "{{.State.Status}}") == "running"
    finally:
        podman("pod", "rm", "-f", "-t", "0", pod).ok()


@contextmanager
def played(podman: Podman, text: str) -> Iterator[str]:
    """The only container of a pod that `play kube` has made of a text; its end is seen to."""
    name = f"pod-{podman.new_name()}"
    file = podman.box.folder / f"{name}.yaml"
    file.write_text(text.replace("NAME", name))
    give([file])
    podman("play", "kube", podman.box.inside / file.name).ok()
    try:
        yield f"{name}-one"
    finally:
        podman("play", "kube", "--down", podman.box.inside / file.name)
    assert podman("pod", "exists", name).status == 1


def test_play_kube(podman: Podman) -> None:
    with played(podman, KUBE) as name:
        assert podman("exec", name, "id", "-u").ok().out == "5\n"
        assert podman("logs", name).out == "spoken\n"
        assert podman("exec", name, "touch", "/x").status == 1


def test_play_kube_with_limits(podman: Podman) -> None:
    limits = "      resources: {limits: {memory: 64Mi}}\n"
    with played(podman, KUBE + limits) as name:
        assert podman("exec", name, "sh", "-c", MOST_MEMORY).out == f"{64 << 20}\n"


def test_published_port(podman: Podman) -> None:
    flags = ("--network=bridge", "-p", "127.0.0.1:7091:80")
    name = podman.start(*flags, "--", "nc", "-ll", "-p", "80", "-e", "echo", "heard")
    shown = lambda: podman.box.call("busybox", "nc", "127.0.0.1", "7091").out  # noqa: E731
    wait_for(lambda: shown() == "heard\n", "an answer")
    assert podman("port", name).ok().out.strip() == "80/tcp -> 127.0.0.1:7091"


def test_restart_policy(podman: Podman) -> None:
    name = podman.start("--restart=on-failure:2", "--", "sh", "-c", "echo x; exit 3")
    wait_for(lambda: podman("logs", name).out == "x\n" * 3, "three lives")
    podman.wait_for(name, "{{.State.Status}} {{.State.ExitCode}}", "exited 3")


def test_attach(podman: Podman) -> None:
    name = podman.new_name()
    podman("create", "-i", "--name", name, *podman.defaults, IMAGE, "tr", "a-z", "A-Z").ok()
    done = podman("start", "--attach", "--interactive", name, input=b"words")
    assert (done.status, done.out) == (0, "WORDS"), str(done)


def test_preserved_descriptors(podman: Podman) -> None:
    command = ["sh", "-c", 'exec 3<"$0"; exec "$@"', "/etc/hostname"]
    flags = ("run", "--rm", "--preserve-fds=1", *podman.defaults, IMAGE)
    done = podman.box.call(*command, *podman.argv(*flags, "sh", "-c", "cat <&3"))
    assert done.ok().out == podman.box.call("cat", "/etc/hostname").out


@pytest.mark.not_with("runc")
def test_without_cgroups(podman: Podman) -> None:
    done = podman.run("--cgroups=disabled", "--", "cat", "/proc/self/cgroup")
    assert "libpod" not in done.ok().out


@pytest.mark.parametrize("mode", ["enabled", "no-conmon"])
def test_cgroups(podman: Podman, mode: str) -> None:
    done = podman.run(
        f"--cgroups={mode}", "--cgroup-parent=/mine", "--", "cat", "/proc/self/cgroup"
    )
    assert done.status == 0, str(done)


def test_events(podman: Podman) -> None:
    name = podman.start("sh", "-c", "exit 5")
    podman("wait", name).ok()
    flags = (
        "--stream=false",
        "--filter",
        f"container={name}",
        "--format={{.Status}} {{.ContainerExitCode}}",
    )
    wait_for(lambda: "died 5" in podman("events", *flags).out, "the event")


def test_build(podman: Podman) -> None:
    folder = podman.box.folder / podman.new_name()
    folder.mkdir()
    (folder / "Containerfile").write_text(
        f"FROM {IMAGE}\nRUN echo made by $(id -u) > /made\nUSER 7\nRUN id -u > /tmp/who\n"
    )
    tag = f"localhost/{folder.name}"
    podman("build", "--network=none", "-t", tag, podman.box.inside / folder.name).ok()
    done = podman("run", "--rm", *podman.defaults, tag, "cat", "/made", "/tmp/who")
    assert done.ok().out == "made by 0\n7\n"


def test_commit(podman: Podman) -> None:
    name = podman.start(*LOOP)
    podman("exec", name, "touch", "/new").ok()
    podman("commit", "-q", name, f"localhost/{name}").ok()
    podman("run", "--rm", *podman.defaults, f"localhost/{name}", "ls", "/new").ok()
    podman("rmi", f"localhost/{name}")


def test_mask_and_unmask(podman: Podman) -> None:
    flags = ("--security-opt=mask=/etc/passwd", "--security-opt=unmask=/proc/kcore")
    script = (
        "wc -c </etc/passwd; grep -c ' /proc/kcore ' /proc/mounts; grep -c /proc/keys /proc/mounts"
    )
    done = podman.run(*flags, "--", "sh", "-c", script)
    assert done.out.split() == ["0", "0", "1"], str(done)


def test_secret(podman: Podman) -> None:
    name = podman.new_name()
    (podman.box.folder / "secret").write_text("hush")
    podman("secret", "create", name, podman.box.inside / "secret").ok()
    assert podman.run(f"--secret={name}", "--", "cat", f"/run/secrets/{name}").ok().out == "hush"
    podman("secret", "rm", name).ok()


def test_shared_memory_and_hostname(podman: Podman) -> None:
    flags = ("--shm-size=1m", "--hostname=boxed")
    done = podman.run(*flags, "--", "sh", "-c", "hostname; df -k /dev/shm | tail -n 1").ok()
    assert done.out.split()[:3] == ["boxed", "shm", "1024"], str(done)


def test_root_folder_as_image(podman: Podman) -> None:
    rootfs = podman.box.inside / "image/rootfs"
    done = podman("run", "--rm", *podman.defaults, "--rootfs", f"{rootfs}:O", "echo", "hi")
    assert done.ok().out == "hi\n"


@pytest.mark.parametrize("mode", ["container", "conmon", "ignore"])
def test_sdnotify(podman: Podman, mode: str) -> None:
    """As in a unit of Type=notify: who says READY=1, and that the main process is conmon.

    Podman 4 has conmon pass it on, from a socket that it mounts itself.
    """
    path = podman.box.folder / "notify.sock"
    script = "sleep 0.3; [ -z $NOTIFY_SOCKET ] || probe --notify READY=1; exec sleep 1000"
    env = {"NOTIFY_SOCKET": str(podman.box.inside / path.name)}
    name = podman.new_name()
    flags = ("--detach", "--name", name, f"--sdnotify={mode}")
    try:
        with NotifySocket(path, {}) as host, host.reading():
            podman("run", *podman.words((*flags, "--", "sh", "-c", script)), env=env).ok()
            if mode != "ignore":
                wait_for(lambda: "READY=1" in host.seen, "READY=1")
    finally:
        path.unlink(missing_ok=True)
    mains = [line for line in host.seen if line.startswith("MAINPID=")]
    if mode == "ignore":
        assert host.seen == []
    else:
        assert host.seen.count("READY=1") == 1
        assert mains[-1:] == ["MAINPID=" + podman.inspect(name, "{{.State.ConmonPid}}")]
