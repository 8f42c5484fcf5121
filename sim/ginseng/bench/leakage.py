"""``python -m ginseng.bench.leakage``: what the registers of AES tell by how many of them toggle.

Simulated: a cycle's sample is the number of state registers that change, without noise, without
the logic between them and without a board. That finds leaks to first order; it proves no absence.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from amaranth import Cat, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from numpy.typing import NDArray

from ginseng.crypto.aes import Aes, AesConfig
from ginseng.crypto.expand import Expand

__all__ = ["THRESHOLD", "Leakage", "measure", "toggles", "welch"]

#: Beyond this |t| two sets differ (TVLA: Goodwill et al., NIST NIAT workshop, 2011).
THRESHOLD: Final = 4.5
_PERIOD: Final = 1e-8


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Largest |t| over the cycles of an encryption.

    Attributes
    ----------
    simulated : bool
        Always: no board was measured.
    traces : int
        Encryptions of each set.
    threshold : float
        `THRESHOLD`.
    fixed_random : float
        A fixed block against random blocks, under one key.
    random_random : float
        Random blocks against others: what chance gives.

    """

    simulated: bool = True
    traces: int
    threshold: float = THRESHOLD
    fixed_random: float
    random_random: float


def toggles(config: AesConfig, key: bytes, blocks: Sequence[bytes]) -> NDArray[np.int64]:
    """Return how many state registers change, ``[block][cycle]``, one block at a time."""
    m = Module()
    aes: Any = Aes(config)
    expand: Any = Expand(config)
    m.submodules.aes, m.submodules.expand = aes, expand
    wiring.connect(m, expand.round_key, aes.round_key)
    states = Cat(Cat(stage) for stage in aes.states)
    samples = np.zeros((len(blocks), config.latency), np.int64)

    async def feed(ctx: Any) -> None:
        ctx.set(expand.i.payload, {"key": int.from_bytes(key, "little")})
        ctx.set(expand.i.valid, 1)
        await ctx.tick().until(expand.i.ready)
        ctx.set(expand.i.valid, 0)
        await ctx.tick().until(~expand.busy)
        for number, block in enumerate(blocks):
            ctx.set(aes.i.payload, {"block": int.from_bytes(block, "little")})
            ctx.set(aes.i.valid, 1)
            before = ctx.get(states)
            for cycle in range(config.latency):
                await ctx.tick()
                ctx.set(aes.i.valid, 0)
                after = ctx.get(states)
                samples[number, cycle] = (before ^ after).bit_count()
                before = after

    simulator: Any = Simulator(m)
    simulator.add_clock(_PERIOD)
    simulator.add_testbench(feed)
    simulator.run()
    return samples


def welch(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return Welch's t of each column of two sets of rows; 0 where they do not differ at all."""
    difference = a.mean(axis=0) - b.mean(axis=0)
    error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    t = np.divide(difference, error, out=np.full(difference.shape, np.inf), where=error > 0)
    return np.where(difference == 0, 0.0, t)


def measure(config: AesConfig, *, traces: int, seed: int = 1) -> Leakage:
    """Encrypt ``traces`` blocks of each set, the sets in random order, and compare them."""
    rng = random.Random(seed)
    key, fixed = rng.randbytes(config.key_bits // 8), rng.randbytes(16)
    sets = [name for name in ("fixed", "random", "other") for _ in range(traces)]
    rng.shuffle(sets)
    samples = toggles(
        config, key, [fixed if name == "fixed" else rng.randbytes(16) for name in sets]
    )
    names = np.array(sets)
    rows = {name: samples[names == name] for name in ("fixed", "random", "other")}
    return Leakage(
        traces=traces,
        fixed_random=float(np.abs(welch(rows["fixed"], rows["random"])).max()),
        random_random=float(np.abs(welch(rows["other"], rows["random"])).max()),
    )


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=500, help="of each set")
    print(json.dumps(asdict(measure(AesConfig(), traces=parser.parse_args().traces))))


if __name__ == "__main__":
    main()
