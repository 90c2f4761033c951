"""--pidfd-socket: the caller gets a pidfd of init, as runc's gives it."""

import os
import socket
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]


def test_pidfd_socket(runtime: Runtime, bundle: Bundle) -> None:
    path = str(bundle.path / "pidfd")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        folder = bundle.args("/bin/sleep", "100").write()
        result = runtime.call("create", "--pidfd-socket", path, "--bundle", folder, bundle.id)
        assert result.status == 0, result.stderr
        connection, _ = server.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
    words = Path(f"/proc/self/fdinfo/{descriptors[0]}").read_text().split()
    assert int(words[words.index("Pid:") + 1]) == runtime.state(bundle.id)["pid"]
    os.close(descriptors[0])
    runtime.call("delete", "--force", bundle.id)
