"""The mount options of the specification (config.md, "Linux mount options"), as data.

`parse_options` sorts a list of options into what the kernel's interfaces take.
Everything that is not in the tables is data for the file system itself.
"""

from ocirun.linux.mount import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Option -> (attribute, True = set, False = clear). With an "r" before it, the
# same for the whole tree (mount_setattr(2), AT_RECURSIVE).
ATTRIBUTES = {
    "ro": (MOUNT_ATTR_RDONLY, True),
    "rw": (MOUNT_ATTR_RDONLY, False),
    "nosuid": (MOUNT_ATTR_NOSUID, True),
    "suid": (MOUNT_ATTR_NOSUID, False),
    "nodev": (MOUNT_ATTR_NODEV, True),
    "dev": (MOUNT_ATTR_NODEV, False),
    "noexec": (MOUNT_ATTR_NOEXEC, True),
    "exec": (MOUNT_ATTR_NOEXEC, False),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, True),
    "diratime": (MOUNT_ATTR_NODIRATIME, False),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, True),
    "symfollow": (MOUNT_ATTR_NOSYMFOLLOW, False),
}
# The access times are one field with three values; the negative forms ask for
# the kernel's default.
ACCESS_TIMES = {
    "noatime": MOUNT_ATTR_NOATIME,
    "atime": MOUNT_ATTR_RELATIME,
    "relatime": MOUNT_ATTR_RELATIME,
    "norelatime": MOUNT_ATTR_RELATIME,
    "strictatime": MOUNT_ATTR_STRICTATIME,
    "nostrictatime": MOUNT_ATTR_RELATIME,
}
PROPAGATION = {
    "private": MS_PRIVATE,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
    "rprivate": MS_PRIVATE | MS_REC,
    "rshared": MS_SHARED | MS_REC,
    "rslave": MS_SLAVE | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
# Flags of the superblock, and the words that take them back.
SUPERBLOCK = ("sync", "dirsync", "lazytime", "mand")
SUPERBLOCK_CLEAR = {"async": "sync", "nolazytime": "lazytime", "nomand": "mand"}
# Their values for mount(2), where one of the flags below makes that necessary.
MS_SUPERBLOCK = {"sync": 0x10, "dirsync": 0x80, "lazytime": 0x2000000, "mand": 0x40}
# Flags that only mount(2) knows: MS_I_VERSION and MS_SILENT.
MOUNT_ONLY = {"iversion": 0x800000, "silent": 0x8000}
MOUNT_ONLY_CLEAR = {"noiversion": "iversion", "loud": "silent"}
NOTHING = {"defaults"}
IDMAP = ("idmap", "ridmap")


def all_options() -> list[str]:
    """Every option that this version honours, sorted: for the features document."""
    recursive = {"r" + word for word in (*ATTRIBUTES, *ACCESS_TIMES)}
    words = recursive.union(
        ATTRIBUTES, ACCESS_TIMES, PROPAGATION, SUPERBLOCK, SUPERBLOCK_CLEAR,
        MOUNT_ONLY, MOUNT_ONLY_CLEAR, NOTHING, IDMAP, ("bind", "rbind", "remount", "tmpcopyup"),
    )  # fmt: skip
    return sorted(words)


def is_bind(entry: "dict[str, Any]") -> bool:
    """A mount of config.json is a bind mount, by its type or its options."""
    words = {entry.get("type"), *(entry.get("options") or ())}
    return "bind" in words or "rbind" in words


class Options:
    """A mount's options, sorted.

    Attributes:
        bind, recursive, remount: what kind of mount it is.
        copy_up: fill it with what is in its place.
        attr_set, attr_clr: MOUNT_ATTR_* for the mount itself.
        tree_set, tree_clr: the same for the whole tree.
        propagation: MS_* values, in order, each a change of its own.
        superblock: names of superblock flags; superblock_off: words that take some back.
        mount_only: MS_* flags that only mount(2) can set.
        data: (key, value or None) pairs for the file system.
        idmap: "idmap", "ridmap" (of the whole tree), or "".
    """

    __slots__ = (
        "attr_clr", "attr_set", "bind", "copy_up", "data", "idmap", "mount_only", "propagation",
        "recursive", "remount", "superblock", "superblock_off", "tree_clr", "tree_set",
    )  # fmt: skip

    def __init__(self) -> None:
        self.bind = self.recursive = self.remount = self.copy_up = False
        self.attr_set = self.attr_clr = self.tree_set = self.tree_clr = 0
        self.propagation: list[int] = []
        self.superblock: list[str] = []
        self.superblock_off: list[str] = []
        self.mount_only = 0
        self.data: list[tuple[str, str | None]] = []
        self.idmap = ""

    def of_a_new_file_system(self) -> list[str]:
        """The options that only a new file system can have (`silent` is nothing to speak of)."""
        words = list(self.superblock)
        words += [word for word, bit in MOUNT_ONLY.items() if self.mount_only & bit]
        if self.copy_up:
            words.append("tmpcopyup")
        return [word for word in words if word != "silent"]

    def attribute(self, word: str, tree: bool) -> bool:
        """Take an attribute option; the last word on an attribute counts."""
        if word in ACCESS_TIMES:
            bit, mask, on = ACCESS_TIMES[word], MOUNT_ATTR__ATIME, True
        elif word in ATTRIBUTES:
            bit, on = ATTRIBUTES[word]
            mask = bit
        else:
            return False
        setting = bit if on else 0
        # The access time field must be cleared to be set (mount_setattr(2)).
        clearing = mask if not on or mask == MOUNT_ATTR__ATIME else 0
        if tree:
            self.tree_set = self.tree_set & ~mask | setting
            self.tree_clr = self.tree_clr & ~mask | clearing
        else:
            self.attr_set = self.attr_set & ~mask | setting
            self.attr_clr = self.attr_clr & ~mask | clearing
        return True


def parse_options(words: list[str]) -> Options:
    """Sort the options of one mount."""
    result = Options()
    for word in words:
        if result.attribute(word, tree=False) or word in NOTHING:
            continue
        if word in PROPAGATION:
            result.propagation.append(PROPAGATION[word])
        elif word in ("bind", "rbind"):
            result.bind = True
            result.recursive = result.recursive or word == "rbind"
        elif word[:1] == "r" and result.attribute(word[1:], tree=True):
            continue
        elif word in SUPERBLOCK:
            if word not in result.superblock:
                result.superblock.append(word)
            result.superblock_off = [
                off for off in result.superblock_off if SUPERBLOCK_CLEAR[off] != word
            ]
        elif word in SUPERBLOCK_CLEAR:
            if SUPERBLOCK_CLEAR[word] in result.superblock:
                result.superblock.remove(SUPERBLOCK_CLEAR[word])
            result.superblock_off.append(word)
        elif word in MOUNT_ONLY:
            result.mount_only |= MOUNT_ONLY[word]
        elif word in MOUNT_ONLY_CLEAR:
            result.mount_only &= ~MOUNT_ONLY[MOUNT_ONLY_CLEAR[word]]
        elif word == "remount":
            result.remount = True
        elif word == "tmpcopyup":
            result.copy_up = True
        elif word in IDMAP:
            result.idmap = word
        else:
            key, equals, value = word.partition("=")
            result.data.append((key, value if equals else None))
    return result
