"""linux.intelRdt: the plan, and its execution in a folder that behaves as resctrl does.

No machine of the tests has the hardware. The folder is real, and the functions are the executor's;
only mkdir and rmdir do what the kernel would: a new group has files, and goes with them.
"""

import copy
import posix
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocirun.errors import InvalidConfig, OcirunError, StepFailed, Unsupported
from ocirun.executor import resctrl
from ocirun.executor.outside import perform
from ocirun.plan.compile import compile_plan
from ocirun.plan.describe import describe
from ocirun.plan.host import Host
from ocirun.plan.step import Plan
from ocirun.plan.wire import decode, encode
from ocirun.spec.default import default_spec

ID = "box"


def make_group(path: Path, schemata: str = "    L3:0=00ff;1=0ff0\n    MB:0= 100;1=  50\n") -> None:
    path.mkdir()
    (path / "tasks").touch()
    (path / "schemata").write_text(schemata)
    if path.parent.name != "mon_groups":
        (path / "mon_groups").mkdir()


class Kernel:
    """posix, with a mkdir and a rmdir that act on groups."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.full = False

    def __getattr__(self, name: str) -> Any:
        return getattr(posix, name)

    def mkdir(self, path: str, mode: int) -> None:
        if self.full:
            (self.root / "info/last_cmd_status").write_text("out of CLOSIDs\n")
            raise OSError(28, "no space", path)
        make_group(Path(path))

    def rmdir(self, path: str) -> None:
        if not Path(path).exists():
            raise OSError(2, "gone", path)
        shutil.rmtree(path)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    root = tmp_path / "resctrl"
    make_group(root)
    (root / "info").mkdir()
    (root / "info/last_cmd_status").write_text("ok\n")
    fake = Kernel(root)
    monkeypatch.setattr(resctrl, "posix", fake)
    yield fake


def compiled(wanted: dict[str, Any], root: object) -> Plan:
    spec = copy.deepcopy(default_spec())
    spec["process"]["terminal"] = False
    spec["mounts"] = []
    spec["linux"]["intelRdt"] = wanted
    return compile_plan(spec, Host(resctrl_root=str(root)), ID, "/bundle")


def performed(kernel: Kernel, wanted: dict[str, Any]) -> tuple[Plan, list[Any]]:
    plan = compiled(wanted, kernel.root)
    undo: list[Any] = []
    try:
        perform(plan.parent, 123, undo)
    except OcirunError:
        for back, _ in reversed(undo):
            back()
        raise
    return plan, undo


L3, MB = "L3:0=ff;1=ff0", "MB:0=100;1=50"


@pytest.mark.spec(
    "/linux/intelRdt",
    "/linux/intelRdt/closID",
    "/linux/intelRdt/schemata",
    "/linux/intelRdt/schemata/*",
    "/linux/intelRdt/l3CacheSchema",
    "/linux/intelRdt/memBwSchema",
)
@pytest.mark.parametrize(
    ("wanted", "there", "group", "schemata", "removed"),
    [
        ({}, [], ID, None, True),
        ({"l3CacheSchema": "L3:0=f"}, [], ID, "L3:0=f\n", True),
        ({"memBwSchema": "MB:0=20"}, [], ID, "MB:0=20\n", True),
        ({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}, [], ID, "L3:0=f\nMB:0=20\n", True),
        ({"schemata": ["L2:0=f", "MB:0=20"]}, [], ID, "L2:0=f\nMB:0=20\n", True),
        (
            {"schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"},
            [],
            ID,
            "L3:0=f\nMB:0=20\nL2:0=f\n",
            True,
        ),
        ({"schemata": ["L2:0=f"]}, [ID], ID, "L2:0=f\n", False),
        ({"closID": "gold"}, ["gold"], "gold", None, False),
        ({"closID": "gold", "schemata": ["L2:0=f"]}, [], "gold", "L2:0=f\n", False),
        ({"closID": "gold", "schemata": ["L2:0=f"]}, ["gold"], "gold", "L2:0=f\n", False),
        ({"closID": "gold", "l3CacheSchema": L3}, [], "gold", f"{L3}\n", False),
        ({"closID": "gold", "l3CacheSchema": L3, "memBwSchema": MB}, ["gold"], "gold", None, False),
        ({"closID": "gold", "memBwSchema": "MB:1=50"}, ["gold"], "gold", None, False),
        ({"closID": "/"}, [], "", None, False),
        ({"closID": "/", "schemata": ["MB:0=90"]}, [], "", "MB:0=90\n", False),
        ({"l3CacheSchema": "L3:0=f\nL3:1=f"}, [], ID, "L3:0=f\nL3:1=f\n", True),
    ],
)
def test_classes(
    kernel: Kernel,
    wanted: dict[str, Any],
    there: list[str],
    group: str,
    schemata: str | None,
    removed: bool,
) -> None:
    for name in there:
        make_group(kernel.root / name)
    plan, undo = performed(kernel, wanted)
    folder = kernel.root / group
    assert (folder / "tasks").read_text() == "123"
    if schemata is not None:
        # The kernel reads each write by itself; a file keeps what a shorter one does not cover.
        assert (folder / "schemata").read_text().startswith(schemata)
    else:
        assert "00ff" in (folder / "schemata").read_text(), "written to, and must not be"
    assert plan.resctrl == ([] if "closID" in wanted else [str(folder)])
    for back, _ in reversed(undo):
        back()
    made = not there and group != ""
    assert folder.exists() != made, "a failed create takes back what it has made, and no more"
    if removed:
        make_group(folder)
        resctrl.remove(plan.resctrl)
        assert not folder.exists()
    resctrl.remove(plan.resctrl)


@pytest.mark.spec(
    "/linux/intelRdt/enableMonitoring", "/linux/intelRdt/enableCMT", "/linux/intelRdt/enableMBM"
)
@pytest.mark.parametrize("name", ["enableMonitoring", "enableCMT", "enableMBM"])
@pytest.mark.parametrize("closid", [{}, {"closID": "gold"}, {"closID": "/"}])
def test_monitoring(kernel: Kernel, name: str, closid: dict[str, str]) -> None:
    """The two of before version 1.3 ask for what a monitoring group gives."""
    make_group(kernel.root / "gold")
    plan, _ = performed(kernel, {name: True, **closid})
    above = {"/": kernel.root}.get(closid.get("closID", ""), kernel.root / closid.get("closID", ID))
    group = above / "mon_groups" / ID
    assert (above / "tasks").read_text() == "123", "a monitoring group takes from its own alone"
    assert (group / "tasks").read_text() == "123"
    assert str(group) in plan.resctrl
    resctrl.remove(plan.resctrl)
    assert not group.exists()
    assert above.exists() == bool(closid)
    assert compiled({name: False, **closid}, kernel.root).resctrl == (
        [] if closid else [str(above)]
    )


FAILURES = [
    ({"closID": "gone"}, "/linux/intelRdt/closID", "see that there is the resctrl group"),
    ({"closID": "gold", "l3CacheSchema": "L3:0=1"}, "/linux/intelRdt", "L3:0 is another"),
    ({"closID": "gold", "memBwSchema": "MB:1=100"}, "/linux/intelRdt", "MB:1 is another"),
    ({"closID": "gold", "l3CacheSchema": "L3:7=ff"}, "/linux/intelRdt", "L3:7 is another"),
    ({"closID": "gold", "l3CacheSchema": "L3:0=xyz"}, "/linux/intelRdt", "cannot be read"),
    (
        {"closID": "gold", "enableMonitoring": True},
        "/linux/intelRdt/enableMonitoring",
        "monitoring",
    ),
]


@pytest.mark.parametrize(("wanted", "pointer", "words"), FAILURES)
def test_failures(kernel: Kernel, wanted: dict[str, Any], pointer: str, words: str) -> None:
    make_group(kernel.root / "gold")
    make_group(kernel.root / "gold/mon_groups" / ID)
    before = sorted(kernel.root.rglob("*"))
    with pytest.raises((StepFailed, InvalidConfig)) as caught:
        performed(kernel, wanted)
    assert caught.value.pointer == pointer
    assert words in caught.value.message
    assert sorted(kernel.root.rglob("*")) == before


def test_the_kernels_own_words(kernel: Kernel) -> None:
    kernel.full = True
    with pytest.raises(StepFailed) as caught:
        performed(kernel, {})
    assert caught.value.kernel == "out of CLOSIDs"
    assert caught.value.errno == 28
    assert "class of service" in caught.value.hint


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"schemata": ["L3:0=1", "two\nlines:"]}, "/linux/intelRdt/schemata/1"),
        ({"schemata": [""]}, "/linux/intelRdt/schemata/0"),
        ({"l3CacheSchema": "nonsense"}, "/linux/intelRdt/l3CacheSchema"),
        ({"enableCMT": "yes"}, "/linux/intelRdt/enableCMT"),
        ({"enableMBM": 7}, "/linux/intelRdt/enableMBM"),
    ],
)
def test_what_is_none(wanted: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        compiled(wanted, "/resctrl")
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("wanted", [{}, {"closID": "x"}, {"enableMonitoring": True}])
def test_without_resctrl(wanted: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        compiled(wanted, "")
    assert caught.value.pointer == "/linux/intelRdt"
    assert "no resctrl" in caught.value.message


def test_words_and_wire(kernel: Kernel) -> None:
    plan = compiled({"l3CacheSchema": "L3:0=f", "enableMonitoring": True}, kernel.root)
    words = [describe(step) for step in plan.parent]
    assert words == [
        f"make the resctrl group {kernel.root}/box with L3:0=f",
        f"put the process into the resctrl group {kernel.root}/box",
        f"make the monitoring group {kernel.root}/box/mon_groups/box",
        f"put the process into the resctrl group {kernel.root}/box/mon_groups/box",
    ]
    again = decode(encode(plan))
    assert again.parent == plan.parent
    assert again.resctrl == plan.resctrl
