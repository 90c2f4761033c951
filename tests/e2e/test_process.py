"""The process: user, capabilities, rlimits, cwd, environment, arguments, finding the program."""

import os
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "NET_RAW": 13, "SYS_CHROOT": 18,
        "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31, "CHECKPOINT_RESTORE": 40}  # fmt: skip
SETS = ("effective", "permitted", "inheritable", "bounding", "ambient")


@pytest.mark.parametrize(
    "user",
    [
        {"uid": 0, "gid": 0},
        {"uid": 1000, "gid": 1001},
        {"uid": 0, "gid": 5},
        {"uid": 65534, "gid": 0},
        {"uid": 4294967294, "gid": 4294967294},
        {"uid": 1000, "gid": 1000, "additionalGids": [7, 8, 4000000000]},
    ],
    ids=lambda user: "-".join(map(str, user.values())),
)
def test_user(runtime: Runtime, bundle: Bundle, user: dict[str, Any]) -> None:
    report = runtime.probe(bundle.set("/process/user", user))
    assert report["uids"] == [user["uid"]] * 4
    assert report["gids"] == [user["gid"]] * 4
    assert report["groups"] == user.get("additionalGids", [])


def test_groups_of_the_caller_are_dropped(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle, extra_groups=[1, 2, 3])
    assert report["groups"] == []


@pytest.mark.parametrize("uid", [-1, 4294967295, 4294967296, 1.5, "0", True])
def test_user_out_of_range(runtime: Runtime, bundle: Bundle, uid: Any) -> None:
    runtime.run(bundle.set("/process/user/uid", uid)).failed()


@pytest.mark.parametrize("umask", [0, 0o22, 0o77, 0o777])
def test_umask(runtime: Runtime, bundle: Bundle, umask: int) -> None:
    assert runtime.probe(bundle.set("/process/user/umask", umask))["umask"] == umask


@pytest.mark.parametrize("callers", [0o000, 0o077])
def test_umask_of_the_caller_does_not_matter(
    runtime: Runtime, bundle: Bundle, callers: int
) -> None:
    assert runtime.probe(bundle, umask=callers)["umask"] == 0o22


# Capabilities


@pytest.mark.spec(*(f"/process/capabilities/{name}" for name in SETS))
@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize(
    "sets",
    [
        {},
        {"bounding": ["KILL"]},
        {"bounding": ["KILL", "CHOWN"], "permitted": ["CHOWN"]},
        {"bounding": ["MKNOD"], "permitted": ["MKNOD"], "effective": ["MKNOD"]},
        {name: ["CHOWN", "SETUID", "SETFCAP", "CHECKPOINT_RESTORE"] for name in SETS},
        {"permitted": ["KILL", "CHOWN"], "inheritable": ["KILL"], "bounding": ["KILL", "CHOWN"]},
        {"permitted": ["KILL"], "inheritable": ["KILL"], "ambient": ["KILL"], "bounding": ["KILL"]},
    ],
    ids=["none", "bounding", "permitted", "effective", "all", "inheritable", "ambient"],
)
def test_capabilities(
    runtime: Runtime, bundle: Bundle, sets: dict[str, list[str]], uid: int
) -> None:
    """The sets are those before execve; what becomes of them is capabilities(7)."""
    bundle.set("/process/noNewPrivileges", False).set("/process/user/uid", uid).set(
        "/process/capabilities", {k: [f"CAP_{n}" for n in v] for k, v in sets.items()}
    )
    wanted = {name: {CAPS[n] for n in sets.get(name, [])} for name in SETS}
    if uid == 0:
        permitted = wanted["inheritable"] | wanted["bounding"]
        effective, ambient = permitted, wanted["ambient"]
    else:
        permitted = effective = ambient = wanted["ambient"]
    report = runtime.probe(bundle)
    assert set(report["cap_bounding"]) == wanted["bounding"]
    assert set(report["cap_inheritable"]) == wanted["inheritable"]
    assert set(report["cap_ambient"]) == ambient
    assert set(report["cap_permitted"]) == permitted
    assert set(report["cap_effective"]) == effective
    assert report["securebits"] == 0


