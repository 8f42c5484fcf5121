"""AES and GHASH in gates against a library, in every form, without pause and with."""

import random

import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ginseng.crypto.aes import SBOX, Aes, AesConfig
from ginseng.crypto.errors import CryptoError
from ginseng.crypto.expand import Expand
from ginseng.crypto.ghash import Ghash
from ginseng.crypto.job import LaneConfig

FORMS = [(128, 5), (128, 1), (128, 10), (256, 7), (256, 2)]
IDLE = [0, 0.4]


def simulate(dut, *processes):
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    for process in processes:
        sim.add_testbench(process)
    sim.run()


def number(octets):
    return int.from_bytes(octets, "little")


def encrypted(key, block):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


async def put(ctx, stream, item):
    ctx.set(stream.payload, item)
    ctx.set(stream.valid, 1)
    await ctx.tick().until(stream.ready)
    ctx.set(stream.valid, 0)


def ciphering(config, keys, blocks, idle=0.0):
    """Return what the gates make of ``(slot, block)`` pairs, and the cycles between their ends."""
    rng = random.Random(1)
    m = Module()
    m.submodules.aes = aes = Aes(config)
    m.submodules.expand = expand = Expand(config)
    wiring.connect(m, expand.round_key, aes.round_key)
    got, times = [], []

    async def feed(ctx):
        for slot, key in keys:
            await put(ctx, expand.i, {"key": number(key), "slot": slot, "wipe": not any(key)})
            await ctx.tick().until(~expand.busy)
        for slot, block in blocks:
            while rng.random() < idle:
                await ctx.tick()
            await put(ctx, aes.i, {"block": number(block), "slot": slot})

    async def collect(ctx):
        for cycle in range(200 * config.slots + 100 * len(blocks)):
            _, _, valid, block = await ctx.tick().sample(aes.o_valid, aes.o_block)
            if valid:
                got.append(block.to_bytes(16, "little"))
                times.append(cycle)
            if len(got) == len(blocks):
                return
        raise AssertionError(f"{len(got)} of {len(blocks)} blocks came")

    simulate(m, feed, collect)
    return got, times


def test_the_table_is_that_of_the_standard():
    assert bytes(SBOX[:8]).hex() == "637c777bf26b6fc5"
    assert sorted(SBOX) == list(range(256))


