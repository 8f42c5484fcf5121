"""What a build is sized for, and the digest that names it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self

from amaranth.lib import enum

from ginseng.isa.errors import ConfigError

__all__ = [
    "ISA_VERSION",
    "NAMED_CORES",
    "BusConfig",
    "BusProtocol",
    "CoreConfig",
    "Memory",
    "RootStrength",
    "SystemConfig",
    "TecConfig",
]

#: Changes whenever an encoding, a register or a public format does; part of every digest.
ISA_VERSION: Final = "ginseng-3"


class Memory(enum.IntEnum, shape=3):
    """Memory types of LOAD and STORE (VTA specification §1); 6 and 7 are illegal."""

    #: Micro-ops, one 32-bit word each.
    UOP = 0
    #: Weights, int8 ``[block][block]``.
    WGT = 1
    #: Inputs, int8 ``[batch][block]``.
    INP = 2
    #: Accumulators, int32 ``[batch][block]``.
    ACC = 3
    #: Results, int8 ``[batch][block]``; exists in DRAM only, a STORE truncates ACC into it.
    OUT = 4
    #: Accumulators held as int8 ``[batch][block]`` in DRAM and widened by the load.
    ACC_8BIT = 5


class RootStrength(StrEnum):
    """Where the device secret comes from; a claim of every quote, never more than the truth."""

    SIMULATED = "simulated"
    DEVELOPMENT = "development"
    VENDOR = "vendor"
    HARDWARE = "hardware"


class BusProtocol(StrEnum):
    """The memory bus; it fixes the longest burst."""

    AXI3 = "axi3"
    AXI4 = "axi4"

    @property
    def burst_beats(self) -> int:
        """Longest INCR burst, in beats."""
        return 16 if self is BusProtocol.AXI3 else 256


def _require_numbers(config: Any) -> None:
    """Refuse an integer field that is not at least zero, or a bool that is not one, naming it."""
    for field in fields(config):
        value = getattr(config, field.name)
        name = f"{type(config).__name__}.{field.name}"
        if field.type in (int, "int"):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigError(f"{name} is an integer, not {value!r}; write a number")
            if value < 0:
                raise ConfigError(f"{name} is at least 0, not {value}; write 0 or more")
        # 0 would equal False, but have another digest.
        elif field.type in (bool, "bool") and not isinstance(value, bool):
            raise ConfigError(f"{name} is true or false, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """The nine parameters of the VTA core (specification §1), as base-2 logarithms.

    Attributes
    ----------
    log_inp_width, log_wgt_width, log_acc_width : int
        Bits of an input, weight and accumulator scalar. Only 3, 3 and 5 (int8, int8, int32) are
        supported: narrower scalars have no agreed meaning in any published implementation.
    log_batch, log_block : int
        Rows of a GEMM tile, and both its reduction length and its column count.
    log_uop_buff_size, log_inp_buff_size, log_wgt_buff_size, log_acc_buff_size : int
        Bytes of each scratchpad.

    Raises
    ------
    ConfigError
        If an instruction or a micro-op of this configuration would not fit its word; the message
        names the field that overflows.

    """

    log_inp_width: int = 3
    log_wgt_width: int = 3
    log_acc_width: int = 5
    log_batch: int = 0
    log_block: int = 4
    log_uop_buff_size: int = 15
    log_inp_buff_size: int = 15
    log_wgt_buff_size: int = 18
    log_acc_buff_size: int = 17

    def __post_init__(self) -> None:
        _require_numbers(self)
        for name, only in (("log_inp_width", 3), ("log_wgt_width", 3), ("log_acc_width", 5)):
            if getattr(self, name) != only:
                raise ConfigError(
                    f"CoreConfig.{name} must be {only} ({1 << only}-bit scalars), "
                    f"not {getattr(self, name)}; narrower scalars are not supported"
                )
        for memory in (Memory.UOP, Memory.WGT, Memory.INP, Memory.ACC):
            if self.log_depth(memory) < 0:
                raise ConfigError(
                    f"CoreConfig.log_{memory.name.lower()}_buff_size gives {memory.name} less than "
                    f"one element of {self.element_bytes(memory)} bytes; raise it by "
                    f"{-self.log_depth(memory)} or more"
                )
        acc, inp, wgt, uop = (
            self.log_depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT, Memory.UOP)
        )
        rules = (
            ("micro-op field wgt_idx", acc + max(acc, inp) + wgt, 32, "micro-op of 32 bits"),
            ("GEMM field wgt_factor_in", 2 * (acc + inp + wgt), 64, "second GEMM word of 64 bits"),
            ("ALU field imm", 4 * acc + 20, 64, "second ALU word of 64 bits"),
            ("GEMM field iter_in", 8 + uop + uop + 1 + 28, 64, "first GEMM word of 64 bits"),
        )
        for field, bits, room, word in rules:
            if bits > room:
                raise ConfigError(
                    f"{field} overflows: the {word} would need {bits} bits "
                    f"(log2 depths: ACC {acc}, INP {inp}, WGT {wgt}, UOP {uop}); "
                    f"choose smaller buffers"
                )

    @classmethod
    def from_vta(cls, parameters: Mapping[str, int]) -> Self:
        """Read a ``vta_config.json`` object, whose keys are these attributes in upper case.

        Keys that describe a board (``TARGET``, ``HW_VER``) are ignored, absent ones take their
        default.
        """
        names = {field.name for field in fields(cls)}
        return cls(**{k.lower(): v for k, v in parameters.items() if k.lower() in names})

    @property
    def batch(self) -> int:
        """Rows of a GEMM tile."""
        return 1 << self.log_batch

    @property
    def block(self) -> int:
        """Columns of a GEMM tile, and its reduction length."""
        return 1 << self.log_block

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one GEMM micro-op."""
        return self.batch * self.block * self.block

    @property
    def name(self) -> str:
        """The reference's name of a bit-stream of this configuration."""
        return (
            f"{self.batch}x{self.block}_i8w8a32_{self.log_uop_buff_size}_{self.log_inp_buff_size}"
            f"_{self.log_wgt_buff_size}_{self.log_acc_buff_size}"
        )

    def element_shape(self, memory: Memory) -> tuple[int, ...]:
        """Scalars of one element, row-major."""
        if memory is Memory.UOP:
            return (1,)
        if memory is Memory.WGT:
            return (self.block, self.block)
        return (self.batch, self.block)

    def element_bytes(self, memory: Memory) -> int:
        """Bytes of one element in DRAM, the unit of ``dram_base``, ``x_size`` and ``x_stride``."""
        scalar = 4 if memory in (Memory.UOP, Memory.ACC) else 1
        count = 1
        for extent in self.element_shape(memory):
            count *= extent
        return count * scalar

    def log_depth(self, memory: Memory) -> int:
        """Log2 of the elements that the scratchpad of ``memory`` holds."""
        if memory is Memory.UOP:
            return self.log_uop_buff_size - 2
        if memory is Memory.WGT:
            return self.log_wgt_buff_size - 2 * self.log_block
        if memory is Memory.INP:
            return self.log_inp_buff_size - self.log_batch - self.log_block
        return self.log_acc_buff_size - self.log_batch - self.log_block - 2

    def depth(self, memory: Memory) -> int:
        """Elements that the scratchpad of ``memory`` holds; OUT and ACC_8BIT live in ACC."""
        return 1 << self.log_depth(memory)


