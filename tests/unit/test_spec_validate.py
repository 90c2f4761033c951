"""validate: every finding at once, in words, each at its place."""

import json
import re
from pathlib import Path

import pytest
import spec_mutants
from hypothesis import given
from hypothesis import strategies as st
from spec_mutants import unhurried
from test_spec_strict import DROP, changed

from ocirun.plan.options import ACCESS_TIMES, ATTRIBUTES, all_options
from ocirun.plan.security import NUMBERS
from ocirun.spec import known, strict, validate
from ocirun.spec.default import default_spec
from ocirun.spec.fastcheck import check_config

ROOT = Path(__file__).resolve().parents[2]
COMPLETE = spec_mutants.complete_config()


@pytest.fixture
def report(tmp_path):
    (tmp_path / "rootfs").mkdir()

    def of(changes=None, *, text=None):
        config = changed(default_spec(), changes or {})
        (tmp_path / "config.json").write_text(text or json.dumps(config, indent=2))
        return validate.validate_bundle(str(tmp_path))

    return of


def rows(report):
    return [(f.severity, f.pointer, f.message, f.expected, f.hint) for f in report.findings]


def test_the_default_spec_is_above_suspicion(report):
    result = report()
    assert result.findings == []
    assert result.status == validate.OK


def test_the_rootless_default_spec_too(report):
    assert report(text=json.dumps(default_spec(rootless=True))).findings == []


