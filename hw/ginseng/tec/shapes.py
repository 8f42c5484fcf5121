"""What passes between the parts of the tensor encryption core, and how wide it is."""

from functools import cached_property
from typing import Final

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto import job as crypto
from ginseng.crypto.aes import AesConfig
from ginseng.crypto.job import LaneConfig
from ginseng.isa.config import Memory, SystemConfig, TecConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.table import GRANULE, KEY_SLOTS, MAX_CHUNK, Domain

__all__ = [
    "NONCE_PREFIX_BITS",
    "VERSION_BITS",
    "LanePort",
    "MeasuredItem",
    "NoncePrefix",
    "TableLookup",
    "TecShapes",
]

#: Of a version; the low bits of the following.
VERSION_BITS: Final = 48


class NoncePrefix(data.Struct):
    """A nonce without the chunk index, as `ginseng.isa.formats.chunk_nonce` writes it."""

    version: VERSION_BITS
    handle: 12
    domain: Domain


#: Where a `NoncePrefix` is kept as a number.
NONCE_PREFIX_BITS: Final = NoncePrefix.as_shape().size


class MeasuredItem(data.Struct):
    """What the monitor hashes: the low ``nbytes`` bytes of ``block``, byte 0 in bits 7:0."""

    block: 128
    nbytes: 5


class TecShapes:
    """Layouts and sizes of one build's tensor encryption core.

    Positions count bytes from the start of a tensor, or of the DRAM window: no tensor is longer
    than that.

    Parameters
    ----------
    config : SystemConfig
        With a TEC.

    Raises
    ------
    ConfigError
        If it has none, or elements that are stored are no whole cipher blocks.

    """

    def __init__(self, config: SystemConfig) -> None:
        if config.tec is None:
            raise ConfigError("TecShapes are of a build with a TEC; give SystemConfig a TecConfig")
        stored = config.core.element_bytes(Memory.OUT)
        if stored % GRANULE:
            raise ConfigError(
                f"With a TEC, a stored element is whole cipher blocks of {GRANULE} bytes, not "
                f"{stored} bytes; choose a larger log_block or log_batch"
            )
        self.config: Final = config
        self.tec: Final[TecConfig] = config.tec
        #: Bits of a position, and of one past the last.
        self.position_bits: Final = config.bus.window_bytes.bit_length()
        #: Bits of a chunk index.
        self.index_bits: Final = (config.bus.window_bytes // GRANULE).bit_length()
        #: Bits of a position in a chunk.
        self.chunk_bits: Final = MAX_CHUNK.bit_length()
        #: Longest burst, in beats.
        self.burst_beats: Final = config.bus.burst_bytes // config.bus.beat_bytes
        #: Bytes of the part of a beat that the lane knows: a block, or a beat if that is shorter.
        self.granule: Final = self.lane.granule
        #: Granules of a beat.
        self.granules: Final = self.lane.granules

    @cached_property
    def entry(self) -> data.StructLayout:
        """A row of the table in use.

        ``valid``
            There is such a row.
        ``placed``
            It has a version: its chunks may be opened or written.
        ``slot``
            Of the key under which it stands in place.
        ``base``
            From the start of the window, in bytes.
        ``length``, ``extent``
            Bytes of the tensor; of its place, where each chunk has its tag behind it.
        ``version``
            What stands in the nonces of this run, whatever the domain.
        ``first_bit``
            Of its chunks in the written bitmap; rows with W only.
        """
        tec = self.tec
        return data.StructLayout(
            {
                "valid": 1,
                "placed": 1,
                "domain": Domain,
                "permissions": 3,
                "measured": 1,
                "slot": range(KEY_SLOTS),
                "base": self.position_bits,
                "length": self.position_bits,
                "extent": self.position_bits,
                "chunk": self.chunk_bits,
                "version": VERSION_BITS,
                "first_bit": range(tec.bitmap_bits),
            }
        )

    @cached_property
    def plan(self) -> data.StructLayout:
        """A legal descriptor: rows as chunks, every row inside the tensor.

        ``raw``
            Plain bytes: no chunk is opened, no tag read (IMPORT of a plain source).
        ``slot``, ``prefix``
            Key, and the nonce without the chunk index (`NONCE_PREFIX_BITS`).
        ``tracked``, ``first_bit``
            Its chunks have bits in the written bitmap, from there on.
        ``measured``
            The chunks of a store are measured as they leave.
        ``base``, ``extent``, ``chunk``
            As of the table's entry.
        ``position``, ``index``, ``within``
            Where the first byte stands, from ``base``; its chunk, and where it is in that.
        ``row_bytes``, ``rows``
            Of each row; neither is zero.
        ``stride``, ``stride_index``, ``stride_within``
            From the start of a row to that of the next, in bytes; the same as whole chunks and
            bytes.
        ``merge``
            Rows that follow each other in a chunk share its fetch.
        """
        return data.StructLayout(
            {
                "raw": 1,
                "slot": range(KEY_SLOTS),
                "prefix": NONCE_PREFIX_BITS,
                "base": self.position_bits,
                "extent": self.position_bits,
                "chunk": self.chunk_bits,
                "tracked": 1,
                "first_bit": range(self.tec.bitmap_bits),
                "measured": 1,
                "position": self.position_bits,
                "index": self.index_bits,
                "within": self.chunk_bits,
                "row_bytes": self.position_bits,
                "rows": 16,
                "stride": self.position_bits,
                "stride_index": self.index_bits,
                "stride_within": self.chunk_bits,
                "merge": 1,
            }
        )

    @cached_property
    def lane(self) -> LaneConfig:
        """A lane for beats of the bus."""
        return LaneConfig(
            data_bits=self.config.bus.data_bits,
            # A block in two cycles on the narrowest bus, else one in each per block of a beat.
            aes=AesConfig.of_passes(
                2 if self.config.bus.beat_bytes < GRANULE else 1,
                key_bits=self.tec.key_bits,
                slots=KEY_SLOTS,
            ),
            burst_beats=self.burst_beats,
            chunk_bytes=MAX_CHUNK,
        )

    @property
    def job(self) -> data.StructLayout:
        """One burst's worth of a chunk: `LaneConfig.job`."""
        return self.lane.job


class LanePort(crypto.LanePort):
    """`ginseng.crypto.job.LanePort` of a build."""

    def __init__(self, shapes: TecShapes) -> None:
        super().__init__(shapes.lane)


class TableLookup(wiring.Signature):
    """Reads a row of the table, as the reader sees it: ``entry`` in the cycle of ``handle``."""

    def __init__(self, shapes: TecShapes) -> None:
        super().__init__(
            {"handle": Out(shapes.tec.handle_bits), "entry": In(shapes.entry)},
        )
