"""USER[:GROUP]: from the image's own files, and never by surprise."""

import os
from pathlib import Path

import pytest
from lib.archives import Canary

from ocirun.errors import ImageError, OcirunError, UsageError
from ocirun.image.users import User, resolve_user

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# comment:x:1:1::/:

web:x:33:34:www:/var/www:/usr/sbin/nologin
1000:x:0:0:a number as a name:/root:/bin/sh
+web2:x:0:0::/:
huge:x:4294967296:0::/:
minus:x:-1:0::/:
last:x:4294967294:4294967294::/:
nobody4:x:4294967295:0::/:
badgid:x:5:5x::/:
spaced:x: 0:0::/:
empty:x::0::/:
short:x:7
web:x:0:0:a second one:/:/bin/sh
arabic:x:٣:0::/:
crlf:x:12:13::/:\r
"""
GROUP = """\
root:x:0:
web:x:34:
users:x:100:web,root
adm:x:4:other,web
twice:x:100:web
webmaster:x:77:webmaster
2000:x:0:
bad:x:x:
"""


@pytest.fixture
def rootfs(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return str(tmp_path)


RESOLVED = {
    "": User(0, 0),
    "0": User(0, 0),
    "1000": User(1000, 0),
    "1000:1000": User(1000, 1000),
    "1:2": User(1, 2),
    "4294967294:4294967294": User(4294967294, 4294967294),
    "007": User(7, 0),
    "33": User(33, 0),
    "root": User(0, 0, (100,)),
    "web": User(33, 34, (100, 4)),
    "web:0": User(33, 0),
    "web:users": User(33, 100),
    "web:2000": User(33, 2000),
    "5:adm": User(5, 4),
    "last": User(4294967294, 4294967294),
    "crlf": User(12, 13),
}


@pytest.mark.parametrize("wanted", RESOLVED)
def test_resolved(rootfs: str, wanted: str) -> None:
    assert resolve_user(rootfs, wanted) == RESOLVED[wanted]


REFUSED = {
    "-1": "out of range",
    "+1": "out of range",
    "4294967295": "out of range",
    "4294967296": "out of range",
    "1:4294967295": "out of range",
    "1:-1": "out of range",
    "99999999999999999999": "out of range",
    ":": "invalid user",
    ":5": "invalid user",
    "5:": "invalid user",
    "1:2:3": "invalid user",
    "missing": "no user 'missing'",
    "٣": "no user",
    "0x0": "no user",
    "1000 ": "no user",
    "we": "no user",
    "# comment": "no user",
    "short": "no user",
    "web:nogroup": "no group 'nogroup'",
    "web:bad": "id 'x', which nobody can have",
    "huge": "id '4294967296'",
    "minus": "id '-1'",
    "nobody4": "id '4294967295'",
    "badgid": "id '5x'",
    "spaced": "id ' 0'",
    "empty": "id ''",
    "arabic": "which nobody can have",
}


@pytest.mark.parametrize("wanted", REFUSED)
def test_refused(rootfs: str, wanted: str) -> None:
    with pytest.raises(OcirunError) as failure:
        resolve_user(rootfs, wanted)
    assert isinstance(failure.value, UsageError | ImageError)
    assert REFUSED[wanted] in failure.value.message


def test_no_files(tmp_path: Path) -> None:
    assert resolve_user(str(tmp_path), "5:6") == User(5, 6)
    with pytest.raises(ImageError, match="cannot read"):
        resolve_user(str(tmp_path), "root")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/:")
    assert resolve_user(str(tmp_path), "root") == User(0, 0)


@pytest.mark.parametrize(
    "trap", ["absolute link", "relative link", "directory link", "fifo", "large"]
)
def test_traps(tmp_path: Path, trap: str) -> None:
    """The host's file is never read, nothing blocks, and size is bounded."""
    canary = Canary(tmp_path / "canary")
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    match trap:
        case "directory link":
            (rootfs / "etc").symlink_to(canary.root / "etc")
        case _:
            (rootfs / "etc").mkdir()
    passwd = rootfs / "etc" / "passwd"
    match trap:
        case "absolute link":
            passwd.symlink_to(canary.root / "etc" / "passwd")
        case "relative link":
            passwd.symlink_to("../../canary/etc/passwd")
        case "fifo":
            os.mkfifo(passwd)
        case "large":
            with passwd.open("wb") as file:
                file.truncate(1 << 40)
    with pytest.raises(ImageError, match="cannot read"):
        resolve_user(str(rootfs), "root")
    canary.check()


def test_links_inside_the_image_work(tmp_path: Path) -> None:
    (tmp_path / "usr/etc").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("/usr/etc")
    (tmp_path / "usr/etc/passwd.real").write_text("web:x:33:34::/:\n")
    (tmp_path / "usr/etc/passwd").symlink_to("passwd.real")
    assert resolve_user(str(tmp_path), "web") == User(33, 34)
