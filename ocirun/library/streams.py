"""stdin, stdout and stderr of a container, as `subprocess` has them."""

import io
import os
import selectors
import time
from typing import IO, Any, Protocol

from ocirun.library.executor import RemoteProcess

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""The values of `subprocess`."""

_CHUNK = 1 << 16


class HasFileno(Protocol):
    """An open file, a socket."""

    def fileno(self) -> int:
        """Its descriptor."""


Stream = int | HasFileno | None


class Streams:
    """The three streams of one container, opened.

    Attributes:
        theirs: descriptors that become the container's 0, 1 and 2.
        mine: our ends of the pipes, by number of the stream.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self._opened: list[int] = []
        self.mine: dict[int, int] = {}
        try:
            first = self._open(0, stdin)
            second = self._open(1, stdout)
            third = second if _is(stderr, STDOUT) else self._open(2, stderr)
        except BaseException:
            self.close()
            raise
        self.theirs = (first, second, third)

    def _open(self, number: int, wanted: Stream) -> int:
        if wanted is None:
            try:
                os.fstat(number)
                return number
            except OSError:  # closed in the caller: an empty stream, as Podman gives
                wanted = DEVNULL
        if not isinstance(wanted, int):
            return wanted.fileno()
        if wanted == DEVNULL:
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._opened.append(fd)
            return fd
        if wanted == PIPE:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self.mine[number], fd = (writer, reader) if number == 0 else (reader, writer)
            self._opened.append(fd)
            return fd
        if wanted < 0:
            raise ValueError(f"stream {number} cannot be {wanted}")
        return wanted

    def close_theirs(self) -> None:
        """Close what is the container's, once it has it."""
        while self._opened:
            os.close(self._opened.pop())

    def close(self) -> None:
        """Close everything."""
        self.close_theirs()
        while self.mine:
            os.close(self.mine.popitem()[1])

    def file(self, number: int, text: bool) -> IO[Any] | None:
        """Our end of a pipe as a file, which owns it from now on; None without a pipe."""
        fd = self.mine.pop(number, -1)
        if fd < 0:
            return None
        mode = "w" if number == 0 else "r"
        if text:
            return open(fd, mode, encoding="utf-8")
        return open(fd, mode + "b", -1 if number else 0)


def streams_of(
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    given: bytes | str | None,
    capture_output: bool,
) -> Streams:
    """The streams that `input` and `capture_output` ask for. Raises ValueError, as subprocess."""
    if given is not None:
        if stdin is not None:
            raise ValueError("stdin and input exclude each other")
        stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("capture_output excludes stdout and stderr")
        stdout = stderr = PIPE
    return Streams(stdin, stdout, stderr)


def _is(wanted: Stream, value: int) -> bool:
    return isinstance(wanted, int) and wanted == value


class Conversation:
    """Feeds a container its input and collects its output until it has ended.

    The waiting is done by the caller, in a thread or in a loop: `fds` says for what.
    """

    def __init__(self, process: RemoteProcess, streams: Streams, given: bytes | None) -> None:
        self.process = process
        self._streams = streams
        self._chunks: dict[int, list[bytes]] = {n: [] for n in streams.mine if n}
        self._given = memoryview(given or b"")
        for fd in streams.mine.values():
            os.set_blocking(fd, False)
        if not self._given:
            self._drop(0)

    def readers(self) -> dict[int, int]:
        """Descriptors to be read: descriptor -> number of the stream."""
        return {fd: number for number, fd in self._streams.mine.items() if number}

    def writer(self) -> int:
        """The descriptor that takes input; -1 when there is no more."""
        return self._streams.mine.get(0, -1)

    def read(self, number: int) -> None:
        """Read what there is."""
        try:
            data = os.read(self._streams.mine[number], _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._chunks[number].append(data)
        else:
            self._drop(number)

    def write(self) -> None:
        """Write what fits."""
        try:
            self._given = self._given[os.write(self.writer(), self._given[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to hear more
            self._given = self._given[:0]
        if not self._given:
            self._drop(0)

    def drain(self) -> None:
        """Read what is left after the end; another holder of the pipe is not waited for."""
        for number in list(self._chunks):
            while number in self._streams.mine:
                before = len(self._chunks[number])
                self.read(number)
                if number in self._streams.mine and len(self._chunks[number]) == before:
                    break

    def output(self, number: int, text: bool) -> bytes | str | None:
        """What was written to a stream so far; None if it was not caught."""
        if number not in self._chunks:
            return None
        data = b"".join(self._chunks[number])
        if not text:
            return data
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace").read()

    def _drop(self, number: int) -> None:
        fd = self._streams.mine.pop(number, -1)
        if fd >= 0:
            os.close(fd)

    def hold(self, timeout: float | None) -> bool:
        """Converse until the container has ended; False if `timeout` seconds were not enough."""
        if not self._streams.mine:
            return self.process.wait(timeout) is not None
        limit = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for fd, number in self.readers().items():
                selector.register(fd, selectors.EVENT_READ, number)
            if self.writer() >= 0:
                selector.register(self.writer(), selectors.EVENT_WRITE, 0)
            selector.register(self.process.awaited(), selectors.EVENT_READ, -1)
            while True:
                left = None if limit is None else limit - time.monotonic()
                if left is not None and left <= 0:
                    return False
                for key, _ in selector.select(left):
                    if key.data < 0:
                        # The line of a dead executor is readable before the process ends.
                        left = None if limit is None else max(0.0, limit - time.monotonic())
                        return self.process.wait(left) is not None
                    if key.data == 0:
                        self.write()
                    else:
                        self.read(key.data)
                    if key.data not in self._streams.mine:
                        selector.unregister(key.fd)
