"""What a lane is sized for, and what passes between it and who uses it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from amaranth import unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ginseng.crypto.aes import AesConfig
from ginseng.crypto.errors import CryptoError

__all__ = ["BLOCK_BYTES", "LaneConfig", "LanePort"]

#: Bytes of a block of AES.
BLOCK_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class LaneConfig:
    """Widths of a lane of AES-GCM.

    Attributes
    ----------
    data_bits : int
        Of a beat: 64, 128, 256 or 512. As many instances of AES work side by side as it has blocks.
    aes : AesConfig
        Its slots are the keys.
    contexts : int
        Chunks that are under way side by side.
    burst_beats : int
        Beats of a job, at most.
    chunk_bytes : int
        Bytes of a chunk, at most.
    general : bool
        Whether jobs have what the tensor encryption core has no use for, and the last block of a
        chunk may be short.

    Raises
    ------
    CryptoError
        If a beat has another width.

    """

    data_bits: int = 64
    aes: AesConfig = field(default_factory=AesConfig)
    contexts: int = 8
    burst_beats: int = 16
    chunk_bytes: int = (1 << 20) - BLOCK_BYTES
    general: bool = False

    def __post_init__(self) -> None:
        if self.data_bits not in (64, 128, 256, 512):
            raise CryptoError(f"LaneConfig.data_bits is 64, 128, 256 or 512, not {self.data_bits}")
        for name in ("contexts", "burst_beats", "chunk_bytes"):
            if getattr(self, name) < 1:
                raise CryptoError(f"LaneConfig.{name} is at least 1, not {getattr(self, name)}")

    @property
    def granule(self) -> int:
        """Bytes of the part of a beat that a job can name: a block, or a beat if it is shorter."""
        return min(BLOCK_BYTES, self.data_bits // 8)

    @property
    def granules(self) -> int:
        """Granules of a beat."""
        return self.data_bits // 8 // self.granule

    @property
    def block_beats(self) -> int:
        """Beats of a block, 1 if a beat has several."""
        return BLOCK_BYTES // self.granule

    @cached_property
    def job(self) -> data.StructLayout:
        """One burst's worth of a chunk.

        ``seals``
            Encrypt; otherwise decrypt. Either way GHASH gets the ciphertext.
        ``nonce``
            96 bits, the standard's first byte in the top bits.
        ``counter``
            Of the job's first block; the chunk's first block has 2.
        ``beats``, ``first``, ``end``
            Granules ``first`` of the first beat to before ``end`` of the last beat are meant. They
            are whole blocks.
        ``start``, ``last``
            The chunk starts, ends with this job.
        ``nbytes``
            Of the whole chunk; counts with ``last`` only.
        ``context``
            Whose chunk this is: jobs of chunks of different contexts may come in any order.

        And if the lane is `general`:

        ``hidden``
            The beats are additional data or a nonce: GHASH gets them, padded with zeros, and
            nothing comes out. A chunk without any block is a hidden one of zeros.
        ``bare``
            The tag is not masked; counts with ``last`` only. So it is the first counter block of a
            nonce that has not 96 bits: its top bytes are the nonce of its jobs.
        ``mask``
            The counter whose pad masks the tag; 1 if the nonce has 96 bits.
        ``additional``
            Bytes of additional data; counts with ``last`` only.
        """
        general = {"hidden": 1, "bare": 1, "mask": 32, "additional": range(self.chunk_bytes + 1)}
        return data.StructLayout(
            {
                "seals": 1,
                "slot": range(self.aes.slots),
                "context": range(self.contexts),
                "nonce": 96,
                "counter": 32,
                "beats": range(self.burst_beats + 1),
                "first": range(self.granules),
                "end": range(self.granules + 1),
                "start": 1,
                "last": 1,
                "nbytes": range(self.chunk_bytes + 1),
                **(general if self.general else {}),
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
        job has room for them. Granules that are not meant are zero.
    ``o_seals``
        With ``o_valid``: that was encrypted. What a beat is comes with it, so who takes it need
        not know the order of the jobs.
    ``tag_valid``, ``tag``
        The tag of a chunk whose last beat was taken, in that order, for one cycle; byte 0 in bits
        7:0.
    """

    def __init__(self, config: LaneConfig) -> None:
        beat = unsigned(config.data_bits)
        super().__init__(
            {
                "job": Out(stream.Signature(config.job)),
                "i": Out(stream.Signature(beat)),
                "o_valid": In(1),
                "o_data": In(beat),
                "o_seals": In(1),
                "tag_valid": In(1),
                "tag": In(8 * BLOCK_BYTES),
            }
        )
