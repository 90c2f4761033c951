"""The store: ids that cannot leave it, records whole or refused, one winner, one lock."""

import copy
import json
import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirun.errors import AlreadyExists, NotFound, OcirunError, StateError, UsageError
from ocirun.runtime.settings import Settings, oci_state, status_of
from ocirun.runtime.state import states
from ocirun.state.process import is_alive, start_time
from ocirun.state.store import (
    FIELDS,
    RECORD,
    SOCKET,
    SOCKET_NEW,
    Record,
    Store,
    check_id,
    is_record,
)

ALPHABET = string.ascii_letters + string.digits + "_+-."
RECORD_FIELDS: dict[str, Any] = {
    "version": 1,
    "id": "web",
    "ociVersion": "1.3.0",
    "bundle": "/bundle",
    "rootfs": "/bundle/rootfs",
    "created": "2026-01-01T00:00:00.000000000Z",
    "owner": "root",
    "pid": 0,
    "startTime": 0,
    "cgroups": {},
    "ownPids": True,
    "annotations": {"a": "b"},
    "hooks": {},
    "command": "sh",
}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("good", ["a", "A-1_b+c.d", "0", "_", "-", "+x", "a" * 255])
def test_ids(good: str) -> None:
    assert check_id(good) == good


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", ".a", "../x", "a/b", "/", "a\0b", "a b", "ä", "a\n", "a" * 256, "x" * 5000],
)
def test_what_is_no_id(bad: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_id(bad)
    assert len(caught.value.message) < 200


@given(st.text(alphabet=ALPHABET + "/\0 é\n", max_size=300))
def test_an_id_stays_in_its_folder(text: str) -> None:
    try:
        check_id(text)
    except UsageError:
        return
    assert os.path.normpath(f"/root/{text}") == f"/root/{text}"
    assert os.path.dirname(f"/root/{text}") == "/root"


def made(tmp_path: Path, **changes: Any) -> Settings:
    configured = Settings(str(tmp_path / "state"))
    folder = configured.store.create("web")
    folder.write({**RECORD_FIELDS, **changes})
    folder.close()
    return configured


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = made(tmp_path).store.open("web")
    assert folder.read().fields == RECORD_FIELDS
    folder.close()


@given(st.sampled_from(sorted(FIELDS)), ANY)
@settings(max_examples=300)
def test_a_record_with_a_wrong_field_is_no_record(name: str, value: Any) -> None:
    fields = copy.deepcopy(RECORD_FIELDS)
    fields[name] = value
    assert is_record(fields) == (type(value) is FIELDS[name])
    del fields[name]
    assert not is_record(fields)


@given(ANY)
def test_what_is_no_object_is_no_record(value: Any) -> None:
    assert is_record(value) is False


@given(data=st.data())
@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
def test_a_damaged_record_never_breaks_list(tmp_path: Path, data: st.DataObject) -> None:
    whole = json.dumps(RECORD_FIELDS).encode()
    damage = data.draw(
        st.integers(0, len(whole) - 1).map(lambda end: whole[:end])
        | st.binary(max_size=40)
        | ANY.map(lambda value: json.dumps(value).encode())
    )
    configured = Settings(str(tmp_path / "state"))
    for container_id in ("bad", "web"):
        if container_id not in configured.store.ids():
            configured.store.create(container_id).close()
    (tmp_path / "state" / "bad" / RECORD).write_bytes(damage)
    (tmp_path / "state" / "web" / RECORD).write_bytes(whole)
    folder = configured.store.open("bad")
    with pytest.raises(StateError):
        folder.read()
    folder.close()
    assert [(s["id"], s["status"]) for s in states(configured)] == [
        ("bad", "unknown"),
        ("web", "creating"),
    ]


def test_strangers_in_the_root_are_left_alone(tmp_path: Path) -> None:
    configured = made(tmp_path)
    (tmp_path / "state" / "file").write_text("")
    (tmp_path / "state" / ".hidden").mkdir()
    (tmp_path / "state" / "link").symlink_to(tmp_path)
    assert [s["id"] for s in states(configured)] == ["web"]


def test_one_of_two_creates_wins(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state"))
    first = store.create("web")
    with pytest.raises(AlreadyExists, match="web already exists"):
        store.create("web")
    first.remove()
    first.close()
    store.create("web").close()


def test_unknown_container(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="container does not exist: web"):
        Store(str(tmp_path / "state")).open("web")


def test_a_folder_that_is_a_symlink_is_no_container(tmp_path: Path) -> None:
    (tmp_path / "web").symlink_to("/")
    with pytest.raises(OcirunError):
        Store(str(tmp_path)).open("web")


def test_a_busy_container_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "state"))
    holder = store.create("web")
    monkeypatch.setattr("ocirun.state.store._BUSY_SECONDS", 0.02)
    with pytest.raises(StateError, match="busy"):
        store.open("web", lock=True)
    holder.unlock()
    store.open("web", lock=True).close()
    holder.close()


def test_a_deleted_container_is_not_opened(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "state"))
    folder = store.create("web")
    other = store.open("web")
    folder.remove()
    folder.close()
    assert not other.exists()
    other.close()


@pytest.mark.parametrize(
    ("changes", "files", "status"),
    [
        ({}, [], "creating"),
        ({"pid": 1}, [], "stopped"),  # another start time: the pid is somebody else's by now
        ({"pid": os.getpid(), "startTime": start_time(os.getpid())}, [], "running"),
        ({"pid": os.getpid(), "startTime": start_time(os.getpid())}, [SOCKET], "created"),
        ({"pid": os.getpid(), "startTime": start_time(os.getpid())}, [SOCKET_NEW], "creating"),
        ({"pid": os.getpid(), "startTime": 1}, [SOCKET], "stopped"),
    ],
)
def test_status(tmp_path: Path, changes: dict[str, int], files: list[str], status: str) -> None:
    folder = made(tmp_path, **changes).store.open("web")
    for name in files:
        (tmp_path / "state" / "web" / name).write_text("")
    assert status_of(folder, folder.read()) == status
    folder.close()


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert start_time(pid) == 0
        assert not is_alive(pid, 0)
    finally:
        os.waitpid(pid, 0)


def test_the_state_for_hooks_has_the_properties_of_the_specification() -> None:
    record = Record(RECORD_FIELDS)
    assert oci_state(record.fields, "creating", 5) == {
        "ociVersion": "1.3.0",
        "id": "web",
        "status": "creating",
        "pid": 5,
        "bundle": "/bundle",
        "annotations": {"a": "b"},
    }
