"""AES encryption: some rounds unrolled, each block passing through them several times (FIPS 197).

A block is 128 bits with byte 0 in bits 7:0, as a little-endian bus carries it; column ``c`` is
bits ``32*c`` to ``32*c + 31``.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.errors import CryptoError
from ginseng.crypto.polynomial import kept

__all__ = ["SBOX", "Aes", "AesConfig", "RoundKey", "substitute"]

_COLUMNS: Final = 4


def _sbox() -> tuple[int, ...]:
    """Return the S-box: the inverse in GF(2^8), then an affine map (FIPS 197, §5.1.1)."""
    power, log = [1], {1: 0}
    for n in range(1, 255):
        # 3 generates the field of x^8 + x^4 + x^3 + x + 1.
        double = power[-1] << 1 ^ (0x11B if power[-1] & 0x80 else 0)
        power.append(double ^ power[-1])
        log[power[-1]] = n
    table = []
    for byte in range(256):
        inverse = power[-log[byte] % 255] if byte else 0
        rotations = (inverse << n | inverse >> (8 - n) for n in range(5))
        affine = 0x63
        for rotation in rotations:
            affine ^= rotation & 0xFF
        table.append(affine)
    return tuple(table)


SBOX: Final = _sbox()


@dataclass(frozen=True, kw_only=True)
class AesConfig:
    """Size of the key, and how much of the cipher is unrolled.

    Attributes
    ----------
    key_bits : int
        128 or 256.
    stages : int
        Rounds in gates; divides the rounds of the cipher. A block is taken every ``passes`` cycles
        on average, without pause if stages and passes have no common divisor.
    slots : int
        Keys that stay expanded.

    Raises
    ------
    CryptoError
        If a number is out of its range.

    """

    key_bits: int = 128
    stages: int = 5
    slots: int = 8

    def __post_init__(self) -> None:
        if self.key_bits not in (128, 256):
            raise CryptoError(f"AesConfig.key_bits is 128 or 256, not {self.key_bits}")
        if self.stages < 1 or self.rounds % self.stages:
            raise CryptoError(
                f"AesConfig.stages divides the {self.rounds} rounds of AES-{self.key_bits}, "
                f"{self.stages} does not"
            )
        if self.slots < 1:
            raise CryptoError(f"AesConfig.slots is at least 1, not {self.slots}")

    @classmethod
    def of_passes(cls, passes: int, *, key_bits: int = 128, slots: int = 8) -> Self:
        """Unroll as much as lets a block pass through ``passes`` times."""
        rounds = cls(key_bits=key_bits, stages=1).rounds
        return cls(key_bits=key_bits, stages=rounds // passes, slots=slots)

    @property
    def rounds(self) -> int:
        """Rounds of the cipher."""
        return 10 if self.key_bits == 128 else 14

    @property
    def passes(self) -> int:
        """How often a block passes through the stages."""
        return self.rounds // self.stages

    @property
    def latency(self) -> int:
        """Cycles from a block taken to its encryption."""
        return 1 + self.rounds


class RoundKey(wiring.Signature):
    """Writes a round key; members as the writer sees them. A block under way must not need it."""

    def __init__(self, config: AesConfig) -> None:
        super().__init__(
            {
                "enable": Out(1),
                "slot": Out(range(config.slots)),
                "round": Out(range(config.rounds + 1)),
                "key": Out(128),
            }
        )


def substitute(m: Module, name: str, word: Any) -> list[Any]:
    """Return the S-box of each byte of ``word``, from tables in LUTs, as a submodule of ``m``."""
    # One table with a port per byte: simulators keep one copy of it.
    table: Any = memory.Memory(shape=unsigned(8), depth=256, init=SBOX)
    m.submodules[name] = table
    found = []
    for n in range(len(word) // 8):
        port = table.read_port(domain="comb")
        m.d.comb += port.addr.eq(word[8 * n : 8 * n + 8])
        found.append(kept(m, f"{name}_{n}", port.data))
    return found


class Aes(wiring.Component):
    """Encrypts blocks, each under the expanded key of its slot.

    Takes a block whenever none comes round again in that cycle, and gives it `AesConfig.latency`
    cycles later, in order; the output waits for nobody. Round keys come from
    `ginseng.crypto.expand.Expand`. Timing depends on neither blocks nor keys.

    Parameters
    ----------
    config : AesConfig

    """

    #: In: ``{block: 128, slot}``.
    i: stream.Interface

    def __init__(self, config: AesConfig) -> None:
        self.config = config
        self._slot = unsigned((config.slots - 1).bit_length())
        item = data.StructLayout({"block": 128, "slot": self._slot})
        #: The registers before each stage, column by column: what changes with key and block.
        self.states: list[list[Any]] = [
            [Signal(32, name=f"state_{n}_{c}") for c in range(_COLUMNS)]
            for n in range(config.stages)
        ]
        super().__init__(
            {
                "i": In(stream.Signature(item)),
                "round_key": In(RoundKey(config)),
                #: Out: an encrypted block, for one cycle.
                "o_valid": Out(1),
                "o_block": Out(128),
                #: Out: the first stage has a block.
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()

        config = self.config
        stages, passes = config.stages, config.passes
        slots = 1 << self._slot.width
        whitening, get_whitening = self._keys(m, "keys_0", slots)
        keys = [self._keys(m, f"keys_{n + 1}", slots * passes) for n in range(stages)]

        # Round 0 is the whitening; round 1 + p * stages + n is that of stage n in pass p.
        write = self.round_key
        m.d.comb += [
            whitening.addr.eq(write.slot),
            whitening.data.eq(write.key),
            whitening.en.eq(write.enable & (write.round == 0)),
            get_whitening.addr.eq(self.i.payload.slot),
        ]
        for n, (put, _) in enumerate(keys):
            m.d.comb += put.data.eq(write.key)
            for p in range(passes):
                with m.If(write.round == 1 + p * stages + n):
                    m.d.comb += [put.addr.eq(write.slot + p * slots), put.en.eq(write.enable)]

        # What stands before each stage: a block's columns, its slot, and which pass it is in.
        tag = data.StructLayout({"valid": 1, "slot": self._slot, "turn": range(passes)})
        tags: list[Any] = [Signal(tag, name=f"tag_{n}") for n in range(stages)]
        states = self.states
        results: list[list[Any]] = []
        last_round: list[Any] = []
        for n, (state, (_, get)) in enumerate(zip(states, keys, strict=True)):
            m.d.comb += get.addr.eq(tags[n].slot + tags[n].turn * slots)
            shifted, mixed = _round(m, n, state)
            results.append([column ^ get.data.word_select(c, 32) for c, column in enumerate(mixed)])
            # Without MixColumns.
            last_round = [column ^ get.data.word_select(c, 32) for c, column in enumerate(shifted)]
        for n in range(stages - 1):
            m.d.sync += tags[n + 1].eq(tags[n])
            m.d.sync += [to.eq(r) for to, r in zip(states[n + 1], results[n], strict=True)]

        last: Any = tags[-1]
        returns = Signal()
        m.d.comb += [
            returns.eq(last.valid & (last.turn != passes - 1)),
            self.i.ready.eq(~returns),
            self.busy.eq(tags[0].valid),
        ]
        m.d.sync += [
            tags[0].valid.eq(returns | self.i.valid),
            tags[0].slot.eq(Mux(returns, last.slot, self.i.payload.slot)),
            tags[0].turn.eq(Mux(returns, last.turn + 1, 0)),
            self.o_valid.eq(last.valid & ~returns),
            self.o_block.eq(Cat(last_round)),
        ]
        for c, state in enumerate(states[0]):
            column = slice(32 * c, 32 * c + 32)
            fresh = self.i.payload.block[column] ^ get_whitening.data[column]
            m.d.sync += state.eq(Mux(returns, results[-1][c], fresh))

        return m

    def _keys(self, m: Module, name: str, depth: int) -> tuple[Any, Any]:
        """Make a memory of round keys; return its write and read port."""
        keys: Any = memory.Memory(shape=unsigned(128), depth=depth, init=[])
        m.submodules[name] = keys
        return keys.write_port(), keys.read_port(domain="comb")


def _round(m: Module, n: int, state: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the columns after SubBytes and ShiftRows, and after MixColumns too."""
    bytes_ = substitute(m, f"sbox_{n}", Cat(state))
    columns, mixed = [], []
    for c in range(_COLUMNS):
        # ShiftRows: row r of column c comes from column c + r.
        column = Signal(32, name=f"shifted_{n}_{c}")
        m.d.comb += column.eq(Cat(bytes_[(4 * (c + r) + r) % 16] for r in range(4)))
        columns.append(column)
        mixed.append(_mix(m, f"{n}_{c}", column))
    return columns, mixed


def _mix(m: Module, name: str, column: Any) -> Any:
    """Return MixColumns of one column, four bytes at a time."""
    # With t = a ^ next(a), each byte becomes 2*t ^ next(a) ^ t rotated by two.
    following, t = Signal(32, name=f"next_{name}"), Signal(32, name=f"sum_{name}")
    high, double = Signal(32, name=f"high_{name}"), Signal(32, name=f"double_{name}")
    m.d.comb += [
        following.eq(column.rotate_right(8)),
        t.eq(column ^ following),
        high.eq((t >> 7) & 0x01010101),
        # Where a bit leaves its byte, 0x1b = x^4 + x^3 + x + 1 comes back.
        double.eq(((t & 0x7F7F7F7F) << 1) ^ high ^ (high << 1) ^ (high << 3) ^ (high << 4)),
    ]
    return double ^ following ^ t.rotate_right(16)
