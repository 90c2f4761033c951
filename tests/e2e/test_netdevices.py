"""linux.netDevices: moved into the container, renamed, with their addresses, and up.

The host's side is a network namespace of the test's own, in which the runtime is started: no
interface of the machine is touched. The interfaces are pairs of veth.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for

pytestmark = pytest.mark.only("ocirun")

DEVICES = "/linux/netDevices"


class Net:
    """A network namespace of the test's own, with one end of a pair, va, and the other, vb."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        comm = Path(f"/proc/{self.process.pid}/comm")
        wait_for(lambda: comm.read_text() == "sleep\n", "unshare")
        self.path = f"/proc/{self.process.pid}/ns/net"
        self.prefix = ("nsenter", f"--net={self.path}")

    def ip(self, *args: str) -> Any:
        command = [*self.prefix, "ip", "-json", *args]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        return json.loads(done.stdout or "[]")

    def names(self) -> set[str]:
        return {link["ifname"] for link in self.ip("link")}

    def addresses(self, name: str) -> set[str]:
        (link,) = self.ip("address", "show", "dev", name)
        return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]}


@pytest.fixture
def make_net() -> Iterator[Callable[[], Net]]:
    made: list[Net] = []

    def make() -> Net:
        made.append(Net())
        return made[-1]

    yield make
    for net in made:
        net.process.kill()
        net.process.wait()


@pytest.fixture
def net(make_net: Callable[[], Net], runtime: Runtime) -> Net:
    """The runtime's own network namespace."""
    net = make_net()
    net.ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
    net.ip("link", "set", "vb", "up")
    runtime.prefix = net.prefix
    return net


SEEN = "ip -o link; echo; ip -o addr; ip -o link"


def inside(runtime: Runtime, bundle: Bundle) -> tuple[dict[str, str], list[str]]:
    """Names of the container's interfaces with their flags; its addresses."""
    out = runtime.run(bundle.sh(SEEN)).ok().out
    links, _, addresses = out.partition("\n\n")
    found = {}
    for line in links.splitlines():
        words = line.split()
        found[words[1].split("@")[0].rstrip(":")] = words[2]
    return found, addresses.splitlines()


@pytest.mark.spec("/linux/netDevices", "/linux/netDevices/*", "/linux/netDevices/*/name")
@pytest.mark.parametrize(
    ("devices", "names"),
    [
        ({"va": {}}, {"lo", "va"}),
        ({"va": {"name": ""}}, {"lo", "va"}),
        ({"va": {"name": "eth0"}}, {"lo", "eth0"}),
        ({"va": {"name": "eth%d"}}, {"lo", "eth0"}),
        ({"va": {"name": "eth%d"}, "vb": {"name": "eth%d"}}, {"lo", "eth0", "eth1"}),
        ({"va": {"name": "vb"}, "vb": {"name": "va"}}, {"lo", "va", "vb"}),
    ],
    ids=["same", "empty", "renamed", "template", "two-of-a-template", "swapped"],
)
@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_moved_and_up(
    runtime: Runtime, bundle: Bundle, net: Net, devices: Any, names: set[str], user: bool
) -> None:
    if user:
        bundle.user_namespace()
    links, _ = inside(runtime, bundle.set(DEVICES, devices))
    assert set(links) == names
    assert all("UP" in flags.strip("<>").split(",") for flags in links.values()), links
    assert not net.names() & set(devices), "they end with the container, and never come back"


def test_what_an_interface_keeps(runtime: Runtime, bundle: Bundle, net: Net) -> None:
    """Permanent addresses with global scope, the MAC address, the MTU."""
    net.ip("link", "set", "va", "up", "mtu", "1400", "address", "02:00:00:00:00:07")
    for address in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.1/32", "2001:db8::1/64"):
        net.ip("address", "add", address, "dev", "va")
    net.ip("address", "add", "192.0.2.9/24", "dev", "va", "label", "va:x")
    net.ip("address", "add", "203.0.113.1/24", "dev", "va", "scope", "link")
    life = ("valid_lft", "1000", "preferred_lft", "1000")
    net.ip("address", "add", "198.18.0.2/24", "dev", "va", *life)
    bundle.set(DEVICES, {"va": {"name": "eth0"}})
    _, lines = inside(runtime, bundle.sh(SEEN))
    text = "\n".join(line for line in lines if "eth0" in line)
    for address in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.1/32", "2001:db8::1/64"):
        assert address in text
    assert "192.0.2.9/24" in text
    assert "eth0:x" in text
    assert "203.0.113" not in text
    assert "198.18" not in text
    assert "mtu 1400" in text
    assert "02:00:00:00:00:07" in text


def test_traffic_flows(runtime: Runtime, bundle: Bundle, net: Net) -> None:
    net.ip("address", "add", "192.0.2.1/24", "dev", "va")
    net.ip("address", "add", "192.0.2.2/24", "dev", "vb")
    bundle.set(DEVICES, {"va": {"name": "eth0"}}).sh("ping -c 1 -W 5 192.0.2.2")
    for name in ("bounding", "permitted", "effective"):
        bundle.add(f"/process/capabilities/{name}", "CAP_NET_RAW")
    assert "1 packets received" in runtime.run(bundle).ok().out


