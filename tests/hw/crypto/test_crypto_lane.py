"""The lane in gates against a library: chunks of several contexts in bursts, in any order."""

import random

import pytest
from Crypto.Cipher import AES

from ginseng.bench.verilated_lane import Burst, Chunk, VerilatedLane
from ginseng.crypto.aes import AesConfig
from ginseng.crypto.job import LaneConfig

pytestmark = pytest.mark.rtl

FORMS = {
    "64": LaneConfig(),
    "64, AES-256": LaneConfig(aes=AesConfig.of_passes(2, key_bits=256)),
    "128": LaneConfig(data_bits=128, aes=AesConfig.of_passes(1)),
    "256": LaneConfig(data_bits=256, aes=AesConfig.of_passes(1)),
    "512, AES-256": LaneConfig(data_bits=512, aes=AesConfig.of_passes(1, key_bits=256)),
}
#: Those whose models take long to compile.
LARGE = ("128", "512, AES-256")


def sealed_or_opened(key, chunk):
    """Return text and tag of a chunk, from a library."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=chunk.nonce)
    if chunk.seals:
        return cipher.encrypt_and_digest(chunk.text)
    plain = cipher.decrypt(chunk.text)
    return plain, AES.new(key, AES.MODE_GCM, nonce=chunk.nonce).encrypt_and_digest(plain)[1]


def random_chunks(rng, config, count, slots, most):
    return [
        Chunk(
            seals=rng.random() < 0.5,
            slot=rng.choice(slots),
            context=rng.randrange(config.contexts),
            nonce=rng.randbytes(12),
            text=rng.randbytes(16 * rng.choice([1, 1, 2, 3, rng.randint(1, most)])),
            place=config.granule * rng.randrange(config.granules),
        )
        for _ in range(count)
    ]


def random_bursts(rng, chunks, longest):
    """Cut chunks into bursts: those of a context in order, contexts in any order."""
    waiting = {}
    for n, chunk in enumerate(chunks):
        at = 0
        while at < chunk.blocks:
            to = min(chunk.blocks, at + rng.choice([1, rng.randint(1, longest), longest]))
            waiting.setdefault(chunk.context, []).append(Burst(n, at, to))
            at = to
    while contexts := [context for context in waiting if waiting[context]]:
        yield waiting[rng.choice(contexts)].pop(0)


@pytest.mark.sec("TEC.NO_SPARE_PAD")
@pytest.mark.parametrize("idle", [0, 0.4])
@pytest.mark.parametrize(
    "form",
    [pytest.param(f, marks=[pytest.mark.campaign] if f in LARGE else []) for f in FORMS],
)
def test_chunks_of_several_contexts_come_out_as_from_a_library(form, idle):
    rng = random.Random(form)
    config = FORMS[form]
    keys = {slot: rng.randbytes(config.aes.key_bits // 8) for slot in (0, 2, 7)}
    chunks = random_chunks(rng, config, 300, list(keys), 40)
    lane = VerilatedLane(config, idle=idle)
    lane.load(keys)
    # A burst that starts inside a beat ends a beat later. What no burst means comes out as zeros,
    # or `run` raises.
    longest = (config.burst_beats - 1) * config.data_bits // 128
    texts, tags = lane.run(chunks, random_bursts(rng, chunks, longest))
    for text, tag, chunk in zip(texts, tags, chunks, strict=True):
        assert (text, tag) == sealed_or_opened(keys[chunk.slot], chunk)


def steady(config, blocks, count):
    """Put equal chunks through without pause; return cycles per chunk, and how busy both were."""
    lane = VerilatedLane(config)
    lane.load({1: bytes(range(config.aes.key_bits // 8))})
    counters = [lane.model.pulses(name) for name in ("busy_aes", "busy_ghash")]
    chunks = [
        Chunk(
            seals=n % 2 == 0, slot=1, context=n % 8, nonce=bytes([n] * 12), text=bytes(16 * blocks)
        )
        for n in range(count)
    ]
    room = config.burst_beats * config.data_bits // 128
    before = [counter.count for counter in counters]
    lane.run(
        chunks,
        [
            Burst(n, at, min(at + room, blocks))
            for n in range(count)
            for at in range(0, blocks, room)
        ],
    )
    busy = [counter.count - b for counter, b in zip(counters, before, strict=True)]
    # The first chunks profit from pads that were made ahead.
    beats = len(lane.cycles) // count
    span = lane.cycles[-1] - lane.cycles[beats * (count // 2) - 1]
    return span / (count - count // 2), [b / count for b in busy]


def test_a_chunk_of_b_blocks_takes_2b_plus_2_cycles_and_keeps_both_engines_busy():
    cycles, busy = steady(LaneConfig(), 32, 64)
    assert cycles == pytest.approx(66, abs=0.1)
    assert busy == [66, 66]


def test_beats_of_a_chunk_come_out_one_a_cycle():
    lane = VerilatedLane(LaneConfig())
    lane.load({0: bytes(16)})
    chunk = Chunk(seals=True, slot=0, nonce=bytes(12), text=bytes(512))
    lane.run([chunk], [Burst(0, n, n + 8) for n in range(0, 32, 8)])
    # Pads come at the same rate, in pairs of two different distances.
    assert lane.cycles[-1] - lane.cycles[0] <= 64


def test_wide_lanes_take_a_beat_a_cycle_and_one_more_for_the_tag():
    cycles, _ = steady(FORMS["256"], 32, 64)
    assert cycles == pytest.approx(32 / 2 + 1, abs=0.1)


@pytest.mark.sec("TEC.ZEROIZE")
def test_a_wiped_lane_has_neither_hash_keys_nor_pads_nor_sums():
    config = LaneConfig()
    key, nonce = bytes(range(16)), bytes(12)
    lane = VerilatedLane(config)
    lane.load({3: key})
    chunk = Chunk(seals=True, slot=3, nonce=nonce, text=bytes(range(64)))
    assert lane.run([chunk], [Burst(0, 0, 4)]) == tuple(
        [part] for part in sealed_or_opened(key, chunk)
    )
    # In the middle of a chunk.
    lane.run([chunk], [Burst(0, 0, 3)])
    lane.model.set("wipe", 1)
    assert lane.model.run(100, until=["wiped"]) <= 40
    lane.model.set("wipe", 0)
    # Round keys are the key schedule's to wipe; under a hash key of zeros a tag is its mask.
    (text,), (tag,) = lane.run([chunk], [Burst(0, 0, 4)])
    assert text == sealed_or_opened(key, chunk)[0]
    assert tag == AES.new(key, AES.MODE_ECB).encrypt(nonce + b"\0\0\0\1")
    lane.load({3: key})
    assert lane.run([chunk], [Burst(0, 0, 4)])[1] == [sealed_or_opened(key, chunk)[1]]
