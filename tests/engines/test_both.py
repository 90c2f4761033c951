"""What Podman and Docker do alike, command by command."""

import json
import re

import pytest
from lib.engines import Engine
from lib.runtime import wait_for

LOOP = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.1; done")
EXIT = "{{.State.ExitCode}}"
STATUS = "{{.State.Status}}"
MOST_MEMORY = (
    "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
)


def test_run(engine: Engine) -> None:
    done = engine.run("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.status, done.out, done.err) == (5, "out\n", "err\n"), str(done)


def test_run_with_input(engine: Engine) -> None:
    done = engine.run("--interactive", "--", "tr", "a-z", "A-Z", input=b"words")
    assert (done.status, done.out) == (0, "WORDS"), str(done)


def test_run_on_a_terminal(engine: Engine) -> None:
    done = engine.tty("run", "--rm", "-t", *engine.defaults, "localhost/busybox:1", "tty")
    assert done.status == 0, str(done)
    assert done.out.strip() == "/dev/pts/0", str(done)


def test_signal_ends_run(engine: Engine) -> None:
    assert engine.run("sh", "-c", "sh -c 'kill -9 $$'; exit $?").status == 137


@pytest.mark.parametrize(
    "command, status, words",
    [("nothere", 127, "executable file not found in $PATH"), ("/etc", 126, "permission denied")],
    ids=["missing", "not executable"],
)
def test_run_of_no_program(engine: Engine, command: str, status: int, words: str) -> None:
    done = engine.run(command)
    assert done.status == status, str(done)
    assert words in done.err.lower() + done.err, str(done)


def test_life(engine: Engine) -> None:
    """run -d, logs, stop, start, kill, wait, rm."""
    name = engine.start(*LOOP)
    wait_for(lambda: engine("logs", name).out == "hi\n", "its words")
    engine("stop", "-t", "5", name).ok()
    assert engine.inspect(name, f"{STATUS} {EXIT}") == "exited 7"
    assert engine("logs", name).out == "hi\nbye\n"
    engine("start", name).ok()
    assert engine.inspect(name, STATUS) == "running"
    engine("kill", "-s", "KILL", name).ok()
    assert engine("wait", name).out.strip() == "137"
    engine("rm", name).ok()
    assert engine("inspect", name).status != 0


def test_stop_of_a_deaf_one(engine: Engine) -> None:
    name = engine.start("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    engine("stop", "-t", "1", name).ok()
    assert engine.inspect(name, f"{STATUS} {EXIT}") == "exited 137"


def test_restart(engine: Engine) -> None:
    name = engine.start(*LOOP)
    wait_for(lambda: engine("logs", name).out == "hi\n", "its words")
    engine("restart", "-t", "5", name).ok()
    wait_for(lambda: engine("logs", name).out == "hi\nbye\nhi\n", "words of both lives")


def test_created_and_removed(engine: Engine) -> None:
    name = engine.new_name()
    engine("create", "--name", name, *engine.defaults, "localhost/busybox:1", "true").ok()
    assert engine.inspect(name, STATUS) == "created"
    engine("rm", name).ok()


def test_exec(engine: Engine) -> None:
    name = engine.start(*LOOP)
    done = engine("exec", "-e", "A=b", "-w", "/tmp", name, "sh", "-c", "echo $A $PWD; exit 4")
    assert (done.status, done.out) == (4, "b /tmp\n"), str(done)
    assert engine("exec", "-u", "1000:2000", name, "id", "-u").ok().out == "1000\n"
    done = engine("exec", "-i", name, "cat", input=b"words")
    assert (done.status, done.out) == (0, "words"), str(done)


def test_exec_on_a_terminal(engine: Engine) -> None:
    name = engine.start(*LOOP)
    done = engine.tty("exec", "-t", name, "sh", "-c", "tty; exit 3")
    assert done.status == 3, str(done)
    assert done.out.startswith("/dev/pts/"), str(done)


def test_exec_detached(engine: Engine) -> None:
    name = engine.start(*LOOP)
    engine("exec", "-d", name, "touch", "/tmp/there").ok()
    wait_for(lambda: engine("exec", name, "ls", "/tmp").out == "there\n", "the file")


def test_exec_of_no_program(engine: Engine) -> None:
    name = engine.start(*LOOP)
    assert engine("exec", name, "nothere").status == (127 if engine.name == "podman" else 126)
    assert engine("exec", name, "/etc").status == 126
    assert engine("exec", name, "true").status == 0


def test_exec_privileged(engine: Engine) -> None:
    name = engine.start(*LOOP)
    plain, full = (
        engine("exec", *flags, name, "grep", "CapEff", "/proc/self/status").ok().out
        for flags in ((), ("--privileged",))
    )
    assert int(plain.split()[1], 16) < int(full.split()[1], 16)


def test_top(engine: Engine) -> None:
    name = engine.start("sleep", "1000")
    lines = engine("top", name).ok().out.splitlines()
    assert len(lines) == 2, lines
    assert lines[1].strip().endswith("sleep 1000"), lines


def test_stats(engine: Engine) -> None:
    name = engine.start("--memory", "64m", "--", "sleep", "1000")
    form = "{{.PIDs}} {{.MemUsage}}"
    words = engine("stats", "--no-stream", "--format", form, name).ok().out.split()
    assert words[0] == "1", words
    assert words[3] in ("67.11MB", "64MiB"), words


def test_pause(engine: Engine) -> None:
    name = engine.start(*LOOP)
    engine("pause", name).ok()
    assert engine.inspect(name, STATUS) == "paused"
    assert engine("exec", name, "true").status != 0
    engine("unpause", name).ok()
    assert engine.inspect(name, STATUS) == "running"
    assert engine("exec", name, "true").status == 0


def test_update(engine: Engine) -> None:
    name = engine.start("--memory", "64m", "--", *LOOP)
    engine("update", "--memory", "100m", "--memory-swap", "100m", name).ok()
    shown = engine("exec", name, "sh", "-c", MOST_MEMORY).out.split()
    assert shown == [str(100 << 20)]


def test_limits(engine: Engine) -> None:
    flags = ("--memory", "64m", "--pids-limit", "50", "--cpu-shares", "512")
    files = "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max"
    name = engine.start(*flags, "--", *LOOP)
    shown = engine("exec", name, "sh", "-c", f"{MOST_MEMORY}; cat {files} 2>/dev/null").out
    assert shown.split() == [str(64 << 20), "50"]


def test_out_of_memory(engine: Engine) -> None:
    name = engine.start("--memory", "8m", "--", "sh", "-c", "a=x; while :; do a=$a$a; done")
    assert engine("wait", name).out.strip() == "137"


def test_health(engine: Engine) -> None:
    flags = ("--health-cmd", "test -e /tmp/well", "--health-interval", "1s", "--health-retries=1")
    name = engine.start(*flags, "--", *LOOP)

    def health() -> str:
        if engine.name == "podman":  # without systemd nobody else asks
            engine("healthcheck", "run", name)
        return engine.inspect(name, "{{.State.Health.Status}}")

    wait_for(lambda: health() == "unhealthy", "the first opinion")
    engine("exec", name, "touch", "/tmp/well").ok()
    wait_for(lambda: health() == "healthy", "the second opinion")


def test_init(engine: Engine) -> None:
    lines = engine.run("--init", "--", "ps", "-o", "pid,args").ok().out.splitlines()
    assert "init" in lines[1].split()[1], lines


def test_volumes(engine: Engine) -> None:
    place = engine.box.folder / engine.new_name()
    place.mkdir()
    (place / "file").write_text("words\n")
    where = engine.box.inside / place.name
    done = engine.run("-v", f"{where}:/mnt:ro", "--", "sh", "-c", "cat /mnt/file; touch /mnt/new")
    assert (done.status, done.out) == (1, "words\n"), str(done)
    engine.run("-v", f"{where}:/new/place", "--", "touch", "/new/place/new").ok()
    assert (place / "new").exists()


def test_named_volume(engine: Engine) -> None:
    name = engine.new_name()
    engine.run("-v", f"{name}:/data", "--", "sh", "-c", "echo words > /data/file").ok()
    assert engine.run("-v", f"{name}:/data", "--", "cat", "/data/file").ok().out == "words\n"
    engine("volume", "rm", name).ok()


def test_tmpfs(engine: Engine) -> None:
    done = engine.run("--tmpfs", "/x:size=1m,mode=700", "--", "df", "-k", "/x").ok()
    assert done.out.splitlines()[1].split()[:2] == ["tmpfs", "1024"], str(done)


def test_read_only(engine: Engine) -> None:
    done = engine.run("--read-only", "--", "touch", "/new")
    assert done.status == 1, str(done)
    assert "Read-only file system" in done.err, str(done)


def test_privileged(engine: Engine) -> None:
    done = engine.run("--privileged", "--", "sh", "-c", "mount -t tmpfs x /mnt && ls /dev").ok()
    assert {"null", "kmsg"} <= set(done.out.split())


def test_capabilities(engine: Engine) -> None:
    done = engine.run("--cap-drop=all", "--cap-add=chown", "--", "grep", "Cap", "/proc/self/status")
    sets = {words[0]: int(words[1], 16) for words in map(str.split, done.ok().out.splitlines())}
    assert (sets["CapPrm:"], sets["CapBnd:"], sets["CapInh:"]) == (1, 1, 0)


def test_user_and_groups(engine: Engine) -> None:
    done = engine.run("--user", "5:6", "--group-add", "77", "--", "id").ok()
    assert re.match(r"uid=5\S* gid=6\S* groups=\S*\b77\b", done.out), str(done)


def test_device(engine: Engine) -> None:
    done = engine.run(
        "--device", "/dev/null:/dev/xn", "--", "sh", "-c", "echo x >/dev/xn; ls -l /dev/xn"
    )
    assert "1,   3" in done.ok().out


def test_sysctl(engine: Engine) -> None:
    done = engine.run("--sysctl", "kernel.shmmax=65536", "--", "cat", "/proc/sys/kernel/shmmax")
    assert done.ok().out == "65536\n"


def test_ulimit(engine: Engine) -> None:
    # Podman's defaults may be more than root is allowed here, and are given up with an option.
    less = [f"--ulimit={name}=1000:1000" for name in ("nofile", "nproc")]
    flags = (*less, "--ulimit=core=1024:2048")
    done = engine.run(*flags, "--", "sh", "-c", "ulimit -S -c; ulimit -H -c")
    assert done.ok().out == "2\n4\n"


def test_default_seccomp_profile(engine: Engine) -> None:
    words = engine.run("grep", "Seccomp:", "/proc/self/status").ok().out.split()
    assert words == ["Seccomp:", "2"]
    done = engine.run("--cap-add=sys_admin", "--", "unshare", "-m", "true")
    assert done.status == 0, str(done)
    assert engine.run("unshare", "-m", "true").status != 0


def test_unconfined(engine: Engine) -> None:
    flags = ("--security-opt", "seccomp=unconfined")
    assert (
        engine.run(*flags, "--", "grep", "Seccomp:", "/proc/self/status").ok().out.split()[1] == "0"
    )


def test_no_new_privileges(engine: Engine) -> None:
    flags = ("--security-opt", "no-new-privileges")
    assert (
        engine.run(*flags, "--", "grep", "NoNewPrivs", "/proc/self/status").ok().out.split()[1]
        == "1"
    )


def test_host_namespaces(engine: Engine) -> None:
    name = engine.start("--pid=host", "--ipc=host", "--uts=host", "--", *LOOP)
    engine("exec", name, "true").ok()
    engine("rm", "-f", "-t0", name) if engine.name == "podman" else engine("rm", "-f", name)
    assert engine("inspect", name).status != 0


def test_namespaces_of_another_container(engine: Engine) -> None:
    name = engine.start(*LOOP)
    kinds = ("pid", "ipc") if engine.name == "podman" else ("pid",)
    flags = [f"--{kind}=container:{name}" for kind in kinds]
    done = engine.run(*flags, "--", "ps", "-o", "args").ok()
    assert "trap" in done.out.splitlines()[1], str(done)


def test_copy(engine: Engine) -> None:
    name = engine.start(*LOOP)
    (engine.box.folder / "words").write_text("words\n")
    engine("cp", engine.box.inside / "words", f"{name}:/tmp/words").ok()
    assert engine("exec", name, "cat", "/tmp/words").ok().out == "words\n"


def test_listed(engine: Engine) -> None:
    name = engine.start(*LOOP)
    form = "{{.Names}} {{.Status}}"
    assert f"{name} Up" in engine("ps", "--format", form).ok().out


def test_runtime_is_the_one_asked_for(engine: Engine) -> None:
    name = engine.start(*LOOP)
    form = "{{.OCIRuntime}}" if engine.name == "podman" else "{{.HostConfig.Runtime}}"
    assert engine.inspect(name, form) == engine.runtime


def test_info(engine: Engine) -> None:
    text = engine("info", "--format", "{{json .}}").ok().out
    found = json.loads(text)
    if engine.name == "podman":
        assert found["host"]["ociRuntime"]["name"] == engine.runtime
    else:
        assert found["DefaultRuntime"] == engine.runtime