def test_it_is_there_before_the_parameters(runtime: Runtime, bundle: Bundle, net: Net) -> None:
    """So that parameters of the interface can be set, and hooks find it."""
    bundle.set(DEVICES, {"va": {"name": "eth0"}})
    bundle.set("/linux/sysctl", {"net.ipv4.conf.eth0.forwarding": "1"})
    bundle.set("/hooks", {"createContainer": [
        {"path": "/bin/sh", "args": ["sh", "-c", "grep -q eth0 /proc/self/net/dev"]}]})  # fmt: skip
    out = runtime.run(bundle.sh("cat /proc/sys/net/ipv4/conf/eth0/forwarding")).ok().out
    assert out == "1\n"


def test_into_a_namespace_that_is_joined(
    runtime: Runtime, bundle: Bundle, net: Net, make_net: Callable[[], Net]
) -> None:
    """It stays there: the namespace is its owner's."""
    other = make_net()
    other.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    bundle.namespace("network", other.path).set(DEVICES, {"va": {"name": "eth%d"}})
    runtime.run(bundle.sh("true")).ok()
    assert other.names() == {"lo", "eth0", "eth1", "eth2"}
    assert net.names() == {"lo", "vb"}


FAILURES = [
    ({"no-such": {}}, ["/linux/netDevices/no-such", "ENODEV", "/sys/class/net"]),
    ({"va": {"name": "lo"}}, ["/linux/netDevices/va", "lo already", "%d"]),
    ({"lo": {"name": "eth0"}}, ["/linux/netDevices/lo", "RTM_NEWLINK", "EINVAL"]),
    ({"va": {}, "no-such": {}}, ["/linux/netDevices/no-such", "ENODEV"]),
    ({"va": {}, "vb": {"name": "lo"}}, ["/linux/netDevices/vb", "lo already"]),
    ({"va": {}, "lo": {"name": "eth0"}}, ["/linux/netDevices/lo", "EINVAL"]),
    ({"va": {"name": "x" * 16}}, ["/linux/netDevices/va/name", "15 bytes"]),
    ({"va": {"name": "a/b"}}, ["/linux/netDevices/va/name"]),
    ({"va": {"name": "a%s"}}, ["/linux/netDevices/va/name", "template"]),
    ({"va": {"name": "same"}, "vb": {"name": "same"}}, ["/linux/netDevices/vb/name", "same"]),
]


@pytest.mark.spec("/linux/netDevices/*/name")
@pytest.mark.parametrize(("devices", "words"), FAILURES)
def test_what_cannot_be_moved(
    runtime: Runtime, bundle: Bundle, net: Net, devices: Any, words: list[str]
) -> None:
    """The host keeps what it had, with its addresses and its state."""
    net.ip("address", "add", "192.0.2.1/24", "dev", "va")
    net.ip("link", "set", "va", "up")
    before = {name: net.addresses(name) for name in net.names()}
    runtime.run(bundle.set(DEVICES, devices)).failed(*words)
    assert runtime.containers() == []
    assert net.names() == set(before)
    assert net.addresses("va") >= {"192.0.2.1/24"}
    (link,) = net.ip("link", "show", "dev", "va")
    assert "UP" in link["flags"]


def test_a_container_that_fails_later_gives_them_back(
    runtime: Runtime, bundle: Bundle, net: Net
) -> None:
    """A virtual interface would end with the container's network namespace."""
    net.ip("address", "add", "192.0.2.1/24", "dev", "va")
    bundle.set(DEVICES, {"va": {"name": "eth0"}})
    for spoil in (
        lambda: bundle.set("/hooks/createRuntime", [{"path": "/bin/false"}]),
        lambda: bundle.drop("/hooks").args("/no/such/program"),
        lambda: bundle.mount("/mnt", "nosuchfs", "none"),
    ):
        spoil()
        runtime.create(bundle).failed()
        assert net.names() == {"lo", "va", "vb"}
        assert net.addresses("va") >= {"192.0.2.1/24"}


@pytest.mark.parametrize("own", ["shared", "by path"])
def test_without_a_network_namespace_of_its_own(
    runtime: Runtime, bundle: Bundle, net: Net, own: str
) -> None:
    if own == "shared":
        bundle.drop_namespace("network")
    else:
        bundle.namespace("network", net.path)
    bundle.set(DEVICES, {"va": {"name": "eth0"}})
    runtime.run(bundle).failed("/linux/netDevices", "network namespace")
    assert net.names() == {"lo", "va", "vb"}


def test_explained(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set(DEVICES, {"va": {"name": "eth0"}}).write()
    said = runtime.call("explain", bundle.path).ok().out
    assert "move the network device va into the container as eth0" in said
    assert "/linux/netDevices/va" in said


def test_by_the_library(runtime: Runtime, bundle: Bundle, net: Net, folder: Path) -> None:
    """There the caller moves it, and another process clones init."""
    bundle.set(DEVICES, {"va": {"name": "eth0"}}).sh("ip link show dev eth0").write()
    script = f"""
import ocirun
with ocirun.Runtime({str(folder / "library")!r}) as runtime:
    print(runtime.run({str(bundle.path)!r}, stdout=ocirun.PIPE, check=True).stdout.decode())
"""
    here = Path(__file__).parents[2]
    command = [*net.prefix, here / ".venv/bin/python", "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20, cwd=here)
    assert "UP" in done.stdout
    assert "va" not in net.names()
