"""Print the tables of docs/protocol.md, and with ``--traces`` every attack step by step."""

import sys

from protocol_model.findings import COVERED, FINDINGS
from protocol_model.scenarios import SCENARIOS
from protocol_model.search import explore


def main() -> None:
    """Run every search once."""
    print("| scenario | what | setups | states | moves | seconds | violations |")
    print("|---|---|---|---|---|---|---|")
    for title, scenario in SCENARIOS.items():
        found = explore(scenario)
        print(
            f"| {title} | {scenario.title} | {len(scenario.setups)} | {found.states} | "
            f"{found.moves} | {found.seconds:.1f} | {found.attack or 'none'} |"
        )
    print("\n| off | scenario | violated | steps | states | attack |")
    print("|---|---|---|---|---|---|")
    traces = []
    for finding in FINDINGS:
        found = finding.search()
        off = " + ".join(switch.name for switch in finding.off)
        steps = len(found.attack.steps) if found.attack else "no attack"
        print(
            f"| {off} | {finding.scenario} | {finding.violated} | {steps} | {found.states} | "
            f"{finding.attack} |"
        )
        traces.append(f"\nWithout {off}, scenario {finding.scenario!r}:\n{found.attack}")
    print("\n| off | safe in | because of |")
    print("|---|---|---|")
    for covered in COVERED:
        off = " + ".join(switch.name for switch in covered.off)
        print(f"| {off} | {', '.join(covered.scenarios)} | {covered.by} |")
    if "--traces" in sys.argv[1:]:
        print("\n".join(traces))


if __name__ == "__main__":
    main()
