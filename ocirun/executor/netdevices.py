"""Moving network interfaces into the container (config-linux.md, "Network Devices").

Performed by the parent: only it may take an interface from the host. The kernel takes the
addresses from an interface that it moves, so they are read before and given back after.
"""

import posix

from ocirun.errors import InvalidConfig
from ocirun.linux import netlink
from ocirun.linux.ffi import SyscallError
from ocirun.linux.netlink import Route, attribute, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.executor.outside import Undo

ENODEV, EEXIST = 19, 17
_IFA_F_PERMANENT = 0x80
# What a user can ask for of an address (if_addr.h); the rest is the kernel's own bookkeeping.
_KEPT_FLAGS = 0x02 | 0x10 | 0x100 | 0x200 | 0x400
_KEPT = (
    netlink.IFA_ADDRESS,
    netlink.IFA_LOCAL,
    netlink.IFA_BROADCAST,
    netlink.IFA_RT_PRIORITY,
    netlink.IFA_PROTO,
)
_RT_SCOPE_UNIVERSE = 0
_MAX_LABEL = 15


def check(pid: int, name: str, inside: str) -> None:
    """See that an interface is there, and its name in the container free.

    Before any of them is moved: one that goes down with a container that fails is lost.
    """
    host, there, _ = _sockets(pid)
    try:
        if name not in host.links():
            raise SyscallError("RTM_GETLINK", ENODEV)
        if "%" not in inside and inside in there.links():
            raise InvalidConfig(
                f"the container has a network device {inside} already",
                hint="give it another name; a name that ends in %d becomes the first free one",
            )
    finally:
        host.close()
        there.close()


def move(pid: int, name: str, inside: str) -> "Undo":
    """Move an interface, restore its addresses, set it up.

    Returns what takes it back: as long as it is kept, the namespace lives, with or without init.
    """
    host, there, namespace = _sockets(pid, keep=True)
    try:
        index = host.links()[name]
        addresses, was_up = host.addresses(index), host.is_up(index)
        before = set(there.links().values())
        host.move(index, namespace, inside)
    except BaseException as error:
        _close(host, there, namespace)
        if isinstance(error, KeyError):
            raise SyscallError("RTM_GETLINK", ENODEV) from None
        raise

    def let_go() -> None:
        _close(host, there, namespace)

    def back() -> None:
        _take_back(host, there, before, name, addresses, was_up)
        let_go()

    try:
        new, number = _arrived(there, before)
        for address in addresses:
            message = translated(address, number, name, new)
            if message:
                there.add_address(message)
        there.set_up(number)
    except BaseException:
        back()
        raise
    return back, let_go


def translated(address: bytes, index: int, name: str, new: str) -> bytes:
    """The request for the same address on the interface in the container; b"" to leave it out.

    Those that the kernel has made by itself, or that mean something on one link only, stay behind.
    """
    family, prefix, bits, scope = address[:4]
    facts = attributes(address[8:])
    flags = int.from_bytes(facts.get(netlink.IFA_FLAGS, bytes((bits,))), "little")
    if not flags & _IFA_F_PERMANENT or scope != _RT_SCOPE_UNIVERSE:
        return b""
    flags &= _KEPT_FLAGS
    message = bytes((family, prefix, flags & 0xFF, scope)) + index.to_bytes(4, "little")
    for kind in _KEPT:
        if kind in facts:
            message += attribute(kind, facts[kind])
    message += attribute(netlink.IFA_FLAGS, flags.to_bytes(4, "little"))
    label = facts.get(netlink.IFA_LABEL, b"").rstrip(b"\0")
    if label.startswith(name.encode() + b":"):
        label = new.encode() + label[len(name.encode()) :]
        if len(label) <= _MAX_LABEL:
            message += attribute(netlink.IFA_LABEL, label + b"\0")
    return message


def _sockets(pid: int, keep: bool = False) -> tuple[Route, Route, int]:
    """Sockets in the runtime's namespace and in init's; the descriptor of init's, or -1."""
    path = f"/proc/{pid}/ns/net"
    namespace = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        host = Route()
        there = Route(namespace)
    except BaseException:
        posix.close(namespace)
        raise
    if keep:
        return host, there, namespace
    posix.close(namespace)
    return host, there, -1


def _close(host: Route, there: Route, namespace: int) -> None:
    host.close()
    there.close()
    posix.close(namespace)


def _arrived(there: Route, before: set[int]) -> tuple[str, int]:
    """The interface that was not there before: (name, index)."""
    for name, index in there.links().items():
        if index not in before:
            return name, index
    raise SyscallError("RTM_GETLINK", ENODEV)


def _take_back(
    host: Route, there: Route, before: set[int], name: str, addresses: list[bytes], was_up: bool
) -> None:
    """Give the interface back to the host as it was, as far as possible."""
    home = posix.open("/proc/thread-self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        _, number = _arrived(there, before)
        there.move(number, home, name)
        index = host.links()[name]
        for address in addresses:
            message = translated(address, index, name, name)
            if message:
                host.add_address(message)
        if was_up:
            host.set_up(index)
    except (OSError, KeyError):  # the error that led here is the one to tell
        pass
    finally:
        posix.close(home)


STEPS: "dict[str, Callable[..., Undo | None]]" = {
    "network-device-check": check,
    "network-device": move,
}
