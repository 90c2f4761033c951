"""containerd by ctr: `--runc-binary`, and what it can do with tasks."""

import json

import pytest
from lib.containerd import Containerd
from lib.runtime import wait_for

pytestmark = pytest.mark.programs("containerd", "ctr", "containerd-shim-runc-v2")

LOOP = ("sh", "-c", "trap 'exit 7' TERM; echo hi; while :; do sleep 0.1; done")


def test_run(containerd: Containerd) -> None:
    done = containerd.run("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.status, done.out, done.err) == (5, "out\n", "err\n"), str(done)


def test_run_on_a_terminal(containerd: Containerd) -> None:
    done = containerd.tty("run", "--rm", "--tty", *containerd.words(("tty",)))
    assert done.status == 0, str(done)
    assert "/dev/pts/0" in done.out, str(done)


def test_no_program(containerd: Containerd) -> None:
    done = containerd.run("nothere")
    assert done.status == 1, str(done)
    assert "executable file not found in $PATH" in done.err, str(done)


def test_life(containerd: Containerd) -> None:
    """run --detach, kill, the end of the task, delete."""
    name = containerd.start(*LOOP)
    assert containerd.status(name) == "RUNNING"
    containerd("tasks", "kill", "--signal", "TERM", name).ok()
    wait_for(lambda: containerd.status(name) == "STOPPED", "its end")
    containerd("tasks", "delete", name).ok()
    assert containerd.status(name) == ""


def test_kill_all(containerd: Containerd) -> None:
    name = containerd.start("sh", "-c", "sleep 1000 & sleep 1000")
    containerd("tasks", "kill", "--all", "--signal", "KILL", name).ok()
    wait_for(lambda: containerd.status(name) == "STOPPED", "its end")
    containerd("tasks", "delete", name).ok()


def test_exec(containerd: Containerd) -> None:
    name = containerd.start(*LOOP)
    flags = ("--cwd", "/tmp", "--user", "5:6")
    script = "pwd; id -u; exit 4"
    done = containerd("tasks", "exec", "--exec-id", "one", *flags, name, "sh", "-c", script)
    assert (done.status, done.out) == (4, "/tmp\n5\n"), str(done)


def test_exec_on_a_terminal(containerd: Containerd) -> None:
    name = containerd.start(*LOOP)
    done = containerd.tty("tasks", "exec", "--exec-id", "one", "--tty", name, "tty")
    assert done.status == 0, str(done)
    assert "/dev/pts/" in done.out, str(done)


def test_exec_detached(containerd: Containerd) -> None:
    name = containerd.start(*LOOP)
    containerd("tasks", "exec", "--exec-id", "one", "--detach", name, "sleep", "1000").ok()
    assert len(containerd("tasks", "ps", name).ok().out.splitlines()) >= 3


def test_exec_of_no_program(containerd: Containerd) -> None:
    name = containerd.start(*LOOP)
    done = containerd("tasks", "exec", "--exec-id", "one", name, "nothere")
    assert done.status == 1, str(done)
    assert "executable file not found in $PATH" in done.err, str(done)


def test_pause(containerd: Containerd) -> None:
    name = containerd.start(*LOOP)
    containerd("tasks", "pause", name).ok()
    assert containerd.status(name) == "PAUSED"
    containerd("tasks", "resume", name).ok()
    assert containerd.status(name) == "RUNNING"


def test_processes(containerd: Containerd) -> None:
    name = containerd.start("sleep", "1000")
    lines = containerd("tasks", "ps", name).ok().out.splitlines()
    assert len(lines) == 2, lines


def test_metrics(containerd: Containerd) -> None:
    name = containerd.start(f"--memory-limit={64 << 20}", "--", "sleep", "1000")
    found = json.loads(containerd("tasks", "metrics", "--format=json", name).ok().out)
    assert found["pids"]["current"] == 1
    usage = found["memory"]
    assert int(usage.get("usage", {}).get("limit", usage.get("usage_limit", 0))) == 64 << 20


def test_limits(containerd: Containerd) -> None:
    flags = (f"--memory-limit={64 << 20}", "--cpus=0.5")
    group = f"/mine/{containerd.new_name()}"
    containerd.start(*flags, f"--cgroup={group}", "--", *LOOP)
    files = (f"/sys/fs/cgroup/{path}" for path in (
        f"memory{group}/memory.limit_in_bytes", f"cpu{group}/cpu.cfs_quota_us",
        f"{group}/memory.max", f"{group}/cpu.max",
    ))  # fmt: skip
    shown = containerd.box.call("cat", *files).out.split()
    assert shown[:2] == [str(64 << 20), "50000"]


def test_seccomp(containerd: Containerd) -> None:
    done = containerd.run("--seccomp", "--", "grep", "Seccomp:", "/proc/self/status")
    assert done.ok().out.split() == ["Seccomp:", "2"]


def test_read_only(containerd: Containerd) -> None:
    assert containerd.run("--read-only", "--", "touch", "/new").status == 1


def test_capabilities(containerd: Containerd) -> None:
    flags = ("--cap-add=CAP_SYS_ADMIN", "--cap-drop=CAP_CHOWN", "--allow-new-privs")
    done = containerd.run(*flags, "--", "grep", "CapEff", "/proc/self/status").ok()
    found = int(done.out.split()[1], 16)
    assert found >> 21 & 1
    assert not found & 1


def test_environment_and_mounts(containerd: Containerd) -> None:
    flags = ("--env=A=b", "--cwd=/tmp", "--mount=type=tmpfs,src=tmpfs,dst=/x,options=size=1m")
    done = containerd.run(*flags, "--", "sh", "-c", "echo $A $PWD; df -k /x | tail -n 1").ok()
    assert done.out.split()[:4] == ["b", "/tmp", "tmpfs", "1024"]


def test_without_pivot(containerd: Containerd) -> None:
    assert containerd.run("--no-pivot", "--", "echo", "hi").ok().out == "hi\n"


def test_host_network(containerd: Containerd) -> None:
    done = containerd.run("--net-host", "--", "readlink", "/proc/self/ns/net").ok()
    assert done.out == containerd.box.call("readlink", "/proc/self/ns/net").out


def test_user_namespace(containerd: Containerd) -> None:
    maps = ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536")
    done = containerd.run(*maps, "--", "sh", "-c", "cat /proc/self/uid_map; id -u; touch /new")
    assert done.ok().out.split() == ["0", "100000", "65536", "0"]


def test_input(containerd: Containerd) -> None:
    done = containerd.run("sh", "-c", "read word; echo $word", input=b"spoken\n")
    assert (done.status, done.out) == (0, "spoken\n"), str(done)


def test_events(containerd: Containerd) -> None:
    """What the shim tells of a life, with its exit status."""
    heard = containerd.box.folder / containerd.new_name()
    with heard.open("wb") as file:
        listener = containerd.box.popen(*containerd.argv("events"), stdout=file)
        try:
            wait_for(lambda: containerd.run("sh", "-c", "exit 5").status == 5, "a life")
            wait_for(lambda: "/tasks/delete" in heard.read_text(), "its last event")
        finally:
            listener.kill()
            listener.wait()
    for topic in ("/tasks/create", "/tasks/start", "/tasks/exit", '"exit_status":5'):
        assert topic in heard.read_text()


def test_profile_of_ones_own(containerd: Containerd) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    (containerd.box.folder / "profile.json").write_text(json.dumps(profile))
    flags = ("--seccomp", f"--seccomp-profile={containerd.box.inside}/profile.json")
    assert "quota" in containerd.run(*flags, "--", "mkdir", "/new").err.lower()


def test_many_at_once(containerd: Containerd) -> None:
    names = [containerd.start("sleep", "1000") for _ in range(3)]
    assert [containerd.status(name) for name in names] == ["RUNNING"] * 3


def test_config_is_taken(containerd: Containerd) -> None:
    """The file of docs/engines.md, as containerd itself reads it."""
    file = containerd.place / "config.toml"
    shown = containerd.box.call("containerd", "--config", file, "config", "dump").ok().out
    assert f'default_runtime_name = "{containerd.runtime}"' in shown
    assert "build/prefix/bin/ocirun" in shown
