"""What only Docker does: an added runtime, builds, its events, policies and networks."""

from collections.abc import Callable

import pytest
from lib.docker import Docker
from lib.engines import IMAGE, Engine
from lib.runtime import wait_for

pytestmark = pytest.mark.programs("dockerd", "containerd", "docker")

LOOP = ("sh", "-c", "trap 'exit 7' TERM; echo hi; while :; do sleep 0.1; done")


def test_added_runtime(made: Callable[[str, str], Engine], runtime: str) -> None:
    """`--runtime` of a daemon whose default is another one."""
    docker = made("docker", "runc")
    try:
        name = docker.start(f"--runtime={runtime}", "--", *LOOP)
        assert docker.inspect(name, "{{.HostConfig.Runtime}}") == runtime
        assert docker("exec", name, "echo", "hi").ok().out == "hi\n"
        docker("pause", name).ok()
        docker("unpause", name).ok()
        docker("stop", "-t", "5", name).ok()
        assert docker.inspect(name, "{{.State.ExitCode}}") == "7"
    finally:
        docker.clear()


def test_build(docker: Docker) -> None:
    folder = docker.box.folder / docker.new_name()
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        f"FROM {IMAGE}\nRUN echo made by $(id -u) > /made\nUSER 7\nRUN id -u > /tmp/who\n"
    )
    tag = f"localhost/{folder.name}"
    docker("build", "--network=none", "-t", tag, docker.box.inside / folder.name).ok()
    done = docker("run", "--rm", *docker.defaults, tag, "cat", "/made", "/tmp/who")
    assert done.ok().out == "made by 0\n7\n"
    docker("rmi", tag)


def events(docker: Docker, name: str) -> str:
    form = "{{.Action}} {{.Actor.Attributes.exitCode}}"
    flags = ("--since=10m", "--until=0s", f"--filter=container={name}", f"--format={form}")
    return docker("events", *flags).out


def test_events_of_an_exit(docker: Docker) -> None:
    name = docker.start("sh", "-c", "exit 5")
    wait_for(lambda: "die 5" in events(docker, name), "the event")


def test_event_of_out_of_memory(docker: Docker) -> None:
    name = docker.start("--memory=8m", "--", "sh", "-c", "a=x; while :; do a=$a$a; done")
    wait_for(lambda: "die 137" in events(docker, name), "its end")
    assert "oom" in events(docker, name)
    assert docker.inspect(name, "{{.State.OOMKilled}}") == "true"


def test_restart_policy(docker: Docker) -> None:
    name = docker.start("--restart=on-failure:2", "--", "sh", "-c", "echo x; exit 3")
    wait_for(lambda: docker("logs", name).out == "x\n" * 3, "three lives")
    docker.wait_for(name, "{{.State.Status}} {{.RestartCount}}", "exited 2")


def test_published_port(docker: Docker) -> None:
    flags = ("--network=bridge", "-p", "127.0.0.1:7092:80")
    name = docker.start(*flags, "--", "nc", "-ll", "-p", "80", "-e", "echo", "heard")
    shown = lambda: docker.box.call("busybox", "nc", "127.0.0.1", "7092").out  # noqa: E731
    wait_for(lambda: shown() == "heard\n", "an answer")
    assert docker("port", name).ok().out.strip() == "80/tcp -> 127.0.0.1:7092"


def test_network_of_another_container(docker: Docker) -> None:
    name = docker.start("nc", "-ll", "-p", "80", "-e", "echo", "heard")
    done = docker("run", "--rm", f"--network=container:{name}", IMAGE, "nc", "127.0.0.1", "80")
    assert done.ok().out == "heard\n"


def test_attach(docker: Docker) -> None:
    name = docker.new_name()
    docker("create", "-i", "--name", name, *docker.defaults, IMAGE, "tr", "a-z", "A-Z").ok()
    done = docker("start", "--attach", "--interactive", name, input=b"words")
    assert (done.status, done.out) == (0, "WORDS"), str(done)


def test_update_of_many_limits(docker: Docker) -> None:
    name = docker.start(*LOOP)
    flags = (
        "--cpu-shares=512",
        "--cpus=0.5",
        "--pids-limit=60",
        "--memory=64m",
        "--memory-swap=-1",
    )
    docker("update", *flags, name).ok()
    files = "cpu/cpu.shares cpu/cpu.cfs_quota_us pids/pids.max memory/memory.limit_in_bytes"
    shown = docker("exec", name, "sh", "-c", f"cd /sys/fs/cgroup; cat {files}").out.split()
    assert shown == ["512", "50000", "60", str(64 << 20)]


def test_features(docker: Docker) -> None:
    assert docker.runtime in docker("info", "--format={{json .Runtimes}}").ok().out
