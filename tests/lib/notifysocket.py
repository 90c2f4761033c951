"""NotifySocket: plays systemd's part of sd_notify(3)."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BARRIER = "BARRIER=1"


class NotifySocket:
    """A datagram socket as systemd gives one to a service.

    Attributes:
        env: the environment of a service, with NOTIFY_SOCKET.
        seen: the messages so far, without barriers; barriers: how many of those.
    """

    def __init__(self, path: "Path | str", env: dict[str, str]) -> None:
        text = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + text[1:] if text.startswith("@") else text)
        self.env = {**env, "NOTIFY_SOCKET": text}
        self.seen: list[str] = []
        self.barriers = 0

    def __enter__(self) -> "NotifySocket":
        return self

    def __exit__(self, *error: Any) -> None:
        self.sock.close()

    def read(self, seconds: float = 0) -> bool:
        """Reads a message, for which it waits; False if there was none."""
        self.sock.settimeout(seconds or 0.001)
        try:
            # Descriptors that come along are closed: the answer to a barrier.
            text = self.sock.recv(4096).decode()
        except TimeoutError:
            return False
        if text == BARRIER:
            self.barriers += 1
        else:
            self.seen += text.strip("\n").split("\n")
        return True

    def wait_for(self, line: str, seconds: float = 20) -> None:
        """Reads messages until one has the line."""
        deadline = time.monotonic() + seconds
        while line not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{line} never came, but {self.seen}"
            self.read(left)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Reads messages, and so answers barriers, while something else is done."""
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                self.read(0.05)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.rest()

    def rest(self) -> list[str]:
        """All that has come, when no more is to be expected."""
        while self.read():
            pass
        return self.seen
