"""What all callers of a runtime rely on beside the OCI specification: options, log, answers, words.

What single engines rely on is in test_contracts_engines.py; that each sentence has a test is seen
to by tests/unit/test_contract_coverage.py. What belongs to one subject is with that subject. The
engines themselves are in tests/engines.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib import leaks
from lib.bundle import Bundle
from lib.runtime import Result, Runtime, wait_for

RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A container that waits for a signal."""
    runtime.call("run", "--detach", "--bundle", bundle.sleeper().write(), bundle.id).ok()
    return bundle


@pytest.fixture
def log(runtime: Runtime, folder: Path) -> Path:
    """The log of all calls, in JSON."""
    path = folder / "log.json"
    runtime.options = ("--log", str(path), "--log-format", "json")
    return path


# The command line


@pytest.mark.contract("Global options come before the command")
@pytest.mark.contract(
    "`R --root DIR --log FILE --log-format json|text [--debug] [--log-level L] [--systemd-cgroup]"
    " [--cgroup-manager cgroupfs|systemd|disabled] [--rootless true|false|auto] COMMAND ...`"
)
@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    "options",
    [
        "--log-format json",
        "--log-format=text --debug",
        "--log-level error",
        "--log-level debug",
        "--cgroup-manager cgroupfs --rootless false",
        "--cgroup-manager=disabled --rootless=auto",
        "--rootless true",
    ],
)
def test_global_options(runtime: Runtime, bundle: Bundle, folder: Path, options: str) -> None:
    log = folder / "log"
    runtime.options = ("--log", str(log), *options.split())
    assert runtime.run(bundle.sh("echo hi")).ok().out == "hi\n"
    assert log.exists() is ("debug" in options)
    runtime.call("state", "nobody").failed()
    last = log.read_text().splitlines()[-1]
    assert "does not exist" in last
    assert last.startswith("{") is ("json" in options)


@pytest.mark.contract("[--systemd-cgroup] [--cgroup-manager cgroupfs|systemd|disabled]")
@pytest.mark.parametrize("options", ["--systemd-cgroup", "--cgroup-manager systemd"])
def test_systemd_options(runtime: Runtime, running: Bundle, kind: str, options: str) -> None:
    """Callers give them with every command: containers without a scope do not mind."""
    if kind == "runc" and "manager" in options:
        pytest.skip("runc: has no --cgroup-manager")
    runtime.options = tuple(options.split())
    assert runtime.status(running.id) == "running"
    runtime.kill(running.id).ok()


@pytest.mark.contract("accept them as Go's flag package does")
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


@pytest.mark.contract("accept them as Go's flag package does", "`--ignore-paused`")
@pytest.mark.only("ocirun", "runc")
def test_flags_with_a_value(runtime: Runtime, running: Bundle) -> None:
    runtime.call("pause", running.id).ok()
    runtime.call("exec", "-ignore-paused=false", running.id, "true").failed("paused")
    command = runtime.popen("exec", "-ignore-paused=true", "-tty=false", running.id, "true")
    runtime.call("resume", running.id).ok()  # for it is paused like all of them
    assert command.wait(10) == 0
    runtime.call("delete", running.id).failed()
    runtime.call("delete", "--force=true", running.id).ok()


# The log

Failure = Callable[[Runtime, Bundle], Result]


def call(*args: str) -> Failure:
    return lambda runtime, _: runtime.call(*args)


def of_running(*args: str) -> Failure:
    """A command on a running container: * stands for its id."""

    def fail(runtime: Runtime, bundle: Bundle) -> Result:
        runtime.run(bundle.sleeper(), "--detach").ok()
        return runtime.call(*(bundle.id if arg == "*" else arg for arg in args))

    return fail


def run(prepare: Callable[[Bundle], Bundle]) -> Failure:
    return lambda runtime, bundle: runtime.run(prepare(bundle))


def start_of_a_missing_program(runtime: Runtime, bundle: Bundle) -> Result:
    created = runtime.create(bundle.args("not-there"))
    return created if created.status else runtime.start(bundle.id)


def failing_poststart(runtime: Runtime, bundle: Bundle) -> Result:
    bundle.set("/hooks/poststart", [{"path": "/bin/false"}]).sleeper()
    created = runtime.create(bundle)  # runc 1.1 calls it here
    return created if created.status else runtime.start(bundle.id)


