"""linux.seccomp in containers: what a program may call, and what becomes of it when it may not."""

import errno
import fcntl
import json
import platform
import re
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib import seccomp as lib
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="has numbers of x86-64")

READ, GETPID, SENDMSG, MKDIR, GETPPID, PERSONALITY = 0, 39, 46, 83, 110, 135
CLONE, PTRACE, MOUNT, SETHOSTNAME, KEYCTL, UNSHARE, CLONE3 = 56, 101, 165, 170, 250, 272, 435
NEWUSER = 0x10000000
Section = dict[str, Any]


def rule(action: str, *names: str, **more: Any) -> Section:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def arg(index: int, op: str, value: int, two: int | None = None) -> Section:
    found = {"index": index, "op": f"SCMP_CMP_{op}", "value": value}
    return found if two is None else {**found, "valueTwo": two}


def allowing(*rules: Section, **more: Any) -> Section:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(rules), **more}


@pytest.fixture(scope="session")
def calls_program(session_folder: Path) -> Path:
    target = session_folder / "calls"
    source = Path(__file__).parents[1] / "lib/calls.c"
    gcc = ["gcc", "-O1", "-Wall", "-static", "-pthread", "-o", target, source]
    subprocess.run(gcc, check=True, timeout=60)
    return target


Ask = Callable[..., list[Any]]


@pytest.fixture
def ask(runtime: Runtime, bundle: Bundle, calls_program: Path) -> Ask:
    """Makes calls in a container with that filter; what became of each."""
    (bundle.rootfs / "bin/calls").hardlink_to(calls_program)

    def run(section: Section, *calls: str | int, **process: Any) -> list[Any]:
        bundle.set("/linux/seccomp", section).args("/bin/calls", *map(str, calls))
        bundle.config["process"].update(process)
        report: list[Any] = runtime.run(bundle).ok().json
        return report

    return run


def privileges(function: Any) -> Any:
    """Both orders: with no new privileges, and with those of root, as well as of a user."""
    return pytest.mark.parametrize(
        "process",
        [
            {"noNewPrivileges": True},
            {"noNewPrivileges": False},
            {"noNewPrivileges": True, "user": {"uid": 1000, "gid": 1000}},
            {"noNewPrivileges": False, "user": {"uid": 1000, "gid": 1000}},
        ],
        ids=["nnp-root", "root", "nnp-user", "user"],
    )(function)


# Actions


@pytest.mark.spec("/linux/seccomp/syscalls/*/action", "/linux/seccomp/syscalls/*/names")
@pytest.mark.parametrize(
    ("action", "outcome", "in_thread"),
    [
        ("ALLOW", "ok", "ok"),
        ("LOG", "ok", "ok"),
        ("ERRNO", errno.EPERM, "ok"),
        ("TRACE", errno.ENOSYS, "ok"),
        ("TRAP", "signal 31", "signal 31"),
        ("KILL", "signal 31", "gone"),
        ("KILL_THREAD", "signal 31", "gone"),
        ("KILL_PROCESS", "signal 31", "signal 31"),
    ],
)
def test_actions(ask: Ask, action: str, outcome: Any, in_thread: Any) -> None:
    other = "LOG" if action == "ALLOW" else "ALLOW"
    section = {"defaultAction": f"SCMP_ACT_{other}", "syscalls": [rule(action, "getppid")]}
    wanted = [outcome, in_thread, "ok"]
    assert ask(section, GETPPID, f"t{GETPPID}", GETPID) == wanted


@pytest.mark.spec("/linux/seccomp/syscalls/*/errnoRet")
def test_error_numbers(ask: Ask) -> None:
    section = allowing(
        rule("ERRNO", "getppid", errnoRet=99),
        rule("ERRNO", "sethostname", errnoRet=0),
        rule("TRACE", "personality", errnoRet=1234),
        rule("TRACE", "keyctl"),
    )
    calls = (GETPPID, SETHOSTNAME, f"p{PERSONALITY}", f"p{KEYCTL}")
    assert ask(section, *calls) == [99, "ok", "trace 1234", "trace 1"]


# What the helper and its libc call.
NEEDED = rule(
    "ALLOW", "execve", "capset", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq",
    "prlimit64", "readlink", "readlinkat", "getrandom", "mprotect", "newfstatat", "fstat", "ioctl",
    "write", "clone", "fork", "wait4", "exit_group", "exit", "mmap", "munmap", "rt_sigprocmask",
    "rt_sigaction", "gettid", "getpid", "tgkill", "ptrace", "kill", "futex", "uname", "clone3",
)  # fmt: skip


