"""What the labs run: the parts of the suite whose answer depends on the kernel or its cgroups.

A container takes about a second in a lab, so these are chosen, not all. Every file
with a test that is marked `lab` must be listed (test_harness.py).
"""

from dataclasses import dataclass, field
from xml.etree import ElementTree

import pytest

from .boot import Lab, Result

ALL = (
    "tests/root/test_cgroups_v2_limits.py",
    "tests/root/test_cgroups_v2.py",
    "tests/e2e/test_pure_v2.py",
    "tests/e2e/test_rootless_v2.py",
)
UML = (
    *ALL,
    "tests/e2e/test_library.py",
    "tests/e2e/test_update.py::test_options",
    "tests/e2e/test_update.py::test_memory_and_swap_grow_together",
    "tests/e2e/test_update.py::test_second_update_knows_the_first",
    "tests/e2e/test_update.py::test_all_or_nothing",
    "tests/e2e/test_events.py::test_memory",
    "tests/e2e/test_events.py::test_cpu",
    "tests/e2e/test_events.py::test_throttling",
    "tests/e2e/test_events.py::test_out_of_memory",
)
QEMU = (
    *ALL,
    "tests/e2e/test_systemd_real.py",
    "tests/e2e/test_checkpoint.py::test_processes_a_pipe_and_an_open_file_go_on",
    "tests/e2e/test_checkpoint.py::test_tcp_connection",
    "tests/e2e/test_checkpoint.py::test_terminal",
    "tests/e2e/test_checkpoint.py::test_leave_running",
    "tests/e2e/test_checkpoint.py::test_pre_dump_and_parent",
    "tests/e2e/test_library_checkpoint.py::test_streams_and_exit_status",
)
ALL_LABS = (UML, QEMU)
BY_HAND = (
    "tests/e2e/test_checkpoint.py",
    "tests/e2e/test_checkpoint_options.py",
    "tests/e2e/test_library_checkpoint.py",
    "tests/e2e/test_library_guide.py",
)
"""Files of which the rest is too slow for every run: `make lab LAB=qemu TESTS=...`."""


@dataclass
class Inner:
    """The tests of one file in a lab, by their names."""

    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def run(lab: Lab, tests: tuple[str, ...], timeout: float) -> tuple[Result, dict[str, Inner]]:
    """Runs the tests in the lab; what became of them, by file."""
    command = [lab.python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    command += ["--timeout=240", "--junitxml=/run/lab/report.xml", *tests]
    result = lab.run(command, timeout)
    return result, read(result.files.get("report.xml", "<none/>"))


def read(report: str) -> dict[str, Inner]:
    """A JUnit report of pytest, by file."""
    found: dict[str, Inner] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        name, file = case.get("name", ""), case.get("classname", "").replace(".", "/") + ".py"
        inner = found.setdefault(file, Inner())
        problems = [child for child in case if child.tag in ("failure", "error")]
        skips = [child for child in case if child.tag == "skipped"]
        if problems:
            texts = [inner.failed.get(name, ""), *(child.text or "" for child in problems)]
            inner.failed[name] = "\n\n".join(filter(None, texts))
        elif skips:
            inner.skipped[name] = skips[0].get("message", "")
        elif name not in inner.failed:
            inner.passed.append(name)
    return found


def summary(lab: Lab, inners: dict[str, Inner]) -> list[str]:
    """Lines for people: counts, and each reason to skip with the names of its tests."""
    passed = sum(len(inner.passed) for inner in inners.values())
    failed = sum(len(inner.failed) for inner in inners.values())
    reasons: dict[str, list[str]] = {}
    for inner in inners.values():
        for name, reason in inner.skipped.items():
            reasons.setdefault(reason, []).append(name.partition("[")[0])
    skipped = sum(map(len, reasons.values()))
    lines = [f"{lab.name} lab: {passed} passed, {failed} failed, {skipped} skipped"]
    return lines + [
        f"  {reason}: {', '.join(dict.fromkeys(names))}" for reason, names in reasons.items()
    ]


def files(tests: tuple[str, ...]) -> list[str]:
    """The files of a selection, each once."""
    return list(dict.fromkeys(test.partition("::")[0] for test in tests))


def check(inners: dict[str, Inner], file: str) -> None:
    """Fails with what the tests of the file said in the lab; or if none of them has run."""
    inner = inners.get(file, Inner())
    said = "\n\n".join(f"{name}:\n{text}" for name, text in inner.failed.items())
    if inner.failed:
        pytest.fail(f"{len(inner.failed)} of {file} failed in the lab:\n\n{said}", pytrace=False)
    if not inner.passed:
        pytest.fail(f"nothing of {file} has run in the lab: {inner.skipped}", pytrace=False)
