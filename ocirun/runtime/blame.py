"""Errors of an update speak of linux.resources: made to speak of what the caller gave. Cold."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ocirun.cgroups.resources import POINTER
from ocirun.errors import InvalidConfig, OcirunError

if TYPE_CHECKING:
    from ocirun.runtime.update import Source
    from ocirun.spec.validate import Finding


def blame(error: OcirunError, source: "Source") -> None:
    """Set where an error's pointers, and those of its findings, lead."""
    if isinstance(error, InvalidConfig) and error.findings:
        error.message = f"{source.name} is invalid"
        error.args = (error.message,)
        error.document = source.name
        error.findings = tuple(_found(one, source) for one in error.findings)  # type: ignore[arg-type]
    if not error.pointer.startswith(POINTER) and error.pointer not in source.options:
        return
    error.pointer = _pointer(error.pointer, source)
    line, column = _place(error.pointer, source)
    error.document = f"{source.name}:{line}:{column}" if line else source.name


def _found(finding: "Finding", source: "Source") -> "Finding":
    if not finding.pointer.startswith(POINTER):
        return finding
    pointer = _pointer(finding.pointer, source)
    line, column = _place(pointer, source)
    return replace(finding, pointer=pointer, line=line, column=column)


def _pointer(pointer: str, source: "Source") -> str:
    """The pointer from the top of the caller's document; or the option that set the property."""
    return source.options.get(pointer, pointer[len(POINTER) :])


def _place(pointer: str, source: "Source") -> tuple[int, int]:
    if not source.text:
        return 0, 0
    from ocirun.spec.positions import locate

    return locate(source.text, pointer)
