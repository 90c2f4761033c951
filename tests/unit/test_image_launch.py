"""What a launch becomes: the config.json for each option, and the life of its folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ocirun.errors import AlreadyExists, ImageError, NotFound, OcirunError, StateError, UsageError
from ocirun.image.bundle import cleanup, launch_folder, read_marker, write_bundle
from ocirun.image.config import ImageConfig
from ocirun.image.importer import import_image
from ocirun.image.launch import launch
from ocirun.image.options import LaunchOptions, merge_env, parse_cpus, parse_size, parse_volume
from ocirun.image.spec import CAPABILITIES, PATH, launch_spec
from ocirun.image.store import MARKER, Image, Store
from ocirun.image.users import User

IMAGE = Image(
    "box:1",
    "/data/images/box%3a1/rootfs",
    config=ImageConfig(
        env=("PATH=/image/bin", "LANG=C"),
        entrypoint=("/entry",),
        cmd=("arg",),
        working_dir="/srv",
    ),
)
PLAIN = Image("plain", "/data/images/plain/rootfs")
HOST = Image("host", "/", source="builtin")


def spec_of(
    image: Image = PLAIN,
    *,
    command: tuple[str, ...] = ("true",),
    user: User | None = None,
    environ: dict[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    return launch_spec(
        LaunchOptions("c1", image.name, command, **options),
        image,
        user=user or User(),
        directory="/",
        environ=environ or {},
        rootless=False,
    )


def at(spec: dict[str, Any], pointer: str) -> Any:
    value: Any = spec
    for part in pointer.strip("/").split("/"):
        value = value[int(part)] if isinstance(value, list) else value.get(part)
    return value


# options of a launch -> (pointer, value) in config.json
CASES: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "/process/args", ["true"]),
    ({}, "/process/terminal", False),
    ({}, "/process/cwd", "/"),
    ({}, "/process/env", [PATH]),
    ({}, "/process/user", {"uid": 0, "gid": 0}),
    ({}, "/process/noNewPrivileges", True),
    ({}, "/process/capabilities/bounding", list(CAPABILITIES)),
    ({}, "/process/capabilities/effective", list(CAPABILITIES)),
    ({}, "/process/capabilities/permitted", list(CAPABILITIES)),
    ({}, "/process/capabilities/inheritable", None),
    ({}, "/process/capabilities/ambient", None),
    ({}, "/root", {"path": "rootfs", "readonly": False}),
    ({}, "/hostname", "c1"),
    ({}, "/linux/resources/memory", None),
    ({}, "/linux/resources/devices", [{"allow": False, "access": "rwm"}]),
    ({"terminal": True}, "/process/terminal", True),
    ({"terminal": True}, "/process/env", [PATH, "TERM=xterm"]),
    ({"read_only": True}, "/root/readonly", True),
    ({"workdir": "/tmp"}, "/process/cwd", "/tmp"),
    ({"hostname": "web"}, "/hostname", "web"),
    ({"memory": "64m"}, "/linux/resources/memory", {"limit": 64 << 20}),
    ({"cpus": 1.5}, "/linux/resources/cpu", {"quota": 150000, "period": 100000}),
    ({"cpus": 0.01}, "/linux/resources/cpu", {"quota": 1000, "period": 100000}),
    ({"pids_limit": 10}, "/linux/resources/pids", {"limit": 10}),
    ({"pids_limit": -1}, "/linux/resources/pids", None),
    ({"user": User(7, 8)}, "/process/user", {"uid": 7, "gid": 8}),
    ({"user": User(7, 8, (9,))}, "/process/user", {"uid": 7, "gid": 8, "additionalGids": [9]}),
    ({"env": ("A=b", "PATH=/x")}, "/process/env", ["PATH=/x", "A=b"]),
    ({"env": ("A",), "environ": {"A": "c"}}, "/process/env", [PATH, "A=c"]),
    ({"env": ("A",), "environ": {}}, "/process/env", [PATH]),
    (
        {"image": PLAIN},
        "/annotations",
        {
            "run.ocirun.overlay.lowerdir": "/data/images/plain/rootfs",
            "run.ocirun.overlay.upperdir": "upper",
            "run.ocirun.overlay.workdir": "work",
        },
    ),
    (
        {"image": HOST},
        "/annotations",
        {"run.ocirun.overlay.lowerdir": "/", "run.ocirun.overlay.upperdir": "tmpfs"},
    ),
    ({"image": IMAGE, "command": ()}, "/process/args", ["/entry", "arg"]),
    ({"image": IMAGE, "command": ("ls", "-l")}, "/process/args", ["ls", "-l"]),
    ({"image": IMAGE}, "/process/env", ["PATH=/image/bin", "LANG=C"]),
    ({"image": IMAGE, "env": ("LANG",)}, "/process/env", ["PATH=/image/bin"]),
    ({"image": IMAGE}, "/process/cwd", "/srv"),
    ({"image": IMAGE, "workdir": "/"}, "/process/cwd", "/"),
]


@pytest.mark.parametrize(("options", "pointer", "value"), CASES)
def test_config(options: dict[str, Any], pointer: str, value: Any) -> None:
    assert at(spec_of(**options), pointer) == value


@pytest.mark.parametrize(
    ("network", "kinds"),
    [
        ("none", {"pid", "network", "ipc", "uts", "mount", "cgroup"}),
        ("host", {"pid", "ipc", "uts", "mount", "cgroup"}),
    ],
)
def test_namespaces(network: str, kinds: set[str]) -> None:
    namespaces = spec_of(network=network)["linux"]["namespaces"]
    assert [set(namespace) for namespace in namespaces] == [{"type"}] * len(kinds)
    assert {namespace["type"] for namespace in namespaces} == kinds


def test_host_network_brings_the_hosts_resolver() -> None:
    def resolvers(**options: Any) -> list[dict[str, Any]]:
        mounts = spec_of(**options)["mounts"]
        return [mount for mount in mounts if mount["destination"] == "/etc/resolv.conf"]

    assert resolvers(network="none") == []
    assert resolvers(network="host", image=HOST) == []
    if os.path.isfile("/etc/resolv.conf"):
        (mount,) = resolvers(network="host")
        assert mount["source"] == os.path.realpath("/etc/resolv.conf")
        assert {"bind", "ro"} <= set(mount["options"])


def test_volumes_come_last(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    volumes = (f"{tmp_path}/dir:/mnt:ro", f"{tmp_path}:/data//x/")
    mounts = spec_of(volumes=volumes)["mounts"]
    assert mounts[:-2] == spec_of()["mounts"]
    assert mounts[-2:] == [
        {
            "destination": "/mnt",
            "type": "bind",
            "source": f"{tmp_path}/dir",
            "options": ["rbind", "rprivate", "ro", "rro"],
        },
        {
            "destination": "/data/x",
            "type": "bind",
            "source": str(tmp_path),
            "options": ["rbind", "rprivate"],
        },
    ]


def test_relative_volume(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    assert parse_volume("./src:/x", str(tmp_path))["source"] == f"{tmp_path}/src"
    assert parse_volume("src:/x:rw", str(tmp_path))["options"] == ["rbind", "rprivate"]


@pytest.mark.parametrize(
    "volume",
    [
        "",
        "/tmp",
        ":/x",
        "/tmp:",
        "/tmp:x",
        "/tmp:/",
        "/tmp:/../x",
        "/tmp:/a/../b",
        "/tmp:/x:rx",
        "/tmp:/x:ro:z",
        "/missing/nowhere:/x",
        "/tmp:/x\x00",
    ],
)
def test_bad_volumes(volume: str) -> None:
    with pytest.raises(UsageError):
        parse_volume(volume, "/")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1b", 1),
        ("1k", 1024),
        ("2K", 2048),
        ("64m", 64 << 20),
        ("1g", 1 << 30),
        ("1G", 1 << 30),
        ("2t", 2 << 40),
        ("3mb", 3 << 20),
        ("3MiB", 3 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1.5g", "m", "1x", "1 m", " 1", "1e3", "9" * 19 + "g", "٣", "0x10", "1ib"],
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@given(st.floats(0.01, 1000))
def test_cpus_are_within_a_rounding(cpus: float) -> None:
    quota, period = parse_cpus(cpus)
    assert abs(quota / period - cpus) <= 0.00001
    assert quota >= 1000


@pytest.mark.parametrize("cpus", [0.0, -1, 0.001, float("nan"), float("inf"), 1e9])
def test_bad_cpus(cpus: float) -> None:
    with pytest.raises(UsageError):
        parse_cpus(cpus)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"workdir": "tmp"}, "not an absolute path"),
    ({"hostname": "x" * 65}, "invalid host name"),
    ({"memory": "lots"}, "invalid memory limit"),
    ({"cpus": -1}, "invalid number of cpus"),
    ({"pids_limit": -2}, "invalid pids limit"),
    ({"pids_limit": 1 << 23}, "invalid pids limit"),
    ({"env": ("=x",)}, "invalid environment variable"),
    ({"env": ("",)}, "invalid environment variable"),
    ({"env": ("A=\0",)}, "invalid environment variable"),
    ({"network": "bridge"}, "unknown network"),
    ({"command": ()}, "no command of its own"),
    ({"image": Image("x", "/a:b/rootfs")}, "holds a colon"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OcirunError) as failure:
        spec_of(**options)
    assert message in failure.value.message


NAME = st.text("ABC", min_size=1, max_size=2)


@given(
    st.lists(st.tuples(NAME, st.text("xy="))), st.lists(st.tuples(NAME, st.none() | st.text("xy=")))
)
def test_env_has_each_name_once(
    base: list[tuple[str, str]], additions: list[tuple[str, str | None]]
) -> None:
    words = tuple(name if value is None else f"{name}={value}" for name, value in additions)
    merged = merge_env(tuple(f"{n}={v}" for n, v in base), words, {"A": "caller"})
    expected = dict(base)
    for name, value in additions:
        if value is not None:
            expected[name] = value
        elif name == "A":
            expected["A"] = "caller"
        else:
            expected.pop(name, None)
    assert dict(word.split("=", 1) for word in merged) == expected
    assert len(merged) == len(expected)


def test_long_ids_make_short_host_names() -> None:
    options = LaunchOptions("x" * 100, "plain", ("true",))
    spec = launch_spec(options, PLAIN, user=User(), directory="/", environ={}, rootless=False)
    assert spec["hostname"] == "x" * 64


# --- folders ----------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("web:x:33:34::/:\n")
    root.chmod(0o751)
    import_image("box", str(root), data_root=str(tmp_path / "data"))
    import_image("other", str(root), data_root=str(tmp_path / "data"))
    return Store(str(tmp_path / "data"))


class FakeRuntime:
    """What `launch` needs of a Runtime; `run` does what the test says."""

    root = "/run/fake"

    def __init__(self, run: Callable[[str, str, bool], int]) -> None:
        self._run = run
        self.ids: dict[str, str] = {}

    def get(self, id: str) -> Any:
        class Container:
            def state(inner) -> dict[str, str]:
                if self.ids.get(id) == "unreadable":
                    raise StateError("unreadable")
                if id not in self.ids:
                    raise NotFound("container does not exist")
                return {"status": self.ids[id]}

        return Container()

    def run(self, id: str, bundle: str, *, detach: bool) -> int:
        status = self._run(id, bundle, detach)
        if detach:
            self.ids[id] = "running"
        return status


def go(store: Store, run: Callable[[str, str, bool], int] | FakeRuntime, **options: Any) -> int:
    runtime = run if isinstance(run, FakeRuntime) else FakeRuntime(run)
    detach = options.pop("detach", False)
    chosen = LaunchOptions(**{"id": "c1", "image": "box", "command": ("true",), **options})
    return launch(runtime, chosen, data_root=str(store.root), detach=detach)  # type: ignore[arg-type]


def folders(store: Store) -> list[str]:
    return sorted(os.listdir(store.containers))


def test_bundle_of_a_launch(store: Store) -> None:
    seen: dict[str, Any] = {}

    def run(id: str, bundle: str, detach: bool) -> int:
        seen.update(json.loads(Path(bundle, "config.json").read_text()))
        seen["names"] = sorted(os.listdir(bundle))
        seen["mode"] = os.stat(bundle + "/upper").st_mode & 0o7777
        seen["rootfs"] = os.listdir(bundle + "/rootfs")
        seen["bundle"] = bundle
        return 7

    assert go(store, run, user="web") == 7
    assert seen["bundle"] == str(store.containers / "c1")
    assert seen["names"] == [MARKER, "config.json", "rootfs", "upper", "work"]
    assert (seen["mode"], seen["rootfs"]) == (0o751, [])
    assert seen["process"]["user"] == {"uid": 33, "gid": 34}
    assert seen["annotations"]["run.ocirun.launch"] == "box"
    assert seen["annotations"]["run.ocirun.overlay.lowerdir"] == store.find_image("box").rootfs
    assert folders(store) == []


def test_host_has_no_layer_on_disk(store: Store) -> None:
    names: list[str] = []
    go(store, lambda id, bundle, detach: names.extend(os.listdir(bundle)) or 0, image="host")
    assert sorted(names) == [MARKER, "config.json", "rootfs"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(store: Store, failure: type[BaseException]) -> None:
    def run(id: str, bundle: str, detach: bool) -> int:
        raise failure

    for options in ({}, {"keep": True}, {"detach": True}):
        with pytest.raises(failure):
            go(store, run, **options)
        assert folders(store) == []


@pytest.mark.parametrize(
    "options",
    [{"image": "missing"}, {"user": "nobody"}, {"memory": "x"}, {"workdir": "x"}, {"id": "../x"}],
)
def test_nothing_is_left_of_a_bad_option(store: Store, options: dict[str, Any]) -> None:
    with pytest.raises(OcirunError):
        go(store, lambda *_: pytest.fail("it ran"), **options)
    assert folders(store) == []


def write(text: str) -> Callable[[str, str, bool], int]:
    def run(id: str, bundle: str, detach: bool) -> int:
        with open(bundle + "/upper/file", "a") as file:
            file.write(text)
        return 0

    return run


def test_keep(store: Store) -> None:
    upper = store.containers / "c1" / "upper" / "file"
    go(store, write("1"), keep=True)
    assert upper.read_text() == "1"
    go(store, write("2"), keep=True)
    assert upper.read_text() == "12"
    with pytest.raises(AlreadyExists, match="were kept") as failure:
        go(store, write("3"))
    assert "--keep" in failure.value.hint
    with pytest.raises(AlreadyExists, match="lie over image 'box'"):
        go(store, write("3"), keep=True, image="other")

    def crash(id: str, bundle: str, detach: bool) -> int:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        go(store, crash, keep=True)
    assert upper.read_text() == "12"
    with pytest.raises(ImageError, match="in use by c1"):
        store.remove_image("box")


def test_detached_until_cleanup(store: Store) -> None:
    runtime = FakeRuntime(write("1"))
    go(store, runtime, detach=True)
    bundle = str(store.containers / "c1")
    assert (store.containers / "c1" / "upper" / "file").exists()
    with pytest.raises(AlreadyExists, match="'c1' already exists"):
        go(store, runtime)
    cleanup(bundle)
    assert folders(store) == []
    cleanup(bundle)


def test_detached_and_kept(store: Store) -> None:
    runtime = FakeRuntime(write("1"))
    go(store, runtime, detach=True, keep=True)
    cleanup(str(store.containers / "c1"))
    del runtime.ids["c1"]
    go(store, runtime, keep=True)
    assert (store.containers / "c1" / "upper" / "file").read_text() == "11"


def test_delete_inside_run_ends_the_folder(store: Store) -> None:
    """`Runtime.run` deletes the container itself, and `delete` calls `cleanup`."""

    def run(id: str, bundle: str, detach: bool) -> int:
        cleanup(bundle)
        return 3

    assert go(store, run) == 3
    assert folders(store) == []
    assert go(store, run, keep=True) == 3
    assert folders(store) == ["c1"]


def test_the_folder_of_another_launch_is_not_ended(store: Store) -> None:
    """Between `run`'s own delete and our end, the id may have been taken anew."""

    def run(id: str, bundle: str, detach: bool) -> int:
        cleanup(bundle)
        with launch_folder(
            LaunchOptions("c1", "box", ("true",)),
            str(store.root),
            runtime_root="/run/fake",
            exists=lambda id: False,
            detach=True,
        ):
            pass
        return 0

    go(store, run)
    assert folders(store) == ["c1"]