BY_SCHEMA = [
    ("/process/user/uid", "0", 'found the string "0"', "an integer from 0 to 4294967295", "write the number without quotes"),
    ("/process/user/uid", -1, "found the number -1", "an integer from 0 to 4294967295", "User id."),
    ("/process/user/uid", 1.5, "found the number 1.5", "an integer from 0 to 4294967295", "User id."),
    ("/process/user/uid", True, "found true", "an integer from 0 to 4294967295", "User id."),
    ("/process/terminal", "True", 'found the string "True"', "true or false", "write true without quotes"),
    ("/process/terminal", 0, "found the number 0", "true or false", "write false"),
    ("/process/args", "sh", 'found the string "sh"', "a list of strings", "write a list: put it in [ ]"),
    ("/process/args/0", 7, "found the number 7", "a string", "write it in quotes"),
    ("/process/args", {"a": 1}, "found an object", "a list of strings", None),
    ("/process", None, "found null", "an object", "leave the property out instead of null"),
    ("/mounts", {}, "found an empty object", "a list of objects", None),
    ("/hostname", ["x"], "found a list", "a string", None),
    ("/hostname", [], "found an empty list", "a string", None),
    ("/root/path", DROP, "missing", "a string", "Directory, absolute or relative to the bundle."),
    ("/process/cwd", DROP, "missing", "a string", None),
    ("/linux/namespaces/0/type", "PID", 'found the string "PID"', "one of mount, pid, network, uts, ipc, user, cgroup, time", "did you mean pid?"),
    ("/linux/namespaces/0/type", "x", 'found the string "x"', "one of mount, pid, network, uts, ipc, user, cgroup, time", None),
    ("/linux/resources/pids", {"limit": "10"}, 'found the string "10"', "an integer", "write the number without quotes"),
    ("/linux/resources/memory", {"limit": "1.5g"}, 'found the string "1.5g"', "an integer", "write the number 1610612736"),
    ("/linux/resources/memory", {"limit": "512 MiB"}, 'found the string "512 MiB"', "an integer", "write the number 536870912"),
    ("/linux/resources/memory", {"limit": "much"}, 'found the string "much"', "an integer", None),
    ("/linux/resources/memory", {"limit": 2**63}, f"found the number {2**63}", f"an integer from {-(2**63)} to {2**63 - 1}", None),
    ("/linux/resources/cpu", {"shares": "x"}, 'found the string "x"', "an integer of at least 0", None),
    ("/process/rlimits/0/type", "CORE", 'found the string "CORE"', "a string like RLIMIT_NOFILE", None),
    ("/process/oomScoreAdj", "x", 'found the string "x"', "an integer", None),
    ("/hooks", {"poststop": [{"path": "/x", "timeout": 0}]}, "found the number 0", "an integer of at least 1", None),
    ("/linux/seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}, "found an empty list", "at least 1 entry", None),
    ("/annotations", {"a": "x" * 100 + "\n", "b": 1}, "found the number 1", "a string", "write it in quotes"),
    ("/hostname", {"x": "y"}, "found an object", "a string", None),
]  # fmt: skip


@pytest.mark.parametrize(("pointer", "value", "message", "expected", "hint"), BY_SCHEMA)
def test_the_schemas_errors_in_words(report, pointer, value, message, expected, hint):
    result = report({pointer: value})
    (finding,) = result.errors
    assert finding.pointer.startswith(pointer)
    assert (finding.message, finding.expected) == (message, expected)
    assert finding.hint == hint or (hint is None and finding.hint.endswith((".", "null")))
    assert finding.section.startswith("config")
    assert result.status == validate.INVALID


def test_a_long_value_is_cut(report):
    (finding,) = report({"/process/terminal": "x" * 1000}).errors
    assert len(finding.message) < 100


def test_each_missing_property_is_told_once(report):
    changes = {"/linux/resources/pids": {}, "/process/consoleSize": {}}
    result = report(changes)
    assert [(f.pointer, f.message) for f in result.errors] == [
        ("/process/consoleSize/height", "missing"),
        ("/process/consoleSize/width", "missing"),
        ("/linux/resources/pids/limit", "missing"),
    ]


def test_an_empty_object_misses_what_it_must_have(report):
    result = report(text="{}")
    assert [(f.severity, f.pointer) for f in result.findings if f.severity == "error"] == [
        ("error", "/ociVersion"),
        ("error", "/root"),
    ]


def test_all_kinds_of_findings_come_at_once_in_the_order_of_the_text(report):
    result = report(
        {
            "/process/user/uid": "0",
            "/process/cwd": "tmp",
            "/process/noNewPriviledges": True,
            "/root/path": "nowhere",
            "/mounts/1/destination": 7,
            "/linux/namespaces/-": {"type": "pid"},
        }
    )
    assert [(f.severity, f.pointer) for f in result.findings] == [
        ("error", "/process/user/uid"),
        ("error", "/process/cwd"),
        ("warning", "/process/noNewPriviledges"),
        ("error", "/root/path"),
        ("error", "/mounts/1/destination"),
        ("error", "/linux/namespaces/5"),
    ]
    assert [f.line for f in result.findings] == sorted(f.line for f in result.findings)
    assert len(result.errors) == 5
    assert len(result.warnings) == 1


def test_the_place_is_that_of_the_value(report):
    text = '{"ociVersion": "1.3.0",\n "root": {"path": "rootfs"},\n\t"hostname":  5}'
    (finding,) = report(text=text).errors
    assert (finding.line, finding.column) == (3, 15)
    assert text.splitlines()[2][finding.column - 1 :] == "5}"


def test_what_was_mended_to_go_on_is_not_reported(report):
    # The wrong limit and the wrong namespace are replaced by valid ones to find what
    # else is wrong; the replacements must not show.
    result = report(
        {
            "/process/rlimits/-": {"type": "x", "soft": 2, "hard": 1},
            "/linux/namespaces/-": {"type": "x"},
            "/process/args": [],
        }
    )
    assert [(f.pointer) for f in result.errors] == [
        "/process/args",
        "/process/rlimits/1/type",
        "/process/rlimits/1/soft",
        "/linux/namespaces/5/type",
    ]


def test_very_many_errors_take_no_very_long_time(report):
    result = report({"/process/args": [*range(50_000)], "/hostname": 5})
    assert len(result.errors) == validate.MAX_ERRORS
    result = report({"/mounts": [{"destination": "/a/b"}] * 5_000, "/hostname": 5})
    assert len(result.errors) == 5_001
    assert len(result.warnings) == 5_000


def test_invalid_json(report):
    result = report(text='{\n  "a": [1, x]}')
    (finding,) = result.findings
    assert (finding.severity, finding.line, finding.column) == ("error", 2, 12)
    assert result.status == validate.INVALID


def test_a_config_that_cannot_be_read(tmp_path):
    result = validate.validate_bundle(str(tmp_path / "none"))
    (finding,) = result.findings
    assert finding.message.endswith("config.json: no such file or directory")
    assert finding.hint
    assert (finding.line, finding.column) == (0, 0)
    assert result.status == validate.UNREADABLE


def test_warnings_alone_are_no_failure(report):
    result = report({"/unknown": 1})
    assert result.warnings
    assert result.status == validate.OK


def test_the_json_report(report, tmp_path):
    result = report({"/hostname": 5})
    content = json.loads(result.to_json())
    assert content["status"] == 1
    assert content["bundle"] == str(tmp_path)
    assert content["path"] == f"{tmp_path}/config.json"
    (finding,) = content["findings"]
    assert finding == {
        "severity": "error",
        "pointer": "/hostname",
        "line": 47,
        "column": 15,
        "message": "found the number 5",
        "expected": "a string",
        "hint": "write it in quotes",
        "section": "config.md#hostname",
    }


def test_a_missing_rootfs_is_an_error(report, tmp_path):
    result = report({"/root/path": "gone"})
    (finding,) = result.findings
    assert (finding.severity, finding.pointer) == ("error", "/root/path")
    assert finding.message == f"{tmp_path}/gone is not a directory"


A = {"destination": "/a", "type": "tmpfs"}
BIND = {"destination": "/a", "source": "rootfs", "options": ["rbind"]}
M, L = "/mounts/7", "/linux/resources"
CAP = "/process/capabilities"
USER = {
    "/linux/namespaces/-": {"type": "user"},
    "/linux/uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
    "/linux/gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
}

SUSPICIOUS = [
    ({"/hostnam": "x"}, "/hostnam", "unknown property", "did you mean hostname?"),
    ({"/Hostname": "x"}, "/Hostname", "unknown property", "did you mean hostname?"),
    ({"/xyz": "x"}, "/xyz", "unknown property", ""),
    ({"/linux/oomScoreAdj": 1}, "/linux/oomScoreAdj", "unknown property", "did you mean /process/oomScoreAdj?"),
    ({"/mounts/0/option": []}, "/mounts/0/option", "unknown property", "did you mean options?"),
    ({"/a~1b": 1}, "/a~1b", "unknown property", ""),
    ({"/linux/resources/memory": {"kernel": 1}}, f"{L}/memory/kernel", "deprecated", "no such limit any more"),
    ({"/hooks": {"prestart": []}}, "/hooks/prestart", "deprecated", "createRuntime"),
    ({"/linux/intelRdt": {"enableCMT": True}}, "/linux/intelRdt/enableCMT", "deprecated", "enableMonitoring"),
    ({"/ociVersion": "0.5.0-dev"}, "/ociVersion", "draft", "1.3.0"),
    ({"/ociVersion": "1.4.0"}, "/ociVersion", "newer than 1.3.0", "no effect"),
    ({"/freebsd": {"jail": {"vnet": "new"}}}, "/freebsd", "no effect on Linux", ""),
    ({"/process/commandLine": "x"}, "/process/commandLine", "no effect on Linux", ""),
    ({"/process/user/username": "x"}, "/process/user/username", "no effect on Linux", ""),
    ({"/process": DROP}, "/process", "missing", ""),
    ({"/process/terminal": False, "/process/consoleSize": {"height": 1, "width": 1}}, "/process/consoleSize", "there is no terminal", ""),
    ({"/mounts/2": A}, "/process/terminal", "devpts", "mount devpts"),
    ({f"{CAP}/bounding/-": "CAP_KIL"}, f"{CAP}/bounding/3", "no capability", "did you mean CAP_KILL?"),
    ({f"{CAP}/bounding/-": "SYS_ADMIN"}, f"{CAP}/bounding/3", "no capability", "did you mean CAP_SYS_ADMIN?"),
    ({f"{CAP}/bounding/-": "x"}, f"{CAP}/bounding/3", "no capability", "capabilities(7)"),
    ({f"{CAP}/effective/-": "CAP_CHOWN"}, f"{CAP}/effective/3", "not permitted", "add it to permitted"),
    ({f"{CAP}/ambient": ["CAP_KILL"]}, f"{CAP}/ambient/0", "not inheritable", "add it to inheritable"),
    ({"/process/env": ["A=1", "B=1", "A=2"]}, "/process/env/2", "set already, in entry 0", ""),
    ({"/mounts/-": A | {"destination": "a"}}, f"{M}/destination", "relative paths are deprecated", "/a"),
    ({"/mounts/-": A | {"destination": "/proc/"}}, f"{M}/destination", "hides what entry 0 mounted", "put it before"),
    ({"/mounts/-": A | {"destination": "/"}}, f"{M}/destination", "hides what entries 0, 1, 2, 3, 4, ... mounted", "put it before"),
    ({"/mounts/-": A | {"destination": "//dev/../dev"}}, f"{M}/destination", "hides what entries 1, 2, 3, 4 mounted", "put it before"),
    ({"/mounts/-": A | {"options": ["ro", "rw"]}}, f"{M}/options/1", "rw takes back ro", "remove"),
    ({"/mounts/-": A | {"options": ["exec", "noexec"]}}, f"{M}/options/1", "noexec takes back exec", "remove"),
    ({"/mounts/-": A | {"options": ["ro", "ro"]}}, f"{M}/options/1", "twice", ""),
    ({"/mounts/-": A | {"options": ["nosiud"]}}, f"{M}/options/0", "tmpfs has no option nosiud", "did you mean nosuid?"),
    ({"/mounts/-": A | {"options": ["sise=1m"]}}, f"{M}/options/0", "tmpfs has no option sise", "did you mean size?"),
    ({"/mounts/-": BIND | {"options": ["rbind", "size=1"]}}, f"{M}/options/1", "nothing to a bind mount", "no options"),
    ({"/mounts/-": BIND | {"source": "gone"}}, f"{M}/source", "does not exist here", ""),
    ({"/hooks": {"poststop": [{"path": "/gone"}]}}, "/hooks/poststop/0/path", "/gone does not exist here", ""),
    ({"/linux/namespaces/1/path": "/gone"}, "/linux/namespaces/1/path", "/gone does not exist here", ""),
    (USER | {"/linux/namespaces/1": {"type": "cgroup"}}, "/mounts/5/type", "sysfs in a user namespace without a network", "bind"),
    ({"/linux/namespaces/4": {"type": "cgroup"}, "/linux/maskedPaths": [], "/linux/readonlyPaths": []}, "/linux/namespaces", "no mount namespace", "mount"),
    (
        USER | {"/linux/namespaces/-": {"type": "user", "path": "/proc/self/ns/user"}},
        "/linux/uidMappings", "a user namespace that is joined has its own", "",
    ),
    ({"/linux/devices": [{"path": "/a", "type": "p"}] * 2}, "/linux/devices/1/path", "entry 0 as well", ""),
    ({f"{L}/memory": {"limit": 8192, "swap": 4096}}, f"{L}/memory/swap", "less than the limit", "together"),
    ({f"{L}/memory": {"swap": 4096}}, f"{L}/memory/swap", "needs one of memory", "set limit"),
    ({f"{L}/memory": {"limit": 8192, "reservation": 8193}}, f"{L}/memory/reservation", "above the limit", ""),
    ({f"{L}/memory": {"limit": -2}}, f"{L}/memory/limit", "refuses -2", "-1 is unlimited"),
    ({f"{L}/memory": {"limit": 512}}, f"{L}/memory/limit", "less than a page", "bytes"),
    ({f"{L}/cpu": {"period": 10}}, f"{L}/cpu/period", "refuses a period", "microseconds"),
    ({f"{L}/cpu": {"quota": 10}}, f"{L}/cpu/quota", "refuses a quota", "microseconds"),
    ({f"{L}/cpu": {"quota": 5000, "burst": 5001}}, f"{L}/cpu/burst", "above the quota", ""),
    ({f"{L}/cpu": {"realtimeRuntime": 2, "realtimePeriod": 1}}, f"{L}/cpu/realtimeRuntime", "longer", ""),
    ({f"{L}/cpu": {"idle": 2}}, f"{L}/cpu/idle", "neither 0 nor 1", ""),
    ({f"{L}/cpu": {"cpus": "3-1"}}, f"{L}/cpu/cpus", "not a list", "0-3,7"),
    ({f"{L}/cpu": {"mems": "0,"}}, f"{L}/cpu/mems", "not a list", "0-3,7"),
    ({f"{L}/blockIO": {"weight": 5}}, f"{L}/blockIO/weight", "10 to 1000", ""),
    ({f"{L}/blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1001}]}}, f"{L}/blockIO/weightDevice/0/leafWeight", "10 to 1000", ""),
    ({f"{L}/hugepageLimits": [{"pageSize": "2MB", "limit": 1}] * 2}, f"{L}/hugepageLimits/1/pageSize", "in entry 0 as well", ""),
    ({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}}, "/linux/seccomp/listenerPath", "without effect", "SCMP_ACT_NOTIFY"),
    ({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}}, "/linux/seccomp/syscalls/0", "without effect", "remove"),
    ({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}, {"names": ["open", "read"], "action": "SCMP_ACT_TRAP"}]}}, "/linux/seccomp/syscalls/1/names/1", "entry 0 decides", "remove"),
    ({"/linux/intelRdt": {"l3CacheSchema": "L3:0=1\nMB:0=1"}}, "/linux/intelRdt/l3CacheSchema", "more than one line", "schemata"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "pointer", "message", "hint"), SUSPICIOUS, ids=[s[1] for s in SUSPICIOUS]
)
def test_what_is_suspicious_is_a_warning(report, changes, pointer, message, hint):
    result = report(changes)
    found = {f.pointer: f for f in result.warnings}
    assert pointer in found, rows(result)
    assert message in found[pointer].message
    assert hint in found[pointer].hint
    assert bool(hint) == bool(found[pointer].hint)
    assert not result.errors
    assert len(found) == 1, rows(result)


