"""The mark of a row of a table: the properties of config.json that its values name."""

from typing import Any

import pytest

# Objects whose keys are names of the user's own.
MAPS = ("/linux/resources/unified", "/linux/resources/rdma", "/annotations", "/linux/sysctl")


def pointers(value: Any, at: str) -> list[str]:
    """Pointers of all leaves below `at`, with `*` for an index and for a key of the user's own."""
    if isinstance(value, dict) and value:
        parts = [
            (f"{at}/*" if at in MAPS else f"{at}/{key}", inner) for key, inner in value.items()
        ]
    elif isinstance(value, list) and value:
        parts = [(f"{at}/*", inner) for inner in value]
    else:
        return [at]
    return [pointer for path, inner in parts for pointer in pointers(inner, path)]


def resources_mark(resources: Any) -> pytest.MarkDecorator:
    """The mark for a test of these linux.resources."""
    return pytest.mark.spec(*dict.fromkeys(pointers(resources, "/linux/resources")))
