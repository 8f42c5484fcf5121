"""The eight key slots: what each is for, and how much may still be encrypted under it (§4)."""

from typing import Any, Final

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ginseng.crypto.aes import AesConfig, RoundKey
from ginseng.crypto.expand import Expand
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import GRANULE, K_MEM, KEY_SLOTS, Limits, SlotUse
from ginseng.tec.shapes import TecShapes

__all__ = ["KeySlots"]


def _aes(key_bits: int) -> AesConfig:
    """Return a cipher with these round keys; its stages do not matter here."""
    return AesConfig(key_bits=key_bits, stages=1, slots=KEY_SLOTS)


class KeySlots(wiring.Component):
    """Uses of slots, keys on their way to the lanes, and blocks left to each.

    A key is expanded into the lanes' round keys, and then its hash key is asked for: ``loaded``
    some 50 cycles after ``load``. Nothing of it stays here. After a reset the round keys of every
    slot are overwritten with zeros.

    Parameters
    ----------
    shapes : TecShapes
    limits : Limits

    Notes
    -----
    *Guarantees.* Nothing is encrypted under a slot that has no key, is static, or has encrypted all
    that it may: such a slot has no blocks left.

    """

    #: In: what is declared, or loaded.
    slot: Signal
    use: Signal
    key: Signal
    #: Out: why it must not be declared; why no key must be loaded.
    declare_refusal: Any
    load_refusal: Any
    #: In: for one cycle, if it may be.
    declare: Signal
    load: Signal
    #: Out: for one cycle: the key can be used.
    loaded: Signal
    #: In: a slot. Out: what it was declared for, 0 for nothing; it has a key.
    asked: Signal
    asked_use: Signal
    asked_loaded: Signal
    #: In: for one cycle: a row names the slot that is asked for.
    named: Signal
    #: Out: the slots that have a key; every one that a row names has it.
    has_key: Signal
    complete: Signal
    #: In: ``{slot, blocks}``: so many are about to be encrypted.
    seal: stream.Interface
    #: Out: two cycles after: they may be, and are counted.
    seal_valid: Signal
    seal_ok: Signal
    #: Out: to the lanes; then slots whose round keys stand.
    round_key: Any
    hash_key: stream.Interface
    #: Out: every slot is zero, or was since the reset.
    wiped: Signal

    def __init__(self, shapes: TecShapes, limits: Limits) -> None:
        self.limits: Final = limits
        self.key_bits: Final = shapes.tec.key_bits
        super().__init__(
            {
                **self.transfer_ports(shapes),
                "slot": In(8),
                "use": In(8),
                "key": In(shapes.tec.key_bits),
                "declare_refusal": Out(Refusal),
                "load_refusal": Out(Refusal),
                "declare": In(1),
                "load": In(1),
                "loaded": Out(1),
                "asked": In(range(KEY_SLOTS)),
                "asked_use": Out(2),
                "asked_loaded": Out(1),
                "named": In(1),
                "has_key": Out(KEY_SLOTS),
                "complete": Out(1),
                "wiped": Out(1),
            }
        )

        #: Blocks that may still be encrypted under each.
        self.left: Final[Any] = memory.MemoryData(
            shape=limits.blocks.bit_length(), depth=KEY_SLOTS, init=[]
        )

    @staticmethod
    def transfer_ports(shapes: TecShapes) -> dict[str, Any]:
        """Return the ports that serve transfers, and those to the lanes."""
        slot = range(KEY_SLOTS)
        blocks = shapes.chunk_bits - exact_log2(GRANULE)
        return {
            "seal": In(stream.Signature(data.StructLayout({"slot": slot, "blocks": blocks}))),
            "seal_valid": Out(1),
            "seal_ok": Out(1),
            "round_key": Out(RoundKey(_aes(shapes.tec.key_bits))),
            "hash_key": Out(stream.Signature(data.StructLayout({"slot": slot}))),
        }

    def elaborate(self, platform):
        m = Module()

        m.submodules.expand = expand = Expand(_aes(self.key_bits))
        bits = self.limits.blocks.bit_length()
        m.submodules.left = left = memory.Memory(self.left)
        read, write = left.read_port(domain="comb"), left.write_port()
        wiring.connect(m, expand.round_key, wiring.flipped(self.round_key))

        uses = [Signal(2, name=f"use_{n}") for n in range(KEY_SLOTS)]
        has_key, is_named = self.has_key, Signal(KEY_SLOTS)
        slot = self.slot[: (KEY_SLOTS - 1).bit_length()]
        exists = ~self.slot[len(slot) :].any()
        own_use = Signal(2)
        m.d.comb += [
            own_use.eq(Array(uses)[slot]),
            self.asked_use.eq(Array(uses)[self.asked]),
            self.asked_loaded.eq(has_key.bit_select(self.asked, 1)),
            # SEC: TEC.UNLOADED_SLOT
            self.complete.eq(~(is_named & ~has_key).any()),
        ]

        # SEC: TEC.KEY_SLOT_USE -- a secret is a static key or the seed of session keys, never both.
        one_use = (self.use == SlotUse.STATIC.value) | (self.use == SlotUse.SESSION.value)
        with m.If(~exists):
            m.d.comb += self.declare_refusal.eq(Refusal.ILLEGAL_ARGUMENT)
        with m.Elif((slot == K_MEM) | ~one_use):
            m.d.comb += self.declare_refusal.eq(Refusal.SLOT_USE)
        with m.Elif(own_use.any()):
            m.d.comb += self.declare_refusal.eq(Refusal.SLOT_TAKEN)
        with m.If(~exists | ~own_use.any() | has_key.bit_select(slot, 1)):
            m.d.comb += self.load_refusal.eq(Refusal.KEY_SLOT)
        for number, use in enumerate(uses):
            with m.If(self.declare & (slot == number)):
                m.d.sync += use.eq(self.use)
            with m.If(self.named & (self.asked == number)):
                m.d.sync += is_named[number].eq(1)

        # Counting: the balance is read in one cycle, and in the next what is asked for subtracted.
        # A slot that is wiped or opened has a cost of nothing, and a balance of nothing or all.
        balance, cost, account = Signal(bits), Signal.like(self.seal.p.blocks), Signal.like(slot)
        wipes, opens, counts, seals = Signal(), Signal(), Signal(), Signal()
        rest = Signal(bits + 1)
        asks = self.seal.valid & self.seal.ready
        m.d.comb += [
            read.addr.eq(self.seal.p.slot),
            rest.eq(balance - cost),
            write.addr.eq(account),
            write.data.eq(rest),
            write.en.eq(counts & ~rest[-1]),
        ]
        m.d.sync += [
            counts.eq(asks | wipes | opens),
            seals.eq(asks),
            # SEC: TEC.BLOCK_LIMIT -- counted before the first pad, for the whole chunk.
            self.seal_valid.eq(seals),
            self.seal_ok.eq(~rest[-1]),
            account.eq(Mux(asks, self.seal.p.slot, expand.i.p.slot)),
        ]
        m.d.sync += [balance.eq(0), cost.eq(0)]
        with m.If(asks):
            m.d.sync += [balance.eq(read.data), cost.eq(self.seal.p.blocks)]
        # SEC: TEC.KEY_SLOT_USE -- the TEC does not encrypt with a static key.
        with m.If(opens & (own_use != SlotUse.STATIC.value)):
            m.d.sync += balance.eq(self.limits.blocks)

        wiping = Signal.like(slot)
        m.d.comb += [
            expand.i.p.key.eq(self.key),
            expand.i.p.slot.eq(slot),
            self.hash_key.p.slot.eq(slot),
        ]
        with m.FSM(init="Wipe") as fsm:
            m.d.comb += self.seal.ready.eq(~seals & fsm.ongoing("Idle"))

            with m.State("Wipe"):
                # SEC: TEC.ZEROIZE
                m.d.comb += [
                    expand.i.p.wipe.eq(1),
                    expand.i.p.slot.eq(wiping),
                    expand.i.valid.eq(1),
                    wipes.eq(1),
                ]
                with m.If(expand.i.ready):
                    m.d.sync += wiping.eq(wiping + 1)
                    with m.If(wiping == KEY_SLOTS - 1):
                        m.next = "Await-Wipe"

            with m.State("Await-Wipe"), m.If(~expand.busy):
                m.d.sync += self.wiped.eq(1)
                m.next = "Idle"

            with m.State("Idle"), m.If(self.load):
                m.next = "Expand-Key"

            with m.State("Expand-Key"):
                m.d.comb += expand.i.valid.eq(1)
                with m.If(expand.i.ready):
                    m.next = "Await-Expansion"

            with m.State("Await-Expansion"), m.If(~expand.busy):
                m.next = "Offer-Slot"

            with m.State("Offer-Slot"):
                m.d.comb += self.hash_key.valid.eq(1)
                with m.If(self.hash_key.ready):
                    m.d.comb += [self.loaded.eq(1), opens.eq(1)]
                    for number in range(KEY_SLOTS):
                        with m.If(slot == number):
                            m.d.sync += has_key[number].eq(1)
                    m.next = "Idle"

        return m
