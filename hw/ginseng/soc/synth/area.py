"""Counts what cells take of the device, and what may be taken."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from ginseng.soc.synth.errors import SynthError

__all__ = ["DEVICE", "LIMITS", "PERIOD_NS", "TARGET", "Area", "exceeded"]

#: The part of the PYNQ boards, at its speed grade.
TARGET: Final = "xc7z020clg400-1"


@dataclass(frozen=True, kw_only=True)
class Area:
    """What a block takes, by synthesis: before packing and placement.

    Attributes
    ----------
    lut : int
        Lookup tables: one per LUT1 to LUT6 and INV, and those that are memory. A slice may hold
        two small ones in one LUT6; what that saves is not counted.
    lutram : int
        Of these, as memory or shift register: 4 per RAM32M and RAM64M, 2 per RAM32X1D and
        RAM64X1D, 4 per RAM128X1D, 1 per RAM64X1S, SRL16E and SRLC32E.
    ff : int
        Flip-flops.
    dsp : int
        DSP48E1.
    bram36 : float
        RAMB36E1; a RAMB18E1 is half of one.
    carry4 : int
        CARRY4; not a limit of its own.

    """

    lut: int = 0
    lutram: int = 0
    ff: int = 0
    dsp: int = 0
    bram36: float = 0
    carry4: int = 0

    def __add__(self, other: "Area") -> "Area":
        return Area(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    def __mul__(self, count: int) -> "Area":
        return Area(**{f.name: getattr(self, f.name) * count for f in fields(self)})

    @classmethod
    def of(cls, kinds: Mapping[str, int]) -> "Area":
        """Return the area of so many cells of each kind.

        Raises
        ------
        SynthError
            If a kind is unknown.

        """
        total = cls()
        for kind, count in kinds.items():
            if kind in _FREE:
                continue
            if kind not in _COSTS:
                raise SynthError(
                    f"Cell kind {kind} has no known area; add it to {__name__}, which knows "
                    f"{', '.join(_COSTS)}"
                )
            total += _COSTS[kind] * count
        return total


_LUT: Final = Area(lut=1)
_FLIP_FLOP: Final = Area(ff=1)
_COSTS: Final[dict[str, Area]] = {
    **dict.fromkeys(("LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6", "INV"), _LUT),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D"), Area(lut=4, lutram=4)),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D"), Area(lut=2, lutram=2)),
    **dict.fromkeys(("RAM64X1S", "SRL16E", "SRLC32E"), Area(lut=1, lutram=1)),
    **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), _FLIP_FLOP),
    "DSP48E1": Area(dsp=1),
    "RAMB36E1": Area(bram36=1),
    "RAMB18E1": Area(bram36=0.5),
    "CARRY4": Area(carry4=1),
}
#: In every slice beside its lookup tables, outside of slices, or only marks.
_FREE: Final = ("MUXF7", "MUXF8", "BUFG", "$scopeinfo", "GND", "VCC")

#: What the part has.
DEVICE: Final = Area(lut=53_200, lutram=17_400, ff=106_400, dsp=220, bram36=140, carry4=13_300)
#: What each build may take: core and plain DMA with room for the TEC beside them; core and TEC;
#: the TEC on its own.
LIMITS: Final[Mapping[str, Mapping[str, float]]] = {
    "bare": {"lut": DEVICE.lut * 45 // 100, "dsp": 212, "bram36": 118},
    "protected": {"lut": DEVICE.lut * 65 // 100, "dsp": 212, "bram36": 128},
    "tec": {"lut": DEVICE.lut * 20 // 100, "dsp": 0, "bram36": 10},
}
#: The clock.
PERIOD_NS: Final = 10.0


def exceeded(
    total: Area,
    blocks: Mapping[str, Area],
    baseline: Mapping[str, Area] | None = None,
    *,
    limits: Mapping[str, float],
) -> Iterable[str]:
    """Yield a sentence for each limit that ``total`` exceeds, which names a block.

    With a ``baseline``, an earlier run's blocks, that is the block which grew most since;
    otherwise the largest.
    """
    for name, limit in limits.items():
        amount = getattr(total, name)
        if amount <= limit:
            continue
        text = f"{name} is {amount:,}, more than the {limit:,} allowed"
        if baseline is None:
            largest = max(blocks, key=lambda block: getattr(blocks[block], name))
            yield f"{text}; the largest block is {largest} with {getattr(blocks[largest], name):,}"
            continue
        growth = {
            b: getattr(blocks[b], name) - getattr(baseline.get(b, Area()), name) for b in blocks
        }
        worst = max(growth, key=lambda block: growth[block])
        if growth[worst] > 0:
            yield f"{text}; {worst} grew most, by {growth[worst]:,}"
        else:
            yield f"{text}; no block grew since the baseline"
