"""docs/engines.md, step by step, on a clean machine: what the page lab runs as root.

Usage: python3 tests/lab/follow.py      (`make lab LAB=page`; never on a machine that one needs)

Every file is written where the page says, as the page has it, and every engine is started as
its package does. Ends with the first command that does not do what the page promises.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lib.engines import IMAGE, guide

LOOP = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")


def call(*argv: str, status: int = 0) -> str:
    """Output of a command, which must end with that status."""
    print("$", *argv, flush=True)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != status:
        sys.exit(f"follow: ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def expect(wanted: str, *argv: str) -> None:
    """A command prints that."""
    if (found := call(*argv)) != wanted:
        sys.exit(f"follow: {found!r}, not {wanted!r}")


def until(wanted: str, *argv: str) -> None:
    """A command prints that, in a minute at the latest."""
    deadline = time.monotonic() + 60
    while (found := call(*argv)) != wanted:
        if time.monotonic() > deadline:
            sys.exit(f"follow: {found!r}, not {wanted!r}")
        time.sleep(2)


def put(path: str, text: str) -> None:
    """An example of the page at its place."""
    print("writing", path, flush=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def install() -> None:
    """`make install PREFIX=/usr/local`; pip finds what it would fetch in a folder."""
    offline = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/mnt/wheels")
    call("env", *offline, "make", "-s", "install", "PREFIX=/usr/local")
    print(call("/usr/local/bin/ocirun", "--version"))


def image() -> str:
    """A root file system for an image: busybox and its applets."""
    root = Path("/var/tmp/rootfs")
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "mnt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    call("chroot", str(root), "/bin/busybox", "--install", "-s", "/bin")
    call("tar", "-C", str(root), "-cf", "/var/tmp/rootfs.tar", ".")
    return "/var/tmp/rootfs.tar"


def life(engine: str, *flags: str) -> None:
    """What both engines do with a container, with all that they have by default."""
    run = (engine, "run", "--rm", *flags, IMAGE)
    expect("hi", *run, "echo", "hi")
    call(*run, "sh", "-c", "exit 5", status=5)
    call(engine, "run", "--detach", "--name=one", "--memory=64m", *flags, IMAGE, *LOOP)
    expect("2000", engine, "exec", "--user=1000:2000", "one", "id", "-g")
    for limit in ("64m", "100m"):
        call(engine, "update", f"--memory={limit}", f"--memory-swap={limit}", "one")
        shown = call(engine, "exec", "one", "cat", "/sys/fs/cgroup/memory.max")
        assert shown == str(int(limit[:-1]) << 20), shown
    call(engine, "stats", "--no-stream", "one")
    call(engine, "pause", "one")
    call(engine, "unpause", "one")
    call(engine, "stop", "-t", "5", "one")
    expect("7", engine, "inspect", "--format={{.State.ExitCode}}", "one")
    call(engine, "rm", "one")
    call(*run[:3], "--privileged", *run[3:], "sh", "-c", "mount -t tmpfs x /mnt")


def published(engine: str) -> None:
    """A published port."""
    flags = ("--detach", "--name=two", "--publish=127.0.0.1:7094:80")
    call(engine, "run", *flags, IMAGE, "nc", "-ll", "-p", "80", "-e", "echo", "heard")
    until("heard", "busybox", "nc", "127.0.0.1", "7094")
    call(engine, "rm", "--force", "two")


def podman(tar: str) -> None:
    call("podman", "import", "--change=ENV PATH=/bin", tar, IMAGE)
    expect(
        "once", "podman", "--runtime", "/usr/local/bin/ocirun", "run", "--rm", IMAGE, "echo", "once"
    )
    put("/etc/containers/containers.conf", guide("containers.conf"))
    expect("ocirun", "podman", "info", "--format", "{{.Host.OCIRuntime.Name}}")
    life("podman")
    published("podman")


def buildah(tar: str) -> None:
    call("buildah", "from", "--name=work", IMAGE)
    expect("hi", "buildah", "run", "--runtime", "/usr/local/bin/ocirun", "work", "--", "echo", "hi")
    variable = "BUILDAH_RUNTIME=/usr/local/bin/ocirun"
    expect("hi", "env", variable, "buildah", "run", "work", "--", "echo", "hi")
    Path("/var/tmp/Containerfile").write_text(f"FROM {IMAGE}\nRUN echo built\n")
    flags = ("--runtime", "/usr/local/bin/ocirun", "-f", "/var/tmp/Containerfile")
    assert "built" in call("buildah", "bud", *flags, "/var/tmp")


def docker(tar: str) -> None:
    put("/etc/docker/daemon.json", guide("daemon.json"))
    call("systemctl", "reload", "docker")
    until("ocirun", "docker", "info", "--format", "{{.DefaultRuntime}}")
    call("docker", "import", "--change=ENV PATH=/bin", tar, IMAGE)
    expect("once", "docker", "run", "--rm", "--runtime", "ocirun", IMAGE, "echo", "once")
    life("docker")
    published("docker")
    Path("/var/tmp/Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo built\n")
    assert "built" in call("docker", "build", "/var/tmp")


def buildkit(tar: str) -> None:
    """With no other runc on the machine than the link that the page tells of."""
    Path("/usr/local/lib/first").mkdir()
    Path("/usr/local/lib/first/runc").symlink_to("/usr/local/bin/ocirun")
    path = "PATH=/usr/local/lib/first:/usr/sbin:/usr/bin:/sbin:/bin"
    put("/etc/systemd/system/docker.service.d/override.conf", f"[Service]\nEnvironment={path}\n")
    call("mv", "/usr/sbin/runc", "/usr/sbin/not-runc")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", "docker")
    call("env", "DOCKER_BUILDKIT=1", "docker", "build", "--no-cache", "/var/tmp")
    call("mv", "/usr/sbin/not-runc", "/usr/sbin/runc")


def swarm(tar: str) -> None:
    put("/etc/docker/daemon.json", guide("daemon.json", "Swarm"))
    call("systemctl", "restart", "docker")
    call("docker", "swarm", "init", "--advertise-addr=127.0.0.1")
    constraint = "--constraint=engine.labels.runtime==ocirun"
    flags = ("--detach", "--no-resolve-image", "--name=three", "--replicas=2", constraint)
    call("docker", "service", "create", *flags, IMAGE, *LOOP)
    until("2/2", "docker", "service", "ls", "--format={{.Replicas}}")
    names = call("docker", "ps", "--quiet").split()
    expect("ocirun\nocirun", "docker", "inspect", "--format={{.HostConfig.Runtime}}", *names)
    call("docker", "service", "rm", "three")


def containerd(tar: str) -> None:
    put("/etc/containerd/config.toml", guide("config.toml"))
    call("systemctl", "restart", "containerd")
    assert 'BinaryName = "/usr/local/bin/ocirun"' in call("containerd", "config", "dump")
    archive = "/var/tmp/image.tar"
    call("podman", "save", "--format=docker-archive", "-o", archive, IMAGE)
    call("ctr", "images", "import", archive)
    flags = ("--rm", "--runc-binary", "/usr/local/bin/ocirun")
    expect("hi", "ctr", "run", *flags, IMAGE, "four", "echo", "hi")


STEPS: tuple[Callable[[str], None], ...] = (podman, buildah, docker, buildkit, swarm, containerd)

if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)  # the lab's own packages are not of this machine
    install()
    tar = image()
    for step in STEPS:
        print(f"== {step.__name__}", flush=True)
        step(tar)
    print("follow: every step did what the page says")
