"""checkpoint and restore as engines call them, and what CRIU is told then (its rpc.proto).

A stub takes CRIU's place, so that this runs everywhere; with CRIU itself it is in test_checkpoint.py.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import CHECKOUT, Result, Runtime

pytestmark = pytest.mark.only("ocirun")

# enum criu_req_type; fields of criu_opts
DUMP, RESTORE, PRE_DUMP = 1, 2, 4
LEAVE_RUNNING, TCP_ESTABLISHED, FILE_LOCKS, PARENT, TRACK_MEM = "3", "5", "8", "14", "15"

STUB = f"""#!{sys.executable}
import json, os, signal, socket, sys
sys.path.insert(0, {str(CHECKOUT)!r})
from ocirun.criu.protobuf import decode, encode

sock = socket.socket(fileno=int(sys.argv[2]))
while data := sock.recv(1 << 16):
    request = decode(data)
    if request[1] == 9:  # FEATURE_CHECK
        sock.sendall(encode([(1, 9), (2, True), (8, [(1, True), (2, True)])]))
        continue
    told = decode(request[2])
    images = os.readlink(f"/proc/self/fd/{{told[1]}}")
    work = os.readlink(f"/proc/self/fd/{{told[17]}}")
    known = {{key: value if isinstance(value, int) else str(value, "latin-1") for key, value in told.items()}}
    with open({{place!r}}, "w") as file:
        json.dump([request[1], known, images, work], file)
    if request[1] == {RESTORE}:
        break
    if request[1] == {DUMP} and not told.get({LEAVE_RUNNING}):
        os.kill(told[2], signal.SIGKILL)
    sock.sendall(encode([(1, request[1]), (2, True)]))
"""


class Criu:
    """The stub, and a runtime that finds it."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self.runtime = runtime
        self.told = folder / "told"
        program = folder / "bin/criu"
        program.parent.mkdir()
        program.write_text(STUB.replace("{place!r}", repr(str(self.told))))
        program.chmod(0o755)
        self.env = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def call(self, *args: str | Path) -> tuple[Result, Any]:
        """The result of a command, and (kind, fields, images, work) of what CRIU was asked for."""
        done = self.runtime.call(*args, env=self.env)
        assert self.told.exists(), f"{done}"
        return done, json.loads(self.told.read_text())


@pytest.fixture
def criu(runtime: Runtime, folder: Path) -> Criu:
    return Criu(runtime, folder)


OPTIONS: list[tuple[tuple[str, ...], int, dict[str, Any]]] = [
    ((), DUMP, {}),
    (("--leave-running",), DUMP, {LEAVE_RUNNING: 1}),
    (("--tcp-established",), DUMP, {TCP_ESTABLISHED: 1}),
    (("--file-locks",), DUMP, {FILE_LOCKS: 1}),
    (("--pre-dump",), PRE_DUMP, {TRACK_MEM: 1}),
    (("--parent-path", "../before"), DUMP, {PARENT: "../before", TRACK_MEM: 1}),
]


@pytest.mark.contract(
    "`checkpoint --image-path D --work-path D [--leave-running] [--tcp-established] [--file-locks]"
    " [--pre-dump] [--parent-path D]`",
    "`checkpoint`, `restore`",
    "`checkpoint --file-locks`",
)
@pytest.mark.parametrize(("options", "wanted", "told"), OPTIONS, ids=[str(o[0]) for o in OPTIONS])
def test_checkpoint(
    runtime: Runtime,
    bundle: Bundle,
    folder: Path,
    criu: Criu,
    options: tuple[str, ...],
    wanted: int,
    told: dict[str, Any],
) -> None:
    """The container is gone then, unless it is to run on."""
    runtime.run(bundle.sleeper(), "--detach").ok()
    (folder / "before").mkdir()
    images, work = folder / "images", folder / "work"
    args = ("checkpoint", "--image-path", images, "--work-path", work, *options, bundle.id)
    done, (asked, fields, *places) = criu.call(*args)
    done.ok()
    assert (done.out, done.err) == ("", "")
    assert (asked, places) == (wanted, [str(images), str(work)])
    optional = (LEAVE_RUNNING, TCP_ESTABLISHED, FILE_LOCKS, PARENT, TRACK_MEM)
    assert {name: fields[name] for name in optional if fields.get(name)} == told
    stays = "--leave-running" in options or wanted == PRE_DUMP
    assert runtime.containers() == ([bundle.id] if stays else [])


@pytest.mark.contract(
    "`restore ... --detach --image-path D --work-path D`", "`checkpoint`, `restore`"
)
def test_restore(runtime: Runtime, bundle: Bundle, folder: Path, criu: Criu) -> None:
    """As conmon asks for it. CRIU ends in the middle of it here, and nothing of it stays."""
    images, work, pid_file = folder / "images", folder / "work", folder / "pid"
    runtime.run(bundle.sleeper(), "--detach").ok()
    criu.call("checkpoint", "--image-path", images, "--work-path", work, bundle.id)[0].ok()
    flags = ("--detach", "--image-path", images, "--work-path", work, "--pid-file", pid_file)
    args = ("restore", "--bundle", bundle.path, *flags, "-no-subreaper", bundle.id)
    done, (asked, _, *places) = criu.call(*args)
    done.failed("criu cannot restore")
    assert (asked, places) == (RESTORE, [str(images), str(work)])
    assert not pid_file.exists()
    assert runtime.containers() == []
