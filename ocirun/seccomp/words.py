"""A filter in words, for `ocirun explain` and for errors. Cold."""

import errno

from ocirun.plan.seccomp import ACTIONS, ARCHITECTURES, ERRNO, TRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def describe(what: "Any", way: str) -> str:
    """A step `seccomp` in words: what the filter says, or how long its program is."""
    listener = ", and hand its listener to the agent" if way else ""
    if isinstance(what, bytes):
        return f"install the filter of system calls ({len(what) // 8} instructions){listener}"
    default, architectures, rules = what
    always: dict[int, set[str]] = {}
    sometimes: dict[int, set[str]] = {}
    for names, action, alternatives in rules:
        plain = alternatives == ((),)
        (always if plain else sometimes).setdefault(action, set()).update(names)
    parts = []
    for action in dict.fromkeys((*always, *sometimes)):
        if action == default:
            continue
        plain_names = always.get(action, set())
        some = sometimes.get(action, set()) - plain_names
        words = [_calls(plain_names)] if plain_names else []
        if some:
            words.append(f"{_calls(some)} by their arguments")
        parts.append(f"{action_name(action)} for {' and '.join(words)}")
    parts.append(f"{action_name(default)} for {'all others' if parts else 'all'}")
    where = f" ({', '.join(map(_architecture, architectures))})" if architectures else ""
    return f"filter system calls{where}: {', '.join(parts)}{listener}"


def action_name(action: int) -> str:
    """SCMP_ACT_* of a number, without the prefix, and with the error's name."""
    bare = action if action == ACTIONS["SCMP_ACT_KILL_PROCESS"] else action & 0x7FFF0000
    name = next(name for name, number in ACTIONS.items() if number == bare)
    if bare in (ERRNO, TRACE):
        number = action & 0xFFFF
        name += f"({errno.errorcode.get(number, number)})"
    return name.removeprefix("SCMP_ACT_")


def _calls(names: set[str]) -> str:
    if len(names) > 4:
        return f"{len(names)} calls"
    return ", ".join(sorted(names))


def _architecture(number: int) -> str:
    name = next(name for name, known in ARCHITECTURES.items() if known == number)
    return name.removeprefix("SCMP_ARCH_").lower()
