"""Key slots: what they are for, what leaves them, how much may be encrypted under them."""

import random

import pytest
from amaranth import ResetInserter, Signal
from amaranth.sim import Simulator
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ginseng.crypto.aes import SBOX
from ginseng.isa.config import SystemConfig, TecConfig
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import KEY_SLOTS, Limits, SlotUse
from ginseng.tec.keys import KeySlots
from ginseng.tec.shapes import TecShapes

STATIC, SESSION = SlotUse.STATIC.value, SlotUse.SESSION.value
LIMIT = 1000


def rounds_encrypt(keys, block):
    """Encrypt by the round keys themselves (FIPS 197, §5.1), so that all of them are looked at."""
    double = [n << 1 ^ (0x11B if n & 0x80 else 0) for n in range(256)]
    state = [a ^ b for a, b in zip(block, keys[0], strict=True)]
    for number, key in enumerate(keys[1:], 1):
        state = [SBOX[state[(4 * (c + r) + r) % 16]] for c in range(4) for r in range(4)]
        if number < len(keys) - 1:
            mixed = []
            for c in range(4):
                a = state[4 * c : 4 * c + 4]
                every = a[0] ^ a[1] ^ a[2] ^ a[3]
                mixed += [a[r] ^ every ^ double[a[r] ^ a[(r + 1) % 4]] for r in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key, strict=True)]
    return bytes(state)


class Slots:
    """The slots, and the lane's memory of round keys and hash keys."""

    def __init__(self, ctx, dut, reset):
        self.ctx, self.dut, self.reset_signal = ctx, dut, reset
        self.round_keys = {}
        self.hashed = []

    async def wipe(self):
        self.ctx.set(self.reset_signal, 1)
        await self.ctx.tick()
        self.ctx.set(self.reset_signal, 0)
        cycles = 0
        while not self.ctx.get(self.dut.wiped):
            await self.ctx.tick()
            cycles += 1
        return cycles

    async def declare(self, slot, use):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.slot, slot)
        ctx.set(dut.use, use)
        refusal = Refusal(ctx.get(dut.declare_refusal))
        ctx.set(dut.declare, refusal is Refusal.NONE)
        await ctx.tick()
        ctx.set(dut.declare, 0)
        return refusal

    async def load(self, slot, key):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.slot, slot)
        ctx.set(dut.key, int.from_bytes(key, "little"))
        ctx.set(dut.load, 1)
        await ctx.tick()
        ctx.set(dut.load, 0)
        await ctx.tick().until(dut.loaded)

    async def seal(self, slot, blocks):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.seal.p.slot, slot)
        ctx.set(dut.seal.p.blocks, blocks)
        ctx.set(dut.seal.valid, 1)
        await ctx.tick().until(dut.seal.ready)
        ctx.set(dut.seal.valid, 0)
        *_, good = await ctx.tick().sample(dut.seal_ok).until(dut.seal_valid)
        return bool(good)


def simulate(process, key_bits=128):
    config = SystemConfig(tec=TecConfig(key_bits=key_bits))
    dut, reset = KeySlots(TecShapes(config), Limits(blocks=LIMIT)), Signal()
    slots = None

    async def lane(ctx):
        """Take round keys and, now and then, the slots whose hash key is wanted."""
        rng = random.Random(2)
        port = dut.round_key
        while True:
            ctx.set(dut.hash_key.ready, rng.getrandbits(1))
            *_, enable, slot, number, key, valid, ready, hashed = await ctx.tick().sample(
                port.enable,
                port.slot,
                port.round,
                port.key,
                dut.hash_key.valid,
                dut.hash_key.ready,
                dut.hash_key.p.slot,
            )
            if slots is None:
                continue
            if enable:
                slots.round_keys[slot, number] = key.to_bytes(16, "little")
            if valid and ready:
                slots.hashed.append(hashed)

    async def bench(ctx):
        nonlocal slots
        slots = Slots(ctx, dut, reset)
        await slots.wipe()
        await process(slots)

    sim = Simulator(ResetInserter(reset)(dut))
    sim.add_clock(1e-8)
    sim.add_testbench(lane, background=True)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("key_bits", [128, 256])
