"""Writes: whole chunks, each sealed once per version (TEC specification §3, §6, §7)."""

from typing import Any

from amaranth import Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.bus.axi import AxiSignature
from ginseng.bus.port import READ_COUNT_BITS
from ginseng.isa.formats import TAG_BYTES
from ginseng.isa.table import KEY_SLOTS, MAX_CHUNK
from ginseng.tec.shapes import LanePort, MeasuredItem, TecShapes

__all__ = ["ImportPort", "WritePath"]


class ImportPort(wiring.Signature):
    """An import's source on its way in place; members as the importer sees them.

    ``active``
        The next plan is of an import: it waits for no load, its beats come from here.
    ``sealed``, ``slot``, ``prefix``
        Whether the source is opened first, the key for that, and the nonce without the index.
    ``chunk``
        The chunk of the tensor that comes next: its first byte, its size in bytes, its index.
    ``fill``
        Give the beats of a burst, and the source's tag after it if it ends a sealed chunk.
    ``beat``
        They; of a chunk dense from bit 0 on. A tag does not come here.
    ``opened``, ``tag``
        The tag of an opened chunk, in order, for one cycle.
    ``done``
        High for one cycle: the tensor is in place.
    """

    def __init__(self, shapes: TecShapes) -> None:
        chunk = data.StructLayout(
            {
                "position": shapes.position_bits,
                "nbytes": shapes.chunk_bits,
                "index": shapes.index_bits,
            }
        )
        fill = data.StructLayout({"beats": range(shapes.burst_beats + 1), "last": 1})
        super().__init__(
            {
                "active": Out(1),
                "sealed": Out(1),
                "slot": Out(range(KEY_SLOTS)),
                "prefix": Out(64),
                "chunk": In(stream.Signature(chunk)),
                "fill": In(stream.Signature(fill)),
                "beat": Out(stream.Signature(unsigned(shapes.config.bus.data_bits))),
                "opened": In(1),
                "tag": In(128),
                "done": In(1),
            }
        )


class WritePath(wiring.Component):
    """Seals what the core stores and what is imported, and writes it.

    Parameters
    ----------
    shapes : TecShapes

    """

    #: In: plans of stores, or of the import.
    plan: stream.Interface
    #: In: the core's dense beats.
    beat: stream.Interface
    #: In: a descriptor of the core was taken, whether it moves nothing, and its barrier sample.
    begin: Signal
    empty: Signal
    sample: Signal
    #: Out: one more descriptor can be taken.
    room: Signal
    #: Out: a descriptor completes.
    done: Signal
    #: In: loads taken, and the longest prefix of them that verified; both modulo 2**16.
    issued: Signal
    verified: Signal
    #: Out: to the lane.
    lane: Any
    #: Out: chunks to be begun: test and set the bit. In: the answer, in order.
    chunk_begin: stream.Interface
    begin_valid: Signal
    begin_fresh: Signal
    #: Out: the oldest begun chunk is completely written.
    chunk_finish: Signal
    #: Out: count so many blocks of a key. In, at the same time: it may encrypt them.
    seal: data.View
    seal_ok: Signal
    #: In: the importer.
    importing: Any
    #: Out: what measured exports are, in store order.
    measure: stream.Interface
    #: Out, in: the write channels of AXI.
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface
    #: In: the sticky fault.
    stop: Signal
    #: Out: a rule was broken, or a wrong response comes.
    fault: Signal
    #: Out: no burst is open.
    idle: Signal
    #: Out: after a stop, all plaintext is overwritten.
    wiped: Signal
    #: Out: a chunk is not complete.
    open_chunk: Signal
    #: Out: a burst of ``nbytes`` bytes to write is begun.
    counted: Signal
    nbytes: Signal

    def __init__(self, shapes: TecShapes) -> None:
        self.shapes = shapes
        bus = shapes.config.bus
        axi = AxiSignature(bus)
        super().__init__(
            {
                "plan": In(stream.Signature(shapes.plan)),
                "beat": In(stream.Signature(unsigned(bus.data_bits))),
                "begin": In(1),
                "empty": In(1),
                "sample": In(READ_COUNT_BITS),
                "room": Out(1),
                "done": Out(1),
                "issued": In(READ_COUNT_BITS),
                "verified": In(READ_COUNT_BITS),
                "lane": Out(LanePort(shapes)),
                "chunk_begin": Out(
                    stream.Signature(
                        data.StructLayout({"bit": range(shapes.tec.bitmap_bits), "export": 1})
                    )
                ),
                "begin_valid": In(1),
                "begin_fresh": In(1),
                "chunk_finish": Out(1),
                "seal": Out(
                    data.StructLayout(
                        {
                            "valid": 1,
                            "slot": range(KEY_SLOTS),
                            "blocks": range(MAX_CHUNK // TAG_BYTES + 1),
                        }
                    )
                ),
                "seal_ok": In(1),
                "importing": In(ImportPort(shapes)),
                "measure": Out(stream.Signature(MeasuredItem)),
                "aw": axi.members["aw"],
                "w": axi.members["w"],
                "b": axi.members["b"],
                "stop": In(1),
                "fault": Out(1),
                "idle": Out(1),
                "wiped": Out(1),
                "open_chunk": Out(1),
                "counted": Out(1),
                "nbytes": Out(range(bus.burst_bytes + 1)),
            }
        )
