"""default_spec: what `runc spec` writes, but for the differences listed here."""

import json
import shutil
import subprocess

import pytest

from ocirun.spec.default import default_spec

DIFFERENCES = {
    "/ociVersion": "ocirun follows a newer version of the specification",
    "/hostname": "the runtime's own name",
    "/process/capabilities/ambient": "has no effect while nothing is inheritable",
}


def leaves(value, pointer=""):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{pointer}/{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        for index, item in enumerate(value):
            yield from leaves(item, f"{pointer}/{index}")
    else:
        yield pointer, value


@pytest.mark.parametrize("rootless", [False, True])
def test_it_is_what_runc_writes(rootless, tmp_path):
    if not shutil.which("runc"):
        pytest.skip("runc is not installed")
    subprocess.run(["runc", "spec", *["--rootless"][: int(rootless)]], cwd=tmp_path, check=True)
    theirs = dict(leaves(json.loads((tmp_path / "config.json").read_text())))
    ours = dict(leaves(default_spec(rootless)))
    different = {p for p in theirs.keys() | ours.keys() if theirs.get(p) != ours.get(p)}
    assert different == set(DIFFERENCES)


def test_its_properties_are_in_the_order_of_the_specification():
    # A reader compares files, so the order counts although JSON has none.
    assert [*default_spec()] == ["ociVersion", "process", "root", "hostname", "mounts", "linux"]


def test_every_call_gives_a_document_of_its_own():
    first = default_spec()
    first["linux"]["maskedPaths"].append("/x")
    first["mounts"][3]["options"].append("x")
    first["process"]["capabilities"]["bounding"].clear()
    assert default_spec() != first
    assert "/x" not in default_spec()["linux"]["maskedPaths"]
    assert default_spec()["process"]["capabilities"]["bounding"]


def test_rootless_maps_the_caller(monkeypatch):
    monkeypatch.setattr("ocirun.spec.default.geteuid", lambda: 1234)
    monkeypatch.setattr("ocirun.spec.default.getegid", lambda: 5678)
    linux = default_spec(rootless=True)["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1234, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 5678, "size": 1}]
    assert "resources" not in linux