def test_a_launch_in_progress_is_not_disturbed(store: Store) -> None:
    def run(id: str, bundle: str, detach: bool) -> int:
        for keep in (False, True):
            with pytest.raises(AlreadyExists, match="'c1' already exists"):
                go(store, lambda *_: 0, keep=keep)
        with pytest.raises(ImageError, match="in use by c1"):
            store.remove_image("box")
        return 0

    assert go(store, run) == 0
    assert go(store, run, keep=True) == 0
    assert go(store, run, keep=True) == 0


def test_leftovers_of_a_crash_are_replaced(store: Store) -> None:
    with launch_folder(
        LaunchOptions("c1", "box", ("true",)),
        str(store.root),
        runtime_root="/run/fake",
        exists=lambda id: False,
        detach=True,
    ) as bundle:
        Path(bundle, "upper", "stale").touch()
    for status in ("running", "unreadable"):
        runtime = FakeRuntime(lambda *_: 0)
        runtime.ids["c1"] = status
        with pytest.raises(OcirunError):
            go(store, runtime)
    elsewhere = FakeRuntime(lambda *_: 0)
    elsewhere.root = "/run/elsewhere"
    with pytest.raises(AlreadyExists):
        go(store, elsewhere)
    assert (store.containers / "c1" / "upper" / "stale").exists()

    def fresh(id: str, bundle: str, detach: bool) -> int:
        return len(os.listdir(bundle + "/upper"))

    assert go(store, fresh) == 0
    assert folders(store) == []


