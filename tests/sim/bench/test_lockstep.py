"""Random legal programs on the gates and on the golden core."""

import pytest

from ginseng.bench.port import PortTiming
from ginseng.bench.programs import random_program
from ginseng.isa.config import NAMED_CORES

pytestmark = pytest.mark.rtl

TIMINGS = {
    "no delay": PortTiming(latency=(0, 0)),
    "random delay": PortTiming(latency=(0, 60), idle=0.3, stall=0.3, seed=5),
    "extreme delay": PortTiming(latency=(300, 500), idle=0.9, stall=0.9, open=1, seed=6),
}


def run_all(pair, seeds):
    for seed in seeds:
        program = random_program(pair.config, seed)
        assert pair.run(program), f"DRAM or counters differ after program {seed}"
        assert pair.accumulators_agree(), f"ACC differs after program {seed}"


@pytest.mark.parametrize(("timing", "seeds"), [("no delay", 60), ("random delay", 40)])
def test_a_hundred_random_programs_leave_what_the_golden_core_leaves(pair, timing, seeds):
    run_all(pair(timing=TIMINGS[timing]), range(1000, 1000 + seeds))


@pytest.mark.campaign
@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("part", range(8))
def test_thousands_of_random_programs_leave_what_the_golden_core_leaves(pair, timing, part):
    count = 20 if timing == "extreme delay" else 110
    first = 10_000 * list(TIMINGS).index(timing) + part * count
    run_all(pair(timing=TIMINGS[timing]), range(first, first + count))


@pytest.mark.campaign
@pytest.mark.parametrize("core", ["b2k4", "b0k5"])
def test_random_programs_run_on_other_shapes_of_the_core(pair, core):
    run_all(pair(NAMED_CORES[core], timing=TIMINGS["random delay"]), range(40_000, 40_080))


@pytest.mark.campaign
def test_random_programs_run_where_products_share_a_multiplier(pair):
    run_all(pair(packed=True, timing=TIMINGS["random delay"]), range(50_000, 50_040))
