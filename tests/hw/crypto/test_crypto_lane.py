"""The lane in gates against a library: chunks of several contexts in bursts, in any order."""

import random
from dataclasses import dataclass

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from Crypto.Cipher import AES

from ginseng.crypto.expand import Expand
from ginseng.crypto.job import LaneConfig
from ginseng.crypto.lane import Lane


def number(octets):
    return int.from_bytes(octets, "little")


@dataclass
class Chunk:
    """A chunk as it stands in memory: ``place`` is where its first byte is in a beat."""

    seals: bool
    slot: int
    context: int
    nonce: bytes
    text: bytes
    place: int


class Bench:
    """A lane with its key schedule, its keys loaded, fed and watched."""

    def __init__(self, config, keys):
        self.config, self.keys = config, keys
        self.top = Module()
        self.top.submodules.lane = self.lane = Lane(config)
        self.top.submodules.expand = self.expand = Expand(config.aes)
        wiring.connect(self.top, self.expand.round_key, self.lane.round_key)
        self.beats, self.tags, self.taken = [], [], []
        self.busy = [0, 0]

    def run(self, chunks, bursts, *, idle=0.0, rng=None):
        """Put ``(chunk, first block, end block)`` through; return texts and tags by chunk."""
        rng = rng or random.Random(1)
        nbytes = self.config.data_bits // 8
        jobs, beats, meaning = [], [], []
        for n, begin, end in bursts:
            chunk = chunks[n]
            at, to = chunk.place + 16 * begin, chunk.place + 16 * end
            to = min(to, chunk.place + len(chunk.text))
            lowest, highest = at // nbytes * nbytes, -(-to // nbytes) * nbytes
            line = bytearray(rng.randbytes(highest - lowest))
            line[at - lowest : to - lowest] = chunk.text[16 * begin : 16 * begin + to - at]
            size = self.config.granule
            jobs.append(
                {
                    "seals": chunk.seals,
                    "slot": chunk.slot,
                    "context": chunk.context,
                    "nonce": int.from_bytes(chunk.nonce, "big"),
                    "counter": 2 + begin,
                    "beats": len(line) // nbytes,
                    "first": at % nbytes // size if nbytes > 16 else 0,
                    "end": (to - 1) % nbytes // size + 1 if nbytes > 16 else 1,
                    "start": begin == 0,
                    "last": 16 * end >= len(chunk.text),
                    "nbytes": len(chunk.text),
                }
            )
            beats += [line[k : k + nbytes] for k in range(0, len(line), nbytes)]
            meaning.append((n, at - lowest, to - lowest, len(line)))

        async def put(ctx, port, items, pause):
            for item in items:
                while rng.random() < pause:
                    await ctx.tick()
                ctx.set(port.payload, item)
                ctx.set(port.valid, 1)
                await ctx.tick().until(port.ready)
                ctx.set(port.valid, 0)

        ready = []

        async def feed_jobs(ctx):
            for slot, key in self.keys.items():
                item = {"key": number(key), "slot": slot, "wipe": 0}
                await put(ctx, self.expand.i, [item], 0)
                await ctx.tick().until(~self.expand.busy)
                await put(ctx, self.lane.hash_key, [{"slot": slot}], 0)
            ready.append(True)
            await put(ctx, self.lane.port.job, jobs, idle)

        async def feed_beats(ctx):
            while not ready:
                await ctx.tick()
            await put(ctx, self.lane.port.i, [number(beat) for beat in beats], idle)

        tags = sum(job["last"] for job in jobs)

        async def watch(ctx):
            port = self.lane.port
            for cycle in range(1000 + 60 * len(beats)):
                (
                    _,
                    _,
                    takes,
                    ready,
                    valid,
                    data,
                    tag_valid,
                    tag,
                    aes,
                    ghash,
                ) = await ctx.tick().sample(
                    port.i.valid,
                    port.i.ready,
                    port.o_valid,
                    port.o_data,
                    port.tag_valid,
                    port.tag,
                    self.lane.busy_aes,
                    self.lane.busy_ghash,
                )
                assert valid == bool(self.taken and self.taken[-1] == cycle - 1)
                if takes & ready:
                    self.taken.append(cycle)
                if valid:
                    self.beats.append(data.to_bytes(nbytes, "little"))
                if tag_valid:
                    self.tags.append(tag.to_bytes(16, "little"))
                self.busy[0] += aes
                self.busy[1] += ghash
                if len(self.beats) == len(beats) and len(self.tags) == tags:
                    return
            raise AssertionError(f"{len(self.beats)} of {len(beats)} beats, {len(self.tags)} tags")

        sim = Simulator(self.top)
        sim.add_clock(1e-8)
        for process in (feed_jobs, feed_beats, watch):
            sim.add_testbench(process)
        sim.run()

        texts = {}
        stream = b"".join(self.beats)
        for n, at, to, length in meaning:
            line, stream = stream[:length], stream[length:]
            texts[n] = texts.get(n, b"") + line[at:to]
            assert not any(line[:at] + line[to:])
        ends = [n for (n, _, _), job in zip(bursts, jobs, strict=True) if job["last"]]
        return texts, dict(zip(ends, self.tags, strict=True))


def expected(key, chunk):
    cipher = AES.new(key, AES.MODE_GCM, nonce=chunk.nonce)
    if chunk.seals:
        return cipher.encrypt_and_digest(chunk.text)
    other = AES.new(key, AES.MODE_GCM, nonce=chunk.nonce)
    plain = cipher.decrypt(chunk.text)
    return plain, other.encrypt_and_digest(plain)[1]


def random_chunks(rng, config, count, keys, most=12):
    return [
        Chunk(
            seals=rng.random() < 0.5,
            slot=rng.choice(list(keys)),
            context=rng.randrange(config.contexts),
            nonce=rng.randbytes(12),
            text=rng.randbytes(16 * rng.choice([1, 1, 2, 3, rng.randint(1, most)])),
            place=16 * rng.randrange(max(1, config.data_bits // 128)),
        )
        for _ in range(count)
    ]


def random_bursts(rng, chunks, longest):
    """Cut chunks into bursts; chunks of a context follow each other, contexts in any order."""
    waiting = {}
    for n, chunk in enumerate(chunks):
        at, blocks = 0, len(chunk.text) // 16
        while at < blocks:
            to = min(blocks, at + rng.choice([1, rng.randint(1, longest), longest]))
            waiting.setdefault(chunk.context, []).append((n, at, to))
            at = to
    order = []
    while any(waiting.values()):
        order.append(waiting[rng.choice([c for c in waiting if waiting[c]])].pop(0))
    return order


def key_set(rng, config):
    return {slot: rng.randbytes(config.aes.key_bits // 8) for slot in (0, 2, 7)}


@pytest.mark.parametrize(("seed", "idle"), [(1, 0), (2, 0.3), (3, 0.7)])
def test_chunks_of_several_contexts_come_out_as_from_a_library(seed, idle):
    rng = random.Random(seed)
    config = LaneConfig()
    keys = key_set(rng, config)
    chunks = random_chunks(rng, config, 24, keys)
    texts, tags = Bench(config, keys).run(chunks, random_bursts(rng, chunks, 8), idle=idle, rng=rng)
    for n, chunk in enumerate(chunks):
        assert (texts[n], tags[n]) == expected(keys[chunk.slot], chunk)
