"""Every sentence of what engines rely on has a test, which says so: `@pytest.mark.contract("...")`.

The contracts are no part of this repository: they are looked for in
`../shared/engine-contracts.md` beside it, or where OCIRUN_CONTRACTS says.
"""

import ast
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = Path(
    os.environ.get("OCIRUN_CONTRACTS") or ROOT.parent / "shared" / "engine-contracts.md"
)
# Ends of a clause: ; or . before a space, but not inside `code`.
ENDS = re.compile(r"(?<=[;.])\s+(?=(?:[^`]*`[^`]*`)*[^`]*$)")

if not CONTRACTS.is_file():
    pytest.skip(
        f"the contracts are absent: {CONTRACTS} (set OCIRUN_CONTRACTS)", allow_module_level=True
    )


def clauses() -> list[str]:
    """The bullets of the document, cut at full stops and semicolons, each in one line."""
    bullets = re.findall(r"^- (.*(?:\n  .*)*)", CONTRACTS.read_text(), re.MULTILINE)
    return [clause for bullet in bullets for clause in ENDS.split(" ".join(bullet.split()))]


def quotes() -> dict[str, list[str]]:
    """Words that marks quote -> the places of these marks."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "contract":
                for words in node.args:
                    place = f"{path.relative_to(ROOT)}:{node.lineno}"
                    found.setdefault(ast.literal_eval(words), []).append(place)
    return found


QUOTES = quotes()


def claims() -> list[tuple[str, str]]:
    """(clause, what must be quoted of it): each piece of `code` in it, or if it has none, any."""
    return [
        (clause, piece) for clause in clauses() for piece in re.findall(r"`[^`]+`", clause) or [""]
    ]


@pytest.mark.parametrize(("clause", "piece"), claims())
def test_has_a_test(clause: str, piece: str) -> None:
    assert any(words in clause and piece in words for words in QUOTES)


@pytest.mark.parametrize("words", QUOTES)
def test_quotes_the_contracts(words: str) -> None:
    assert any(words in clause for clause in clauses()), QUOTES[words]