#: Configurations that test vectors call by name (tests/vectors/vta/README.md).
NAMED_CORES: Final[Mapping[str, CoreConfig]] = MappingProxyType(
    {
        "default": CoreConfig(),
        "b2k4": CoreConfig(log_batch=1),
        # The default's depths, with elements of twice and four times the size.
        "b0k5": CoreConfig(
            log_block=5, log_inp_buff_size=16, log_wgt_buff_size=20, log_acc_buff_size=18
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class TecConfig:
    """Sizes of the tensor encryption core (TEC specification §3, §4, §8).

    Attributes
    ----------
    table_entries : int
        Rows of the tensor table, a power of two; the top ``log2`` bits of ``dram_base`` name one.
    key_bits : int
        AES key length, 128 or 256.
    lanes : int
        GCM lanes per direction; with ``half_duplex`` one lane serves both.
    half_duplex : bool
        Whether reads and writes share the lanes.
    bitmap_bits : int
        Chunks of writable tensors that one session can name.

    """

    table_entries: int = 64
    key_bits: int = 128
    lanes: int = 1
    half_duplex: bool = True
    bitmap_bits: int = 1 << 16

    def __post_init__(self) -> None:
        _require_numbers(self)
        if self.table_entries not in (1 << n for n in range(1, 13)):
            raise ConfigError(
                f"TecConfig.table_entries is a power of two from 2 to 4096 (a handle has 12 bits), "
                f"not {self.table_entries}"
            )
        if self.key_bits not in (128, 256):
            raise ConfigError(f"TecConfig.key_bits is 128 or 256, not {self.key_bits}")
        if self.lanes < 1:
            raise ConfigError(f"TecConfig.lanes is at least 1, not {self.lanes}")
        if self.bitmap_bits < 1:
            raise ConfigError(f"TecConfig.bitmap_bits is at least 1, not {self.bitmap_bits}")

    @property
    def handle_bits(self) -> int:
        """Bits of a tensor handle at the top of ``dram_base``."""
        return (self.table_entries - 1).bit_length()

    @property
    def offset_bits(self) -> int:
        """Bits left in ``dram_base`` to count elements from the start of the tensor."""
        return 32 - self.handle_bits

    @property
    def key_bytes(self) -> int:
        """Bytes of a tensor key."""
        return self.key_bits // 8


@dataclass(frozen=True, kw_only=True)
class BusConfig:
    """The memory side of a build.

    Attributes
    ----------
    protocol : BusProtocol
        AXI3 on Zynq-7000, AXI4 elsewhere.
    data_bits : int
        Width of a beat, a power of two from 64 to 512.
    window_base, window_bytes : int
        The DRAM that a device may touch: first byte and size.
    outstanding_reads, outstanding_writes : int
        Bursts in flight.

    """

    protocol: BusProtocol = BusProtocol.AXI3
    data_bits: int = 64
    window_base: int = 0
    window_bytes: int = 1 << 28
    outstanding_reads: int = 8
    outstanding_writes: int = 4

    def __post_init__(self) -> None:
        _require_numbers(self)
        if self.data_bits not in (64, 128, 256, 512):
            raise ConfigError(f"BusConfig.data_bits is 64, 128, 256 or 512, not {self.data_bits}")
        if self.window_base % 4096 or self.window_bytes % 4096 or not self.window_bytes:
            raise ConfigError(
                "BusConfig.window_base and window_bytes are multiples of 4096, the window not "
                f"empty: not {self.window_base:#x} and {self.window_bytes:#x}"
            )
        if self.window_base + self.window_bytes > 1 << 40:
            raise ConfigError(
                f"BusConfig.window ends at {self.window_base + self.window_bytes:#x}, beyond the "
                "40 address bits of a tensor row"
            )
        for name in ("outstanding_reads", "outstanding_writes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"BusConfig.{name} is at least 1, not {getattr(self, name)}")

    @property
    def beat_bytes(self) -> int:
        """Bytes of a beat."""
        return self.data_bits // 8

    @property
    def burst_bytes(self) -> int:
        """Longest burst, in bytes; it never crosses 4 KiB."""
        return min(4096, self.protocol.burst_beats * self.beat_bytes)


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """A whole build: what its digest, PCR0, names.

    Attributes
    ----------
    core : CoreConfig
    tec : TecConfig or None
        None is a separate build without protection: ``dram_base`` then is a plain VTA address and
        the plain control registers exist.
    bus : BusConfig
    root : RootStrength
        Where the device secret comes from.
    debug : bool
        Whether the cause of a FATAL can be read; every quote says so.

    """

    core: CoreConfig = CoreConfig()
    tec: TecConfig | None = TecConfig()
    bus: BusConfig = BusConfig()
    root: RootStrength = RootStrength.SIMULATED
    debug: bool = False

    def __post_init__(self) -> None:
        _require_numbers(self)

    @property
    def canonical(self) -> bytes:
        """Sorted-key JSON without white space: what is hashed, and what a manifest carries."""
        tree = {"isa": ISA_VERSION, **asdict(self)}
        return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> bytes:
        """SHA-256 of `canonical`, 32 bytes."""
        return hashlib.sha256(self.canonical).digest()

    @classmethod
    def from_canonical(cls, text: bytes) -> Self:
        """Rebuild a configuration from `canonical`.

        Raises
        ------
        ConfigError
            If ``text`` is another version's, incomplete, or not canonical.

        """
        try:
            tree = json.loads(text)
            if tree.pop("isa") != ISA_VERSION:
                raise ConfigError(f"SystemConfig is of another contract than {ISA_VERSION!r}")
            config = cls(
                core=CoreConfig(**tree.pop("core")),
                tec=None if tree["tec"] is None else TecConfig(**tree["tec"]),
                bus=BusConfig(**(tree["bus"] | {"protocol": BusProtocol(tree["bus"]["protocol"])})),
                root=RootStrength(tree["root"]),
                debug=tree["debug"],
            )
        except ConfigError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConfigError(f"SystemConfig cannot be read from this text: {error}") from error
        if config.canonical != text:
            raise ConfigError("SystemConfig text is not canonical; write it with .canonical")
        return config
