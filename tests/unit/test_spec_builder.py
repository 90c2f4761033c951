"""Spec: each method's change of the document, as a table; errors; that nothing changes in place."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_mutants import unhurried

from ocirun.errors import BundleError, InvalidConfig
from ocirun.library.check import validate
from ocirun.library.spec import Spec
from ocirun.spec import schema
from ocirun.spec.default import default_spec

ABSENT = object()
PATH = default_spec()["process"]["env"][0]
BASE = Spec.default(["/bin/true"], "/images/busybox")
NAMESPACES = [entry["type"] for entry in default_spec()["linux"]["namespaces"]]
OVERLAY = "/annotations/run.ocirun.overlay."


def leaves(value, pointer=""):
    """Every pointer of the document with its value; empty objects and lists included."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    found = {} if items and value else {pointer: value}
    for name, item in items:
        found |= leaves(item, f"{pointer}/{name}")
    return found


def patch(before, after):
    """What differs: pointer -> new value, ABSENT for what is gone."""
    old, new = leaves(before.to_dict()), leaves(after.to_dict())
    changed = {
        pointer: value for pointer, value in new.items() if old.get(pointer, ABSENT) != value
    }
    return changed | dict.fromkeys(old.keys() - new.keys(), ABSENT)


def mount(destination, kind, source, *options, index=7):
    pointer = f"/mounts/{index}"
    named = {f"{pointer}/options/{number}": option for number, option in enumerate(options)}
    return named | {
        f"{pointer}/destination": destination,
        f"{pointer}/type": kind,
        f"{pointer}/source": source,
    }


MEMORY, CPU = "/linux/resources/memory", "/linux/resources/cpu"
NETWORK = NAMESPACES.index("network")
CAPS = "/process/capabilities"
TWO = {
    f"{CAPS}/{kind}/{at}": name
    for kind in ("bounding", "effective", "permitted")
    for at, name in enumerate(["CAP_CHOWN", "CAP_NET_RAW"])
}
GONE = {f"{CAPS}/{kind}/2": ABSENT for kind in ("bounding", "effective", "permitted")}

