"""The share of statistics that resctrl has to tell, in runc's form. Cold.

Source: the kernel's filesystems/resctrl.rst.
"""

from pathlib import Path
from typing import Any


def read_resctrl(place: str, group: str) -> dict[str, Any]:
    """What is known of a container's group; what the machine does not have is left out.

    Args:
        place: where resctrl is mounted. group: the folder of the group.
    """
    root = Path(place)
    found: dict[str, Any] = {}
    for resource, names, info, schema in (
        ("L3", ("cbm_mask", "min_cbm_bits", "num_closids"), "l3_cache_info", "l3_cache_schema"),
        (
            "MB",
            ("bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"),
            "mem_bw_info",
            "mem_bw_schema",
        ),
    ):
        facts = {name: _text(root / "info" / resource / name) for name in names}
        if not any(facts.values()):
            continue
        found[info] = {
            name: text if name == "cbm_mask" else int(text)
            for name, text in facts.items()
            if text.strip("0") or (text and name == "cbm_mask")
        }
        for key, folder in ((f"{schema}_root", root), (schema, Path(group))):
            lines = _text(folder / "schemata").splitlines()
            own = [line.strip() for line in lines if line.strip().startswith(f"{resource}:")]
            if own:
                found[key] = own[0]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