@pytest.mark.parametrize("what", ["folder", "symlink", "file"])
def test_foreign_things_are_not_touched(store: Store, tmp_path: Path, what: str) -> None:
    path = store.containers / "c1"
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    match what:
        case "folder":
            (path / "deep").mkdir(parents=True)
        case "symlink":
            path.symlink_to(tmp_path / "precious")
        case "file":
            path.touch()
    with pytest.raises(AlreadyExists):
        go(store, lambda *_: 0)
    cleanup(str(path))
    assert os.path.lexists(path)
    assert (tmp_path / "precious" / "file").exists()


def test_cleanup_of_what_is_no_launch_folder(store: Store, tmp_path: Path) -> None:
    """A copy, a moved marker, a bundle of the user's own: nothing is removed."""
    go(store, FakeRuntime(lambda *_: 0), detach=True)
    marker = (store.containers / "c1" / MARKER).read_text()
    copy = tmp_path / "elsewhere" / "containers" / "c1"
    copy.mkdir(parents=True)
    (copy / MARKER).write_text(marker)
    cleanup(str(copy))
    assert copy.exists()
    link = tmp_path / "containers"
    link.mkdir()
    (link / "c1").symlink_to(store.containers / "c1")
    cleanup(str(link / "c1"))
    assert (store.containers / "c1").exists()
    for bad in ("", "{", "[]", "{}", '{"image": 1}', marker[:-3], "x" * 100_000):
        (store.containers / "c1" / MARKER).write_text(bad)
        assert read_marker(str(store.containers / "c1")) is None
        cleanup(str(store.containers / "c1"))
        assert (store.containers / "c1").exists()
    (store.containers / "c1" / MARKER).unlink()
    os.mkfifo(store.containers / "c1" / MARKER)
    cleanup(str(store.containers / "c1"))
    cleanup(str(tmp_path / "missing"))
    assert (store.containers / "c1").exists()


