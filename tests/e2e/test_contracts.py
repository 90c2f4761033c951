"""What engines rely on beside the OCI specification: command lines, files, words, environments.

What belongs to one subject is with that subject: words of errors in test_lifecycle.py, the log in
test_errors.py, streams and signals in test_streams.py, terminals in test_terminal.py. The engines
themselves are in tests/engines.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
HOSTILE = {  # to an interpreter that is not isolated
    "PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1", "PYTHONVERBOSE": "1", "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere", "PYTHONINSPECT": "1",
}  # fmt: skip


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A container that waits for a signal."""
    runtime.call("run", "--detach", "--bundle", bundle.sleeper().write(), bundle.id).ok()
    return bundle


def merged(runtime: Runtime, *args: str, **options: object) -> bytes:
    """Standard output and error of a command, together, as some callers read them."""
    done = subprocess.run(
        runtime.argv(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=20, check=True, **options,
    )  # fmt: skip
    return done.stdout


def test_create_as_conmon_calls_it(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    """And the init process is a child of the caller, a sub-reaper, once `create` has ended."""
    pid_file = folder / "pid"
    flags = ("--no-pivot", "--no-new-keyring", "--preserve-fds", "0", "--pid-file", pid_file)
    runtime.call("create", "--bundle", bundle.sleeper().write(), *flags, bundle.id).ok()
    words = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()
    assert int(words[1]) == os.getpid()
    runtime.start(bundle.id).ok()
    runtime.call("kill", bundle.id, "15").ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", bundle.id).ok()


def test_calls_of_the_containerd_shim(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    log = folder / "log.json"
    runtime.options = ("--log", str(log), "--log-format", "json")
    pid_file = folder / "init.pid"
    runtime.call(
        "create", "--bundle", bundle.sleeper().write(), "--pid-file", pid_file, bundle.id
    ).ok()
    runtime.call("start", bundle.id).ok()
    process = folder / "process.json"
    process.write_text(json.dumps({**bundle.config["process"], "args": ["sleep", "1000"]}))
    flags = ("--process", process, "--pid-file", folder / "exec.pid", "--detach")
    runtime.call("exec", *flags, bundle.id).ok()
    pids = [(folder / f"{name}.pid").read_text() for name in ("init", "exec")]
    assert all(map(str.isdigit, pids)), pids
    assert set(map(int, pids)) <= set(runtime.call("ps", "--format", "json", bundle.id).ok().json)
    runtime.call("kill", "--all", bundle.id, "9").ok()
    os.waitpid(int(pids[1]), 0)  # as its parent by now; the shim is that otherwise
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", "--force", bundle.id).ok()
    assert not log.exists() or log.read_text() == ""


@pytest.mark.parametrize("form", ["-bundle", "--bundle"])
def test_long_options_with_one_dash(
    runtime: Runtime, bundle: Bundle, folder: Path, kind: str, form: str
) -> None:
    if kind == "crun" and form == "-bundle":
        pytest.skip("crun: takes one dash for short options")
    dash = form.removesuffix("bundle")
    pid_file = folder / "pid"
    flags = (f"{dash}bundle={bundle.sleeper().write()}", f"{dash}pid-file", str(pid_file))
    runtime.call("run", *flags, f"{dash}detach", f"{dash}no-new-keyring", bundle.id).ok()
    assert pid_file.read_text().isdigit()
    runtime.call("delete", f"{dash}force", bundle.id).ok()


def test_no_subreaper_with_one_dash(runtime: Runtime, bundle: Bundle, kind: str) -> None:
    if kind == "crun":
        pytest.skip("crun: has no such option")
    runtime.call("run", "-no-subreaper", "-bundle", bundle.sh("exit 3").write(), bundle.id)
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    "options",
    [
        ("--debug", "--log-level", "error"),
        ("--cgroup-manager", "cgroupfs", "--rootless", "false"),
        ("--cgroup-manager=disabled", "--rootless=auto"),
        ("--log-format", "text"),
    ],
)
def test_global_options(runtime: Runtime, bundle: Bundle, options: tuple[str, ...]) -> None:
    runtime.options = options
    assert runtime.run(bundle.sh("echo hi")).ok().out == "hi\n"


def test_only_xdg_runtime_dir(runtime: Runtime, running: Bundle, folder: Path) -> None:
    """No PATH even: what kill, pause, resume, state and delete get from some callers."""
    environment = {"XDG_RUNTIME_DIR": str(folder)}
    for command in (("state",), ("pause",), ("resume",), ("ps", "--format", "json")):
        runtime.call(*command, running.id, env=environment).ok()
    runtime.call("kill", running.id, "KILL", env=environment).ok()
    wait_for(lambda: runtime.status(running.id) == "stopped", "its end")
    runtime.call("delete", running.id, env=environment).ok()


@pytest.mark.parametrize("environment", [{}, HOSTILE], ids=["plain", "hostile"])
def test_answers_are_all_that_is_said(
    runtime: Runtime, running: Bundle, environment: dict[str, str]
) -> None:
    env = {**os.environ, **environment}
    assert json.loads(merged(runtime, "state", running.id, env=env))["id"] == running.id
    listed = json.loads(merged(runtime, "list", "--format", "json", env=env))
    assert [entry["id"] for entry in listed] == [running.id]
    pids = json.loads(merged(runtime, "ps", "--format", "json", running.id, env=env))
    assert runtime.state(running.id)["pid"] in pids
    assert all(isinstance(pid, int) for pid in pids)
    assert merged(runtime, "list", "--quiet", env=env).decode() == running.id + "\n"


def test_features_without_global_options(runtime: Runtime, kind: str) -> None:
    if kind == "crun":
        pytest.skip("crun: 1.8 has no `features`")
    done = subprocess.run([runtime.path, "features"], capture_output=True, timeout=20, check=True)
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux"} <= set(found)


def test_version_as_docker_reads_it(runtime: Runtime, kind: str) -> None:
    """The name before " version ", the number after it; `commit: ` and `spec: ` on lines of theirs."""
    done = subprocess.run([runtime.path, "--version"], capture_output=True, text=True, timeout=20)
    lines = done.stdout.splitlines()
    name, _, number = lines[0].partition(" version ")
    assert name == kind
    assert re.match(r"\d+\.\d+\.\d+", number)
    assert any(line.startswith("commit: ") for line in lines)
    assert any(re.fullmatch(r"spec: \d+\.\d+\.\d+\S*", line) for line in lines)


@pytest.mark.parametrize(
    "command",
    [
        ("start", "nobody"), ("kill", "nobody", "9"), ("delete", "nobody"), ("state", "nobody"),
        ("exec", "nobody", "true"), ("pause", "nobody"), ("resume", "nobody"), ("ps", "nobody"),
        ("create", "--bundle", "/nowhere", "some"), ("run", "--bundle", "/nowhere", "some"),
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_log_after_any_failure(runtime: Runtime, folder: Path, command: tuple[str, ...]) -> None:
    log = folder / "log.json"
    runtime.options = ("--log", str(log), "--log-format", "json")
    assert runtime.call(*command).status != 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    last = [entry for entry in entries if entry["level"] == "error"][-1]
    assert last["msg"]
    assert re.fullmatch(RFC_3339, last["time"]), last


def test_pid_file_tells_who_failed_in_exec(runtime: Runtime, running: Bundle, folder: Path) -> None:
    pid_file = folder / "pid"
    done = runtime.call("exec", "--pid-file", pid_file, running.id, "sh", "-c", "exit 9")
    assert done.status == 9
    assert pid_file.read_text().isdigit()
    pid_file.unlink()
    assert runtime.call("exec", "--pid-file", pid_file, running.id, "/nothere").status != 0
    assert not pid_file.exists()


@pytest.mark.parametrize("script", ["exit 0", "sleep 1000"])
def test_state_right_after_start(runtime: Runtime, bundle: Bundle, script: str) -> None:
    """Buildah asks at once, and gives up on anything but these two."""
    runtime.create(bundle.sh(script)).ok()
    runtime.start(bundle.id).ok()
    assert runtime.status(bundle.id) in ("running", "stopped")


def test_kill_forms_of_buildah(runtime: Runtime, bundle: Bundle) -> None:
    runtime.call("run", "--detach", "--bundle", bundle.sleeper().write(), bundle.id).ok()
    runtime.call("kill", bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", bundle.id).ok()
    runtime.call("run", "--detach", "--bundle", bundle.path, bundle.id).ok()
    runtime.call("kill", bundle.id, "SIGKILL").ok()
    runtime.wait_status(bundle.id, "stopped")


@pytest.mark.parametrize("command", ["create", "exec", "state"])
def test_death_signal(
    runtime: Runtime, running: Bundle, make_bundle: Callable[..., Bundle], command: str
) -> None:
    """Callers set PDEATHSIG on the runtime, which is no harm to what it does."""
    setting = ("setpriv", "--pdeathsig", "KILL")
    if command == "create":
        runtime.create(make_bundle().sleeper(), prefix=setting).ok()
    else:
        more = ("true",) if command == "exec" else ()
        runtime.call(command, running.id, *more, prefix=setting).ok()
