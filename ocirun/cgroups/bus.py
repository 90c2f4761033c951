"""A connection to a D-Bus, as far as calls to systemd need it: connect, call, wait for a signal.

The messages are jeepney's; nothing here knows what they mean. A caller of another
user namespace is known by its socket (SO_PEERCRED), so no user id is sent. Loaded
with the systemd driver only. Source: the D-Bus specification.
"""

import _socket
import time

from ocirun.errors import Unsupported

try:
    from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call
    from jeepney.bus import get_connectable_addresses
except ImportError:
    raise Unsupported(
        "systemd cannot be asked for cgroups: the Python package jeepney is not installed",
        hint="install it, or leave out --systemd-cgroup",
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_READ = 1 << 16
_DAEMON = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


class BusError(Exception):
    """A call failed.

    Attributes:
        name: the D-Bus name of the error; "" if the bus itself failed.
        words: what the other side says, or what happened.
        errno: of the kernel; 0 otherwise.
    """

    def __init__(self, name: str, words: str, errno: int = 0) -> None:
        super().__init__(words)
        self.name = name
        self.words = words
        self.errno = errno


class Bus:
    """A connection; every operation ends at the deadline, with a BusError.

    Args:
        address: as in DBUS_SYSTEM_BUS_ADDRESS; sockets of the machine only.
        seconds: for everything together.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._serial = 0
        self._parser = Parser()
        self._signals: list[Message] = []
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self._connect(address)
            self._greet()
            self.call(*_DAEMON, "Hello")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> "Bus":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        name: str,
        path: str,
        interface: str,
        method: str,
        signature: str = "",
        *arguments: object,
    ) -> "Any":
        """Call a method and return what it answers. Raises BusError."""
        self._serial += 1
        address = DBusAddress(path, name, interface)
        message = new_method_call(address, method, signature or None, arguments)
        self._send(message.serialise(serial=self._serial))
        while True:
            reply = self._receive()
            if reply.header.message_type is MessageType.signal:
                self._signals.append(reply)
            if reply.header.fields.get(HeaderFields.reply_serial) != self._serial:
                continue
            if reply.header.message_type is MessageType.error:
                words = str(reply.body[0]) if reply.body else ""
                raise BusError(str(reply.header.fields[HeaderFields.error_name]), words)
            return reply.body

    def subscribe(self, rule: str) -> None:
        """Ask the bus for the signals of a match rule. Raises BusError."""
        self.call(*_DAEMON, "AddMatch", "s", rule)

    def signal(self, member: str) -> "Any":
        """The arguments of the next signal of that name. Raises BusError."""
        while True:
            message = self._signals.pop(0) if self._signals else self._receive()
            fields = message.header.fields
            is_signal = message.header.message_type is MessageType.signal
            if is_signal and fields.get(HeaderFields.member) == member:
                return message.body

    def _connect(self, address: str) -> None:
        try:
            places = list(get_connectable_addresses(address))
        except (ValueError, RuntimeError) as error:
            raise BusError("", f"cannot use the address {address!r} ({error})") from None
        number = 0
        for place in places:
            try:
                self._wait()
                self._socket.connect(place)
                return
            except OSError as error:
                number = error.errno or 0
        raise BusError("", f"cannot connect to {address}", number)

    def _greet(self) -> None:
        self._send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        answer = b""
        while answer.count(b"\r\n") < 2 and len(answer) < _MAX_READ:
            answer += self._read(1)  # what follows is the first message already
        if b"\r\nOK " not in b"\r\n" + answer:
            words = answer.decode("ascii", "replace").strip()
            raise BusError("", f"the bus does not let this user in: {words}")

    def _receive(self) -> Message:
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data(self._read(_MAX_READ))
        return message

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise BusError("", "no answer in time")
        self._socket.settimeout(left)

    def _read(self, size: int) -> bytes:
        self._wait()
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            raise BusError("", "no answer in time") from None
        except OSError as error:
            raise BusError("", "the connection broke", error.errno or 0) from None
        if not data:
            raise BusError("", "the bus closed the connection")
        return data

    def _send(self, data: bytes) -> None:
        self._wait()
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise BusError("", "the bus takes no message in time") from None
        except OSError as error:
            raise BusError("", "the connection broke", error.errno or 0) from None