# --- bundle only ------------------------------------------------------------------


def test_bundle_only(store: Store, tmp_path: Path) -> None:
    options = LaunchOptions("c1", "box", ("true",))
    path = write_bundle(str(tmp_path / "deep" / "b"), options, str(store.root))
    assert sorted(os.listdir(path)) == ["config.json", "rootfs", "upper", "work"]
    config = json.loads(Path(path, "config.json").read_text())
    assert "run.ocirun.launch" not in config["annotations"]
    assert folders(store) == []
    with pytest.raises(UsageError, match="not empty"):
        write_bundle(path, options, str(store.root))
    cleanup(path)
    assert os.path.exists(path)


def test_bundle_only_leaves_nothing_of_a_failure(store: Store, tmp_path: Path) -> None:
    options = LaunchOptions("c1", "box", ("true",), memory="x")
    with pytest.raises(UsageError):
        write_bundle(str(tmp_path / "b"), options, str(store.root))
    assert not (tmp_path / "b").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError):
        write_bundle(str(tmp_path / "mine"), options, str(store.root))
    assert os.listdir(tmp_path / "mine") == []


# --- the command line -------------------------------------------------------------


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., LaunchOptions]:
    from ocirun.cli.main import app

    seen: list[LaunchOptions] = []
    monkeypatch.setattr(
        "ocirun.image.bundle.write_bundle", lambda folder, options, root: seen.append(options)
    )

    def parse(*args: str) -> LaunchOptions:
        command = typer.main.get_command(app)
        command.main(["launch", "--bundle-only", "x", *args], standalone_mode=False)
        return seen.pop()

    return parse