def unreadable_record(runtime: Runtime, bundle: Bundle) -> Result:
    (runtime.root / bundle.id).mkdir(parents=True, mode=0o700)
    name = "status" if runtime.kind == "crun" else "state.json"
    (runtime.root / bundle.id / name).write_text("{")
    done = runtime.call("start", bundle.id)
    shutil.rmtree(runtime.root / bundle.id)
    return done


UNKNOWN = "does not exist|no such file"
FAILURES: list[tuple[str, Failure, str]] = [
    ("start", call("start", "nobody"), UNKNOWN),
    ("kill", call("kill", "nobody", "9"), UNKNOWN),
    ("delete", call("delete", "nobody"), UNKNOWN),
    ("state", call("state", "nobody"), UNKNOWN),
    ("exec", call("exec", "nobody", "true"), UNKNOWN),
    ("pause", call("pause", "nobody"), UNKNOWN),
    ("resume", call("resume", "nobody"), UNKNOWN),
    ("ps", call("ps", "nobody"), UNKNOWN),
    ("update", call("update", "--memory", "64M", "nobody"), UNKNOWN),
    ("events", call("events", "nobody"), UNKNOWN),
    ("create", call("create", "--bundle", "/nowhere", "some"), "no such file"),
    ("run", call("run", "--bundle", "/nowhere", "some"), "no such file"),
    ("checkpoint", call("checkpoint", "nobody"), UNKNOWN),
    ("restore", call("restore", "--bundle", "/nowhere", "some"), "no such file"),
    ("id", call("state", "a/b"), "invalid|a/b"),
    ("bytes", call("state", "a\udcff\x01b"), "a"),
    ("config", run(lambda b: b.set("/process/cwd", "tmp").set("/process/args", [])), "cwd|args"),
    ("mount", run(lambda b: b.mount("/mnt", "nosuchfs", "none")), "no such device"),
    ("hook", run(lambda b: b.set("/hooks/prestart", [{"path": "/bin/false"}])), "hook"),
    ("program", start_of_a_missing_program, "not found in $path"),
    ("poststart", failing_poststart, "hook"),
    ("exec-program", of_running("exec", "*", "not-there"), "not found in $path"),
    ("exec-file", of_running("exec", "--process", "/nowhere", "*"), "no such file"),
    ("signal", of_running("kill", "*", "SIGFOO"), "signal"),
    ("running", of_running("delete", "*"), "stopped"),
    ("record", unreadable_record, ""),
    ("limit", of_running("update", "--cpuset-cpus", "999", "*"), "cpus"),
]  # fmt: skip
# Mistakes on the command line, which runc and crun tell to standard error alone.
MISTAKES: list[tuple[str, Failure, str]] = [
    ("no-id", call("state"), "id"),
    ("option", call("state", "--nonsense", "some"), "no such option"),
    ("command", call("nonsense"), "no such command"),
    ("value", call("list", "--format", "yaml"), "yaml"),
    ("number", call("create", "--preserve-fds", "x", "some"), "preserve-fds"),
    ("interval", call("events", "--interval", "soon", "some"), "duration"),
    ("regex", call("kill", "--regex", "a("), "regular expression"),
]


def check_log(log: Path, words: str) -> None:
    """Each line is an entry, and the last error has one of the words."""
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries
    for entry in entries:
        assert set(entry) == {"level", "msg", "time"}
        assert re.fullmatch(RFC_3339, entry["time"]), entry
    last = [entry for entry in entries if entry["level"] == "error"][-1]
    assert last == entries[-1]
    assert any(word in last["msg"].lower() for word in words.split("|")), last


@pytest.mark.contract(
    "The log file exists after any failure, holds one JSON object a line"
    " (`level`, `msg`, `time` in RFC 3339)",
    'the last line with `"level":"error"` is shown to the user',
)
@pytest.mark.parametrize(("fail", "words"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES])
def test_log_after_any_failure(
    runtime: Runtime, bundle: Bundle, log: Path, fail: Failure, words: str
) -> None:
    fail(runtime, bundle).failed()
    check_log(log, words)


@pytest.mark.contract("The log file exists after any failure")
@pytest.mark.only("ocirun")
@pytest.mark.parametrize(("fail", "words"), [f[1:] for f in MISTAKES], ids=[f[0] for f in MISTAKES])
def test_log_after_any_mistake(
    runtime: Runtime, bundle: Bundle, log: Path, fail: Failure, words: str
) -> None:
    fail(runtime, bundle).failed()
    check_log(log, words)


