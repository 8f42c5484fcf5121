"""Source lines, tests, proofs and docs/threats.md name the same countermeasures."""

import re
from pathlib import Path

import pytest

from ginseng.bench.threats import find_shown, rewrite

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/threats.md").read_text()
ROWS = re.findall(r"(?m)^\| `([A-Z][A-Z0-9]*\.[A-Z0-9_]+)`", DOCUMENT)


@pytest.fixture(scope="module")
def shown():
    return find_shown(ROOT)


def test_source_tests_and_table_name_the_same_countermeasures(shown):
    sources, tests = set(shown.sources), set(shown.tests)
    assert sources, "no countermeasure is named in any source"
    assert sources - tests == set(), "countermeasures without a test of their name"
    assert tests - sources == set(), "tests of countermeasures that no line enforces"
    assert sources ^ set(ROWS) == set(), "docs/threats.md and the sources differ"
    assert len(ROWS) == len(set(ROWS)), "docs/threats.md lists a countermeasure twice"


def test_proofs_are_of_countermeasures(shown):
    assert set(shown.proofs) <= set(shown.sources)


def test_the_table_says_which_tests_and_proofs_show_each(shown):
    assert rewrite(DOCUMENT, shown) == DOCUMENT, (
        "run python -m ginseng.bench.threats --write and commit docs/threats.md"
    )


def test_a_row_gets_its_tests_and_proofs(shown):
    row = "| `TEC.STORE_BARRIER` | programs | waits |  |  |"
    fresh = rewrite(row, shown)
    assert "`test_tec_write`" in fresh
    assert "`store-barrier`" in fresh
    assert rewrite(fresh, shown) == fresh
