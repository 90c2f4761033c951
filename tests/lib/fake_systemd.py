"""A bus of its own with something on it that answers as systemd does, for tests.

As a script (ADDRESS FOLDER) it is that something: it takes the name
org.freedesktop.systemd1, writes each call as a line of JSON to FOLDER/calls, and moves
the processes of a scope into a cgroup. On v1 it writes device rules as systemd does, when it
is told of them and on Reload. FOLDER/behaviour changes its answers.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.freedesktop.systemd1"
MANAGER = DBusAddress("/org/freedesktop/systemd1", NAME, NAME + ".Manager")
CONFIG = """<busconfig>
<listen>{address}</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
</policy>
</busconfig>"""


class FakeSystemd:
    """What a test sees of it.

    Attributes:
        address: of the bus.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:path={folder}/bus"

    def behave(self, **how: Any) -> None:
        """Set what it does: `version`, `error` (of StartTransientUnit: [name, words]), `refuse` (of SetUnitProperties), `exists`
        (unit names that are taken until ResetFailedUnit), `result` (of jobs), `elsewhere`.
        """
        (self.folder / "behaviour").write_text(json.dumps(how))

    def calls(self, member: str) -> list[Any]:
        """The arguments of each call of that method so far."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [json.loads(line)[1] for line in lines if json.loads(line)[0] == member]

    def reload(self) -> None:
        """systemctl daemon-reload."""
        with open_dbus_connection(self.address) as connection:
            answer = connection.send_and_get_reply(new_method_call(MANAGER, "Reload"), timeout=10)
        assert answer.header.message_type is MessageType.method_return

    def properties(self) -> dict[str, Any]:
        """Property -> [signature, value] of the last StartTransientUnit."""
        return dict(self.calls("StartTransientUnit")[-1][2])


@contextmanager
def fake_systemd(folder: Path) -> Iterator[FakeSystemd]:
    """Run the bus and the fake on it, in a folder of their own."""
    folder.mkdir()
    fake = FakeSystemd(folder)
    fake.behave()
    (folder / "bus.conf").write_text(CONFIG.format(address=fake.address))
    daemon = ["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={folder}/bus.conf"]
    processes = []
    try:
        for command, sign in (
            (daemon, folder / "bus"),
            ([sys.executable, __file__, fake.address, str(folder)], folder / "calls"),
        ):
            processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
            deadline = time.monotonic() + 10
            while not sign.exists():
                assert processes[-1].poll() is None and time.monotonic() < deadline, command
                time.sleep(0.01)
        yield fake
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


class Server:
    """The fake itself, in a process of its own."""

    def __init__(self, connection: DBusConnection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder
        self.jobs = 0
        self.reset: set[str] = set()
        self.scopes: dict[str, list[Path]] = {}
        self.pids: dict[str, int] = {}
        self.devices: dict[str, dict[str, str]] = {}

    def serve(self) -> None:
        self.connection.send_and_get_reply(message_bus.RequestName(NAME))
        (self.folder / "calls").touch()
        while True:
            message = self.connection.receive()
            if message.header.message_type is not MessageType.method_call:
                continue
            member = message.header.fields[HeaderFields.member]
            with (self.folder / "calls").open("a") as file:
                file.write(json.dumps([member, message.body], default=list) + "\n")
            how = json.loads((self.folder / "behaviour").read_text())
            answer = getattr(self, member)(message, how)
            self.connection.send(answer)
            if member in ("StartTransientUnit", "StopUnit") and len(answer.body) == 1:
                self.end_job(answer, message.body[0], how.get("result", "done"))

    def job(self, message: Any) -> Any:
        self.jobs += 1
        return new_method_return(message, "o", (f"/org/freedesktop/systemd1/job/{self.jobs}",))

    def end_job(self, answer: Any, unit: str, result: str) -> None:
        if answer.header.message_type is MessageType.error:
            return
        other = ("uoss", (99, "/org/freedesktop/systemd1/job/99", "other.service", "failed"))
        own = ("uoss", (self.jobs, answer.body[0], unit, result))
        for signature, body in (other, own):
            self.connection.send(new_signal(MANAGER, "JobRemoved", signature, body))

    def Get(self, message: Any, how: Any) -> Any:
        return new_method_return(message, "v", (("s", how.get("version", "252.38-1~deb12u1")),))

    def Subscribe(self, message: Any, how: Any) -> Any:
        return new_method_return(message)

    def ResetFailedUnit(self, message: Any, how: Any) -> Any:
        self.reset.add(message.body[0])
        return new_method_return(message)

    def SetUnitProperties(self, message: Any, how: Any) -> Any:
        if how.get("refuse"):
            name, words = how["refuse"]
            return new_error(message, name, "s", (words,))
        unit, _, properties = message.body
        for name, (_, value) in properties:
            if (
                name == "DeviceAllow"
            ):  # an empty list clears, others are added (systemd's dbus-cgroup.c)
                self.devices[unit] = {**self.devices[unit], **dict(value)} if value else {}
        if any(name.startswith("Device") for name, _ in properties):
            self.write_devices(unit)
        return new_method_return(message)

    def Reload(self, message: Any, how: Any) -> Any:
        for unit in self.scopes:
            self.write_devices(unit)
        return new_method_return(message)

    def write_devices(self, unit: str) -> None:
        """Forbid everything, then allow what it has been told, in the unit's cgroup of v1."""
        own = Path(f"/proc/{self.pids[unit]}/cgroup").read_text()
        place = re.search(rf"^\d+:devices:(.*/{re.escape(unit)})$", own, re.MULTILINE)
        if not place:
            return
        folder = Path(f"/sys/fs/cgroup/devices{place[1]}")
        (folder / "devices.deny").write_text("a")
        for name, access in self.devices[unit].items():
            kind, number = re.fullmatch(r"(?:/dev/)?(char|block)[/-](.*)", name).groups()  # type: ignore[union-attr]
            number = number if ":" in number else f"{number}:*"
            (folder / "devices.allow").write_text(f"{kind[0]} {number} {access}")

    def StartTransientUnit(self, message: Any, how: Any) -> Any:
        unit, _, properties, _ = message.body
        if how.get("error"):
            name, words = how["error"]
            return new_error(message, name, "s", (words,))
        if unit in self.scopes or unit in set(how.get("exists", ())) - self.reset:
            words = f"Unit {unit} was already loaded or has a fragment file."
            return new_error(message, NAME + ".UnitExists", "s", (words,))
        facts = {name: value for name, (_, value) in properties}
        slices = facts["Slice"].removesuffix(".slice").split("-")
        parts = ["-".join(slices[: i + 1]) + ".slice" for i in range(len(slices))]
        if how.get("elsewhere"):
            parts = parts[:1]
        self.scopes[unit] = []
        self.pids[unit] = facts["PIDs"][0]
        self.devices[unit] = dict(facts.get("DeviceAllow", ()))
        for hierarchy in ("systemd", "unified"):
            scope = Path("/sys/fs/cgroup", hierarchy, *parts, unit)
            scope.mkdir(parents=True)
            self.scopes[unit].append(scope)
            for pid in facts["PIDs"]:
                (scope / "cgroup.procs").write_text(str(pid))
        return self.job(message)

    def StopUnit(self, message: Any, how: Any) -> Any:
        unit = message.body[0]
        if unit not in self.scopes:
            return new_error(message, NAME + ".NoSuchUnit", "s", (f"Unit {unit} not loaded.",))
        for scope in self.scopes.pop(unit):
            if scope.is_dir():
                scope.rmdir()
        return self.job(message)


if __name__ == "__main__":
    with open_dbus_connection(sys.argv[1]) as bus:
        Server(bus, Path(sys.argv[2])).serve()