def wait_until_stopped(runtime: Runtime, container: str) -> None:
    """Init ends when all its processes have been waited for: those of a detached exec by us."""

    def stopped() -> bool:
        leaks.children()  # which waits for those that have ended
        return runtime.status(container) == "stopped"

    wait_for(stopped, "its end")


def successes(runtime: Runtime, bundle: Bundle) -> list[tuple[Result, bool]]:
    """Every command, as it succeeds, and whether it has an answer. The container's are read."""
    done = []

    def do(*args: str | Path, answer: bool = False) -> None:
        done.append((runtime.call(*args), answer))

    do("create", "--bundle", bundle.sleeper().write(), bundle.id)
    do("state", bundle.id, answer=True)
    do("start", bundle.id)
    do("exec", bundle.id, "true")
    do("exec", "--detach", bundle.id, "sleep", "1000")
    do("pause", bundle.id)
    do("resume", bundle.id)
    do("ps", "--format", "json", bundle.id, answer=True)
    do("ps", bundle.id, answer=True)
    do("list", answer=True)
    do("list", "--format", "json", answer=True)
    do("update", "--memory", "268435456", bundle.id)
    if runtime.kind != "crun":
        do("events", "--stats", bundle.id, answer=True)
        do("features", answer=True)
    if runtime.kind == "ocirun":
        mounts = runtime.folder / "mounts.json"
        mounts.write_text('[{"destination": "/mnt", "type": "tmpfs"}]')
        do("mounts", "add", bundle.id, mounts)
        do("mounts", "remove", bundle.id, mounts)
    do("kill", bundle.id, "KILL")
    wait_until_stopped(runtime, bundle.id)
    do("state", bundle.id, answer=True)
    do("delete", bundle.id)
    do("delete", "--force", bundle.id)
    do("run", "--bundle", bundle.sh("exit 0").write(), bundle.id)
    do("spec", "--bundle", runtime.folder)
    if runtime.kind == "ocirun":
        do("explain", bundle.path, answer=True)
        do("validate", bundle.path, answer=True)
        do("doctor", answer=True)
        do("--version", answer=True)
        do("kill", "--regex", "^nobody$", "KILL")
    return done