@pytest.mark.parametrize("idle", IDLE)
@pytest.mark.parametrize(("bits", "stages"), FORMS)
def test_blocks_under_several_keys_are_encrypted_in_order(bits, stages, idle):
    rng = random.Random(bits + stages)
    keys = [(slot, rng.randbytes(bits // 8)) for slot in (0, 3, 7, 3)]
    blocks = [(rng.choice([0, 3, 7]), rng.randbytes(16)) for _ in range(24)]
    config = AesConfig(key_bits=bits, stages=stages)
    got, times = ciphering(config, keys, blocks, idle)
    assert got == [encrypted(dict(keys)[slot], block) for slot, block in blocks]
    if not idle:
        assert times[-1] - times[0] <= (len(blocks) - 1) * config.passes + config.stages


def test_five_stages_in_two_passes_take_a_block_every_other_cycle():
    blocks = [(0, bytes([n]) * 16) for n in range(50)]
    _, times = ciphering(AesConfig(), [(0, bytes(range(16)))], blocks)
    assert times[-1] - times[0] <= 2 * 50


def test_a_wiped_slot_has_round_keys_of_zeros():
    """Zero round keys are no key's: blocks then only go through tables and mixing."""
    config = AesConfig(stages=10)
    block = bytes(range(16))
    got, _ = ciphering(config, [(2, b"k" * 16), (2, bytes(16))], [(2, block)])
    state = list(block)
    for turn in range(10):
        state = [SBOX[state[(4 * (n // 4 + n % 4) + n % 4) % 16]] for n in range(16)]
        if turn < 9:
            state = [byte for c in range(4) for byte in mixed(state[4 * c : 4 * c + 4])]
    assert got == [bytes(state)]


def mixed(column):
    def double(a):
        return (a << 1 ^ (0x11B if a & 0x80 else 0)) & 0xFF

    return [
        double(column[n]) ^ double(b := column[(n + 1) % 4]) ^ b ^ column[n - 2] ^ column[n - 1]
        for n in range(4)
    ]


def ghash(key, blocks):
    """GHASH by definition, bit by bit (SP 800-38D, algorithms 1 and 2)."""
    h = int.from_bytes(key, "big")
    total = 0
    for block in blocks:
        x, z, v = total ^ int.from_bytes(block, "big"), 0, h
        for n in range(127, -1, -1):
            z ^= v if x >> n & 1 else 0
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
        total = z
    return total.to_bytes(16, "big")


@pytest.mark.parametrize("idle", IDLE)
def test_sums_of_interleaved_contexts_are_those_of_the_definition(idle):
    rng = random.Random(64)
    dut = Ghash(contexts=4, slots=3)
    keys = [rng.randbytes(16) for _ in range(3)]
    chunks = [
        (context, context % 3, [rng.randbytes(16) for _ in range(rng.randint(2, 6))])
        for context in (0, 1, 3, 0, 1, 1, 2, 3, 0)
    ]
    expected = {n: ghash(keys[slot], blocks) for n, (_, slot, blocks) in enumerate(chunks)}
    # Blocks of different contexts alternate at random, but the last follows the one before it;
    # chunks of one context follow each other.
    waiting, order = {}, []
    for n, (context, _, blocks) in enumerate(chunks):
        steps = [[k] for k in range(len(blocks) - 2)] + [[len(blocks) - 2, len(blocks) - 1]]
        waiting.setdefault(context, []).extend([(n, k) for k in step] for step in steps)
    while any(waiting.values()):
        order += waiting[rng.choice([c for c in waiting if waiting[c]])].pop(0)
    ends, got = [n for n, k in order if k == len(chunks[n][2]) - 1], []

    async def feed(ctx):
        for slot, key in enumerate(keys):
            for exponent in range(dut.powers):
                item = {"blocks": number(key), "slot": slot, "start": 1, "power": 1}
                await put(ctx, dut.i, item | {"exponent": exponent, "end": 1})
                await ctx.tick().until(dut.idle)
        for n, k in order:
            context, slot, blocks = chunks[n]
            while rng.random() < idle:
                await ctx.tick()
            item = {"blocks": number(blocks[k]), "end": 1, "context": context, "slot": slot}
            await put(ctx, dut.i, item | {"start": k == 0, "last": k == len(blocks) - 1})

    async def collect(ctx):
        cycles = 0
        while len(got) < len(chunks) and cycles < 100 * len(order):
            _, _, valid, context, total = await ctx.tick().sample(
                dut.o_valid, dut.o_context, dut.o_sum
            )
            cycles += 1
            if valid:
                got.append((context, total.to_bytes(16, "little")))
        if not idle:
            assert cycles <= 20 * len(keys) + len(order) * 2 + 8

    simulate(dut, feed, collect)
    assert got == [(chunks[n][0], expected[n]) for n in ends]


def test_the_definition_of_ghash_gives_the_tag_of_a_library():
    key, nonce = bytes(range(16)), bytes(12)
    sealed = AESGCM(key).encrypt(nonce, bytes(48), None)
    blocks = [sealed[16 * n : 16 * n + 16] for n in range(3)]
    lengths = bytes(8) + (8 * 48).to_bytes(8, "big")
    mask = encrypted(key, nonce + b"\0\0\0\1")
    total = ghash(encrypted(key, bytes(16)), [*blocks, lengths])
    assert bytes(a ^ b for a, b in zip(total, mask, strict=True)) == sealed[48:]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AesConfig(key_bits=192), "key_bits is 128 or 256, not 192"),
        (lambda: AesConfig(stages=3), "divides the 10 rounds of AES-128, 3 does not"),
        (lambda: AesConfig(slots=0), "slots is at least 1, not 0"),
        (lambda: LaneConfig(data_bits=96), "data_bits is 64, 128, 256 or 512, not 96"),
        (lambda: LaneConfig(contexts=0), "contexts is at least 1, not 0"),
    ],
)
def test_a_form_that_does_not_exist_is_refused(make, message):
    with pytest.raises(CryptoError, match=message):
        make()
