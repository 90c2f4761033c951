"""create and run --config FILE: another file than the bundle's config.json, as crun has it."""

import json
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime

pytestmark = [
    pytest.mark.only("ocirun", "crun"),
    pytest.mark.contract("crun has `--config FILE` on create and run"),
]


@pytest.fixture
def other(bundle: Bundle, folder: Path) -> Path:
    """A config in another folder than the bundle, which has none that works."""
    (bundle.path / "config.json").write_text("nonsense")
    return folder / "other.json"


def write(other: Path, bundle: Bundle) -> Path:
    other.write_text(json.dumps(bundle.config, indent=1))
    return other


@pytest.mark.parametrize("option", ["--config", "-f"])
def test_run(runtime: Runtime, bundle: Bundle, other: Path, option: str) -> None:
    """The root file system and the rest are still the bundle's."""
    write(other, bundle.sh("echo other"))
    done = runtime.call("run", "--bundle", bundle.path, option, other, bundle.id).ok()
    assert done.out == "other\n"


def test_relative_to_the_caller(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    write(other, bundle.sh("echo other"))
    options = ("--bundle", bundle.path, "--config", other.name)
    assert runtime.call("run", *options, bundle.id, cwd=other.parent).ok().out == "other\n"


def test_the_bundles_own(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    """The bare default name means the bundle's, wherever the caller is."""
    (folder / "config.json").write_text("nonsense")
    bundle.sh("echo own").write()
    options = ("--bundle", bundle.path, "--config", "config.json")
    assert runtime.call("run", *options, bundle.id, cwd=folder).ok().out == "own\n"


def test_later_commands(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    """What they need they have kept: the file may be gone."""
    write(other, bundle.sleeper().add("/process/env", "SPAM=eggs"))
    runtime.call("create", "--bundle", bundle.path, "--config", other, bundle.id).ok()
    other.unlink()
    runtime.start(bundle.id).ok()
    assert runtime.state(bundle.id)["bundle"] == str(bundle.path)
    if runtime.kind == "ocirun":  # crun reads it again
        done = runtime.call("exec", bundle.id, "sh", "-c", "echo $SPAM").ok()
        assert done.out == "eggs\n"
    runtime.delete(bundle.id, "--force").ok()


def test_missing(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    options = ("--bundle", bundle.path, "--config", other)
    runtime.call("create", *options, bundle.id).failed("other.json", "no such file")
    assert runtime.containers() == []


BROKEN: list[tuple[str, Any, str]] = [
    ("/process/cwd", "tmp", "other.json:{line}:"),  # create refuses the config
    ("/linux/cgroupsPath", "/ocirun-test/" + "x" * 300, "{path}:{line}:"),  # no plan can be made
    ("/mounts/0/type", "nonsense", "{path}:{line}:"),  # init cannot do it
]


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(("pointer", "value", "place"), BROKEN, ids=[b[0] for b in BROKEN])
def test_place_of_an_error(
    runtime: Runtime, bundle: Bundle, other: Path, pointer: str, value: Any, place: str
) -> None:
    write(other, bundle.set(pointer, value))
    lines = other.read_text().splitlines()
    name = pointer.rpartition("/")[2]
    line = next(
        n for n, text in enumerate(lines, 1) if f'"{name}": {json.dumps(value)[:5]}' in text
    )
    options = ("--bundle", bundle.path, "--config", other)
    done = runtime.call("create", *options, bundle.id).failed(pointer)
    assert place.format(path=other, line=line) in done.err
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
def test_place_of_bad_json(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    other.write_text('{\n "ociVersion": }\n')
    options = ("--bundle", bundle.path, "--config", other)
    assert f"{other}:2:16" in runtime.call("run", *options, bundle.id).failed().err


@pytest.mark.only("ocirun")
def test_place_of_an_error_of_start(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    write(other, bundle.sleeper().set("/hooks/poststart", [{"path": "/bin/false"}]))
    runtime.call("create", "--bundle", bundle.path, "--config", other, bundle.id).ok()
    assert f"{other}:" in runtime.start(bundle.id).failed("/hooks/poststart/0").err


@pytest.mark.only("ocirun")
def test_validate_and_explain(runtime: Runtime, bundle: Bundle, other: Path) -> None:
    write(other, bundle.sh("true"))
    done = runtime.call("validate", "--config", other, bundle.path).ok()
    assert done.out.splitlines()[-1].startswith("valid: 0 errors")
    steps = runtime.call("explain", "--config", other, "--format", "json", bundle.path).ok().json
    hostname = next(step for step in steps if step["pointer"] == "/hostname")
    assert "hostname" in other.read_text().splitlines()[hostname["line"] - 1]
    write(other, bundle.set("/process/cwd", "tmp"))
    done = runtime.call("validate", "--config", other, bundle.path)
    assert done.status == 1
    assert "other.json:" in done.out
    runtime.call("explain", "--config", other, bundle.path).failed("other.json:", "/process/cwd")
