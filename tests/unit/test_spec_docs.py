"""docs/validation.md: its example is a true transcript, its tables are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_spec_strict import BAD

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "validation.md").read_text()


def test_the_example_is_a_true_transcript(tmp_path):
    config = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1]
    transcript = re.search(r"```console\n(.*?)```", TEXT, re.DOTALL)[1]
    (tmp_path / "bundle" / "rootfs").mkdir(parents=True)
    (tmp_path / "bundle" / "config.json").write_text(config)
    run = subprocess.run(
        [sys.executable, "-m", "ocirun", "validate", "bundle"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    shown = f"$ ocirun validate bundle\n{run.stdout}$ echo $?\n{run.returncode}\n"
    assert shown == transcript


# A place in the table: a JSON pointer in which * stands for any one token.
PLACES = [
    re.compile(re.escape(place).replace(r"\*", "[^/]*"))
    for row in re.findall(r"^\| (`/.*?) \|", TEXT, re.MULTILINE)
    for place in re.findall(r"`(/[^`]*)`", row)
]


# The rule on NUL characters has no place of its own.
POINTERS = {p for _, *ps in BAD for p in ps} - {"/mounts/3/options/0", "/annotations/b"}


@pytest.mark.parametrize("pointer", sorted(p for p in POINTERS if "\0" not in p))
def test_every_strict_rule_is_in_the_table(pointer):
    assert any(place.fullmatch(pointer) for place in PLACES), pointer
