"""What orders instructions, each beside a small model of it, cycle by cycle or in any pattern."""

import random
from functools import partial

import pytest
from amaranth.lib import data

from ginseng.bench.streams import StreamCase, Trace, pack, run_cases
from ginseng.isa.config import CoreConfig, Memory
from ginseng.isa.insn import TOKEN_LIMIT
from ginseng.vta.retire import Retire, retirement
from ginseng.vta.scoreboard import COMPARED_BITS, WINDOW, Event, Scoreboard, Unit, claim_layout
from ginseng.vta.tokens import TokenCounter

pytestmark = pytest.mark.rtl

CORE = CoreConfig()
#: Scratchpads of 32 elements.
SMALL = CoreConfig(
    log_block=1, log_uop_buff_size=7, log_inp_buff_size=6, log_wgt_buff_size=7, log_acc_buff_size=8
)


def retire(seed=0):
    """Events of one kind come early, of the other some instructions late."""
    rng, layout, late = random.Random(f"retire {seed}"), retirement(2), 3
    drawn = [(rng.getrandbits(2), rng.getrandbits(2)) for _ in range(80)]
    events = [[n for n, (waits, _) in enumerate(drawn) if waits >> kind & 1] for kind in range(2)]
    strobes = sorted(
        [(n + 1, 1) for n in events[0]] + [(min(n + 1 + late, 80), 2) for n in events[1]]
    )
    return StreamCase(
        name="retire",
        component=Retire(events=2, depth=4),
        inputs={
            "i": [
                pack(layout, waits=waits, push_prev=push & 1, push_next=push >> 1)
                for waits, push in drawn
            ]
        },
        strobes={"event": [kind for _, kind in strobes]},
        after={"event": ("i", [n for n, _ in strobes])},
        records={"retired push_prev push_next": [[1, push & 1, push >> 1] for _, push in drawn]},
        constants={"halt": 0},
        settles={"empty": 1},
    )


def tokens(seed=0):
    rng, count, rows = random.Random(f"tokens {seed}"), 0, []
    for n in range(600):
        # Seldom, often, seldom again.
        push = int(rng.random() < (0.3, 0.7, 0.2)[n // 200])
        pop = int(count > 0 and rng.random() < 0.5)
        rows.append((1, [push, pop], [int(count > 0), 0]))
        count += push - pop
    # Up to the limit; one comes as one goes; one too many.
    rows += [(TOKEN_LIMIT - count, [1, 0], [int(TOKEN_LIMIT > 1), 0]), (1, [1, 1], [1, 0])]
    rows += [(1, [1, 0], [1, 0]), (1, [0, 0], [1, 1]), (3, [0, 1], [1, 1])]
    return StreamCase(
        name="tokens",
        component=TokenCounter(),
        trace=Trace(inputs=("push", "pop"), outputs=("available", "fault"), rows=rows),
    )


def scoreboard(name, config, seed=0):
    """Instructions, issued often and seldom, with the sets of what each touches."""
    rng, layout = random.Random(f"{name} {seed}"), claim_layout(config)
    shift = {m: max(0, config.log_depth(m) - bits) for m, bits in COMPARED_BITS.items()}

    def some(memory, chance):
        wide = 32 << shift[memory]
        first = rng.randrange(wide)
        last = min(wide - 1, first + rng.randrange(wide // 8))
        chosen = rng.random() < chance
        item = {"any": int(chosen), "first": first, "last": last}
        touched = range(first >> shift[memory], (last >> shift[memory]) + 1) if chosen else ()
        return item, set(touched)

    def draw():
        kind = rng.choice(list(Unit))
        acc, reads, uops = some(Memory.ACC, 0.6), some(Memory.ACC, 0.6), some(Memory.UOP, 0.6)
        verifies = int(kind is Unit.LOAD and rng.random() < 0.7)
        flags = {"executes": int(rng.random() < 0.9), "verifies": verifies}
        pushes = [rng.getrandbits(1), rng.getrandbits(1)]
        inner = {
            k: pack(layout[k].shape, **item)
            for k, (item, _) in {"writes": acc, "reads": reads, "uops": uops}.items()
        }
        flags |= dict(zip(("push_prev", "push_next"), pushes, strict=True))
        return {
            "word": pack(layout, unit=kind, **inner, **flags),
            "unit": kind,
            "writes": acc[1],
            "reads": reads[1] if kind is Unit.ALU else set(),
            "uops": uops[1],
            "pushes": pushes,
            "open": {k for k in ("executes", "verifies") if flags[k]},
            "loads": kind is Unit.LOAD and bool(uops[1]),
        }

    def conflict(new, old):
        meet = new["writes"] & (old["writes"] | old["reads"]) or new["reads"] & old["writes"]
        # A reader of micro-ops is not issued while they are loaded.
        loads = new["unit"] is Unit.LOAD and new["uops"] & old["uops"]
        return new["unit"] is not old["unit"] and bool(meet or loads)

    rows, under_way, tag = [], [], 0
    for n in range(1200):
        ready = (1 << WINDOW) - 1
        for k, one in enumerate(under_way):
            if any(old["open"] and conflict(one, old) for old in under_way[:k]):
                ready &= ~(1 << one["tag"])
        retires = bool(under_way) and not under_way[0]["open"]
        pushes = under_way[0]["pushes"] if retires else [0, 0]
        loading = any(one["loads"] and one["open"] for one in under_way)
        room = len(under_way) < WINDOW
        wanted = [int(room), tag, ready, int(loading), int(retires), *pushes, int(not under_way)]

        # Of each unit at most one, in order; it counts from the next cycle on.
        events = []
        for mark, kinds in (("executes", [[u] for u in Unit]), ("verifies", [list(Unit)])):
            for kind in kinds:
                waits = [o for o in under_way if o["unit"] in kind and mark in o["open"]]
                happens = waits and rng.random() < 0.3
                events.append((mark, waits[0] if happens else None))
        words = [pack(Event, valid=1, tag=one["tag"]) if one else 0 for _, one in events]
        width = data.Layout.cast(Event).size
        executed = sum(word << n * width for n, word in enumerate(words[:-1]))
        new = draw()
        issues = room and rng.random() < (1, 0.5, 0.2)[n // 400]
        rows.append((1, [int(issues), new["word"] * issues, executed, words[-1]], wanted))

        under_way = under_way[retires:]
        for mark, one in events:
            if one:
                one["open"].discard(mark)
        if issues:
            under_way.append(new | {"tag": tag})
            tag = (tag + 1) % WINDOW
    return StreamCase(
        name=name,
        component=Scoreboard(config),
        constants={"halt": 0},
        trace=Trace(
            inputs=("issue", "claim", "executed", "verified"),
            outputs=(
                *("room", "tag", "ready", "loading"),
                *("retired", "push_prev", "push_next", "empty"),
            ),
            rows=rows,
        ),
    )


CASES = (
    retire,
    tokens,
    partial(scoreboard, "scoreboard", SMALL),
    # Of these indices, the lower bits are not compared.
    partial(scoreboard, "coarse_scoreboard", CORE),
)


def test_what_orders_instructions_does_what_its_models_do(tmp_path):
    run_cases([make() for make in CASES], tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(1, 9))
def test_what_orders_instructions_does_what_its_models_do_at_length(seed, tmp_path):
    run_cases([make(seed=seed) for make in CASES], tmp_path)
