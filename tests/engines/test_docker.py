"""What only Docker does: an added runtime, builds, its events, policies and networks."""

import json
from collections.abc import Callable

import pytest
from lib.box import Done
from lib.docker import BuildKit, Docker, Remapped
from lib.engines import IMAGE, Engine
from lib.runtime import wait_for
from lib.user import UID

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


def build(docker: Docker, *lines: str) -> Done:
    """`docker build` of these lines, and `cat` of the files that they have made."""
    folder = docker.box.folder / docker.new_name()
    folder.mkdir()
    (folder / "Dockerfile").write_text("\n".join([f"FROM {IMAGE}", *lines, ""]))
    tag = f"localhost/{folder.name}"
    done = docker(
        "build", "--network=none", "--force-rm", "-t", tag, docker.box.inside / folder.name
    )
    if done.status == 0:
        done = docker("run", "--rm", *docker.defaults, tag, "sh", "-c", "cat /made/*")
        docker("rmi", tag)
    return done


def test_build(docker: Docker) -> None:
    lines = ("RUN mkdir -m 777 /made; echo by $(id -u) > /made/one", "USER 7")
    done = build(docker, *lines, "RUN id -u > /made/two", "USER 0")
    assert done.ok().out == "by 0\n7\n"


def test_build_that_fails(docker: Docker) -> None:
    done = build(docker, "RUN exit 9")
    assert done.status == 9, str(done)


def test_buildkit(buildkit: BuildKit) -> None:
    """BuildKit in dockerd executes the runc that it finds in PATH: the runtime under test."""
    lines = (
        *("RUN mkdir -m 777 /made; echo by $(id -u) > /made/one", f"FROM {IMAGE}"),
        *(
            "COPY --from=0 /made /made",
            "RUN chmod 777 /made",
            "USER 7",
            "RUN id -u > /made/two",
            "USER 0",
        ),
        "RUN --mount=type=tmpfs,target=/scratch df /scratch | grep -c tmpfs > /made/three",
        "RUN --mount=type=cache,target=/cache touch /cache/new; ls /cache > /made/xfour",
        "RUN grep Seccomp: /proc/self/status > /made/xfive",
    )
    done = build(buildkit, *lines)
    assert done.ok().out.split() == ["by", "0", "1", "7", "Seccomp:", "2", "new"], str(done)
    assert " run " in buildkit.calls.read_text()


def test_buildkit_that_fails(buildkit: BuildKit) -> None:
    done = build(buildkit, "RUN exit 9")
    assert done.status == 1, str(done)
    assert "exit code: 9" in done.err, str(done)
    done = build(buildkit, 'RUN ["nothere"]')
    assert done.status == 1, str(done)
    assert "executable file not found in $PATH" in done.err, str(done)


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


def test_user_namespace(remapped: Remapped) -> None:
    """`userns-remap`: all containers of a daemon in a user namespace, with limits and volumes."""
    name = remapped.start("--memory=64m", "--read-only", "-v", "data:/data", "--", *LOOP)
    script = "cat /proc/self/uid_map; id -u; touch /data/new && ls /data"
    words = remapped("exec", name, "sh", "-c", script).ok().out.split()
    assert words == ["0", str(UID + 100000), "65536", "0", "new"]
    assert remapped("exec", "-u", "3", name, "id", "-u").ok().out == "3\n"
    remapped("update", "--memory=100m", "--memory-swap=100m", name).ok()
    remapped("stop", "-t", "5", name).ok()
    assert remapped.inspect(name, "{{.State.ExitCode}}") == "7"


def test_user_namespace_of_the_host(remapped: Remapped) -> None:
    done = remapped.run("--userns=host", "--", "cat", "/proc/self/uid_map")
    assert done.ok().out.split() == remapped.box.call("cat", "/proc/self/uid_map").out.split()


def test_blocked_call(docker: Docker) -> None:
    """A user namespace needs no capability: only the profile forbids it."""
    assert docker.run("unshare", "-U", "true").status == 1
    docker.run("--security-opt=seccomp=unconfined", "--", "unshare", "-U", "true").ok()


def test_own_seccomp_profile(docker: Docker) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    file = docker.box.folder / "profile.json"
    file.write_text(json.dumps(profile))
    flags = (f"--security-opt=seccomp={docker.box.inside / file.name}", "--", "mkdir", "/new")
    done = docker.run(*flags)
    assert (done.status, "Disk quota exceeded" in done.err) == (1, True), str(done)


def test_always_restarted(docker: Docker) -> None:
    """Until it is stopped by name."""
    name = docker.start("--restart=always", "--", *LOOP)
    docker("exec", name, "kill", "1").ok()
    wait_for(lambda: docker.inspect(name, "{{.RestartCount}}") == "1", "another life")
    docker.wait_for(name, "{{.State.Status}}", "running")
    docker("stop", "-t", "5", name).ok()
    docker.wait_for(name, "{{.State.Status}}", "exited")


def test_daemon_starts_again(docker: Docker) -> None:
    """With live-restore containers go on meanwhile, and are known afterwards."""
    name = docker.start(*LOOP)
    pid = docker.inspect(name, "{{.State.Pid}}")
    docker.kill_daemons()
    docker.up()
    docker.wait_until_up()
    assert docker.inspect(name, "{{.State.Status}} {{.State.Pid}}") == f"running {pid}"
    assert docker("exec", name, "echo", "hi").ok().out == "hi\n"
    docker("stop", "-t", "5", name).ok()
    assert docker.inspect(name, "{{.State.ExitCode}}") == "7"


def test_logs_of_both_streams(docker: Docker) -> None:
    name = docker.start("sh", "-c", "echo out; echo err >&2")
    docker("wait", name).ok()
    done = docker("logs", name).ok()
    assert (done.out, done.err) == ("out\n", "err\n")


def test_signal_of_the_image(docker: Docker) -> None:
    command = ("sh", "-c", "trap 'exit 8' USR1; while :; do sleep 0.1; done")
    name = docker.start("--stop-signal=USR1", "--", *command)
    docker("stop", "-t", "5", name).ok()
    assert docker.inspect(name, "{{.State.ExitCode}}") == "8"
