"""Log messages for journald and syslogd: `--log journald:NAME`, `--log syslog:NAME`. Cold.

The messages are those of crun under the same options, at most some ten kilobytes long.
"""

import errno
import os
import socket
import time

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_PRIORITIES = {"error": 3, "warning": 4, "debug": 7}  # syslog(3)
_LOG_USER = 1 << 3


def send(driver: str, name: str, level: str, message: str) -> bool:
    """Send a message under a name; False if the daemon is not there, or takes it not.

    Args:
        driver: "journald" or "syslog".
        name: the tag under which the message is found (`journalctl -t NAME`).
        level: "error", "warning" or "debug".
        message: one line or several.
    """
    try:
        if driver == "journald":
            _send(JOURNAL, _journal_entry(name, _PRIORITIES[level], message), socket.SOCK_DGRAM)
        else:
            _send_to_syslog(_syslog_entry(name, _PRIORITIES[level], message))
    except OSError:
        return False
    return True


def _journal_entry(name: str, priority: int, message: str) -> bytes:
    """An entry in the journal's native protocol: fields whose values may be any bytes."""
    fields = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": name, "ID": name}
    entry = b""
    for key, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        entry += b"%s\n%s%s\n" % (key.encode(), len(value).to_bytes(8, "little"), value)
    return entry


def _syslog_entry(name: str, priority: int, message: str) -> bytes:
    """An entry as syslog(3) writes it (RFC 3164)."""
    now = time.strftime("%b %e %H:%M:%S")
    line = " ".join(message.split("\n"))
    text = f"<{_LOG_USER | priority}>{now} {name}[{os.getpid()}]: {line}"
    return text.encode("utf-8", "backslashreplace")


def _send_to_syslog(entry: bytes) -> None:
    try:
        _send(SYSLOG, entry, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:  # an older daemon takes a stream of entries
            raise
        _send(SYSLOG, entry + b"\0", socket.SOCK_STREAM)


def _send(path: str, data: bytes, kind: int) -> None:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(5)  # a daemon that hangs does not hold up a container
        sock.connect(path)
        sock.sendall(data)
