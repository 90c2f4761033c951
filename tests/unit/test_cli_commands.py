"""What the commands print and return, with a fake api in place of containers."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from ocirun.cli import entry, hot, log
from ocirun.cli.options import Options
from ocirun.errors import AlreadyExists, NotFound

INFOS = [
    SimpleNamespace(
        id="web", pid=12, status="running", bundle="/b/web", owner="root",
        created="2026-01-02T03:04:05.678901234Z", state={"id": "web", "pid": 12},
    ),
    SimpleNamespace(
        id="a-rather-long-name", pid=0, status="unknown", bundle="", owner="",
        created="", state={"id": "a-rather-long-name", "status": "unknown"},
    ),
]  # fmt: skip

STATE = {
    "ociVersion": "1.3.0",
    "id": "web",
    "pid": 12,
    "status": "running",
    "bundle": "/b/web",
    "rootfs": "/b/web/rootfs",
    "created": "2026-01-02T03:04:05.678901234Z",
    "owner": "",
    "annotations": {"ü": "\u20ac"},
}


class FakeRuntime:
    """Remembers the calls; knows one container, "web"."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def create(self, id: str, bundle: str, **options: Any) -> Any:
        if id == "web":
            raise AlreadyExists('container "web" exists already')
        self.calls.append(("create", id, bundle, options))

    def run(self, id: str, bundle: str, **options: Any) -> int:
        self.calls.append(("run", id, bundle, options))
        return 137

    def get(self, id: str) -> Any:
        if id != "web":
            raise NotFound(f'container "{id}" does not exist')
        note = self.calls.append
        return SimpleNamespace(
            start=lambda: note(("start", id)),
            state=lambda: STATE,
            kill=lambda signal, all: note(("kill", id, signal, all)),
        )

    def list(self) -> list[Any]:
        return INFOS

    def delete(self, id: str, *, force: bool) -> None:
        self.calls.append(("delete", id, force))


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake = FakeRuntime()
    monkeypatch.setattr(hot, "open_runtime", lambda options: fake)
    yield fake
    log.setup(Options())


PLAIN = {"pid_file": "", "console_socket": "", "no_pivot": False, "no_new_keyring": False,
         "preserve_fds": 0, "pidfd_socket": ""}  # fmt: skip
RUN = {**PLAIN, "detach": False, "keep": False, "no_subreaper": False}

CALLS: list[tuple[str, int, tuple[Any, ...]]] = [
    ("create c", 0, ("create", "c", ".", PLAIN)),
    (
        "create --bundle /b --pid-file /p --console-socket /s --no-pivot --no-new-keyring"
        " --preserve-fds 2 --pidfd-socket /f c",
        0,
        ("create", "c", "/b", {"pid_file": "/p", "console_socket": "/s", "no_pivot": True,
                               "no_new_keyring": True, "preserve_fds": 2, "pidfd_socket": "/f"}),
    ),
    ("run -b /b c", 137, ("run", "c", "/b", RUN)),
    ("run -d --keep --no-subreaper c", 137,
     ("run", "c", ".", {**RUN, "detach": True, "keep": True, "no_subreaper": True})),
    ("run -dbX c", 137, ("run", "c", "X", {**RUN, "detach": True})),
    ("start web", 0, ("start", "web")),
    ("kill web", 0, ("kill", "web", "TERM", False)),
    ("kill --all web 9", 0, ("kill", "web", "9", True)),
    ("kill web SIGKILL", 0, ("kill", "web", "SIGKILL", False)),
    ("delete gone", 0, ("delete", "gone", False)),
    ("delete -f gone", 0, ("delete", "gone", True)),
]  # fmt: skip


@pytest.mark.parametrize(("line", "status", "call"), CALLS)
def test_calls(runtime: FakeRuntime, line: str, status: int, call: tuple[Any, ...]) -> None:
    assert entry.guarded(line.split()) == status
    assert runtime.calls == [call]


def test_state(runtime: FakeRuntime, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.guarded(["state", "web"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out) == STATE
    assert out.startswith('{\n  "ociVersion": "1.3.0",\n  "id": "web",\n')
    assert out.endswith("\n}\n")


def test_list_as_a_table(runtime: FakeRuntime, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.guarded(["list"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "ID                   PID         STATUS      BUNDLE      CREATED                          OWNER",
        "web                  12          running     /b/web      2026-01-02T03:04:05.678901234Z   root",
        "a-rather-long-name   0           unknown",
    ]


def test_list_as_json(runtime: FakeRuntime, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.guarded(["list", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out) == [info.state for info in INFOS]


def test_list_of_ids(runtime: FakeRuntime, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.guarded(["list", "-q"]) == 0
    assert capfd.readouterr().out == "web\na-rather-long-name\n"


FAILURES = [
    ("state gone", 'ocirun: container "gone" does not exist\n'),
    ("start gone", 'ocirun: container "gone" does not exist\n'),
    ("kill gone", 'ocirun: container "gone" does not exist\n'),
    ("create web", 'ocirun: container "web" exists already\n'),
    ("state", "ocirun: Missing argument 'ID'\n  hint:     see ocirun state --help\n"),
    ("stat", "ocirun: No such command 'stat'. Did you mean 'state', 'start'?\n"
             "  hint:     see ocirun --help\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), FAILURES)
def test_failures(
    runtime: FakeRuntime, capfd: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert entry.guarded(line.split()) == 1
    assert capfd.readouterr() == ("", message)


def test_the_global_options_reach_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def remember(options: Options) -> FakeRuntime:
        seen.update({name: getattr(options, name) for name in Options.__slots__})
        return FakeRuntime()

    monkeypatch.setattr(hot, "open_runtime", remember)
    line = "--root /r --log /dev/null --log-format json --log-level debug --systemd-cgroup"
    assert entry.guarded(f"{line} --cgroup-manager disabled --rootless true list".split()) == 0
    assert seen == {
        "root": "/r", "log": "/dev/null", "log_format": "json", "log_level": "debug",
        "debug": True, "systemd_cgroup": True, "cgroup_manager": "disabled", "rootless": "true",
    }  # fmt: skip
    log.setup(Options())


class TestSpec:
    def test_writes_the_default(self, tmp_path: Any) -> None:
        assert entry.guarded(["spec", "--bundle", str(tmp_path)]) == 0
        text = (tmp_path / "config.json").read_text()
        assert json.loads(text)["process"]["args"] == ["sh"]
        assert text.startswith('{\n  "ociVersion"')

    def test_rootless(self, tmp_path: Any) -> None:
        assert entry.guarded(["spec", "-b", str(tmp_path), "--rootless"]) == 0
        spec = json.loads((tmp_path / "config.json").read_text())
        assert {"type": "user"} in spec["linux"]["namespaces"]

    def test_never_overwrites(self, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "config.json").write_text("mine")
        assert entry.guarded(["spec", "-b", str(tmp_path)]) == 1
        assert "config.json exists already" in capfd.readouterr().err
        assert (tmp_path / "config.json").read_text() == "mine"

    def test_no_such_bundle(self, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["spec", "-b", str(tmp_path / "gone")]) == 1
        assert "gone/config.json: no such file or directory" in capfd.readouterr().err