@pytest.mark.spec("/process/capabilities/effective", "/process/capabilities/permitted")
def test_effective_capabilities_before_execve(runtime: Runtime, bundle: Bundle) -> None:
    """The execve computes them anew, so they show while init waits for `start`."""
    bundle.set("/process/capabilities/bounding", ["CAP_KILL", "CAP_CHOWN"])
    bundle.set("/process/capabilities/permitted", ["CAP_KILL", "CAP_CHOWN"])
    bundle.set("/process/capabilities/effective", ["CAP_CHOWN"])
    bundle.drop("/process/capabilities/ambient")
    runtime.create(bundle.sleeper()).ok()
    with open(f"/proc/{runtime.state(bundle.id)['pid']}/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == 1 << CAPS["CHOWN"]
    assert int(status["CapPrm"], 16) == 1 << CAPS["CHOWN"] | 1 << CAPS["KILL"]


def test_no_capabilities_property(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle.drop("/process/capabilities"))
    assert {tuple(report[f"cap_{name}"]) for name in SETS} == {()}


def test_unknown_capability_is_no_error(runtime: Runtime, bundle: Bundle) -> None:
    """The specification wants a warning, which is `validate`'s."""
    bundle.add("/process/capabilities/bounding", "CAP_NONSENSE")
    assert runtime.probe(bundle)["cap_bounding"] == [5, 10, 29]


# Limits and other attributes


def test_rlimits(runtime: Runtime, bundle: Bundle) -> None:
    wanted = {"RLIMIT_NOFILE": [100, 200], "RLIMIT_NPROC": [50, 60], "RLIMIT_STACK": [1048576, 2097152],
              "RLIMIT_FSIZE": [123456789, 987654321], "RLIMIT_CORE": [0, 0]}  # fmt: skip
    limits = [{"type": k, "soft": soft, "hard": hard} for k, (soft, hard) in wanted.items()]
    seen = runtime.probe(bundle.set("/process/rlimits", limits))["rlimits"]
    assert {k: seen[k] for k in wanted} == wanted


def test_rlimits_of_another_user(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/user/uid", 1000)
    bundle.set("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}])
    assert runtime.probe(bundle)["rlimits"]["RLIMIT_NOFILE"] == [64, 64]


def test_unlimited(runtime: Runtime, bundle: Bundle) -> None:
    no_limit = 2**64 - 1
    bundle.set("/process/rlimits", [{"type": "RLIMIT_AS", "soft": no_limit, "hard": no_limit}])
    assert runtime.probe(bundle)["rlimits"]["RLIMIT_AS"] == [-1, -1]


def test_same_limit_twice(runtime: Runtime, bundle: Bundle) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}
    runtime.run(bundle.set("/process/rlimits", [limit, limit])).failed()


def test_unknown_limit(runtime: Runtime, bundle: Bundle) -> None:
    limit = {"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}
    runtime.run(bundle.set("/process/rlimits", [limit])).failed("RLIMIT_NONSENSE")


def test_soft_above_hard(runtime: Runtime, bundle: Bundle) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}
    runtime.run(bundle.set("/process/rlimits", [limit])).failed()


@pytest.mark.parametrize("value", [True, False, None])
def test_no_new_privileges(runtime: Runtime, bundle: Bundle, value: bool | None) -> None:
    bundle.drop("/process/noNewPrivileges")
    if value is not None:
        bundle.set("/process/noNewPrivileges", value)
    assert runtime.probe(bundle)["no_new_privs"] == bool(value)


@pytest.mark.parametrize("score", [1, 500, 1000])
def test_oom_score(runtime: Runtime, bundle: Bundle, score: int) -> None:
    assert runtime.probe(bundle.set("/process/oomScoreAdj", score))["oom_score_adj"] == f"{score}\n"


def test_oom_score_is_inherited(runtime: Runtime, bundle: Bundle) -> None:
    with open("/proc/self/oom_score_adj") as own:
        assert runtime.probe(bundle)["oom_score_adj"] == own.read()


def test_oom_score_of_another_user(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/oomScoreAdj", 300).set("/process/user", {"uid": 1000, "gid": 1000})
    assert runtime.probe(bundle)["oom_score_adj"] == "300\n"


def test_leads_a_session_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle.drop_namespace("pid"))
    assert report["sid"] == report["pid"] == report["pgid"]
    assert report["sid"] != os.getsid(0)


def test_nothing_follows_the_death_of_the_runtime(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.probe(bundle)["pdeathsig"] == 0


@pytest.mark.parametrize("domain", ["LINUX", "LINUX32"])
def test_personality(runtime: Runtime, bundle: Bundle, domain: str) -> None:
    bundle.set("/linux/personality", {"domain": domain}).sh("uname -m")
    machine = runtime.run(bundle).ok().out.strip()
    if os.uname().machine == "x86_64":
        assert machine == {"LINUX": "x86_64", "LINUX32": "i686"}[domain]


def test_sysctl(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/sysctl", {"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"})
    bundle.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced")
    assert runtime.run(bundle).ok().out.split() == ["1", "1"]


# Working folder


@pytest.mark.parametrize("cwd", ["/", "/tmp", "/proc/sys"])
def test_cwd(runtime: Runtime, bundle: Bundle, cwd: str) -> None:
    assert runtime.probe(bundle.set("/process/cwd", cwd))["cwd"] == cwd


def test_cwd_through_a_symlink(runtime: Runtime, bundle: Bundle) -> None:
    os.symlink("/usr/../tmp", bundle.rootfs / "opt/link")
    assert runtime.probe(bundle.set("/process/cwd", "/opt/link"))["cwd"] == "/tmp"


def test_missing_cwd_is_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/root/readonly", False).set("/process/cwd", "/opt/new/folder")
    assert runtime.probe(bundle)["cwd"] == "/opt/new/folder"
    assert (bundle.rootfs / "opt/new/folder").is_dir()


@pytest.mark.parametrize("cwd", ["relative", "", "/etc/passwd"])
def test_bad_cwd(runtime: Runtime, bundle: Bundle, cwd: str) -> None:
    runtime.run(bundle.set("/process/cwd", cwd)).failed()


def test_cwd_that_only_the_user_may_enter(runtime: Runtime, bundle: Bundle) -> None:
    os.chown(bundle.rootfs / "home", 1000, 1000)
    (bundle.rootfs / "home").chmod(0o700)
    bundle.set("/process/user", {"uid": 1000, "gid": 1000}).set("/process/cwd", "/home")
    assert runtime.probe(bundle)["cwd"] == "/home"


# Environment and arguments


def test_env_is_exactly_the_configs(runtime: Runtime, bundle: Bundle) -> None:
    env = [PATH, "A=1", "EMPTY=", "WITH==signs=", "SPACE=a b\tc\nd", "ÜML=ä€😀", "HOME=/elsewhere"]
    report = runtime.probe(
        bundle.set("/process/env", env), env={"LEAK": "1", "PATH": os.environ["PATH"]}
    )
    seen = [text.encode("latin-1").decode() for text in report["env"]]
    assert seen == env


def test_no_env(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/env", [])
    names = [text.split("=")[0] for text in runtime.probe(bundle)["env"]]
    assert set(names) <= {"HOME"}


def test_callers_environment_does_not_matter(runtime: Runtime, bundle: Bundle) -> None:
    """Only XDG_RUNTIME_DIR is set by some engines, not even PATH."""
    for env in ({"XDG_RUNTIME_DIR": "/nonexistent"}, {}):
        assert runtime.run(bundle.sh("echo $PATH"), env=env).ok().out == f"{PATH[5:]}\n"


def test_hostile_environment_of_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    trap = bundle.path / "trap"
    trap.mkdir()
    for name in ("sitecustomize.py", "usercustomize.py", "posix.py", "_json.py", "ocirun.py"):
        (trap / name).write_text("import sys; sys.stderr.write('trapped')\n")
    env = {"PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONSTARTUP": str(trap / "posix.py"),
           "PYTHONVERBOSE": "1", "PYTHONINSPECT": "1", "PYTHONWARNINGS": "error"}  # fmt: skip
    result = runtime.run(bundle.sh("echo fine"), env=env, cwd=trap).ok()
    assert (result.out, result.err) == ("fine\n", "")


@pytest.mark.parametrize(
    "args",
    [["a b", "", "ä€😀", "'\"\\", "a\nb"], ["x" * 100000], ["y" * 10000] * 100, [str(n) for n in range(5000)]],
    ids=["odd", "long", "megabyte", "many"],
)  # fmt: skip
def test_arguments(runtime: Runtime, bundle: Bundle, args: list[str]) -> None:
    seen = runtime.probe(bundle.args("/bin/probe", *args))["argv"]
    assert [text.encode("latin-1").decode() for text in seen] == ["/bin/probe", *args]


def test_arguments_too_long_for_the_kernel(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.args("/bin/probe", "x" * 200000)).failed("argument list too long")


# Finding the program


def test_program_is_looked_up_in_path(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/env", ["PATH=/nonexistent:/opt:/bin"])
    os.link(bundle.rootfs / "bin/probe", bundle.rootfs / "opt/special")
    assert runtime.probe(bundle.args("special"))["argv"] == ["special"]


def test_first_in_path_wins(runtime: Runtime, bundle: Bundle) -> None:
    for place in ("opt", "mnt"):
        program = bundle.rootfs / place / "program"
        program.write_text(f"#!/bin/sh\necho {place}\n")
        program.chmod(0o755)
    bundle.set("/process/env", ["PATH=/mnt:/opt"]).args("program")
    assert runtime.run(bundle).ok().out == "mnt\n"


def test_what_is_not_executable_is_passed_over(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "mnt/program").write_text("#!/bin/sh\necho wrong\n")
    (bundle.rootfs / "usr/program").mkdir()
    program = bundle.rootfs / "opt/program"
    program.write_text("#!/bin/sh\necho right\n")
    program.chmod(0o755)
    bundle.set("/process/env", ["PATH=/mnt:/usr:/opt"]).args("program")
    assert runtime.run(bundle).ok().out == "right\n"


def test_relative_program(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/cwd", "/bin").args("./probe")
    assert runtime.probe(bundle)["argv"] == ["./probe"]


def test_script(runtime: Runtime, bundle: Bundle) -> None:
    script = bundle.rootfs / "opt/script"
    script.write_text("#!/bin/sh\necho $0 $1\n")
    script.chmod(0o755)
    assert runtime.run(bundle.args("/opt/script", "x")).ok().out == "/opt/script x\n"


def missing(_: Bundle) -> list[str]:
    return ["/bin/no-such-program"]


def missing_in_path(_: Bundle) -> list[str]:
    return ["no-such-program"]


def missing_in_short_path(bundle: Bundle) -> list[str]:
    bundle.set("/process/env", ["PATH=/bin"])
    return ["no-such-program"]


def folder(_: Bundle) -> list[str]:
    return ["/etc"]


def not_executable(_: Bundle) -> list[str]:
    return ["/etc/passwd"]


def no_interpreter(bundle: Bundle) -> list[str]:
    script = bundle.rootfs / "opt/script"
    script.write_text("#!/bin/no-such-interpreter\n")
    script.chmod(0o755)
    return ["/opt/script"]


def no_interpreter_in_path(bundle: Bundle) -> list[str]:
    bundle.set("/process/env", ["PATH=/bin:/opt"])
    return [no_interpreter(bundle)[0].removeprefix("/opt/")]


def no_format(bundle: Bundle) -> list[str]:
    script = bundle.rootfs / "opt/script"
    script.write_text("echo no first line\n")
    script.chmod(0o755)
    return ["/opt/script"]


def empty_name(_: Bundle) -> list[str]:
    return [""]


@pytest.mark.parametrize("command", ["run", "create"])
@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (missing, "no such file or directory"),
        (missing_in_path, "executable file not found in $path|not found in $path"),
        (missing_in_short_path, "executable file not found in $path|not found in $path"),
        (folder, "permission denied|is a directory"),
        (not_executable, "permission denied"),
        (no_interpreter, "no such file or directory"),
        (
            no_interpreter_in_path,
            "script': no such file or directory|script: no such file|script`: no such file",
        ),
        (no_format, "exec format error"),
        (empty_name, "no such file or directory|executable file not found|is empty"),
    ],
)
def test_program_that_cannot_be_executed(
    runtime: Runtime, bundle: Bundle, command: str, prepare: Any, words: str
) -> None:
    """By `create` already where the runtime can know it then; by `start` at the latest."""
    bundle.args(*prepare(bundle))
    if command == "run":
        runtime.run(bundle).failed(words)
        assert runtime.containers() == []
        return
    created = runtime.create(bundle)
    if created.status == 0:
        started = runtime.start(bundle.id)
        said = (started.err + created.err).lower()
        assert any(choice in said for choice in words.split("|")), f"{started}{created}"
    else:
        created.failed(words)
        assert runtime.containers() == []
