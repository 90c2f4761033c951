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

    def act_as_owner(self) -> None:
        pass

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


PLAIN = {"config": "config.json", "pid_file": "", "console_socket": "", "no_pivot": False, "no_new_keyring": False,
         "preserve_fds": 0, "pidfd_socket": ""}  # fmt: skip
RUN = {**PLAIN, "detach": False, "keep": False, "no_subreaper": False}

CALLS: list[tuple[str, int, tuple[Any, ...]]] = [
    ("create c", 0, ("create", "c", ".", PLAIN)),
    (
        "create --bundle /b --pid-file /p --console-socket /s --no-pivot --no-new-keyring"
        " --preserve-fds 2 --pidfd-socket /f --config /c c",
        0,
        ("create", "c", "/b", {"config": "/c", "pid_file": "/p", "console_socket": "/s", "no_pivot": True,
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
        "criu": "",
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


BROKEN = {
    "ociVersion": "1.0.2",
    "root": {"path": "."},
    "process": {"cwd": "tmp", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "mount"}]},
    "mounts": [{"destination": "/x\x1b[31m", "typ": "proc"}],
}


class TestValidate:
    @pytest.fixture
    def bundle(self, tmp_path: Any) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(BROKEN, indent=1))
        return tmp_path

    def test_text(self, bundle: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["validate", str(bundle)]) == 1
        out, err = capfd.readouterr()
        assert err == ""
        lines = out.splitlines()
        assert 'config.json:7:10 error /process/cwd: "tmp" is not absolute' in lines
        errors = sum(" error /" in line for line in lines)
        assert lines[-1].startswith(f"invalid: {errors} errors, ")
        assert "\x1b" not in out

    def test_json(self, bundle: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["validate", "--format", "json", str(bundle)]) == 1
        report = json.loads(capfd.readouterr().out)
        assert report["status"] == 1
        assert {finding["pointer"] for finding in report["findings"]} >= {"/process/cwd"}

    def test_valid(self, bundle: Any, capfd: pytest.CaptureFixture[str]) -> None:
        entry.guarded(["spec", "-b", str(bundle), "-f", "new.json"])
        (bundle / "new.json").rename(bundle / "config.json")
        (bundle / "rootfs").mkdir()
        assert entry.guarded(["validate", str(bundle)]) == 0
        assert capfd.readouterr().out.splitlines()[-1].startswith("valid: 0 errors, ")

    def test_unreadable(self, bundle: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["validate", str(bundle / "gone")]) == 2
        out = capfd.readouterr().out
        assert out.startswith("error: cannot read ")
        assert out.endswith("unreadable: 1 error, 0 warnings\n")


class TestExplain:
    @pytest.fixture
    def bundle(self, tmp_path: Any) -> Any:
        (tmp_path / "rootfs").mkdir()
        assert entry.guarded(["spec", "-b", str(tmp_path)]) == 0
        return tmp_path

    def test_text(self, bundle: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["explain", str(bundle), "--id", "web"]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        phases = [line for line in out.splitlines() if not line.startswith(" ")]
        assert len(phases) == len(set(phases)) > 2
        text = (bundle / "config.json").read_text().splitlines()
        place = next(line for line in out.splitlines() if "/hostname" in line).split("(line ")[1]
        assert '"hostname"' in text[int(place.rstrip(")")) - 1]

    def test_json(self, bundle: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["explain", str(bundle), "--format", "json"]) == 0
        steps = json.loads(capfd.readouterr().out)
        assert [step["number"] for step in steps] == list(range(1, len(steps) + 1))
        assert {"pointer": "/hostname", "phase": "create: the init process"}.items() <= next(
            step for step in steps if step["pointer"] == "/hostname"
        ).items()

    def test_no_bundle(self, tmp_path: Any, capfd: pytest.CaptureFixture[str]) -> None:
        assert entry.guarded(["explain", str(tmp_path)]) == 1
        assert "no such file or directory" in capfd.readouterr().err


def test_features(capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.guarded(["features"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out)["ociVersionMax"].startswith("1.")
