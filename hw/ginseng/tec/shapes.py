"""What passes between the parts of the tensor encryption core, and how wide it is."""

from functools import cached_property
from typing import Final

from amaranth import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.isa.config import SystemConfig, TecConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.table import GRANULE, KEY_SLOTS, MAX_CHUNK, Domain

__all__ = [
    "NONCE_PREFIX_BITS",
    "VERSION_BITS",
    "LanePort",
    "MeasuredItem",
    "TableLookup",
    "TecShapes",
]

#: Of a version; the low bits of the following.
VERSION_BITS: Final = 48
#: Nonce but for the chunk index: domain, handle, version.
NONCE_PREFIX_BITS: Final = 64


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
        If it has none.

    """

    def __init__(self, config: SystemConfig) -> None:
        if config.tec is None:
            raise ConfigError("TecShapes are of a build with a TEC; give SystemConfig a TecConfig")
        self.config: Final = config
        self.tec: Final[TecConfig] = config.tec
        #: Bits of a position, and of one past the last.
        self.position_bits: Final = config.bus.window_bytes.bit_length()
        #: Bits of a chunk index.
        self.index_bits: Final = (config.bus.window_bytes // GRANULE).bit_length()
        #: Bits of a position in a chunk.
        self.chunk_bits: Final = MAX_CHUNK.bit_length()
        #: Bytes of the part of a beat that the lane knows: a block, or a beat if that is shorter.
        self.granule: Final = min(GRANULE, config.bus.beat_bytes)
        #: Granules of a beat.
        self.granules: Final = config.bus.beat_bytes // self.granule
        #: Longest burst, in beats.
        self.burst_beats: Final = config.bus.burst_bytes // config.bus.beat_bytes

    @cached_property
    def entry(self) -> data.StructLayout:
        """A row of the table in use.

        ``valid``
            There is such a row.
        ``placed``
            It has a version: its chunks may be opened or written.
        ``slot``
            Of the key under which it stands in place.
        ``base``, ``tag_base``
            From the start of the window, in bytes.
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
                "tag_base": self.position_bits,
                "length": self.position_bits,
                "chunk": self.chunk_bits,
                "chunks": self.index_bits,
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
        ``position``, ``index``, ``within``
            First byte; its chunk, and where it is in that.
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
                "tag_base": self.position_bits,
                "length": self.position_bits,
                "chunk": self.chunk_bits,
                "chunks": self.index_bits,
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
    def job(self) -> data.StructLayout:
        """One burst's worth of a chunk, for the lane.

        ``seals``
            Encrypt; otherwise decrypt. Either way GHASH gets the ciphertext.
        ``nonce``
            96 bits, as `ginseng.isa.formats.chunk_nonce` writes it: the domain in the top bits.
        ``counter``
            Of the job's first block; the chunk's first block has 2.
        ``beats``, ``first``, ``end``
            Granules ``first`` of the first beat to before ``end`` of the last beat are meant; a
            granule is `TecShapes.granule` bytes.
        ``start``, ``last``
            The chunk starts, ends with this job.
        ``nbytes``
            Of the whole chunk; counts with ``last`` only.
        ``context``
            Whose chunk this is: jobs of chunks of different contexts may come in any order.
        """
        return data.StructLayout(
            {
                "seals": 1,
                "slot": range(KEY_SLOTS),
                "context": range(8),
                "nonce": 96,
                "counter": 32,
                "beats": range(self.burst_beats + 1),
                "first": range(self.granules),
                "end": range(self.granules + 1),
                "start": 1,
                "last": 1,
                "nbytes": self.chunk_bits,
            }
        )


class LanePort(wiring.Signature):
    """A lane as who uses it sees it.

    ``job``
        Bursts; their pads are made from the moment they are taken.
    ``i``
        The beats of the jobs, in their order; a beat that is not wholly meant may hold anything
        elsewhere.
    ``o_valid``, ``o_data``
        The same beats, decrypted or encrypted, in the cycle after ``i`` took each: whoever gave the
        job has room for them. Granules that are not meant are undefined.
    ``tag_valid``, ``tag``
        The tag of a chunk whose last beat was taken, in that order, for one cycle; byte 0 in bits
        7:0.
    """

    def __init__(self, shapes: TecShapes) -> None:
        beat = unsigned(shapes.config.bus.data_bits)
        super().__init__(
            {
                "job": Out(stream.Signature(shapes.job)),
                "i": Out(stream.Signature(beat)),
                "o_valid": In(1),
                "o_data": In(beat),
                "tag_valid": In(1),
                "tag": In(128),
            }
        )


class TableLookup(wiring.Signature):
    """Reads a row of the table, as the reader sees it: ``entry`` in the cycle of ``handle``."""

    def __init__(self, shapes: TecShapes) -> None:
        super().__init__(
            {"handle": Out(shapes.tec.handle_bits), "entry": In(shapes.entry)},
        )
