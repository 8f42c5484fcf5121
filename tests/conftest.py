"""What holds for every test: properties draw the same examples every time.

``pytest --hypothesis-profile=explore`` draws fresh ones, and more: for campaigns, not for CI.
"""

import random

import pytest
from hypothesis import settings

from ginseng.bench.memory import MemoryModel

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")


def pytest_generate_tests(metafunc):
    """Run what is marked ``both`` on the golden engine and on gates."""
    mark = metafunc.definition.get_closest_marker("both")
    if mark:
        marks = [pytest.mark.rtl, *([pytest.mark.campaign] if mark.kwargs.get("campaign") else [])]
        engines = ["golden", pytest.param("gates", marks=marks)]
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture
def engine(request):
    """Which engine a test marked ``both`` runs on now; golden for every other."""
    return getattr(request, "param", "golden")


@pytest.fixture
def rough():
    """Make a memory of a seed: up to 500 cycles of latency, channels that pause at random."""

    def memory(seed):
        rng = random.Random(seed)
        most = rng.choice([0, 7, 60, 500])
        stall = tuple(rng.choice([0.0, 0.3, 0.8]) for _ in range(5))
        return MemoryModel(name="rough", latency=(0, most), stall=stall, seed=seed)

    return memory


def pytest_terminal_summary(terminalreporter):
    """Print how many trials each attack was stopped in: what docs/threats.md quotes.

    A test that is no loop is one trial; a loop records how many it did.
    """
    counts = {}
    for report in terminalreporter.stats.get("passed", []):
        recorded = [value for name, value in report.user_properties if name == "trials"]
        if report.when != "call" or not (recorded or "both" in report.keywords):
            continue
        name, _, case = report.nodeid.rpartition("::")[2].partition("[")
        count = counts.setdefault(name, {"golden": 0, "gates": 0})
        count["golden" if case.startswith("golden") else "gates"] += sum(recorded) or 1
    if counts:
        terminalreporter.write_sep("=", "trials under attack")
        terminalreporter.write_line("| attack | golden | gates |\n|---|---|---|")
        for name, count in counts.items():
            sentence = name.removeprefix("test_").replace("_", " ")
            line = f"| {sentence} | {count['golden']:,} | {count['gates']:,} |"
            terminalreporter.write_line(line)
        sums = [sum(count[e] for count in counts.values()) for e in ("golden", "gates")]
        terminalreporter.write_line(f"| all | {sums[0]:,} | {sums[1]:,} |")
