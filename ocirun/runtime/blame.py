"""Errors that speak of config.json: made to speak of the part of it that the caller gave. Cold."""

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ocirun.errors import InvalidConfig, OcirunError

if TYPE_CHECKING:
    from ocirun.spec.validate import Finding


class Given(Protocol):
    """A part of config.json that comes from elsewhere.

    Attributes:
        prefix: pointer to it in config.json. name: of the document, for messages.
        text: the document, "" without one.
        options: pointer, as into config.json, -> option of the command line that set it.
    """

    prefix: str
    name: str
    text: str
    options: dict[str, str]


def blame(error: OcirunError, source: Given) -> None:
    """Set where an error's pointers, and those of its findings, lead."""
    if isinstance(error, InvalidConfig) and error.findings:
        error.message = f"{source.name} is invalid"
        error.args = (error.message,)
        error.document = source.name
        error.findings = tuple(_found(one, source) for one in error.findings)  # type: ignore[arg-type]
    if not error.pointer.startswith(source.prefix) and error.pointer not in source.options:
        return
    error.pointer = _pointer(error.pointer, source)
    line, column = _place(error.pointer, source)
    error.document = f"{source.name}:{line}:{column}" if line else source.name


def _found(finding: "Finding", source: Given) -> "Finding":
    if not finding.pointer.startswith(source.prefix):
        return finding
    pointer = _pointer(finding.pointer, source)
    line, column = _place(pointer, source)
    return replace(finding, pointer=pointer, line=line, column=column)


def _pointer(pointer: str, source: Given) -> str:
    """The pointer from the top of the caller's document; or the option that set the property."""
    return source.options.get(pointer, pointer[len(source.prefix) :])


def _place(pointer: str, source: Given) -> tuple[int, int]:
    if not source.text:
        return 0, 0
    from ocirun.spec.positions import locate

    return locate(source.text, pointer)
