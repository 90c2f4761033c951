"""Hooks: when they run, what they get, and what follows when they fail (OCI config.md, POSIX-platform Hooks)."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

NAMES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.fixture
def log(bundle: Bundle) -> Path:
    """A folder that has the same path on the host and in the container."""
    folder = bundle.path / "log"
    folder.mkdir()
    folder.chmod(0o777)
    bundle.mount(str(folder), "bind", str(folder), "bind", "rw")
    return folder


def hook(log: Path, name: str, more: str = "") -> dict[str, Any]:
    """A hook that writes its state and environment down, and its name in the order of calls."""
    script = f"cd {log}; echo {name} >> order; cat > {name}.state; env > {name}.env; {more}"
    return {
        "path": "/bin/sh",
        "args": ["sh", "-c", script],
        "env": [f"NAME={name}", "PATH=/bin:/usr/bin"],
    }


def with_all(bundle: Bundle, log: Path) -> Bundle:
    return bundle.set("/hooks", {name: [hook(log, name)] for name in NAMES})


def order(log: Path) -> list[str]:
    path = log / "order"
    return path.read_text().split() if path.exists() else []


@pytest.mark.spec("/hooks", *(f"/hooks/{name}/*/path" for name in NAMES))
def test_order(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    with_all(bundle, log).sh(f"echo process >> {log}/order; sleep 1000")
    runtime.create(bundle).ok()
    assert order(log) == ["prestart", "createRuntime", "createContainer"]
    runtime.start(bundle.id).ok()
    wait_for(lambda: len(order(log)) == 6, "the process and poststart")
    assert order(log)[3] == "startContainer"
    assert set(order(log)[4:]) == {"process", "poststart"}
    runtime.kill(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    assert len(order(log)) == 6
    runtime.delete(bundle.id).ok()
    assert order(log)[6:] == ["poststop"]


def test_run_calls_all(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    runtime.run(with_all(bundle, log).sh("sleep 0.1")).ok()
    assert order(log) == list(NAMES)


def test_several_of_a_kind_run_in_order(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set("/hooks/createRuntime", [hook(log, f"h{n}") for n in range(5)])
    runtime.run(bundle.sh("true")).ok()
    assert order(log) == ["h0", "h1", "h2", "h3", "h4"]


@pytest.mark.spec("/annotations", "/annotations/*")
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ],
)
def test_state_on_stdin(
    runtime: Runtime, bundle: Bundle, log: Path, name: str, status: str
) -> None:
    bundle.set("/annotations", {"org.example.key": "value"})
    runtime.run(with_all(bundle, log).sh("sleep 0.1")).ok()
    state = json.loads((log / f"{name}.state").read_text())
    assert state["status"] == status
    assert state["id"] == bundle.id
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"] == {"org.example.key": "value"}
    assert state["ociVersion"].startswith("1.")
    assert ("pid" in state and state["pid"] > 0) == (name != "poststop")


def test_pid_of_the_state_is_the_container(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set(
        "/hooks/createRuntime",
        [
            hook(
                log,
                "h",
                "readlink /proc/$(grep -o '\"pid\": *[0-9]*' h.state | grep -o '[0-9]*')/ns/uts > uts",
            )
        ],
    )
    seen = runtime.probe(bundle)
    assert (log / "uts").read_text().strip() == seen["ns"]["uts"]


@pytest.mark.spec(*(f"/hooks/{name}/*/{key}" for name in NAMES for key in ("env", "env/*")))
@pytest.mark.parametrize("name", NAMES)
def test_env_is_exactly_the_hooks(runtime: Runtime, bundle: Bundle, log: Path, name: str) -> None:
    runtime.run(with_all(bundle, log).sh("sleep 0.1")).ok()
    env = dict(line.split("=", 1) for line in (log / f"{name}.env").read_text().splitlines())
    assert {k: v for k, v in env.items() if k not in ("PWD", "OLDPWD", "SHLVL", "_")} == {
        "NAME": name,
        "PATH": "/bin:/usr/bin",
    }


@pytest.mark.spec(*(f"/hooks/{name}/*/args/*" for name in NAMES))
@pytest.mark.parametrize("name", NAMES)
def test_args(runtime: Runtime, bundle: Bundle, log: Path, name: str) -> None:
    args = ["sh", "-c", f'echo "$0,$1,$2" > {log}/args', "a b", "", "ä"]
    bundle.set(f"/hooks/{name}", [{"path": "/bin/sh", "args": args}])
    runtime.run(bundle.sh("sleep 0.1")).ok()
    assert (log / "args").read_text() == "a b,,ä\n"


def test_without_args(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    script = bundle.path / "hook"
    script.write_text(f"#!/bin/sh\necho $# > {log}/args\n")
    script.chmod(0o755)
    bundle.set("/hooks/createRuntime", [{"path": str(script)}])
    runtime.run(bundle.sh("true")).ok()
    assert (log / "args").read_text() == "0\n"


def test_hook_that_does_not_read_its_input(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/annotations", {f"key{n}": "x" * 1000 for n in range(200)})
    bundle.set("/hooks/createRuntime", [{"path": "/bin/true"}])
    assert runtime.run(bundle.sh("echo it runs")).ok().out == "it runs\n"


@pytest.mark.parametrize("name", ["createRuntime", "poststart", "poststop"])
def test_hooks_of_the_runtime_namespace(
    runtime: Runtime, bundle: Bundle, log: Path, name: str
) -> None:
    bundle.set(
        f"/hooks/{name}", [hook(log, name, "readlink /proc/self/ns/mnt /proc/self/ns/uts > ns")]
    )
    runtime.run(bundle.sh("sleep 0.1")).ok()
    own = [os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/uts")]
    assert (log / "ns").read_text().split() == own


def test_create_container_hook_sees_mounts_before_the_pivot(
    runtime: Runtime, bundle: Bundle, log: Path
) -> None:
    """Inside the container's namespaces, with the host's tree still at /."""
    bundle.mount("/mnt", "tmpfs", "mark")
    more = f"readlink /proc/self/ns/uts > ns; grep -c {bundle.rootfs}/mnt /proc/self/mountinfo > seen; test -d {bundle.path}"
    bundle.set("/hooks/createContainer", [hook(log, "h", more)])
    report = runtime.probe(bundle)
    assert (log / "ns").read_text().strip() == report["ns"]["uts"]
    assert (log / "seen").read_text() == "1\n"


def test_start_container_hook_runs_inside(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set(
        "/hooks/startContainer",
        [hook(log, "h", "readlink /proc/self/ns/mnt > ns; hostname > name; ls / > root")],
    )
    report = runtime.probe(bundle)
    assert (log / "ns").read_text().strip() == report["ns"]["mnt"]
    assert (log / "name").read_text() == "box\n"
    assert "lost+found" not in (log / "root").read_text()


# Failures


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_failing_hook_fails_create(runtime: Runtime, bundle: Bundle, log: Path, name: str) -> None:
    bundle.set(f"/hooks/{name}", [hook(log, "bad", "exit 3"), hook(log, "next")])
    runtime.create(bundle.sleeper()).failed("hook")
    assert order(log) == ["bad"]
    assert runtime.containers() == []


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_failing_hook_fails_run(runtime: Runtime, bundle: Bundle, log: Path, name: str) -> None:
    bundle.set(f"/hooks/{name}", [hook(log, "bad", "exit 3")]).sh(f"echo process >> {log}/order")
    runtime.run(bundle).failed("hook")
    assert order(log) == ["bad"]
    assert runtime.containers() == []


def test_failing_start_container_hook(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set("/hooks/startContainer", [hook(log, "bad", "exit 3")])
    created = runtime.create(bundle.sh(f"echo process >> {log}/order")).ok()
    started = runtime.start(bundle.id)
    assert "hook" in (started.err + created.err).lower()
    runtime.wait_status(bundle.id, "stopped")
    assert order(log) == ["bad"]


def test_failing_poststop_hook_does_not_keep_the_container(
    runtime: Runtime, bundle: Bundle, log: Path
) -> None:
    bundle.set("/hooks/poststop", [hook(log, "bad", "exit 3"), hook(log, "next")])
    runtime.create(bundle.sleeper()).ok()
    runtime.delete(bundle.id, "--force").ok()
    assert order(log) == ["bad", "next"]
    assert runtime.containers() == []


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_missing_hook(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.set(f"/hooks/{name}", [{"path": "/no/such/hook"}])
    runtime.create(bundle.sleeper()).failed("no such file")
    assert runtime.containers() == []


def test_relative_path_of_a_hook(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/hooks/createRuntime", [{"path": "true"}])
    runtime.create(bundle.sleeper()).failed()


@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_timeout(runtime: Runtime, bundle: Bundle, log: Path, name: str) -> None:
    slow = {**hook(log, "slow", "exec sleep 1000"), "timeout": 1}
    before = time.monotonic()
    runtime.create(bundle.set(f"/hooks/{name}", [slow]).sleeper()).failed("hook")
    assert time.monotonic() - before < 15
    assert runtime.containers() == []


def test_hook_within_its_timeout(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    more = "sleep 0.1; echo done >> order"
    bundle.set("/hooks/createRuntime", [{**hook(log, "h", more), "timeout": 10}])
    assert runtime.run(bundle.sh("echo it runs")).ok().out == "it runs\n"
    assert order(log) == ["h", "done"]


def test_hook_killed_by_a_signal(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set("/hooks/createRuntime", [hook(log, "bad", f"kill -{int(signal.SIGKILL)} $$")])
    runtime.create(bundle.sleeper()).failed("hook")


def test_what_a_failing_hook_says_is_in_the_message(
    runtime: Runtime, bundle: Bundle, log: Path
) -> None:
    bundle.set("/hooks/createRuntime", [hook(log, "bad", "echo the reason >&2; exit 3")])
    runtime.create(bundle.sleeper()).failed("the reason")


HOSTILE = r"printf 'first\nsecond\n\033[31mred\007\r\377\302\240\n'"
ENDS = {
    "status": ("exit 7", "exited with status 7"),
    "signal": ("kill -9 $$", "was killed by signal 9"),
    "time": ("exec sleep 1000", "ran out of time"),
}


@pytest.mark.only("ocirun")
@pytest.mark.spec(
    *(f"/hooks/{name}" for name in NAMES),
    *(f"/hooks/{name}/*" for name in NAMES),
    *(f"/hooks/{name}/*/{key}" for name in NAMES for key in ("path", "args", "timeout")),
)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_failing_hook_says_how_and_why(
    runtime: Runtime, bundle: Bundle, log: Path, name: str, end: str
) -> None:
    """Its end, and its last lines, bounded, with what a terminal would obey made harmless."""
    how, words = ENDS[end]
    noise = "i=0; while [ $i -lt 300 ]; do echo $i.filler.filler.filler; i=$((i+1)); done"
    failing = hook(log, name, f"{noise}; {HOSTILE} >&2; {how}")
    if end == "time":
        failing["timeout"] = 1
    bundle.set(f"/hooks/{name}", [failing])
    result = runtime.run(bundle.sh("sleep 5" if name == "poststart" else "true"))
    assert result.status == (0 if name == "poststop" else 1)
    assert f"{name} hook /bin/sh {words}" in result.err
    last = r"\x1b[31mred\x07\r"
    assert last in result.err, result
    if name != "poststop":
        assert f"/hooks/{name}/0" in result.err
        assert "first" in result.err
        assert "second" in result.err
    assert not set(result.err) & {"\x1b", "\x07", "\r"}
    assert len(result.err) < 4000
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
def test_hook_that_says_nothing_but_blanks(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set("/hooks/createRuntime", [hook(log, "bad", r"printf '\302\240\n'; exit 3")])
    runtime.run(bundle).failed("exited with status 3")


def test_hook_with_a_timeout_beyond_poll(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set("/hooks/createRuntime", [{**hook(log, "h"), "timeout": 2**31}])
    assert runtime.run(bundle.sh("echo it runs")).ok().out == "it runs\n"
    assert order(log) == ["h"]


@pytest.mark.only("ocirun")
def test_warning_of_a_poststop_hook_is_logged(runtime: Runtime, bundle: Bundle, log: Path) -> None:
    bundle.set("/hooks/poststop", [hook(log, "bad", "echo why; exit 3")])
    runtime.create(bundle.sleeper()).ok()
    lines = bundle.path / "lines"
    done = runtime.call("--log", lines, "--log-format", "json", "delete", "--force", bundle.id).ok()
    (line,) = lines.read_text().splitlines()
    assert json.loads(line)["level"] == "warning"
    assert "status 3: why" in json.loads(line)["msg"]
    assert done.err == line + "\n"