@pytest.mark.contract(
    "No warning is written to it on success paths: some callers parse the *whole* file",
    "stdout carries the answer alone",
)
def test_success_says_nothing(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    for done, answer in successes(runtime, bundle):
        assert done.ok().err == ""
        assert bool(done.out) is answer, f"{done}"
    assert not log.exists() or log.read_text() == ""


# Answers


def merged(runtime: Runtime, *args: str, **options: Any) -> bytes:
    """Standard output and error of a command, together, as some callers read them."""
    done = subprocess.run(
        runtime.argv(*args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=20, check=True, **options,
    )  # fmt: skip
    return done.stdout


# To an interpreter that is not isolated.
HOSTILE = {
    "PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1", "PYTHONVERBOSE": "1", "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere", "PYTHONINSPECT": "1",
    "PYTHONHASHSEED": "nonsense", "PYTHONMALLOCSTATS": "1", "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONUTF8": "nonsense", "PYTHONTRACEMALLOC": "1", "PYTHONIOENCODING": "nonsense",
}  # fmt: skip
ENVIRONMENTS = {
    "plain": os.environ,
    "hostile": {**os.environ, **HOSTILE},
    "C": {"PATH": os.environ["PATH"], "LANG": "C", "LC_ALL": "C"},
    "C-hostile": {**HOSTILE, "LANG": "C", "LC_ALL": "nonsense"},
    "empty": {},
}


@pytest.mark.contract(
    "nothing else on stdout or stderr for `state`, `ps`, `list`, `features`"
    " (callers merge both before they parse JSON)",
    "No interpreter warning may ever appear.",
)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_answers_are_all_that_is_said(
    runtime: Runtime, bundle: Bundle, kind: str, environment: str
) -> None:
    env = ENVIRONMENTS[environment]
    bundle.sleeper().set("/annotations", {"note": "\N{SNOWMAN}"})
    runtime.call("run", "--detach", "--bundle", bundle.write(), bundle.id, env=env).ok()
    state = json.loads(merged(runtime, "state", bundle.id, env=env))
    assert (state["id"], state["annotations"]["note"]) == (bundle.id, "\N{SNOWMAN}")
    listed = json.loads(merged(runtime, "list", "--format", "json", env=env))
    assert [entry["id"] for entry in listed] == [bundle.id]
    pids = json.loads(merged(runtime, "ps", "--format", "json", bundle.id, env=env))
    assert runtime.state(bundle.id)["pid"] in pids
    assert merged(runtime, "list", "--quiet", env=env).decode() == bundle.id + "\n"
    if kind != "crun":  # 1.8 has no `features`
        assert "ociVersionMin" in json.loads(merged(runtime, "features", env=env))


@pytest.mark.contract("No interpreter warning may ever appear.")
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_word_in_a_whole_life(runtime: Runtime, bundle: Bundle, environment: str) -> None:
    """Of failures the message alone: nothing of the interpreter's, not of one at its end either."""
    env = ENVIRONMENTS[environment]
    said = runtime.call("state", "nobody", env=env).failed().err
    assert said == runtime.call("state", "nobody").failed().err or runtime.kind == "runc"
    for args in (
        ("create", "--bundle", str(bundle.sleeper().write()), bundle.id),
        ("start", bundle.id), ("exec", bundle.id, "true"), ("pause", bundle.id),
        ("resume", bundle.id), ("kill", bundle.id, "KILL"), ("delete", "--force", bundle.id),
    ):  # fmt: skip
        done = runtime.call(*args, env=env).ok()
        assert (done.out, done.err) == ("", "")
    assert runtime.run(bundle.sh("echo hi >&2; exit 3"), env=env).err == "hi\n"


@pytest.mark.contract(
    "`--version` prints `ocirun version X`, then `commit: Y`, then `spec: Z`"
    ': Docker splits on "version" and reads `commit:`.'
)
@pytest.mark.parametrize("option", ["--version", "-v"])
def test_version_as_docker_reads_it(runtime: Runtime, kind: str, option: str) -> None:
    """The name before " version ", the number after it; `commit: ` and `spec: ` on lines of theirs."""
    done = subprocess.run([runtime.path, option], capture_output=True, text=True, timeout=20)
    lines = done.stdout.splitlines()
    name, _, number = lines[0].partition(" version ")
    assert name == kind
    assert re.match(r"\d+\.\d+\.\d+", number)
    places = [
        next(n for n, x in enumerate(lines) if x.startswith(w)) for w in ("commit: ", "spec: ")
    ]
    assert places == sorted(places)
    assert re.fullmatch(r"spec: \d+\.\d+\.\d+\S*", lines[places[1]])
    assert done.stderr == ""


# The caller's death, streams and environment


@pytest.mark.contract("Callers set PDEATHSIG=SIGKILL on the runtime")
@pytest.mark.parametrize("command", ["create", "start", "exec", "state", "kill", "delete"])
def test_death_signal(runtime: Runtime, bundle: Bundle, command: str) -> None:
    """It is no harm to what the runtime does, and it does not go on to the container."""
    setting = ("setpriv", "--pdeathsig", "KILL")
    runtime.create(bundle.sleeper(), prefix=setting if command == "create" else ()).ok()
    if command == "start":
        runtime.call("start", bundle.id, prefix=setting).ok()
    elif command != "create":
        runtime.start(bundle.id).ok()
        if command == "delete":
            runtime.kill(bundle.id)
            runtime.wait_status(bundle.id, "stopped")
        more = {"exec": ("true",), "kill": ("0",)}.get(command, ())
        runtime.call(command, bundle.id, *more, prefix=setting).ok()
        return
    assert runtime.status(bundle.id) == ("created" if command == "create" else "running")


MILLISECONDS = [0, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40]


def killed_with_its_caller(runtime: Runtime, milliseconds: int, *args: str | Path) -> int:
    """Runs the runtime under a caller that dies; the end of a pipe that is its whole stdio."""
    read, write = os.pipe()
    script = f'setpriv --pdeathsig KILL "$@" & sleep {milliseconds / 1000}; kill -KILL $$'
    argv = ["sh", "-c", script, "sh", *runtime.argv(*args)]
    null = subprocess.DEVNULL
    died = subprocess.run(argv, stdin=null, stdout=write, stderr=write, timeout=20)
    os.close(write)
    assert died.returncode == -signal.SIGKILL
    return read


@pytest.mark.contract(
    "Callers set PDEATHSIG=SIGKILL on the runtime, have no time-out, and wait for stdio to close"
)
@pytest.mark.parametrize("milliseconds", MILLISECONDS)
@pytest.mark.parametrize("command", ["create", "run", "start", "exec"])
def test_caller_that_dies(
    runtime: Runtime, bundle: Bundle, command: str, milliseconds: int
) -> None:
    """What is half made can be deleted; then nobody holds the caller's streams."""
    bundle.sleeper().write()
    args: tuple[str | Path, ...] = (command, "--bundle", bundle.path, bundle.id)
    if command in ("start", "exec"):
        runtime.create(bundle).ok()
        args = ("start", bundle.id)
    if command == "exec":
        runtime.start(bundle.id).ok()
        args = ("exec", bundle.id, "sleep", "1000")
    read = killed_with_its_caller(runtime, milliseconds, *args)
    runtime.call("list").ok()
    if command == "exec":
        runtime.kill(bundle.id).ok()
        wait_until_stopped(runtime, bundle.id)
    runtime.delete(bundle.id, "--force").ok()
    os.set_blocking(read, False)
    wait_for(lambda: closed(read), "the end of the streams")
    os.close(read)
    assert runtime.containers() == []
    assert runtime.run(bundle.sh("echo again")).ok().out == "again\n"


def closed(read: int) -> bool:
    try:
        while data := os.read(read, 4096):
            assert b"Traceback" not in data
    except BlockingIOError:
        return False
    return True


@pytest.mark.contract(
    "wait for stdio to close: no helper process may keep the caller's stdio open,"
    " and nothing may hang."
)
def test_streams_are_let_go(runtime: Runtime, bundle: Bundle) -> None:
    """By every command, also if its standard input never ends."""
    bundle.sh("exec >/dev/null 2>&1 </dev/null; trap 'exit 0' TERM; sleep 1000 & wait").write()
    sleep = ("sh", "-c", "exec sleep 1000 >/dev/null 2>&1 </dev/null")
    commands: list[tuple[str | Path, ...]] = [
        ("run", "--detach", "--bundle", bundle.path, bundle.id), ("state", bundle.id), ("list",),
        ("exec", "--detach", bundle.id, *sleep), ("pause", bundle.id), ("resume", bundle.id),
        ("ps", "--format", "json", bundle.id), ("update", "--memory", "268435456", bundle.id),
        ("kill", bundle.id, "KILL"), ("delete", "--force", bundle.id),
    ]  # fmt: skip
    for args in commands:
        if args[0] == "delete":
            wait_until_stopped(runtime, bundle.id)
        ours, theirs = os.pipe()
        stdin, writer = os.pipe()
        subprocess.run(
            runtime.argv(*args), stdin=stdin, stdout=theirs, stderr=theirs, timeout=20, check=True
        )
        os.close(theirs)
        os.set_blocking(ours, False)
        wait_for(lambda end=ours: closed(end), f"the end of the streams of {args}")
        for fd in (ours, stdin, writer):
            os.close(fd)


CIRCUMSTANCES = {
    "closed": ("sh", "-c", 'exec "$@" <&- >&- 2>&-'),
    "no-folder": ("sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"'),
    "no-environment": ("env", "-i"),
    "all": ("sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec env -i "$@" <&- >&- 2>&-'),
}


@pytest.mark.contract("not even PATH.", "nothing may hang.")
@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
def test_life_in_bad_circumstances(
    runtime: Runtime, bundle: Bundle, folder: Path, circumstance: str
) -> None:
    """Without standard streams, in a folder that has been removed, without any variable."""
    prefix = CIRCUMSTANCES[circumstance]
    if prefix[0] == "sh":
        prefix = (*prefix, str(folder / "gone"))
    said = folder / "said"
    said.mkdir()
    bundle.mount("/mnt", "bind", str(said), "bind").sleeper().write()
    for args in (
        ("create", "--bundle", bundle.path, bundle.id), ("start", bundle.id),
        ("exec", bundle.id, "touch", "/mnt/exec"), ("state", bundle.id), ("pause", bundle.id),
        ("resume", bundle.id), ("kill", bundle.id, "KILL"),
    ):  # fmt: skip
        runtime.call(*args, prefix=prefix).ok()
    assert (said / "exec").exists()
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", bundle.id, prefix=prefix).ok()
    bundle.sh("touch /mnt/run; exit 7").write()
    assert runtime.call("run", "--bundle", bundle.path, bundle.id, prefix=prefix).status == 7
    assert (said / "run").exists()


@pytest.mark.contract(
    "Environment: for kill, delete, pause and resume some callers pass only XDG_RUNTIME_DIR,"
    " not even PATH."
)
def test_only_xdg_runtime_dir(runtime: Runtime, running: Bundle, folder: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(folder)}
    for command in (("state",), ("pause",), ("resume",), ("ps", "--format", "json")):
        runtime.call(*command, running.id, env=environment).ok()
    runtime.call("kill", running.id, "KILL", env=environment).ok()
    wait_for(lambda: runtime.status(running.id) == "stopped", "its end")
    runtime.call("delete", running.id, env=environment).ok()
    assert not (folder / "ocirun").exists()


@pytest.mark.contract("The launcher's interpreter path is absolute.")
@pytest.mark.only("ocirun")
def test_interpreter(runtime: Runtime) -> None:
    first = runtime.path.read_text().splitlines()[0]
    interpreter, flags = first.removeprefix("#!").split()
    assert interpreter.startswith("/")
    assert os.access(interpreter, os.X_OK)
    assert {"I", "S"} <= set(flags)


# Words


def in_status(status: str) -> Failure:
    """kill of a container that is not there, or no longer."""

    def fail(runtime: Runtime, bundle: Bundle) -> Result:
        if status == "stopped":
            runtime.run(bundle.sleeper(), "--detach").ok()
            runtime.kill(bundle.id).ok()
            runtime.wait_status(bundle.id, "stopped")
        return runtime.kill(bundle.id)

    return fail


def start(*program: str) -> Failure:
    def fail(runtime: Runtime, bundle: Bundle) -> Result:
        created = runtime.create(bundle.args(*program))
        return created if created.status else runtime.start(bundle.id)

    return fail


WORDS: list[tuple[str, Failure, str]] = [
    ("kill", call("kill", "nobody", "9"), "container does not exist|does not exist"),
    ("delete", call("delete", "nobody"), "container does not exist|does not exist"),
    ("state", call("state", "nobody"), "container does not exist|does not exist"),
    ("stopped", in_status("stopped"), "container not running|no such process"),
    ("data", start("/etc/passwd"), "permission denied|operation not permitted"),
    ("exec-data", of_running("exec", "*", "/etc/passwd"), "permission denied|operation not permitted"),
    ("folder", start("/etc"), "permission denied|operation not permitted|is a directory"),
    ("path", start("not-there"), "executable file not found in $path|not found in $path"),
    ("file", start("/not/there"), "no such file or directory"),
    ("exec-path", of_running("exec", "*", "not-there"), "executable file"),
    ("exec-file", of_running("exec", "*", "/not/there"), "no such file or directory"),
]  # fmt: skip


@pytest.mark.contract(
    'Messages are matched as text: "container does not exist" or "does not exist"'
    " (kill, delete, state of an unknown id)",
    '"container not running" or "no such process" (kill of a stopped one)',
    '"permission denied" / "operation not permitted"',
    '"executable file not found in $PATH" / "no such file or directory"'
    " (start or create of a missing binary)",
)
@pytest.mark.parametrize(("fail", "words"), [w[1:] for w in WORDS], ids=[w[0] for w in WORDS])
def test_words(runtime: Runtime, bundle: Bundle, fail: Failure, words: str) -> None:
    """In the first line, which is what engines show and match."""
    said = fail(runtime, bundle).failed().err.lower().splitlines()
    line = said[0 if runtime.kind == "ocirun" else -1]
    assert any(word in line for word in words.split("|")), said


# Signals


def ignored(status: str) -> set[int]:
    """The signals that a process ignores, from its /proc/PID/status.

    Without 32 and 33, glibc's own: what its posix_spawn makes (and make(1) uses it) ignores
    them and passes that on, and libc lets no program change it.
    """
    mask = int(re.search(r"^SigIgn:\s*(\w+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return {number for number in range(1, 65) if mask & 1 << number - 1} - {32, 33}


@pytest.mark.contract(
    "The init process inherits SIGPIPE and friends as default, not ignored"
    " (Python ignores SIGPIPE and SIGXFSZ by itself)."
)
def test_signals_are_default(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    """In init, in what is executed in it, and in hooks."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat /proc/self/status > {folder}/hook"]}
    bundle.set("/hooks/prestart", [hook])
    assert ignored(runtime.run(bundle.args("cat", "/proc/self/status")).ok().out) == set()
    assert ignored((folder / "hook").read_text()) == set()
    runtime.run(bundle.sleeper(), "--detach").ok()
    done = runtime.call("exec", bundle.id, "cat", "/proc/self/status").ok()
    assert ignored(done.out) == set()
    pid_file = folder / "pid"
    runtime.call("exec", "--detach", "--pid-file", pid_file, bundle.id, "sleep", "1000").ok()
    assert ignored(Path(f"/proc/{pid_file.read_text()}/status").read_text()) == set()
    runtime.kill(bundle.id).ok()
    wait_until_stopped(runtime, bundle.id)
