"""rtnetlink(7), as much of it as moving a network interface takes. Cold.

A socket belongs to the network namespace that it was made in, wherever its process goes.
"""

import _socket
import posix

from ocirun.linux.clone import CLONE_NEWNET, setns
from ocirun.linux.ffi import SyscallError

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 3, 4, 8
IFA_RT_PRIORITY, IFA_PROTO = 9, 11
IFF_UP = 1

_AF_NETLINK, _SOL_NETLINK = 16, 270
_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 11, 12
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_CREATE, _NLM_F_EXCL = 0x400, 0x200
_NLMSG_TLVS = 0x200  # NLM_F_ACK_TLVS
_NLMSGERR_ATTR_MSG = 1
_HEADER = 16
_ENOBUFS = 105


class NetlinkError(SyscallError):
    """The kernel refused a request; `words` are its own, "" if it has none."""

    def __init__(self, call: str, error: int, words: str) -> None:
        super().__init__(call, error)
        self.words = words


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded (rtnetlink(7), struct rtattr)."""
    head = (4 + len(data)).to_bytes(2, "little") + kind.to_bytes(2, "little")
    return head + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message: kind -> data."""
    found = {}
    while len(data) >= 4:
        size = int.from_bytes(data[:2], "little")
        if size < 4:
            break
        found[int.from_bytes(data[2:4], "little") & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


class Route:
    """A socket to rtnetlink in a network namespace.

    Args:
        namespace: descriptor of the namespace; -1 for the caller's own. This thread enters it,
            makes the socket, and goes back.

    Raises SyscallError.
    """

    def __init__(self, namespace: int = -1) -> None:
        home = -1
        if namespace >= 0:
            home = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            if namespace >= 0:
                setns(namespace, CLONE_NEWNET)
            try:
                how = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
                self.sock = _socket.socket(_AF_NETLINK, how, 0)
            finally:
                if namespace >= 0:
                    setns(home, CLONE_NEWNET)
        finally:
            if home >= 0:
                posix.close(home)
        for option in (_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                self.sock.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # older than Linux 4.20: no words, and more answers than asked for
                pass
        self.number = 0

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def links(self) -> dict[str, int]:
        """All interfaces: name -> index."""
        found = {}
        for data in self._ask("RTM_GETLINK", RTM_GETLINK, _NLM_F_DUMP, bytes(16)):
            name = attributes(data[16:]).get(IFLA_IFNAME, b"").rstrip(b"\0")
            found[name.decode("utf-8", "surrogateescape")] = int.from_bytes(data[4:8], "little")
        return found

    def is_up(self, index: int) -> bool:
        """The interface has IFF_UP."""
        (data,) = self._ask("RTM_GETLINK", RTM_GETLINK, 0, _link(index))
        return bool(int.from_bytes(data[8:12], "little") & IFF_UP)

    def addresses(self, index: int) -> list[bytes]:
        """Its addresses, as messages RTM_NEWADDR: struct ifaddrmsg and attributes."""
        query = bytes(4) + index.to_bytes(4, "little")
        found = self._ask("RTM_GETADDR", RTM_GETADDR, _NLM_F_DUMP, query)
        return [data for data in found if data[4:8] == query[4:8]]

    def move(self, index: int, namespace: int, name: str) -> None:
        """Move the interface to a namespace, where it has another name."""
        self._ask(
            "RTM_NEWLINK",
            RTM_NEWLINK,
            _NLM_F_ACK,
            _link(index)
            + attribute(IFLA_NET_NS_FD, namespace.to_bytes(4, "little"))
            + attribute(IFLA_IFNAME, name.encode() + b"\0"),
        )

    def add_address(self, message: bytes) -> None:
        """Give an interface an address."""
        flags = _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
        self._ask("RTM_NEWADDR", RTM_NEWADDR, flags, message)

    def set_up(self, index: int) -> None:
        """Set IFF_UP."""
        flag = IFF_UP.to_bytes(4, "little")
        message = _link(index)[:8] + flag + flag
        self._ask("RTM_NEWLINK", RTM_NEWLINK, _NLM_F_ACK, message)

    def _ask(self, call: str, kind: int, flags: int, payload: bytes) -> list[bytes]:
        self.number += 1
        head = (
            (_HEADER + len(payload)).to_bytes(4, "little")
            + kind.to_bytes(2, "little")
            + (_NLM_F_REQUEST | flags).to_bytes(2, "little")
            + self.number.to_bytes(4, "little")
            + bytes(4)
        )
        self.sock.sendto(head + payload, (0, 0))
        answers: list[bytes] = []
        while True:
            data = self.sock.recv(1 << 16)
            if not data:
                raise SyscallError(call, _ENOBUFS)
            while len(data) >= _HEADER:
                size = int.from_bytes(data[:4], "little")
                what = int.from_bytes(data[4:6], "little")
                sequence = int.from_bytes(data[8:12], "little")
                bits, body, data = data[6:8], data[_HEADER:size], data[(size + 3) & ~3 :]
                if sequence != self.number:
                    continue
                if what == _NLMSG_ERROR:
                    _check(call, body, int.from_bytes(bits, "little"))
                    return answers
                if what == _NLMSG_DONE:
                    return answers
                answers.append(body)
            if not flags & (_NLM_F_DUMP | _NLM_F_ACK):
                return answers


def _link(index: int) -> bytes:
    """struct ifinfomsg of an interface."""
    return bytes(4) + index.to_bytes(4, "little") + bytes(8)


def _check(call: str, body: bytes, flags: int) -> None:
    """Raise NetlinkError if the answer is an error (netlink(7), struct nlmsgerr)."""
    error = -int.from_bytes(body[:4], "little", signed=True)
    if not error:
        return
    words = ""
    if flags & _NLMSG_TLVS:
        # The request comes back: only its head (NLM_F_CAPPED), or all of it.
        size = _HEADER if flags & 0x100 else int.from_bytes(body[4:8], "little")
        extra = attributes(body[4 + ((size + 3) & ~3) :])
        words = extra.get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace")
    raise NetlinkError(call, error, words)
