"""What a config.json says of other platforms, and of the specification's version.

Without effect on Linux, as the specification has it, and `validate` says so.
"""

from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime


@pytest.mark.spec(
    "/solaris",
    "/windows",
    "/vm",
    "/zos",
    "/freebsd",
    "/process/commandLine",
    "/process/user/username",
)
@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/solaris", {"milestone": "svc:/milestone/container:default"}),
        ("/windows", {"layerFolders": ["C:\\layers\\1"]}),
        ("/vm", {"kernel": {"path": "/boot/vmlinuz"}}),
        ("/zos", {"namespaces": []}),
        ("/freebsd", {"jail": {"host": "new"}}),
        ("/process/commandLine", "C:\\probe.exe"),
        ("/process/user/username", "guest"),
    ],
)
def test_without_effect_on_linux(
    runtime: Runtime, bundle: Bundle, pointer: str, value: Any
) -> None:
    report = runtime.probe(bundle.set(pointer, value))
    assert report["argv"] == ["/bin/probe"]
    assert report["uids"] == [0, 0, 0, 0]
    if runtime.kind == "ocirun":
        said = runtime.call("validate", bundle.path).ok().out
        assert f"warning {pointer}: has no effect on Linux" in said


@pytest.mark.spec("/ociVersion")
@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0"])
def test_versions_that_are_compatible(runtime: Runtime, bundle: Bundle, version: str) -> None:
    runtime.create(bundle.set("/ociVersion", version).sleeper()).ok()
    assert runtime.state(bundle.id)["ociVersion"].startswith("1.")
    if runtime.kind == "ocirun":
        assert runtime.state(bundle.id)["ociVersion"] == version


@pytest.mark.only("ocirun")
@pytest.mark.spec("/ociVersion")
@pytest.mark.parametrize("version", ["2.0.0", "1", "", "1.0.0.0", None, 1])
def test_versions_that_are_not(runtime: Runtime, bundle: Bundle, version: Any) -> None:
    runtime.run(bundle.set("/ociVersion", version)).failed("/ociVersion")
    assert runtime.containers() == []