# What other runtimes need under the filter: many calls, but not the two that are asked for.
MUCH = rule(
    "ALLOW",
    *({*lib.docker_profile()["syscalls"][0]["names"], *NEEDED["names"]} - {"getppid"}),
)


@pytest.mark.spec("/linux/seccomp/defaultAction", "/linux/seccomp/defaultErrnoRet")
@pytest.mark.parametrize(
    ("action", "number", "outcome"),
    [
        ("ALLOW", None, "ok"),
        ("LOG", None, "ok"),
        ("ERRNO", None, errno.EPERM),
        ("ERRNO", 77, 77),
        ("TRACE", None, errno.ENOSYS),
        ("TRAP", None, "signal 31"),
        ("KILL", None, "signal 31"),
        ("KILL_THREAD", None, "signal 31"),
        ("KILL_PROCESS", None, "signal 31"),
    ],
)
def test_default_actions(ask: Ask, action: str, number: int | None, outcome: Any) -> None:
    rules = [rule("ERRNO", "getppid", errnoRet=9)]
    if action != "ALLOW":
        rules.append(MUCH)
    section = {"defaultAction": f"SCMP_ACT_{action}", "syscalls": rules}
    if number is not None:
        section["defaultErrnoRet"] = number
    assert ask(section, f"{PERSONALITY},0xffffffff", GETPPID, GETPID) == [outcome, 9, "ok"]


@pytest.mark.spec("/linux/seccomp/syscalls")
def test_rules_are_optional(ask: Ask) -> None:
    assert ask({"defaultAction": "SCMP_ACT_ALLOW"}, GETPID) == ["ok"]


# Arguments

OK = "ok"
MANY = 2**40


@pytest.mark.spec(
    "/linux/seccomp/syscalls/*/args",
    "/linux/seccomp/syscalls/*/args/*/index",
    "/linux/seccomp/syscalls/*/args/*/op",
    "/linux/seccomp/syscalls/*/args/*/value",
    "/linux/seccomp/syscalls/*/args/*/valueTwo",
)
@pytest.mark.parametrize(
    ("args", "hits"),
    [
        ([arg(0, "EQ", 7)], ["7", f"7,{MANY}"]),
        ([arg(0, "NE", 7)], ["0", "6", "8", f"{MANY}", f"{MANY + 7}"]),
        ([arg(0, "LT", 7)], ["0", "6"]),
        ([arg(0, "LE", 7)], ["0", "6", "7", f"7,{MANY}"]),
        ([arg(0, "GE", 8)], ["8", f"{MANY}", f"{MANY + 7}"]),
        ([arg(0, "GT", 8)], [f"{MANY}", f"{MANY + 7}"]),
        ([arg(0, "MASKED_EQ", 7, 7)], ["7", f"{MANY + 7}", f"7,{MANY}"]),
        ([arg(0, "MASKED_EQ", MANY)], ["0", "6", "7", "8", f"7,{MANY}"]),
        ([arg(1, "EQ", MANY)], [f"7,{MANY}"]),
        ([arg(0, "EQ", 7), arg(1, "EQ", MANY)], [f"7,{MANY}"]),
        ([arg(0, "EQ", 6), arg(0, "EQ", 8)], ["6", "8"]),
        ([arg(5, "EQ", 0), arg(0, "EQ", 8)], ["8"]),
    ],
)
def test_arguments(ask: Ask, args: list[Section], hits: list[str]) -> None:
    """getppid does not look at its arguments, but the filter does."""
    calls = ["0", "6", "7", "8", f"{MANY}", f"{MANY + 7}", f"7,{MANY}"]
    outcome = ask(allowing(rule("ERRNO", "getppid", args=args)), *(f"{GETPPID},{c}" for c in calls))
    assert [call for call, end in zip(calls, outcome, strict=True) if end == 1] == hits


# Architectures

GETPPID_386 = 64