UNSUSPICIOUS = [
    {"/mounts/-": A | {"options": ["size=64k", "mode=755", "ro"]}},
    {"/mounts/-": A | {"type": "ext4", "options": ["data=ordered"]}},
    {"/mounts/-": BIND | {"options": ["rbind", "rprivate", "rro"]}},
    {"/mounts/-": BIND},
    {"/mounts/-": A | {"destination": "/proc", "options": ["remount", "ro"]}},
    {"/annotations": {"any": "thing", "hostnam": "x"}},
    {"/linux/sysctl": {"net.core.somaxconn": "1"}},
    {"/linux/resources/unified": {"memory.high": "1"}},
    {"/linux/resources/memory": {"limit": -1, "swap": -1, "reservation": 0}},
    {"/linux/resources/cpu": {"quota": -1, "period": 1000, "cpus": "0-3,7", "mems": "", "idle": 1}},
    {"/linux/resources/cpu": {"cpus": "0-31:2/4, 40\n"}},
    {"/linux/resources/blockIO": {"weight": 0}},
    {"/mounts/2": BIND | {"destination": "/dev/pts"}},
    {"/process/scheduler": {"policy": "SCHED_RR", "priority": 99}},
    {
        "/process/scheduler": {
            "policy": "SCHED_DEADLINE",
            "runtime": 1024,
            "deadline": 2000,
            "period": 2000,
        }
    },
    {"/hooks": {"startContainer": [{"path": "/only/inside"}]}},
    {
        "/linux/seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}],
        }
    },
]