CHANGES = [
    ("args", lambda s: s.with_args("ls", "-l"), {"/process/args/0": "ls", "/process/args/1": "-l"}),
    ("env added", lambda s: s.with_env(A="1", B="x=y"), {"/process/env/1": "A=1", "/process/env/2": "B=x=y"}),
    ("env of a mapping", lambda s: s.with_env({"a.b": "1"}, C=""), {"/process/env/1": "a.b=1", "/process/env/2": "C="}),
    ("env replaced", lambda s: s.with_env(PATH="/bin"), {"/process/env/0": "PATH=/bin"}),
    ("env of a name's beginning", lambda s: s.with_env(PAT="1"), {"/process/env/1": "PAT=1"}),
    ("env twice", lambda s: s.replace("/process/env", ["A=1", "B=2", "A=3"]).with_env(A="4"), {"/process/env/0": "A=4", "/process/env/1": "B=2"}),
    ("cwd", lambda s: s.with_cwd("/tmp"), {"/process/cwd": "/tmp"}),
    ("cwd as a path", lambda s: s.with_cwd(Path("/tmp")), {"/process/cwd": "/tmp"}),
    ("user", lambda s: s.with_user(1000), {"/process/user/uid": 1000, "/process/user/gid": 1000}),
    ("user, group", lambda s: s.with_user(1000, 0), {"/process/user/uid": 1000}),
    ("user, groups", lambda s: s.with_user(1, 2, (3, 4)), {"/process/user/uid": 1, "/process/user/gid": 2, "/process/user/additionalGids/0": 3, "/process/user/additionalGids/1": 4}),
    ("user again", lambda s: s.with_user(1, 2, [3]).with_user(0, 0), {}),
    ("hostname", lambda s: s.with_hostname("box"), {"/hostname": "box"}),
    ("memory", lambda s: s.with_memory(64 << 20), {f"{MEMORY}/limit": 67108864}),
    ("memory and swap", lambda s: s.with_memory(1 << 20, 2 << 20), {f"{MEMORY}/limit": 1 << 20, f"{MEMORY}/swap": 2 << 20}),
    ("memory again", lambda s: s.with_memory(1, 2).with_memory(3), {f"{MEMORY}/limit": 3}),
    ("memory without limit", lambda s: s.with_memory(-1), {f"{MEMORY}/limit": -1}),
    ("cpus", lambda s: s.with_cpus(0.5), {f"{CPU}/quota": 50000, f"{CPU}/period": 100000}),
    ("cpus, whole", lambda s: s.with_cpus(2), {f"{CPU}/quota": 200000, f"{CPU}/period": 100000}),
    ("cpus, the least", lambda s: s.with_cpus(0.01), {f"{CPU}/quota": 1000, f"{CPU}/period": 100000}),
    ("pids", lambda s: s.with_pids(10), {"/linux/resources/pids/limit": 10}),
    ("mount", lambda s: s.with_mount("/a", "/b"), mount("/b", "bind", "/a", "rbind")),
    ("mount of a kind", lambda s: s.with_mount("proc", Path("/p"), (), "proc"), mount("/p", "proc", "proc") | {"/mounts/7/options": []}),
    ("bind", lambda s: s.with_bind(Path("/a"), "/b"), mount("/b", "bind", "/a", "rbind", "rw")),
    ("bind, read-only", lambda s: s.with_bind("/a", "/b", readonly=True), mount("/b", "bind", "/a", "rbind", "ro")),
    ("mounts in order", lambda s: s.with_bind("/a", "/b").with_bind("/c", "/b/d"), mount("/b", "bind", "/a", "rbind", "rw") | mount("/b/d", "bind", "/c", "rbind", "rw", index=8)),
    ("tmpfs", lambda s: s.with_tmpfs("/t"), mount("/t", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777")),
    ("tmpfs of a size", lambda s: s.with_tmpfs("/t", 4096), mount("/t", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777", "size=4096")),
    ("root writable", lambda s: s.with_readonly_root(False), {"/root/readonly": False}),
    ("root read-only", lambda s: s.with_readonly_root(False).with_readonly_root(), {}),
    ("capabilities", lambda s: s.with_capabilities("CAP_CHOWN", "CAP_NET_RAW"), TWO | GONE),
    ("no ambient ones", lambda s: s.replace(f"{CAPS}/ambient", ["CAP_KILL"]).with_capabilities("CAP_CHOWN", "CAP_NET_RAW"), TWO | GONE),
    ("rlimit", lambda s: s.with_rlimit("RLIMIT_CORE", 0), {"/process/rlimits/1/type": "RLIMIT_CORE", "/process/rlimits/1/soft": 0, "/process/rlimits/1/hard": 0}),
    ("rlimit replaced", lambda s: s.with_rlimit("RLIMIT_NOFILE", 10, 20), {"/process/rlimits/0/soft": 10, "/process/rlimits/0/hard": 20}),
    ("overlay", lambda s: s.with_overlay(), {f"{OVERLAY}lowerdir": "/images/busybox", f"{OVERLAY}upperdir": "tmpfs", "/root/readonly": False}),
    ("overlay twice", lambda s: s.with_overlay().with_overlay(), {f"{OVERLAY}lowerdir": "/images/busybox", f"{OVERLAY}upperdir": "tmpfs", "/root/readonly": False}),
    ("annotations", lambda s: s.with_annotations({"a.b/c": "d"}), {"/annotations/a.b/c": "d"}),
    ("annotations stay", lambda s: s.with_annotations({"a": "b"}).with_annotations({"c": ""}), {"/annotations/a": "b", "/annotations/c": ""}),
    ("namespace", lambda s: s.with_namespace("cgroup"), {"/linux/namespaces/5/type": "cgroup"}),
    ("namespace joined", lambda s: s.with_namespace("network", "/run/netns/x"), {f"/linux/namespaces/{NETWORK}/path": "/run/netns/x"}),
    ("namespace renewed", lambda s: s.with_namespace("network", "/run/netns/x").with_namespace("network"), {}),
    ("namespace unknown to the spec", lambda s: s.without_namespace("time"), {}),
    ("replace", lambda s: s.replace("/process/oomScoreAdj", 7), {"/process/oomScoreAdj": 7}),
    ("replace in a list", lambda s: s.replace("/mounts/0/source", "none"), {"/mounts/0/source": "none"}),
    ("replace at the end", lambda s: s.replace("/process/args/-", "-x"), {"/process/args/1": "-x"}),
    ("replace on a new way", lambda s: s.replace("/linux/resources/memory/swappiness", 1), {f"{MEMORY}/swappiness": 1}),
    ("replace with ~", lambda s: s.replace("/annotations/a~1b~0c", "d"), {"/annotations/a/b~c": "d"}),
    ("replace with a tuple", lambda s: s.replace("/process/args", ("a", "b")), {"/process/args/0": "a", "/process/args/1": "b"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_change(change, expected):
    before = BASE.to_dict()
    after = change(BASE)
    assert patch(BASE, after) == expected
    assert BASE.to_dict() == before, "the original has changed"
    assert [*schema.validator("config").iter_errors(after.to_dict())] == []
    assert [f for f in validate(after) if f.severity == "error"] == []


ERRORS = [
    (lambda s: s.with_args(), "/process/args", "the list is empty"),
    (lambda s: s.with_args(["ls", "-l"]), "/process/args/0", "found a list"),
    (lambda s: Spec.default(args="ls"), "/process/args", "list of strings"),
    (lambda s: Spec.default(rootfs=""), "/root/path", "empty"),
    (lambda s: s.with_env({"A=B": "c"}), "/process/env", "no name of a variable"),
    (lambda s: s.with_env({"": "c"}), "/process/env", "no name of a variable"),
    (lambda s: s.with_env(A=1), "/process/env", "no string but int"),
    (lambda s: s.with_env(A="\0"), "/process/env/1", "NUL"),
    (lambda s: s.with_cwd("tmp"), "/process/cwd", "not absolute"),
    (lambda s: s.with_user(-1), "/process/user/gid", "-1"),
    (lambda s: s.with_user(1, 2**32 - 1), "/process/user/gid", "no id"),
    (lambda s: s.with_hostname("x" * 65), "/hostname", "64 bytes"),
    (lambda s: s.with_memory("64M"), "/linux/resources/memory/limit", "64M"),
    (lambda s: s.with_cpus(0), "/linux/resources/cpu/quota", "0 processors"),
    (lambda s: s.with_cpus(0.001), "/linux/resources/cpu/quota", "0.001"),
    (lambda s: s.with_cpus(math.nan), "/linux/resources/cpu/quota", "nan"),
    (lambda s: s.with_cpus(math.inf), "/linux/resources/cpu/quota", "inf"),
    (lambda s: s.with_pids(1.5), "/linux/resources/pids/limit", "1.5"),
    (lambda s: s.with_mount("", "/b"), "/mounts/7/source", "missing"),
    (lambda s: s.with_mount("/a", ""), "/mounts/7/destination", "empty"),
    (lambda s: s.with_mount("/a", "/b", "ro"), "/mounts/7/options", "list of strings"),
    (lambda s: s.with_capabilities("net_raw"), "/process/capabilities/bounding/0", "no capability"),
    (lambda s: s.with_rlimit("NOFILE", 1), "/process/rlimits/1/type", "NOFILE"),
    (lambda s: s.with_rlimit("RLIMIT_CORE", 2, 1), "/process/rlimits/1/soft", "above the hard limit"),
    (lambda s: Spec.default(rootfs="/a:b").with_overlay(), "/root/path", "/a:b"),
    (lambda s: s.with_annotations({"": "x"}), "/annotations/", "empty"),
    (lambda s: s.with_annotations({"x": 1}), "/annotations/x", "1"),
    (lambda s: s.with_namespace("net"), "/linux/namespaces/5/type", "net"),
    (lambda s: s.with_namespace("network", "run/x"), "/linux/namespaces/1/path", "not absolute"),
    (lambda s: s.without_namespace("uts"), "/hostname", "UTS"),
    (lambda s: s.replace("process", {}), "process", "slash"),
    (lambda s: s.replace("/process/args/7", "x"), "/process/args/7", "1 entries"),
    (lambda s: s.replace("/process/args/01", "x"), "/process/args/01", "1 entries"),
    (lambda s: s.replace("/process/args/0/x", "x"), "/process/args/0/x", "holds nothing"),
    (lambda s: s.replace("/process", None), "/process", "null"),
    (lambda s: s.replace("", {}), "/ociVersion", "missing"),
    (lambda s: Spec({}), "/ociVersion", "missing"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "pointer", "words"), ERRORS)
def test_refused(call, pointer, words):
    with pytest.raises(InvalidConfig) as caught:
        call(BASE)
    error = caught.value
    assert error.pointer == pointer
    assert error.findings[0].pointer == pointer
    assert error.findings[0].severity == "error"
    assert words in str(error)


def test_every_error_is_a_finding():
    with pytest.raises(InvalidConfig, match=r"\(and 1 more\)$") as caught:
        BASE.with_user(-1, -2)
    assert [f.pointer for f in caught.value.findings] == ["/process/user/gid", "/process/user/uid"]


@pytest.mark.parametrize(
    ("value", "error"), [(object(), TypeError), (b"x", TypeError), (math.nan, ValueError)]
)
def test_no_json(value, error):
    with pytest.raises(error):
        BASE.replace("/annotations/x", value)


def test_default():
    expected = default_spec()
    expected["process"].update(args=["ls", "-l"], terminal=False, env=[PATH])
    expected["root"]["path"] = "/images/x"
    assert Spec.default(["ls", "-l"], Path("/images/x")).to_dict() == expected
    assert Spec.default(terminal=True).to_dict() == default_spec()


def test_host_network():
    kinds = [n["type"] for n in BASE.with_host_network().to_dict()["linux"]["namespaces"]]
    assert kinds == [kind for kind in NAMESPACES if kind != "network"]


def test_an_overlay_keeps_its_layers_and_loses_its_folders():
    name = "run.ocirun.overlay."
    notes = {f"{name}lowerdir": "/a:/b", f"{name}upperdir": "/u", f"{name}workdir": "/w"}
    after = BASE.with_annotations(notes).with_overlay().to_dict()
    assert after["annotations"] == {f"{name}lowerdir": "/a:/b", f"{name}upperdir": "tmpfs"}
    assert after["root"]["path"] == "/images/busybox"


def test_nobody_else_holds_the_document():
    given_, args = default_spec(), ["ls"]
    spec = Spec.from_dict(given_).replace("/process/args", args)
    given_["hostname"] = "other"
    args.append("-l")
    spec.to_dict()["process"]["args"].append("-x")
    assert spec.to_dict()["process"]["args"] == ["ls"]
    assert spec.to_dict()["hostname"] == "ocirun"
    with pytest.raises(AttributeError):
        spec.hostname = "x"


def test_equality_and_repr():
    assert Spec.default() == Spec.from_dict(default_spec()).with_args("sh").replace(
        "/process/terminal", False
    ).replace("/process/env", [PATH])
    assert Spec.default() != Spec.default(["ls"])
    assert Spec.default() != default_spec()
    assert repr(BASE) == "<Spec ['/bin/true'] in '/images/busybox'>"
    assert repr(Spec({"ociVersion": "1.0.0", "root": {"path": "x"}})) == "<Spec None in 'x'>"


def test_subclasses_remain_themselves():
    class Mine(Spec):
        pass

    assert type(Mine.default().with_pids(3).with_env(A="b")) is Mine


def test_save_and_load(tmp_path):
    spec = BASE.with_bind("/a", "/b").with_env(A="ü")
    (tmp_path / "config.json").write_text("old")
    spec.save(tmp_path)
    assert (tmp_path / "config.json").read_text() == spec.to_json()
    assert json.loads(spec.to_json()) == spec.to_dict()
    assert os.listdir(tmp_path) == ["config.json"]
    assert Spec.load(tmp_path) == spec
    assert Spec.load(str(tmp_path)) == spec


def test_load_makes_paths_absolute(tmp_path, monkeypatch):
    name = "run.ocirun.overlay."
    notes = {f"{name}lowerdir": "l:/m", f"{name}upperdir": "u", f"{name}workdir": "w"}
    saved = Spec.default().with_bind("data", "/data").with_tmpfs("/t").with_annotations(notes)
    (tmp_path / "bundle").mkdir()
    saved.save(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    here = f"{tmp_path}/bundle"
    assert patch(saved, Spec.load("bundle")) == {
        "/root/path": f"{here}/rootfs",
        "/mounts/7/source": f"{here}/data",
        f"{OVERLAY}lowerdir": f"{here}/l:/m",
        f"{OVERLAY}upperdir": f"{here}/u",
        f"{OVERLAY}workdir": f"{here}/w",
    }
    saved.with_overlay().save("bundle")
    assert Spec.load("bundle").to_dict()["annotations"][f"{name}upperdir"] == "tmpfs"


def test_a_colon_in_the_bundle_is_no_separator(tmp_path):
    bundle = tmp_path / "a:b"
    bundle.mkdir()
    Spec.default().with_annotations({"run.ocirun.overlay.lowerdir": "x"}).save(bundle)
    with pytest.raises(InvalidConfig, match="holds a colon"):
        Spec.load(bundle)


def test_load_and_save_of_what_is_not_there(tmp_path):
    with pytest.raises(BundleError):
        Spec.load(tmp_path / "none")
    with pytest.raises(BundleError, match=r"cannot write .*none/config\.json"):
        BASE.save(tmp_path / "none")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(BundleError):
        BASE.save(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@unhurried()
@given(st.dictionaries(NAMES, TEXTS), st.dictionaries(NAMES, TEXTS))
def test_env_is_what_was_set_last(first, second):
    env = (
        BASE.replace("/process/env", [])
        .with_env(first)
        .with_env(second)
        .to_dict()["process"]["env"]
    )
    assert [entry.partition("=")[::2] for entry in env] == [*(first | second).items()]


@unhurried()
@given(st.floats(0.01, 4096))
def test_cpus_are_near(cpus):
    limit = BASE.with_cpus(cpus).to_dict()["linux"]["resources"]["cpu"]
    assert abs(limit["quota"] / limit["period"] - cpus) <= 0.5 / 100_000 * 1.001
    assert limit["quota"] >= 1000


@unhurried()
@given(TEXTS, TEXTS, st.lists(TEXTS), st.integers(), st.integers())
def test_a_spec_is_valid_or_refused(source, destination, options, uid, limit):
    calls = [
        lambda: BASE.with_mount(source, destination, options),
        lambda: BASE.with_args(source, *options),
        lambda: BASE.with_user(uid, limit, [limit]),
        lambda: BASE.with_memory(limit, uid),
        lambda: BASE.with_pids(limit),
        lambda: BASE.with_rlimit("RLIMIT_AS", uid, limit),
        lambda: BASE.with_hostname(source),
        lambda: BASE.with_annotations({source: destination}),
        lambda: BASE.with_namespace(source, destination),
        lambda: BASE.replace("/" + source, limit),
    ]
    for call in calls:
        try:
            spec = call()
        except InvalidConfig as error:
            assert error.findings
        else:
            assert [f for f in validate(spec) if f.severity == "error"] == []
            assert Spec.from_dict(json.loads(spec.to_json())) == spec


def test_validate_a_spec_a_dict_and_a_bundle(tmp_path):
    odd = BASE.replace("/process/foo", 1)
    assert [(f.severity, f.pointer, f.line) for f in validate(odd)] == [
        ("warning", "/process/foo", 0)
    ]
    assert validate(odd.to_dict()) == validate(odd)
    wrong = {**odd.to_dict(), "hostname": 7, "root": {"path": ""}}
    assert [(f.severity, f.pointer) for f in validate(wrong)] == [
        ("error", "/hostname"),
        ("error", "/root/path"),
        ("warning", "/process/foo"),
    ]
    assert validate({**BASE.to_dict(), "mounts": ()}) == []  # a list, in JSON
    assert [f.pointer for f in validate({}) if f.severity == "error"] == ["/ociVersion", "/root"]
    odd.save(tmp_path)
    assert [f.pointer for f in validate(tmp_path)] == ["/process/foo", "/root/path"]
    assert all(f.line for f in validate(str(tmp_path)))
    assert [f.severity for f in validate(tmp_path / "none")] == ["error"]
    with pytest.raises(TypeError):
        validate({"ociVersion": object()})
