"""load: a bundle's config.json, or an error that says which of the reasons it is."""

import errno
import json
import os
import subprocess
import sys

import pytest

from ocirun.errors import BundleError, InvalidConfig, InvalidJSON
from ocirun.spec import fastcheck, fastjson, load
from ocirun.spec.default import default_spec


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(default_spec(), indent=1))
    return tmp_path


def test_a_valid_config_is_returned_as_it_is(bundle):
    assert load.load_config(str(bundle)) == default_spec()


def test_a_missing_bundle(tmp_path):
    with pytest.raises(BundleError) as caught:
        load.load_config(str(tmp_path / "none"))
    error = caught.value
    assert error.errno == errno.ENOENT
    assert error.path == f"{tmp_path}/none/config.json"
    assert "directory that holds config.json" in error.hint


def test_a_bundle_without_config(tmp_path):
    with pytest.raises(BundleError) as caught:
        load.load_config(str(tmp_path))
    assert caught.value.errno == errno.ENOENT
    assert "ocirun spec" in caught.value.hint


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/tty", path)])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path, make):
    make(tmp_path / "config.json")
    with pytest.raises(BundleError) as caught:
        load.load_config(str(tmp_path))
    # /dev/tty cannot even be opened where there is no terminal.
    assert "not a regular file" in caught.value.message or caught.value.errno


def test_a_bundle_with_a_nul_in_its_name():
    with pytest.raises(BundleError, match="NUL"):
        load.load_config("/a\0b")


def test_no_descriptor_is_left_open(bundle):
    before = set(os.listdir("/proc/self/fd"))
    load.load_config(str(bundle))
    (bundle / "config.json").write_text("{]")
    with pytest.raises(InvalidJSON):
        load.load_config(str(bundle))
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_config_that_is_too_large(bundle, monkeypatch):
    monkeypatch.setattr(load, "MAX_SIZE", 100)
    monkeypatch.setattr(fastjson, "MAX_SIZE", 100)
    with pytest.raises(InvalidJSON, match="larger"):
        load.load_config(str(bundle))


@pytest.mark.parametrize("reported", [0, 1, 10**9])
def test_the_size_is_only_a_guess(bundle, monkeypatch, reported):
    class Status:
        st_mode = 0o100644
        st_size = reported

    monkeypatch.setattr(load, "fstat", lambda fd: Status)
    assert load.load_config(str(bundle)) == default_spec()


def test_invalid_json_names_file_and_place(bundle):
    (bundle / "config.json").write_text('{\n "a": tru}')
    with pytest.raises(InvalidJSON) as caught:
        load.load_config(str(bundle))
    error = caught.value
    assert (error.path, error.line, error.column) == (f"{bundle}/config.json", 2, 7)


def test_an_invalid_config_carries_every_error(bundle):
    config = default_spec()
    config["process"]["user"]["uid"] = "0"
    config["process"]["cwd"] = "tmp"
    config["linux"]["namespaces"].append({"type": "pid"})
    (bundle / "config.json").write_text(json.dumps(config, indent=1))
    with pytest.raises(InvalidConfig) as caught:
        load.load_config(str(bundle))
    error = caught.value
    assert error.bundle == str(bundle)
    assert error.message == f"{bundle}/config.json is invalid"
    assert [f.pointer for f in error.findings] == [
        "/process/user/uid",
        "/process/cwd",
        "/linux/namespaces/5",
    ]
    assert all(f.severity == "error" and f.line > 1 for f in error.findings)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"x"'])
def test_a_config_that_is_no_object(bundle, text):
    (bundle / "config.json").write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load.load_config(str(bundle))
    (finding,) = caught.value.findings
    assert (finding.pointer, finding.line, finding.expected) == ("", 1, "an object")


def test_what_is_suspicious_is_no_reason_to_refuse(bundle):
    config = default_spec() | {"unknown": 1}
    config["mounts"].append({"destination": "x", "type": "tmpfs", "options": ["what"]})
    (bundle / "config.json").write_text(json.dumps(config))
    assert load.load_config(str(bundle)) == config


def test_the_schema_has_the_last_word(bundle, monkeypatch):
    monkeypatch.setattr(load, "check_config", lambda value: False)
    assert load.load_config(str(bundle)) == default_spec()


def test_integral_floats_arrive_as_integers(bundle):
    config = default_spec()
    config["process"]["user"]["uid"] = 5.0
    assert fastcheck.check_config(config)
    (bundle / "config.json").write_text(json.dumps(config))
    assert "5.0" in (bundle / "config.json").read_text()
    assert repr(load.load_config(str(bundle))["process"]["user"]["uid"]) == "5"


def test_a_spec_from_memory_is_copied():
    spec = default_spec()
    copy = load.check_spec(spec)
    assert copy == spec
    spec["process"]["args"].append("x")
    assert copy == default_spec()


def test_a_spec_from_memory_that_is_wrong_has_no_lines():
    with pytest.raises(InvalidConfig) as caught:
        load.check_spec(default_spec() | {"hostname": 5})
    (finding,) = caught.value.findings
    assert (finding.pointer, finding.line, finding.column) == ("/hostname", 0, 0)
    assert caught.value.bundle == ""


def test_a_spec_from_memory_must_be_json():
    with pytest.raises(TypeError):
        load.check_spec(default_spec() | {"hostname": b"x"})


BUILTIN = {"posix", "sys", "_json", "builtins"}


def test_the_hot_path_imports_nothing_but_itself(bundle):
    program = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[2])\n"
        "from ocirun.spec.load import load_config\n"
        "load_config(sys.argv[1])\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(bundle), root],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())
    expected = {"load", "fastcheck", "fastjson", "strict"}
    assert {name for name in loaded if name.startswith("ocirun")} == {
        "ocirun",
        "ocirun.errors",
        "ocirun.spec",
        *(f"ocirun.spec.{name}" for name in expected),
    }
    assert {name for name in loaded if not name.startswith("ocirun")} <= BUILTIN
