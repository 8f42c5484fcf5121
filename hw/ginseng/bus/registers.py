"""The register bank: the host's AXI4-Lite side, built from the register map of the contract."""

from typing import Any, Final

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import SystemConfig
from ginseng.isa.registers import COUNTERS, MAGIC, Access, Build, Register, register_map

__all__ = ["LitePins", "RegisterBank"]

#: The map fits one page.
_ADDRESS_BITS: Final = 12
#: More bytes than these are a window, which belongs to the block behind it.
_WINDOW_BYTES: Final = 64


class LitePins(wiring.Signature):
    """AXI4-Lite of 32-bit words, one signal per AXI name, the manager's side."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(_ADDRESS_BITS),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(_ADDRESS_BITS),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class RegisterBank(wiring.Component):
    """Gives the host the registers of a build; windows are left out.

    One write and one read at a time; every response is OKAY. A word that does not exist, or that
    the host may not read, reads as zero; a write to a word that it may not write does nothing.
    Bytes without strobe keep their value, in ``control`` they count as zero.

    What never changes, and a copy of what the host wrote, are read from one small memory: there
    are many such words, and few bits of others. After ``clear`` and reset it takes a cycle per
    word until the host is served again.

    Registers but those that name the build are ports of their names and sizes:

    * what the host may only read: an input, what it reads;
    * what it may write and read back: an output, what it wrote, zero after ``clear`` and reset;
    * counters: read through ``counter``, one at a time, when its turn comes;
    * ``control``: an input, what it reads. What is written is on ``written`` while
      ``control_strobe`` is high, for one cycle; what the host may only write likewise.

    Parameters
    ----------
    config : SystemConfig

    """

    #: AXI4-Lite, the subordinate's side.
    s_axi: Any
    #: In: set every register that the host can read back to zero.
    clear: Signal
    #: Out: the word being written.
    written: Signal
    #: Out: the number of the counter that the host may be reading; in: whether it is there now, and
    #: its value.
    counter: Signal
    counter_current: Signal
    counter_value: Signal

    def __init__(self, config: SystemConfig) -> None:
        registers = register_map(config)
        build = Build.BARE if config.tec is None else Build.PROTECTED
        constants = {
            "magic": MAGIC,
            "build": build | config.debug << 8,
            "digest": int.from_bytes(config.digest, "little"),
        }
        self._registers = [
            register
            for register in registers.registers
            if register.nbytes <= _WINDOW_BYTES and register.name not in {*COUNTERS, *constants}
        ]
        self._counters = [registers[name] for name in COUNTERS]
        #: Words of the memory by their offsets in words: what is stored first, then constants.
        self._contents = {
            (register.offset >> 2) + n: 0
            for register in self._registers
            if self._stored(register)
            for n in range(register.nbytes // 4)
        }
        self._stored_words = len(self._contents)
        self._contents |= {
            (registers[name].offset >> 2) + n: value >> 32 * n & 0xFFFF_FFFF
            for name, value in constants.items()
            for n in range(registers[name].nbytes // 4)
        }
        ports: dict[str, Any] = {
            "s_axi": In(LitePins()),
            "clear": In(1),
            "written": Out(32),
            "counter": Out(range(len(COUNTERS))),
            "counter_current": In(1),
            "counter_value": In(8 * self._counters[0].nbytes),
        }
        for register in self._registers:
            if self._readable(register):
                direction = Out if self._stored(register) else In
                ports[register.name] = direction(8 * register.nbytes)
            if self._strobed(register):
                ports[f"{register.name}_strobe"] = Out(1)
        super().__init__(ports)

    @staticmethod
    def _readable(register: Register) -> bool:
        return register.access is not Access.WRITE

    @staticmethod
    def _stored(register: Register) -> bool:
        """Whether the bank holds what the host wrote; fields of a word belong to hardware."""
        return register.access is Access.READ_WRITE and register.shape is None

    def _strobed(self, register: Register) -> bool:
        return register.access is not Access.READ and not self._stored(register)

    def elaborate(self, platform):
        m = Module()

        bus = self.s_axi
        depth = 1 << (len(self._contents) - 1).bit_length()
        contents: Any = memory.Memory(shape=32, depth=depth, init=[*self._contents.values()])
        m.submodules.contents = contents
        copy, read = contents.write_port(granularity=8), contents.read_port(domain="comb")

        # Stored words are zero again one by one.
        clearing = Signal(range(self._stored_words + 1), init=self._stored_words)
        ready = Signal()
        m.d.comb += ready.eq(clearing == 0)
        with m.If(self.clear):
            m.d.sync += clearing.eq(self._stored_words)
        with m.Elif(~ready):
            m.d.sync += clearing.eq(clearing - 1)

        # Writes: address and data are taken together, the response follows.
        writes = Signal()
        m.d.comb += [
            writes.eq(bus.awvalid & bus.wvalid & ~bus.bvalid & ready),
            bus.awready.eq(writes),
            bus.wready.eq(writes),
            self.written.eq(
                Cat(Mux(bus.wstrb[n], bus.wdata.word_select(n, 8), 0) for n in range(4))
            ),
        ]
        with m.If(writes):
            m.d.sync += bus.bvalid.eq(1)
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)

        # The copy is written a cycle later, before the response can be taken.
        m.d.sync += [copy.data.eq(bus.wdata), copy.en.eq(0)]
        with m.If(~ready):
            m.d.sync += [copy.data.eq(0), copy.addr.eq(clearing - 1), copy.en.eq(0b1111)]
        places = {offset: place for place, offset in enumerate(self._contents)}
        with m.Switch(bus.awaddr[2:]):
            for register in self._registers:
                if self._stored(register):
                    port = getattr(self, register.name)
                    for n in range(register.nbytes // 4):
                        offset = (register.offset >> 2) + n
                        with m.Case(offset), m.If(writes):
                            m.d.sync += [copy.addr.eq(places[offset]), copy.en.eq(bus.wstrb)]
                            for byte in range(4):
                                with m.If(bus.wstrb[byte]):
                                    at = 4 * n + byte
                                    m.d.sync += port[8 * at : 8 * (at + 1)].eq(
                                        bus.wdata[8 * byte : 8 * (byte + 1)]
                                    )
                elif self._strobed(register):
                    with m.Case(register.offset >> 2):
                        m.d.comb += getattr(self, f"{register.name}_strobe").eq(writes)
        with m.If(self.clear):
            m.d.sync += [
                getattr(self, register.name).eq(0)
                for register in self._registers
                if self._stored(register)
            ]

        # Reads; a counter's waits for its turn.
        begin = self._counters[0].offset
        end = begin + sum(counter.nbytes for counter in self._counters)
        word, counts = Signal(32), Signal()
        m.d.comb += [
            counts.eq((bus.araddr >= begin) & (bus.araddr < end)),
            bus.arready.eq(~bus.rvalid & ready & (~counts | self.counter_current)),
            self.counter.eq((bus.araddr - begin) >> 3),
        ]
        with m.Switch(bus.araddr[2:]):
            for offset, place in places.items():
                with m.Case(offset):
                    m.d.comb += [read.addr.eq(place), word.eq(read.data)]
            for register in self._registers:
                if self._readable(register) and not self._stored(register):
                    port = getattr(self, register.name)
                    for n in range(register.nbytes // 4):
                        with m.Case((register.offset >> 2) + n):
                            m.d.comb += word.eq(port[32 * n : 32 * (n + 1)])
        with m.If(counts):
            m.d.comb += word.eq(self.counter_value.word_select(bus.araddr[2], 32))
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [bus.rvalid.eq(1), bus.rdata.eq(word)]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)

        return m
