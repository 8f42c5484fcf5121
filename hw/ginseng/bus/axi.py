"""AXI3 and AXI4 as streams, and as the flat pins that vendor tools and models expect."""

from typing import Any, Final

from amaranth import Module
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import BusConfig, BusProtocol

__all__ = ["ADDRESS_BITS", "ID_BITS", "AxiPins", "AxiSignature", "Response", "connect_pins"]

#: Byte addresses: the 40 bits of a tensor row; a shell leaves the top ones open where it has fewer.
ADDRESS_BITS: Final = 40
#: Transaction identifiers: one per client of the DMA.
ID_BITS: Final = 3

_INCREMENTING: Final = 1
#: Normal memory, bufferable, not cacheable.
_CACHE: Final = 0b0011


class Response(enum.IntEnum, shape=2):
    """How a transaction ended."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


def _length_bits(bus: BusConfig) -> int:
    return 4 if bus.protocol is BusProtocol.AXI3 else 8


class AxiSignature(wiring.Signature):
    """The manager's side of AXI3 or AXI4: whole beats, INCR bursts.

    ``ar``, ``aw``
        ``{id, address, length}``: byte address of the first beat; beats minus one.
    ``w``
        ``{id, data, strobe, last}``, in the order of ``aw``; AXI4 has no pin for the id.
    ``r``
        ``{id, data, response, last}``.
    ``b``
        ``{id, response}``.
    """

    def __init__(self, bus: BusConfig) -> None:
        self.bus = bus
        request = data.StructLayout(
            {"id": ID_BITS, "address": ADDRESS_BITS, "length": _length_bits(bus)}
        )
        write = data.StructLayout(
            {"id": ID_BITS, "data": bus.data_bits, "strobe": bus.beat_bytes, "last": 1}
        )
        read = data.StructLayout(
            {"id": ID_BITS, "data": bus.data_bits, "response": Response, "last": 1}
        )
        answer = data.StructLayout({"id": ID_BITS, "response": Response})
        super().__init__(
            {
                "ar": Out(stream.Signature(request)),
                "r": In(stream.Signature(read)),
                "aw": Out(stream.Signature(request)),
                "w": Out(stream.Signature(write)),
                "b": In(stream.Signature(answer)),
            }
        )


def _request_pins(channel: str, bus: BusConfig) -> dict[str, Any]:
    axi3 = bus.protocol is BusProtocol.AXI3
    pins = {
        "id": Out(ID_BITS),
        "addr": Out(ADDRESS_BITS),
        "len": Out(_length_bits(bus)),
        "size": Out(3),
        "burst": Out(2),
        "lock": Out(2 if axi3 else 1),
        "cache": Out(4),
        "prot": Out(3),
        "qos": Out(4),
        "valid": Out(1),
        "ready": In(1),
    }
    return {channel + name: pin for name, pin in pins.items()}


class AxiPins(wiring.Signature):
    """The same as one signal per AXI name (``araddr``, ``rdata`` …), the manager's side."""

    def __init__(self, bus: BusConfig) -> None:
        axi3 = bus.protocol is BusProtocol.AXI3
        super().__init__(
            _request_pins("ar", bus)
            | _request_pins("aw", bus)
            | {
                "rid": In(ID_BITS),
                "rdata": In(bus.data_bits),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
                "wdata": Out(bus.data_bits),
                "wstrb": Out(bus.beat_bytes),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bid": In(ID_BITS),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
            | ({"wid": Out(ID_BITS)} if axi3 else {})
        )


def connect_pins(m: Module, pins: Any, axi: Any, bus: BusConfig) -> None:
    """Drive the manager's ``pins`` from the streams ``axi`` of a manager.

    Parameters
    ----------
    m : Module
        What is being built.
    pins : interface of AxiPins
        Its ports.
    axi : interface of AxiSignature
        Of its submodule that is the manager.
    bus : BusConfig
        Of both.

    """
    for name, request in (("ar", axi.ar), ("aw", axi.aw)):
        fields: dict[str, Any] = {
            "id": request.p.id,
            "addr": request.p.address,
            "len": request.p.length,
            "size": (bus.beat_bytes - 1).bit_length(),
            "burst": _INCREMENTING,
            "cache": _CACHE,
            "valid": request.valid,
        }
        m.d.comb += [getattr(pins, name + field).eq(value) for field, value in fields.items()]
        m.d.comb += request.ready.eq(getattr(pins, name + "ready"))
    m.d.comb += [
        axi.r.p.id.eq(pins.rid),
        axi.r.p.data.eq(pins.rdata),
        axi.r.p.response.eq(pins.rresp),
        axi.r.p.last.eq(pins.rlast),
        axi.r.valid.eq(pins.rvalid),
        pins.rready.eq(axi.r.ready),
        pins.wdata.eq(axi.w.p.data),
        pins.wstrb.eq(axi.w.p.strobe),
        pins.wlast.eq(axi.w.p.last),
        pins.wvalid.eq(axi.w.valid),
        axi.w.ready.eq(pins.wready),
        axi.b.p.id.eq(pins.bid),
        axi.b.p.response.eq(pins.bresp),
        axi.b.valid.eq(pins.bvalid),
        pins.bready.eq(axi.b.ready),
    ]
    if bus.protocol is BusProtocol.AXI3:
        m.d.comb += pins.wid.eq(axi.w.p.id)