@pytest.mark.spec("/linux/seccomp/architectures")
@pytest.mark.parametrize(
    ("names", "native", "x86", "x32"),
    [
        (None, 9, "signal 31", "signal 31"),
        (["X86_64"], 9, "signal 31", "signal 31"),
        (["X86"], 9, 9, "signal 31"),
        (["X86_64", "X86", "X32"], 9, 9, 9),
    ],
)
def test_architectures(ask: Ask, names: list[str] | None, native: Any, x86: Any, x32: Any) -> None:
    section = allowing(rule("ERRNO", "getppid", errnoRet=9))
    if names is not None:
        section["architectures"] = [f"SCMP_ARCH_{name}" for name in names]
    calls = (GETPPID, f"i{GETPPID_386}", lib.X32_BIT | GETPPID, GETPID)
    assert ask(section, *calls) == [native, x86, x32, "ok"]


@pytest.mark.only("ocirun")
def test_an_architecture_of_the_other_byte_order(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/seccomp", allowing(architectures=["SCMP_ARCH_S390X"]))
    runtime.run(bundle).failed("SCMP_ARCH_S390X", "/linux/seccomp/architectures/0", "big endian")


# Names


def test_unknown_names_are_skipped(ask: Ask) -> None:
    section = allowing(rule("ERRNO", "frobnicate", "getppid", "s390_runtime_instr", errnoRet=9))
    assert ask(section, GETPPID, GETPID) == [9, "ok"]


@pytest.mark.only("ocirun")
def test_unknown_names_are_told_to_who_debugs(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/seccomp", allowing(rule("ERRNO", "frobnicate"))).args("/bin/true")
    for _ in range(2):  # compiled, and from the cache
        result = runtime.call("--debug", "run", "--bundle", bundle.write(), bundle.id).ok()
        assert "unknown system calls, skipped: frobnicate" in result.err
    assert "frobnicate" not in runtime.run(bundle).ok().err


@pytest.mark.parametrize("action", ["ERRNO", "TRAP", "KILL_PROCESS"])
def test_what_is_newer_than_the_profile_does_not_exist(ask: Ask, action: str) -> None:
    """So that a libc falls back to older calls."""
    section = {
        "defaultAction": f"SCMP_ACT_{action}",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [MUCH],
    }
    refused = errno.EPERM if action == "ERRNO" else "signal 31"
    assert ask(section, GETPPID, 1000, 5000) == [refused, errno.ENOSYS, errno.ENOSYS]


# Flags


@pytest.mark.only("ocirun")
@pytest.mark.spec("/linux/seccomp/flags")
@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (None, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        ([], "0"),
        (["TSYNC"], "SECCOMP_FILTER_FLAG_TSYNC"),
        (["LOG"], "SECCOMP_FILTER_FLAG_LOG"),
        (["SPEC_ALLOW"], "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        (["LOG", "SPEC_ALLOW"], "SECCOMP_FILTER_FLAG_LOG|SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    ],
)
def test_flags(runtime: Runtime, bundle: Bundle, flags: list[str] | None, shown: str) -> None:
    section = allowing()
    if flags is not None:
        section["flags"] = [f"SECCOMP_FILTER_FLAG_{flag}" for flag in flags]
    lines = traced(runtime, bundle.set("/linux/seccomp", section).args("/bin/true"), "seccomp")
    assert re.findall(r"seccomp\(SECCOMP_SET_MODE_FILTER, ([^,]*),.*= 0", lines) == [shown]


def traced(runtime: Runtime, bundle: Bundle, calls: str) -> str:
    """strace's words on these calls of a run."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    log = bundle.path / "trace"
    prefix = ("strace", "-f", "-qq", "-o", str(log), "-e", f"trace={calls}")
    runtime.run(bundle, prefix=prefix).ok()
    return log.read_text()


# Init under its own filter


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("nnp", [True, False])
def test_nothing_but_the_execve_comes_after_it(
    runtime: Runtime, bundle: Bundle, calls_program: Path, nnp: bool
) -> None:
    """Without no_new_privs also the capset that gives up what the filter needed."""
    section = {"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [NEEDED]}
    bundle.set("/linux/seccomp", section).set("/process/noNewPrivileges", nnp)
    (bundle.rootfs / "bin/calls").hardlink_to(calls_program)
    lines = traced(runtime, bundle.args("/bin/calls"), "all").splitlines()
    installs = [n for n, line in enumerate(lines) if " seccomp(SECCOMP_SET_MODE_FILTER" in line]
    start = installs[-1]  # before it libseccomp finds out what the kernel can
    pid = lines[start].split()[0]
    mine = [line.split(maxsplit=1)[1] for line in lines[start + 1 :] if line.startswith(pid)]
    names = [line.split("(")[0] for line in mine]
    assert names[: names.index("execve") + 1] == (["execve"] if nnp else ["capset", "execve"])


@privileges
def test_the_least_of_filters(ask: Ask, process: Section) -> None:
    """A static program and what it calls; nothing for the runtime's sake but capset."""
    names = [name for name in NEEDED["names"] if name != "capset" or not process["noNewPrivileges"]]
    section = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule("ALLOW", *names)]}
    assert ask(section, GETPID, MKDIR, **process) == ["ok", errno.EPERM]


