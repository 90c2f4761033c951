"""Turns: what runs to its end while its streams are served, as `subprocess.run` does.

Belongs here: what `run` and `exec` have in common, in steps that a thread (`Turn.complete`) and
a loop (`aio`) take alike. What a step does is theirs.
"""

from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from ocirun.errors import ContainerTimeout
from ocirun.library.streams import Conversation, Streams


class Done(Protocol):
    """What is known of something that has ended."""

    def check(self) -> None:
        """Raise ContainerFailed unless the exit status is 0."""


D = TypeVar("D", bound=Done)


class Turn(ABC, Generic[D]):
    """Something that runs to its end.

    Attributes:
        streams: its streams. talk: what passes through them, from `begin` on.
        given: what it reads from stdin. text: the output is text.
    """

    talk: Conversation

    def __init__(self, streams: Streams, given: bytes | str | None, text: bool) -> None:
        self.streams = streams
        self.given = given.encode() if isinstance(given, str) else given
        self.text = text

    @abstractmethod
    def begin(self) -> None:
        """Make it; it runs then."""

    @abstractmethod
    def abort(self) -> None:
        """End what has not been finished, and read what it has written."""

    @abstractmethod
    def finish(self) -> D:
        """Say how it went, once it has ended."""

    @abstractmethod
    def late(self, timeout: float | None) -> ContainerTimeout:
        """The exception for not having ended in time."""

    def close(self) -> None:
        """Let go of everything, and end what has not been finished."""
        try:
            self.abort()
        finally:
            self.streams.close()

    def timed_out(self, timeout: float | None) -> ContainerTimeout:
        """The same, with what was caught so far."""
        error = self.late(timeout)
        error.stdout = self.talk.output(1, self.text)
        error.stderr = self.talk.output(2, self.text)
        return error

    def complete(self, timeout: float | None, check: bool) -> D:
        """All of it, in this thread. Raises ContainerTimeout; with `check` ContainerFailed."""
        try:
            self.begin()
            if not self.talk.hold(timeout):
                self.abort()
                raise self.timed_out(timeout)
            done = self.finish()
        finally:
            self.close()
        if check:
            done.check()
        return done
