"""The state of every walk in memories: what its plan says, and how far it has come."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data

from ginseng.bus.shapes import READERS
from ginseng.isa.table import GRANULE
from ginseng.isa.transfer import Client
from ginseng.tec.context import keep
from ginseng.tec.mark import unit_bits
from ginseng.tec.orders import UNIT
from ginseng.tec.shapes import NONCE_PREFIX_BITS, TecShapes

__all__ = ["Walks"]

_LOG_BLOCK: Final = (GRANULE - 1).bit_length()
_LOG_UNIT: Final = (UNIT - 1).bit_length()
#: Descriptors of a client that have a plan: one is walked, one waits.
_PLANS: Final = 2


class Walks:
    """Memories in ``m`` of which the walk of ``client`` and ``half`` is read and written.

    Attributes
    ----------
    client, half : Signal
        Whose walk, and which of its plans; to be driven.
    key : Signal
        Both.
    plans, places, rows, starts, lefts
        By client and plan: what the plan says; first block and index of the chunk; whether the row
        goes on in the next chunk, began in an earlier burst, and whether nothing more of the chunk
        is meant; start of the row from that of the chunk, in units; rows left.
    sizes, dones
        By client: blocks of the chunk under way, how many were asked for.
    full, heads, tails : Signal
        Plans that there are; by client, which one is walked and which is given next.
    room, active : Signal
        By client: it has room for one more plan; it has one to walk.

    """

    def __init__(self, m: Module, shapes: TecShapes) -> None:
        self._shapes = shapes
        at_bits = shapes.position_bits - _LOG_BLOCK
        size_bits = shapes.chunk_bits - _LOG_BLOCK
        position = unit_bits(shapes)
        constants = data.StructLayout(
            {
                "raw": 1,
                "slot": shapes.plan["slot"].shape,
                "prefix": NONCE_PREFIX_BITS,
                "end": at_bits,
                "chunk": size_bits,
                "tracked": 1,
                "first_bit": range(shapes.tec.bitmap_bits),
                "row": position,
                "stride": position,
                "merge": 1,
                "tight": 1,
            }
        )
        place = data.StructLayout({"at": at_bits, "index": shapes.index_bits})
        row = data.StructLayout({"more": 1, "begun": 1, "mute": 1})
        self.client, self.half = Signal(range(len(READERS))), Signal()
        self.key = key = Signal(range(len(READERS) * _PLANS))
        self._write_key = write_key = Signal.like(key)
        client = self.client
        self.plans = keep(m, "plans", constants, key, write_key)
        self.places = keep(m, "places", place, key, write_key)
        self.rows = keep(m, "rows", row, key, write_key)
        self.starts = keep(m, "starts", signed(position + 1), key, write_key)
        self.lefts = keep(m, "lefts", 16, key, write_key)
        self.sizes = keep(m, "sizes", size_bits, client, client)
        self.dones = keep(m, "dones", size_bits, client, client)
        self.full = full = Signal(len(READERS) * _PLANS)
        self.heads, self.tails = Signal(len(READERS)), Signal(len(READERS))
        self.room, self.active = Signal(len(READERS)), Signal(len(READERS))
        m.d.comb += key.eq(Cat(self.half, client))
        for n in range(len(READERS)):
            slots = full[_PLANS * n : _PLANS * (n + 1)]
            m.d.comb += [
                self.room[n].eq(~slots.bit_select(self.tails[n], 1)),
                self.active[n].eq(slots.bit_select(self.heads[n], 1)),
            ]

    def take(
        self, m: Module, takes: Signal, imports: Signal, client: Any, plan: Any, raw: Any
    ) -> None:
        """Write what ``plan`` says when ``takes``; where ``imports``, what ``raw`` says.

        A raw plan is of one row, and that is one chunk. Where the walk starts is not written here.
        """
        beat_bytes = self._shapes.config.bus.beat_bytes
        put = self.plans.put
        owner = Signal.like(self.client)
        m.d.comb += [
            owner.eq(Mux(imports, Client.WGT, client)),
            put.raw.eq(imports),
            *(put[k].eq(plan[k]) for k in ("slot", "prefix", "tracked", "first_bit")),
            put.merge.eq(plan.merge),
            put.end.eq(plan.base[_LOG_BLOCK:] + plan.extent[_LOG_BLOCK:]),
            put.chunk.eq(Mux(imports, raw.row_bytes, plan.chunk) >> _LOG_BLOCK),
            put.row.eq(Mux(imports, raw.row_bytes, plan.row_bytes) >> _LOG_UNIT),
            put.stride.eq(plan.stride >> _LOG_UNIT),
            # Rows may share beats. On 64 bits none do: what is between them is half a beat.
            put.tight.eq(
                (beat_bytes // UNIT > 2)
                & (plan.rows != 1)
                & (plan.stride < plan.row_bytes + beat_bytes)
                & ~imports
            ),
            self.plans.write.eq(takes),
            self._write_key.eq(Mux(takes, Cat(self.tails.bit_select(owner, 1), owner), self.key)),
        ]
        with m.If(takes):
            for sink in (self.places, self.rows, self.starts, self.lefts):
                m.d.comb += sink.write.eq(1)
            m.d.sync += [
                self.full.bit_select(self._write_key, 1).eq(1),
                self.tails.bit_select(owner, 1).eq(~self.tails.bit_select(owner, 1)),
            ]
