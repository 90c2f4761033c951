"""What an image says about the process it was made for.

The configuration of an OCI image (image-spec, config.md) comes from a stranger:
every value is checked for its type here, once, and the rest of the package works
with `ImageConfig`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from ocirun.errors import ImageError

# Largest JSON document in an image (index, manifest, config).
MAX_JSON = 4 << 20


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Defaults for a container of the image; empty means that the image says nothing."""

    architecture: str = ""
    created: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""

    def facts(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        lists = {"env": self.env, "entrypoint": self.entrypoint, "cmd": self.cmd}
        return asdict(self) | {name: list(value) for name, value in lists.items()}


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ImageError: no JSON, no object, or nested too deeply.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"{what} is not a JSON object")
    return value


def parse_config(document: dict[str, Any]) -> ImageConfig:
    """Read an image's configuration document.

    Raises:
        ImageError: a value has the wrong type, or the image is for another system than Linux.
    """
    system = text(document, "os", "image config")
    if system not in ("", "linux"):
        raise ImageError(f"the image is for {system[:80]!r}, not for linux")
    process = mapping(document, "config", "image config")
    return ImageConfig(
        architecture=text(document, "architecture", "image config"),
        created=text(document, "created", "image config"),
        env=texts(process, "Env", "image config"),
        entrypoint=texts(process, "Entrypoint", "image config"),
        cmd=texts(process, "Cmd", "image config"),
        working_dir=text(process, "WorkingDir", "image config"),
        user=text(process, "User", "image config"),
    )


def text(document: dict[str, Any], key: str, what: str) -> str:
    """A string without NUL; absent or null is ""."""
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise ImageError(f"{what}: {key} is not a string")
    return value


def texts(document: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    """A list of strings without NUL; absent or null is empty."""
    value = document.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(v, str) and "\0" not in v for v in value):
        raise ImageError(f"{what}: {key} is not a list of strings")
    return tuple(value)


def mapping(document: dict[str, Any], key: str, what: str) -> dict[str, Any]:
    """An object; absent or null is empty."""
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ImageError(f"{what}: {key} is not an object")
    return value


def mappings(document: dict[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """A list of objects; absent or null is empty."""
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ImageError(f"{what}: {key} is not a list of objects")
    return value
