"""Every command on a container in every status: done, or refused in words, and never a wait."""

import os
import signal

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

pytestmark = pytest.mark.only("ocirun")  # its own words


def created(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.sleeper()).ok()


def running(runtime: Runtime, bundle: Bundle) -> None:
    created(runtime, bundle)
    runtime.start(bundle.id).ok()


def paused(runtime: Runtime, bundle: Bundle) -> None:
    running(runtime, bundle)
    runtime.call("pause", bundle.id).ok()


def unstarted(runtime: Runtime, bundle: Bundle) -> None:
    """Paused while it was created."""
    created(runtime, bundle)
    runtime.call("pause", bundle.id).ok()


def stopped(runtime: Runtime, bundle: Bundle) -> None:
    running(runtime, bundle)
    runtime.kill(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")


def abandoned(runtime: Runtime, bundle: Bundle) -> None:
    """Its creator has died meanwhile, and init with it."""
    pid = bundle.path / "hook"
    script = f"echo $$ > {pid}; exec sleep 60"
    bundle.sleeper().add("/hooks/createRuntime", {"path": "/bin/sh", "args": ["sh", "-c", script]})
    creator = runtime.popen("create", "--bundle", bundle.write(), bundle.id)
    wait_for(lambda: pid.exists() and pid.read_text().endswith("\n"), "the hook")
    creator.kill()
    creator.wait()
    os.kill(int(pid.read_text()), signal.SIGKILL)
    runtime.wait_status(bundle.id, "stopped")


def damaged(runtime: Runtime, bundle: Bundle) -> None:
    """The record is cut off; nothing else is there any more."""
    folder = runtime.root / bundle.id
    folder.mkdir(mode=0o700, parents=True)
    (folder / "state.json").write_text('{"version":1,"id":')


STATUSES = {
    maker.__name__: maker
    for maker in (created, running, paused, unstarted, stopped, abandoned, damaged)
}
DONE, PAUSED, STOPPED = "", "paused", "not running"
BAD = "is not JSON"
COMMANDS = {
    "start": (DONE, "already running", PAUSED, PAUSED, "stopped", "stopped", BAD),
    "state": (DONE, DONE, DONE, DONE, DONE, DONE, BAD),
    "kill ID": (DONE, DONE, DONE, DONE, STOPPED, STOPPED, BAD),
    "kill ID KILL": (DONE, DONE, DONE, DONE, STOPPED, STOPPED, BAD),
    "kill --all ID KILL": (DONE, DONE, DONE, DONE, DONE, DONE, BAD),
    "delete": ("not stopped", "not stopped", "not stopped", "not stopped", DONE, DONE, BAD),
    "delete --force ID": (DONE,) * 7,
    "exec ID true": (DONE, DONE, PAUSED, PAUSED, STOPPED, STOPPED, BAD),
    "ps": (DONE, DONE, DONE, DONE, DONE, DONE, BAD),
    "ps --format json ID": (DONE, DONE, DONE, DONE, DONE, DONE, BAD),
    "pause": (DONE, DONE, "is paused", "is paused", "is stopped", "is stopped", BAD),
    "resume": ("not paused", "not paused", DONE, DONE, "not paused", "not paused", BAD),
    "update --pids-limit 99 ID": (DONE, DONE, DONE, DONE, "stopped", "stopped", BAD),
    "events --stats ID": (
        DONE,
        DONE,
        DONE,
        DONE,
        "stopped|not running",
        "stopped|not running",
        BAD,
    ),
    "checkpoint": ("is created", None, None, "is created", "stopped", "stopped", BAD),
    "list": (DONE,) * 7,
}
"""What a command says in each status; DONE: it is done, None: not of interest here."""


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        pytest.param(command, status, words, id=f"{command}-{status}")
        for command, row in COMMANDS.items()
        for status, words in zip(STATUSES, row, strict=True)
        if words is not None
    ],
)
def test_command_in_status(
    runtime: Runtime, bundle: Bundle, command: str, status: str, words: str
) -> None:
    STATUSES[status](runtime, bundle)
    argv = (command if " " in command or command == "list" else command + " ID").split()
    argv = [bundle.id if word == "ID" else word for word in argv]
    done = runtime.call(*argv, cwd=bundle.path)
    if words == DONE:
        done.ok()
    else:
        done.failed(words)
    assert "internal error" not in done.err


def test_damaged_record_is_cleared_by_force(runtime: Runtime, bundle: Bundle) -> None:
    damaged(runtime, bundle)
    runtime.delete(bundle.id, "--force").ok()
    assert bundle.id not in runtime.containers()