def test_a_key_becomes_round_keys_and_then_its_hash_key_is_asked_for(key_bits):
    async def process(slots):
        rng = random.Random(key_bits)
        assert await slots.declare(5, SESSION) is Refusal.NONE
        for slot in (0, 5):
            key, block = rng.randbytes(key_bits // 8), rng.randbytes(16)
            await slots.load(slot, key)
            assert slots.hashed[-1] == slot
            keys = [slots.round_keys[slot, n] for n in range(11 if key_bits == 128 else 15)]
            encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
            assert rounds_encrypt(keys, block) == encryptor.update(block)

    simulate(process, key_bits)


@pytest.mark.sec("TEC.KEY_SLOT_USE")
def test_nothing_is_encrypted_under_static_or_empty_slots():
    async def process(slots):
        ctx, dut = slots.ctx, slots.dut
        assert await slots.declare(1, STATIC) is Refusal.NONE
        assert await slots.declare(2, SESSION) is Refusal.NONE
        assert await slots.declare(3, SESSION) is Refusal.NONE
        for slot in range(KEY_SLOTS):
            assert not await slots.seal(slot, 1)
        for slot in (0, 1, 2):
            await slots.load(slot, bytes([slot]) * 16)
        assert [await slots.seal(slot, 1) for slot in range(KEY_SLOTS)] == [1, 0, 1, *[0] * 5]
        for slot, refusal in ((0, 1), (1, 1), (2, 1), (3, 0), (4, 1), (8, 1), (255, 1)):
            ctx.set(dut.slot, slot)
            assert ctx.get(dut.load_refusal) == (Refusal.KEY_SLOT if refusal else Refusal.NONE)

    simulate(process)


@pytest.mark.sec("TEC.BLOCK_LIMIT")
def test_the_blocks_of_a_key_are_counted_to_the_last():
    async def process(slots):
        rng = random.Random(4)
        await slots.declare(7, SESSION)
        left = {0: LIMIT, 7: LIMIT}
        for slot in left:
            await slots.load(slot, rng.randbytes(16))
        for _ in range(60):
            slot, blocks = rng.choice([0, 7]), rng.choice([1, 33, 64, 200])
            good = await slots.seal(slot, blocks)
            assert good == (blocks <= left[slot])
            left[slot] -= blocks * good
        for slot, rest in left.items():
            assert not await slots.seal(slot, rest + 1)
            assert await slots.seal(slot, rest)
            assert not await slots.seal(slot, 1)

    simulate(process)


@pytest.mark.sec("TEC.UNLOADED_SLOT")
def test_slots_that_rows_name_are_complete_when_all_have_keys():
    async def process(slots):
        ctx, dut = slots.ctx, slots.dut
        for slot in (3, 6):
            await slots.declare(slot, SESSION)
        for slot in (0, 6, 3):
            ctx.set(dut.asked, slot)
            assert ctx.get(dut.asked_use) == (SESSION if slot else 0)
            ctx.set(dut.named, 1)
            await ctx.tick()
            ctx.set(dut.named, 0)
        for slot in (0, 3, 6):
            assert not ctx.get(dut.complete)
            await slots.load(slot, b"k" * 16)
            await ctx.tick()
        assert ctx.get(dut.complete)

    simulate(process)


@pytest.mark.sec("TEC.ZEROIZE")
def test_a_reset_overwrites_every_key_and_count_within_50_cycles_a_slot():
    async def process(slots):
        ctx, dut = slots.ctx, slots.dut
        for slot in range(KEY_SLOTS):
            await slots.declare(slot, SESSION)
            await slots.load(slot, bytes([slot + 1]) * 16)
        await ctx.tick().repeat(2)
        assert all(map(any, slots.round_keys.values()))
        assert all(ctx.get(dut.left[n]) for n in range(KEY_SLOTS))
        assert await slots.wipe() <= 50 * KEY_SLOTS
        assert len(slots.round_keys) == 11 * KEY_SLOTS
        assert not any(map(any, slots.round_keys.values()))
        assert not any(ctx.get(dut.left[n]) for n in range(KEY_SLOTS))
        for slot in range(KEY_SLOTS):
            ctx.set(dut.asked, slot)
            assert not ctx.get(dut.asked_use)
            assert not ctx.get(dut.asked_loaded)
            assert not await slots.seal(slot, 1)

    simulate(process)