@pytest.mark.parametrize("changes", UNSUSPICIOUS, ids=map(str, range(len(UNSUSPICIOUS))))
def test_what_is_usual_is_not_suspicious(report, changes):
    assert rows(report(changes)) == []


def test_duplicate_names_are_suspicious(report):
    text = json.dumps(default_spec())[:-1] + ',\n "hostname": "b",\n "hostname": "c"}'
    (finding,) = report(text=text).findings
    assert (finding.severity, finding.pointer, finding.line) == ("warning", "/hostname", 3)
    assert "more than once" in finding.message


def test_the_tables_of_names_are_those_of_the_compiler():
    assert {*known.CAPABILITIES} == {*NUMBERS}
    assert set(known.MOUNT_OPTIONS) == {*all_options()}
    for on, off in known.OPPOSITES.items():
        plain = (on[1:], off[1:]) if on not in (*ATTRIBUTES, *ACCESS_TIMES) else (on, off)
        if plain[0] in ATTRIBUTES:
            assert ATTRIBUTES[plain[0]][0] == ATTRIBUTES[plain[1]][0]


def test_whatever_is_missing_is_told_at_its_place():
    told = set()
    for what, mutant in spec_mutants.mutants(COMPLETE):
        if what.startswith("without ") and not check_config(mutant):
            text = json.dumps(mutant)
            error = validate.refusal(mutant, text, "bundle")
            missing = [f.pointer for f in error.findings if f.message == "missing"]
            if what.endswith("/names/0"):  # the list must have an entry
                assert "found an empty list" in [f.message for f in error.findings]
                continue
            assert f"/{what.removeprefix('without ')}" in missing
            told.update(missing)
    assert {"/ociVersion", "/windows/layerFolders", "/vm/kernel", "/process/cwd"} <= told
    assert len(told) > 40


@unhurried(150)
@given(data=st.data())
def test_it_never_fails_and_agrees_with_the_fast_answer(data, tmp_path_factory):
    config = COMPLETE
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([*spec_mutants.places(config)]))
        config = spec_mutants.put(config, path, data.draw(st.sampled_from(spec_mutants.WRONG)))
        if not isinstance(config, dict | list):
            break
    folder = tmp_path_factory.mktemp("bundle")
    text = json.dumps(config)
    (folder / "config.json").write_text(text)
    report = validate.validate_bundle(str(folder))
    good = check_config(config) and not strict.check(config)
    errors = [f for f in report.errors if "is not a directory" not in f.message]
    assert bool(errors) is not good
    assert (validate.refusal(json.loads(text), text, str(folder)) is None) is good
    for finding in report.findings:
        assert (finding.line, finding.column) >= (1, 1)
        assert finding.message
        assert "_" not in finding.expected or re.search("[A-Z]_", finding.expected)
