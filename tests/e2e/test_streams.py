"""Standard streams, descriptors and signals of the container, in the foreground and detached."""

import os
import signal
import subprocess
import time

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for


def test_stdout_and_stderr_are_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    result = runtime.run(bundle.sh("echo out; echo err >&2")).ok()
    assert (result.out, result.err) == ("out\n", "err\n")


def test_stdin_is_the_callers(runtime: Runtime, bundle: Bundle) -> None:
    bundle.args("/bin/sha256sum").write()
    text = os.urandom(5_000_000)
    argv = runtime.argv("run", "--bundle", bundle.path, bundle.id)
    result = subprocess.run(argv, input=text, capture_output=True, timeout=20)
    wanted = subprocess.run(["sha256sum"], input=text, capture_output=True).stdout
    assert result.stdout == wanted


def test_much_output_through_a_pipe(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("head -c 20000000 /dev/zero").write()
    argv = runtime.argv("run", "--bundle", bundle.path, bundle.id)
    result = subprocess.run(argv, capture_output=True, timeout=20)
    assert len(result.stdout) == 20_000_000
    assert result.stderr == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(runtime: Runtime, bundle: Bundle, closed: str) -> None:
    shared = bundle.path / "shared"
    shared.mkdir()
    bundle.mount("/mnt", "bind", str(shared), "bind").sh("echo fine > /mnt/answer").write()
    argv = runtime.argv("run", "--bundle", bundle.path, bundle.id)
    status = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *argv], timeout=20).returncode
    assert status == 0
    assert (shared / "answer").read_text() == "fine\n"


def test_the_runtime_lets_go_of_the_streams(runtime: Runtime, bundle: Bundle) -> None:
    """An engine reads until end of file: only the container itself may hold the pipe."""
    bundle.sh("exec > /dev/null 2>&1 < /dev/null; sleep 1000").write()
    create = runtime.argv("create", "--bundle", bundle.path, bundle.id)
    read, write = os.pipe()
    subprocess.run(
        create, stdin=subprocess.DEVNULL, stdout=write, stderr=write, timeout=20, check=True
    )
    os.close(write)
    runtime.start(bundle.id).ok()
    assert os.read(read, 1) == b""
    os.close(read)


# Descriptors


def test_no_descriptor_of_the_runtime_or_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    root = os.open("/", os.O_RDONLY)
    leaked = list(range(30, 61))
    for fd in leaked:
        os.dup2(root, fd)
    try:
        report = runtime.probe(bundle, pass_fds=leaked)
    finally:
        for fd in [root, *leaked]:
            os.close(fd)
    assert sorted(map(int, report["fds"])) == [0, 1, 2]


def test_preserve_fds(runtime: Runtime, bundle: Bundle) -> None:
    script = (
        f'exec 3</etc/hostname 4</etc/passwd 5</etc/group; exec "$@" --preserve-fds 2 {bundle.id}'
    )
    argv = runtime.argv("run", "--bundle", bundle.write())
    result = subprocess.run(["bash", "-c", script, "bash", *argv], capture_output=True, timeout=20)
    assert result.returncode == 0, result.stderr
    assert b'"3":"/etc/hostname","4":"/etc/passwd"}' in result.stdout


def test_preserve_fds_that_are_not_open(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle, "--preserve-fds", "3").failed()


def test_preserve_fds_detached(runtime: Runtime, bundle: Bundle) -> None:
    read, write = os.pipe()
    bundle.sh("echo through >&3").write()
    script = f'exec 3>&{write}; exec "$@"'
    argv = runtime.argv("create", "--bundle", bundle.path, "--preserve-fds", "1", bundle.id)
    null = subprocess.DEVNULL
    subprocess.run(
        ["bash", "-c", script, "bash", *argv],
        pass_fds=[write],
        check=True,
        timeout=20,
        stdout=null,
        stderr=null,
    )
    os.close(write)
    runtime.start(bundle.id).ok()
    assert os.read(read, 100) == b"through\n"
    os.close(read)


def test_socket_activation(runtime: Runtime, bundle: Bundle) -> None:
    """LISTEN_FDS descriptors are passed on, and LISTEN_PID is the container's own."""
    read, write = os.pipe()
    script = f'exec 3<&{read}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    argv = runtime.argv("run", "--bundle", bundle.write(), bundle.id)
    result = subprocess.run(
        ["bash", "-c", script, "bash", *argv], pass_fds=[read], capture_output=True, timeout=20
    )
    os.close(read)
    os.close(write)
    assert b'"3":"pipe:' in result.stdout
    assert b'"LISTEN_FDS=1"' in result.stdout
    assert b'"LISTEN_PID=1"' in result.stdout


# Signals


def test_signals_are_as_at_the_start_of_a_program(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle)
    assert report["signals_ignored"] == []
    assert report["signals_blocked"] == []


def test_signals_that_the_caller_blocks(runtime: Runtime, bundle: Bundle) -> None:
    """An engine that blocks signals, for a signalfd say, does not block them in the container."""
    wanted = {signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        report = runtime.probe(bundle)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert report["signals_blocked"] == []


def test_sigpipe_ends_a_writer(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop_namespace("pid").args("/bin/yes").write()
    argv = runtime.argv("run", "--bundle", bundle.path, bundle.id)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(20) == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN + 2]
)
def test_run_forwards_signals(runtime: Runtime, bundle: Bundle, number: int) -> None:
    bundle.sh(f"trap 'echo caught; exit 9' {int(number)}; echo ready; while :; do sleep 0.02; done")
    out = bundle.path / "out"
    with out.open("wb") as stdout:
        process = runtime.popen("run", "--bundle", bundle.write(), bundle.id, stdout=stdout)
    wait_for(lambda: out.read_text() == "ready\n", "the trap")
    process.send_signal(number)
    assert process.wait(20) == 9
    assert out.read_text() == "ready\ncaught\n"
    assert runtime.containers() == []


def test_run_lives_through_signals_that_the_container_ignores(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.sh("trap '' TERM USR1; echo ready; sleep 0.4; exit 3")
    out = bundle.path / "out"
    with out.open("wb") as stdout:
        process = runtime.popen("run", "--bundle", bundle.write(), bundle.id, stdout=stdout)
    wait_for(lambda: out.read_text() == "ready\n", "the trap")
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGWINCH):
        process.send_signal(number)
        time.sleep(0.02)
    assert process.wait(20) == 3


def test_run_is_not_disturbed_by_orphans(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("(sleep 0.1 & ) ; (true &); sleep 0.3; exit 4")
    assert runtime.run(bundle).status == 4