WORDS: list[tuple[list[str], dict[str, Any]]] = [
    (["c", "i"], {"command": ()}),
    (["c", "i", "ls"], {"command": ("ls",)}),
    (["c", "i", "ls", "-l", "--keep", "-e", "x"], {"command": ("ls", "-l", "--keep", "-e", "x")}),
    (["c", "i", "ls", "--", "-l"], {"command": ("ls", "--", "-l")}),
    (["c", "i", "--", "-ls", "-l"], {"command": ("-ls", "-l")}),
    (["--", "c", "i", "ls", "-l"], {"command": ("ls", "-l")}),
    (["c", "--", "i", "-ls"], {"command": ("-ls",)}),
    (
        ["c", "--tty", "i", "--read-only", "ls", "-t"],
        {"terminal": True, "read_only": True, "command": ("ls", "-t")},
    ),
    (["-e", "A=1", "--env", "B", "c", "i"], {"env": ("A=1", "B")}),
    (["c", "i", "-e", "A=-1", "ls"], {"env": ("A=-1",), "command": ("ls",)}),
    (["-v", "/a:/b", "c", "-v", "/c:/d:ro", "i"], {"volumes": ("/a:/b", "/c:/d:ro")}),
    (["-w", "/x", "-u", "1:2", "c", "i"], {"workdir": "/x", "user": "1:2"}),
    (["-t", "-i", "c", "i"], {"terminal": True, "interactive": True}),
    (["--hostname", "h", "--memory", "1g", "c", "i"], {"hostname": "h", "memory": "1g"}),
    (["--cpus", "0.5", "--pids-limit", "9", "c", "i"], {"cpus": 0.5, "pids_limit": 9}),
    (["--pids-limit", "-1", "c", "i"], {"pids_limit": -1}),
    (["--network", "host", "c", "i"], {"network": "host"}),
    (["-network=host", "-memory", "1g", "c", "i"], {"network": "host", "memory": "1g"}),
]


@pytest.mark.parametrize(("args", "expected"), WORDS)
def test_command_line(
    parse: Callable[..., LaunchOptions], args: list[str], expected: dict[str, Any]
) -> None:
    options = parse(*args)
    assert (options.id, options.image) == ("c", "i")
    assert options == LaunchOptions("c", "i", **expected)


@pytest.mark.parametrize("option", ["--keep", "--detach"])
def test_bundle_only_excludes_what_it_does_not_do(
    parse: Callable[..., LaunchOptions], option: str
) -> None:
    with pytest.raises(UsageError, match="--bundle-only runs nothing"):
        parse(option, "c", "i")


@pytest.mark.parametrize(
    "args", [[], ["c"], ["--nonsense", "c", "i"], ["c", "i", "--memory"], ["--cpus", "x", "c", "i"]]
)
def test_bad_command_lines(parse: Callable[..., LaunchOptions], args: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)missing|no such|requires|valid number"):
        parse(*args)
