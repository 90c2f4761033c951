"""Lists of numbers such as "0-3,7", for CPUs and memory nodes (cpuset(7), "List format"). Cold."""

MAX_CPU = 8191
"""The highest CPU that a kernel can be built for (CONFIG_NR_CPUS)."""

MAX_NODE = 1023
"""The highest memory node (CONFIG_NODES_SHIFT)."""


def number_list(text: str, highest: int) -> list[tuple[int, int]]:
    """The ranges (first, last) of a list, in its order.

    Spaces around an entry are allowed, as the schema has it; nothing else is but digits, "-"
    and ",". Raises ValueError, with words for people, for what is no such list, for a range
    that runs backwards, and for a number above `highest`. An empty list is an error too.
    """
    found = []
    for part in text.split(","):
        entry = part.strip(" ")
        first, dash, last = entry.partition("-")
        if not _digits(first) or (dash and not _digits(last)):
            raise ValueError(f'"{entry[:40]}" is neither a number nor a range such as 0-3')
        low = int(first)
        high = int(last) if dash else low
        if low > high:
            raise ValueError(f'"{entry}" runs backwards')
        if high > highest:
            raise ValueError(f"{high} is above {highest}, the highest that Linux can have")
        found.append((low, high))
    return found


def mask_of(ranges: list[tuple[int, int]]) -> int:
    """The numbers of all ranges as a bit mask."""
    mask = 0
    for low, high in ranges:
        mask |= (1 << (high + 1)) - (1 << low)
    return mask


def _digits(text: str) -> bool:
    # The length keeps int() cheap.
    return text.isascii() and text.isdigit() and len(text) < 10
