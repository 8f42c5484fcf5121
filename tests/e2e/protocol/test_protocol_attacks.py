"""The protocol holds against every move of the host, and each binding is there for a reason."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from protocol_model.findings import COVERED, FINDINGS, Covered, Finding
from protocol_model.protocol import Switch
from protocol_model.scenarios import SCENARIOS
from protocol_model.search import Outcome, explore

PAGE = Path(__file__).parents[3] / "docs" / "protocol.md"


@cache
def searched(title: str) -> Outcome:
    return explore(SCENARIOS[title])


def named(off: tuple[Switch, ...]) -> str:
    return "+".join(switch.name for switch in off)


@pytest.mark.parametrize("title", SCENARIOS)
def test_no_attack_exists_while_all_bindings_are_on(title: str):
    outcome = searched(title)
    print(outcome)
    assert outcome.attack is None, f"\n{outcome.attack}"


@pytest.mark.parametrize("title", [title for title in SCENARIOS if title != "two programs"])
def test_an_honest_host_can_complete_all_runs(title: str):
    assert searched(title).completed


def test_a_table_with_two_entries_is_refused_before_anything_else():
    assert set(searched("two programs").refused) == {"ROW_ENTRY"}


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f"{named(f.off)}-{f.violated.name}")
def test_without_a_binding_the_search_finds_the_attack(finding: Finding):
    attack = finding.search().attack
    print(f"Without {named(finding.off)} ({finding.scenario}): {finding.attack}\n{attack}")
    assert attack is not None
    assert attack.violated is finding.violated
    assert finding.detail in attack.detail
    assert attack.steps


@pytest.mark.parametrize(
    "finding", [f for f in FINDINGS if len(f.off) > 1], ids=lambda f: named(f.off)
)
def test_an_attack_on_two_bindings_needs_both_of_them_gone(finding: Finding):
    for switch in finding.off:
        alone = explore(
            SCENARIOS[finding.scenario], frozenset({switch}), frozenset({finding.violated})
        )
        assert alone.attack is None, f"\n{alone.attack}"


@pytest.mark.parametrize("covered", COVERED, ids=lambda c: named(c.off))
def test_what_is_said_to_be_covered_by_another_binding_is(covered: Covered):
    for title in covered.scenarios:
        outcome = explore(SCENARIOS[title], frozenset(covered.off), covered.properties)
        assert outcome.attack is None, f"\n{outcome.attack}"
        assert outcome.completed


def test_every_binding_has_a_finding():
    assert {switch for finding in FINDINGS for switch in finding.off} == set(Switch)


def test_the_search_takes_the_same_way_every_time():
    first, second = FINDINGS[0].search(), FINDINGS[0].search()
    assert (first.attack, first.states, first.refused) == (
        second.attack,
        second.states,
        second.refused,
    )


#: What the host tries, and how that shows: who refused it, and why.
TRIED = {
    "a LOADKEY message in another session or device, or of the host": "KEY_REFUSED",
    "a LOADKEY message twice": "KEY_SLOT",
    "an import before its key": "IMPORT_KEY",
    "an import twice": "IMPORT_ORDER",
    "a run with an empty slot": "RUN_KEY",
    "a run without the weights": "RUN_IMPORT",
    "an extra run": "RUN_LIMIT",
    "a wrong entry": "LOCK_ENTRY",
    "an import that does not open": "FATAL",
    "a quote for somebody else": "quote: eat_nonce",
    "a quote of an emulated device": "quote: signature",
    "another table, entry or limit": "quote: PCR2",
    "another program": "quote: PCR3",
    "other weights": "quote: PCR4",
    "a foreign key for a slot, or none": "quote: PCR7",
    "a quote before the sealed weights were measured": "quote: PCR4 is not final",
    "the quote of session A with the key of session B": "quote: cnf is not the released one",
    "the same session again for a client that returns": "quote: cnf was used before",
    "a session that ran already": "quote: PCR6",
}


@pytest.mark.parametrize("reason", TRIED.values(), ids=TRIED)
def test_the_host_tries(reason: str):
    refused = sum((searched(title).refused for title in SCENARIOS), Counter())
    assert refused[reason] > 0


def test_the_page_names_every_scenario_and_binding():
    page = PAGE.read_text(encoding="utf-8")
    missing = [title for title in SCENARIOS if f"| {title} |" not in page]
    missing += [switch.name for switch in Switch if f"`{switch.name}`" not in page]
    assert not missing
