"""Mount options: every word of the specification's table goes where it belongs."""

import pytest

from ocirun.linux import mount as m
from ocirun.plan.options import ACCESS_TIMES, ATTRIBUTES, all_options, parse_options

# config.md, "Linux mount options".
SPECIFIED = """
async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev
nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private
ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime
rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid
rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
"""

SET = {
    "ro": m.MOUNT_ATTR_RDONLY,
    "nosuid": m.MOUNT_ATTR_NOSUID,
    "nodev": m.MOUNT_ATTR_NODEV,
    "noexec": m.MOUNT_ATTR_NOEXEC,
    "nodiratime": m.MOUNT_ATTR_NODIRATIME,
    "nosymfollow": m.MOUNT_ATTR_NOSYMFOLLOW,
    "noatime": m.MOUNT_ATTR_NOATIME,
    "strictatime": m.MOUNT_ATTR_STRICTATIME,
}


def test_every_option_of_the_specification_is_known() -> None:
    assert set(SPECIFIED.split()) == set(all_options())
    for word in SPECIFIED.split():
        options = parse_options([word])
        assert options.data == [], word


@pytest.mark.parametrize(("word", "bit"), SET.items())
def test_attribute_is_set_on_the_mount_or_on_the_tree(word: str, bit: int) -> None:
    assert parse_options([word]).attr_set == bit
    assert parse_options([word]).tree_set == 0
    assert parse_options(["r" + word]).tree_set == bit
    assert parse_options(["r" + word]).attr_set == 0


@pytest.mark.parametrize(
    ("words", "attr_set", "attr_clr"),
    [
        (["ro", "rw"], 0, m.MOUNT_ATTR_RDONLY),
        (["rw", "ro"], m.MOUNT_ATTR_RDONLY, 0),
        (["noexec", "exec", "nosuid"], m.MOUNT_ATTR_NOSUID, m.MOUNT_ATTR_NOEXEC),
        (["noatime", "strictatime"], m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR__ATIME),
        (["noatime", "atime"], 0, m.MOUNT_ATTR__ATIME),
        (["relatime"], 0, m.MOUNT_ATTR__ATIME),
        ([], 0, 0),
    ],
)
def test_the_last_word_on_an_attribute_counts(
    words: list[str], attr_set: int, attr_clr: int
) -> None:
    options = parse_options(words)
    assert (options.attr_set, options.attr_clr) == (attr_set, attr_clr)


def test_no_recursive_word_shadows_a_plain_one() -> None:
    # "ro" is not the recursive form of an option "o", "relatime" not of "elatime".
    for word in (*ATTRIBUTES, *ACCESS_TIMES):
        options = parse_options([word])
        assert options.tree_set == options.tree_clr == 0, word


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rprivate"], [m.MS_PRIVATE | m.MS_REC]),
        (["shared", "slave"], [m.MS_SHARED, m.MS_SLAVE]),
        (["runbindable"], [m.MS_UNBINDABLE | m.MS_REC]),
    ],
)
def test_propagation_keeps_its_order(words: list[str], expected: list[int]) -> None:
    assert parse_options(words).propagation == expected


def test_superblock_flags_can_be_taken_back() -> None:
    assert parse_options(["sync", "lazytime", "async"]).superblock == ["lazytime"]
    assert parse_options(["mand", "mand"]).superblock == ["mand"]


def test_what_is_in_no_table_is_for_the_file_system() -> None:
    options = parse_options(["mode=755", "size=64k", "newinstance", "x=a=b"])
    assert options.data == [
        ("mode", "755"),
        ("size", "64k"),
        ("newinstance", None),
        ("x", "a=b"),
    ]


@pytest.mark.parametrize(
    ("words", "idmap"), [(["ro"], ""), (["ridmap", "ro", "idmap"], "idmap"), (["ridmap"], "ridmap")]
)
def test_the_last_of_idmap_and_ridmap_counts(words: list[str], idmap: str) -> None:
    assert parse_options(words).idmap == idmap