@privileges
def test_privileges_are_as_without_a_filter(
    runtime: Runtime, bundle: Bundle, process: Section
) -> None:
    bundle.config["process"].update(process)
    keys = ("uids", "gids", "groups", "no_new_privs", "cap_effective", "cap_permitted",
            "cap_inheritable", "cap_bounding", "cap_ambient", "dumpable", "env", "argv",
            "cwd", "signals_blocked", "signals_ignored", "umask")  # fmt: skip
    without = runtime.probe(bundle)
    report = runtime.probe(bundle.set("/linux/seccomp", lib.docker_profile()))
    assert {k: report[k] for k in keys} == {k: without[k] for k in keys}
    assert set(report["fds"]) == {"0", "1", "2"}


def test_capabilities_of_a_privileged_container(runtime: Runtime, bundle: Bundle) -> None:
    sets = {name: ["CAP_SYS_ADMIN", "CAP_KILL"] for name in ("bounding", "effective", "permitted")}
    bundle.set("/process/capabilities", sets).set("/process/noNewPrivileges", False)
    report = runtime.probe(bundle.set("/linux/seccomp", allowing()))
    assert report["cap_effective"] == report["cap_permitted"] == [5, 21]


def test_in_a_user_namespace(ask: Ask, bundle: Bundle) -> None:
    bundle.user_namespace()
    section = allowing(rule("ERRNO", "getppid", errnoRet=9))
    assert ask(section, GETPPID, noNewPrivileges=False) == [9]


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    "section",
    [
        {"defaultAction": "SCMP_ACT_ERRNO"},
        {"defaultAction": "SCMP_ACT_KILL"},
        allowing(rule("ERRNO", "execve")),
    ],
)
def test_a_filter_without_execve(runtime: Runtime, bundle: Bundle, section: Section) -> None:
    bundle.set("/linux/seccomp", section)
    runtime.run(bundle).failed("execve is not allowed", "/linux/seccomp")


@pytest.mark.only("ocirun")
def test_an_execve_that_a_condition_refuses(runtime: Runtime, bundle: Bundle) -> None:
    section = allowing(rule("ERRNO", "execve", args=[arg(3, "GE", 0)]))
    result = runtime.run(bundle.set("/linux/seccomp", section))
    result.failed("Operation not permitted", "does linux.seccomp allow execve?")


