"""Source lines, tests and docs/threats.md name the same countermeasures."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = r"[A-Z][A-Z0-9]*\.[A-Z0-9_]+"


def names(pattern, files):
    found = set()
    for path in files:
        found |= set(re.findall(pattern, path.read_text()))
    return found


def test_source_tests_and_table_name_the_same_countermeasures():
    sources = names(
        rf"# SEC: ({NAME})", [p for r in ("hw", "sw", "sim") for p in (ROOT / r).rglob("*.py")]
    )
    tests = names(rf'mark\.sec\("({NAME})"\)', (ROOT / "tests").rglob("*.py"))
    rows = re.findall(rf"(?m)^\| `({NAME})`", (ROOT / "docs/threats.md").read_text())
    table = set(rows)
    assert sources, "no countermeasure is named in any source"
    assert sources - tests == set(), "countermeasures without a test of their name"
    assert tests - sources == set(), "tests of countermeasures that no line enforces"
    assert sources ^ table == set(), "docs/threats.md and the sources differ"
    assert len(rows) == len(table), "docs/threats.md lists a countermeasure twice"