@pytest.mark.only("ocirun")
def test_a_filter_without_capset(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/seccomp", allowing(rule("ERRNO", "capset")))
    runtime.run(bundle.args("/bin/true")).ok()
    bundle.set("/process/noNewPrivileges", False)
    runtime.run(bundle).failed("capset", "noNewPrivileges")


def test_hooks_in_the_container_are_filtered(runtime: Runtime, bundle: Bundle) -> None:
    out = bundle.path / "out"
    out.mkdir()
    bundle.mount("/opt", "bind", str(out), "bind", "rw")
    script = "mkdir /opt/a; echo $? > /opt/status"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    bundle.set("/hooks", {"startContainer": [hook]}).args("/bin/true")
    for process in (True, False):
        bundle.set("/process/noNewPrivileges", process)
        runtime.run(bundle.set("/linux/seccomp", allowing(rule("ERRNO", "mkdir")))).ok()
        assert (out / "status").read_text() == "1\n"


def test_create_and_start(runtime: Runtime, bundle: Bundle) -> None:
    section = allowing(rule("ERRNO", "mkdir"))
    out = bundle.path / "out"
    out.mkdir()
    bundle.mount("/opt", "bind", str(out), "bind", "rw")
    bundle.set("/linux/seccomp", section).sh("mkdir /opt/a; echo $? > /opt/status")
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    assert (out / "status").read_text() == "1\n"


# Profiles of engines


@privileges
def test_dockers_profile(ask: Ask, process: Section) -> None:
    calls: dict[str, Any] = {
        f"{GETPID}": "ok",
        f"{PERSONALITY},0xffffffff": "ok",
        f"{PERSONALITY},4": errno.EPERM,
        f"{MOUNT},@none,@/tmp,@tmpfs": errno.EPERM,
        f"{UNSHARE},{NEWUSER}": errno.EPERM,
        f"{CLONE},{NEWUSER | 17}": errno.EPERM,
        f"{CLONE3}": errno.ENOSYS,
        f"{KEYCTL},0,-1,0": errno.EPERM,
        f"{PTRACE},16,99999": errno.ESRCH,
        f"{SETHOSTNAME},@x,1": errno.EPERM,
        f"i{GETPPID_386}": "ok",
        "i288": errno.EPERM,  # keyctl of i386
    }
    outcome = ask(lib.docker_profile(), *calls, **process)
    assert dict(zip(calls, outcome, strict=True)) == calls


def test_what_is_newer_than_dockers_profile(ask: Ask) -> None:
    assert ask(lib.docker_profile(), 5000, "i5000") == [errno.ENOSYS, errno.ENOSYS]


@pytest.mark.skipif(not lib.PODMAN.exists(), reason=f"needs {lib.PODMAN}")
def test_podmans_profile(ask: Ask) -> None:
    calls: dict[str, Any] = {
        f"{GETPID}": "ok",
        f"{MOUNT},@none,@/tmp,@tmpfs": errno.EPERM,
        f"{PERSONALITY},4": errno.ENOSYS,
        "5000": errno.ENOSYS,
    }
    outcome = ask(lib.podman_profile(), *calls)
    assert dict(zip(calls, outcome, strict=True)) == calls


@pytest.mark.parametrize("nnp", [True, False])
def test_a_shell_under_dockers_profile(runtime: Runtime, bundle: Bundle, nnp: bool) -> None:
    bundle.set("/linux/seccomp", lib.docker_profile()).set("/process/noNewPrivileges", nnp)
    bundle.sh("ls -l / | grep -c usr; (sleep 0.01 & wait); mount -t tmpfs x /tmp || echo no")
    assert runtime.run(bundle).ok().out.split() == ["1", "no"]


# The cache


@pytest.mark.only("ocirun")
def test_programs_are_kept_beside_the_containers(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/seccomp", lib.docker_profile()).args("/bin/true")
    runtime.run(bundle).ok()
    (kept,) = (runtime.root / ".seccomp").iterdir()
    before = kept.stat()
    runtime.run(bundle.set("/linux/seccomp", lib.docker_profile())).ok()
    after = kept.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert json.loads(runtime.call("list", "--format", "json").ok().out) in ([], None)


@pytest.mark.only("ocirun")
def test_a_damaged_program_is_compiled_again(runtime: Runtime, bundle: Bundle, ask: Ask) -> None:
    section = allowing(rule("ERRNO", "getppid", errnoRet=9))
    assert ask(section, GETPPID) == [9]
    (kept,) = (runtime.root / ".seccomp").iterdir()
    data = kept.read_bytes()
    kept.write_bytes(data[:-1] + bytes((data[-1] ^ 1,)))
    assert ask(section, GETPPID) == [9]
    assert kept.read_bytes() == data


# The listener

NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
CONTINUE = 1


def is_whole(data: bytes) -> bool:
    """runc and crun keep the connection open, so that there is no end of the file."""
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


class Agent:
    """Answers for system calls: lets pass all but mkdir, which fails with its own number."""

    def __init__(self, path: Path) -> None:
        self.state: dict[str, Any] = {}
        self.seen: list[int] = []
        self.received = 0
        self.path = path
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(str(path))
        self.server.listen(1)
        self.server.settimeout(15)
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        try:
            connection, _ = self.server.accept()
        except OSError:
            return
        data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 4)
        while not is_whole(data):
            data += connection.recv(1 << 20)
        connection.close()
        self.state = json.loads(data)
        self.received = len(fds)
        with open(fds[0], "r+b", buffering=0) as listener:
            while True:
                request = bytearray(80)
                try:
                    fcntl.ioctl(listener, NOTIF_RECV, request)
                except OSError:  # nobody is left to ask
                    return
                number, _, _, call = struct.unpack_from("QIIi", request)
                self.seen.append(call)
                mine = call == MKDIR
                answer = struct.pack(
                    "QqiI", number, 0, -123 if mine else 0, 0 if mine else CONTINUE
                )
                try:
                    fcntl.ioctl(listener, NOTIF_SEND, answer)
                except OSError:  # the caller was killed meanwhile
                    pass

    def close(self) -> None:
        if self.server.fileno() >= 0:
            self.server.shutdown(socket.SHUT_RDWR)
        self.thread.join(15)
        self.server.close()


@pytest.fixture
def agent(folder: Path) -> Iterator[Agent]:
    found = Agent(folder / "agent.sock")
    yield found
    found.close()


@pytest.mark.spec("/linux/seccomp/listenerPath", "/linux/seccomp/listenerMetadata")
@pytest.mark.parametrize("nnp", [True, False])
@pytest.mark.parametrize("also", [[], ["sendmsg", "sendto", "close", "read", "execve"]])
def test_an_agent_answers(
    runtime: Runtime, bundle: Bundle, calls_program: Path, agent: Agent, nnp: bool, also: list[str]
) -> None:
    section = allowing(rule("NOTIFY", "mkdir", *also), listenerPath=str(agent.path))
    section["listenerMetadata"] = "some words"
    (bundle.rootfs / "bin/calls").hardlink_to(calls_program)
    bundle.set("/linux/seccomp", section).set("/annotations", {"a.b": "c"})
    bundle.set("/process/noNewPrivileges", nnp)
    report = runtime.run(bundle.args("/bin/calls", f"{MKDIR},@/tmp/x", str(GETPID))).ok().json
    agent.close()
    assert report == [123, "ok"]
    assert agent.received == 1
    state = agent.state
    assert set(state) == {"ociVersion", "fds", "pid", "metadata", "state"}
    assert state["fds"] == ["seccompFd"]
    assert state["metadata"] == "some words"
    inner = state["state"]
    assert inner["id"] == bundle.id
    assert inner["status"] == "creating"
    assert state["pid"] == inner["pid"] > 1
    assert inner["bundle"] == str(bundle.path)
    assert inner["annotations"] == {"a.b": "c"}
    assert MKDIR in agent.seen


@pytest.mark.only("ocirun")
def test_an_agent_with_flags(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    section = allowing(rule("NOTIFY", "mkdir"), listenerPath=str(agent.path), flags=flags)
    bundle.set("/linux/seccomp", section)
    runtime.run(bundle.sh("mkdir /tmp/x || exit 0; exit 1")).ok()


def test_create_with_an_agent(runtime: Runtime, bundle: Bundle, agent: Agent) -> None:
    """Init waits for `start` under its filter."""
    section = allowing(rule("NOTIFY", "mkdir"), listenerPath=str(agent.path))
    bundle.set("/linux/seccomp", section).sh("mkdir /tmp/x; sleep 1000")
    runtime.create(bundle).ok()
    wait_for(lambda: agent.state, "the agent")
    assert runtime.state(bundle.id)["pid"] == agent.state["pid"]
    runtime.start(bundle.id).ok()
    runtime.wait_status(bundle.id, "running")
    runtime.delete(bundle.id, "--force").ok()


def test_no_agent(runtime: Runtime, bundle: Bundle) -> None:
    section = allowing(rule("NOTIFY", "mkdir"), listenerPath="/not/there.sock")
    bundle.set("/linux/seccomp", section)
    runtime.run(bundle).failed("/not/there.sock")
    assert runtime.containers() == []


@pytest.mark.parametrize(
    "section",
    [
        {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"},
        allowing(rule("NOTIFY", "mkdir")),
        allowing(rule("NOTIFY", "write", "sendmsg"), listenerPath="/x"),
        allowing(rule("KILL", "mkdir", errnoRet=1)),
        allowing(rule("ERRNO", "mkdir", errnoRet=5000)),
        {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
        {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"},
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        allowing(rule("ERRNO", "mkdir", args=[arg(0, "NONSENSE", 1)])),
        allowing(rule("ERRNO", "mkdir", args=[arg(6, "EQ", 1)])),
        allowing(flags=["SECCOMP_FILTER_FLAG_NONSENSE"]),
        allowing(flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        allowing(architectures=["SCMP_ARCH_NONSENSE"]),
        allowing(rule("ERRNO", "a" * 5000, "mkdir", args=[arg(0, "EQ", 2**64)])),
    ],
    ids=["default-notify", "no-agent", "write", "kill-errno", "errno", "default-errno", "metadata",
         "action", "operator", "index", "flag", "flag-alone", "architecture", "value"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(runtime: Runtime, bundle: Bundle, section: Section) -> None:
    result = runtime.run(bundle.set("/linux/seccomp", section)).failed()
    if runtime.kind == "ocirun":
        assert "/linux/seccomp/" in result.err
