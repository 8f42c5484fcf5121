"""Elaborates a component and synthesises it twice: flat, and with its blocks kept apart."""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amaranth.back import rtlil

from ginseng.soc.synth.area import Area
from ginseng.soc.synth.netlist import Netlist, read_modules
from ginseng.soc.yosys import run_scripts

__all__ = ["BLOCK_DEPTH", "Synthesis", "block_of", "synthesise"]

#: Blocks are the components so many levels below the top, and those above them without what is in
#: their blocks: ``core``, ``core.compute``, ``core.compute.gemm`` …
BLOCK_DEPTH: Final = 3
#: Neither pads nor clock buffers: the ports end at the processor of the same chip.
_OPTIONS: Final = "-family xc7 -flatten -noiopad -noclkbuf -top {top}"
#: What ``synth_xilinx`` runs, but for its stage ``map_luts``, written out here: the mapper gives
#: each flip-flop that wants the inverse or a copy of a signal a lookup table of its own, and equal
#: ones can only be merged before they become primitives.
_SYNTHESISE: Final = f"""\
synth_xilinx {_OPTIONS} -run begin:map_luts
opt_expr -mux_undef -noclkinv
abc -luts 2:2,3,6:5,10,20
clean
opt_merge
clean
techmap -map +/xilinx/ff_map.v
xilinx_srl -fixed -minlen 3
techmap -map +/xilinx/lut_map.v -map +/xilinx/cells_map.v -D LUT_WIDTH=6
xilinx_dffopt
opt_lut_ins -tech xilinx
synth_xilinx {_OPTIONS} -run finalize:
"""


@dataclass(frozen=True)
class Synthesis:
    """A component as primitives.

    Attributes
    ----------
    total : Area
        Of the flat netlist, optimised across blocks: what the limits are about.
    blocks : dict of str to Area
        By instance path without the top: what each takes when it is optimised on its own, without
        the blocks in it. Their sum is above ``total`` by what optimisation across blocks saves.
    netlist : Netlist
        The flat one, for timing.

    """

    total: Area
    blocks: dict[str, Area]
    netlist: Netlist


def _modules(text: str, top: str) -> list[str]:
    """Return the names of the modules of RTLIL text that are blocks, the top among them."""
    names = re.findall(r"^module \\(\S+)$", text, flags=re.MULTILINE)
    return [name for name in names if name.count(".") <= BLOCK_DEPTH and name.startswith(top)]


def block_of(path: str, blocks: Mapping[str, Any]) -> str:
    """Return the block in which the signal or cell called ``path`` is; "" for the top's own.

    What has no name but the place where it was written counts as the top's.
    """
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in blocks:
            return name
    return ""


def synthesise(
    component: Any,
    name: str,
    *,
    place: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Synthesis:
    """Synthesise a component for the 7 series.

    Two runs side by side, since neither gives both figures: flattened first, logic is shared and
    cut away across blocks, but lookup tables belong to no block any more; with a boundary kept
    around each block they do, but what crosses boundaries stays.

    Parameters
    ----------
    component : wiring.Component
        What to elaborate.
    name : str
        Of the top module.
    place : Path, optional
        A directory to keep netlists and logs in.
    say : callable
        Takes a line for each stage.

    Raises
    ------
    YosysError
        If Yosys is missing or fails.
    SynthError
        If a primitive has no known area.

    """
    if place is None:
        with tempfile.TemporaryDirectory(prefix="ginseng-synth-") as directory:
            return synthesise(component, name, place=Path(directory), say=say)
    place.mkdir(parents=True, exist_ok=True)

    say("elaborate")
    text = rtlil.convert(component, name=name)
    (place / "design.il").write_text(text)
    blocks = _modules(text, name)
    start = f"read_rtlil design.il\nhierarchy -check -top {name}\n"
    end = _SYNTHESISE.format(top=name) + "\nwrite_json {run}.json\n"
    keep = "".join(f"setattr -mod -set keep_hierarchy 1 {block}\n" for block in blocks)

    say(f"synthesise: flat, and {len(blocks)} blocks apart")
    run_scripts(
        {"flat": start + end.format(run="flat"), "blocks": start + keep + end.format(run="blocks")},
        place,
    )
    say("count")
    kinds = {
        module: Counter(cell["type"] for cell in entry["cells"].values())
        for module, entry in read_modules(place / "blocks.json").items()
    }
    areas = {
        module.removeprefix(name).lstrip(".") or name: Area.of(
            {kind: count for kind, count in cells.items() if kind not in kinds}
        )
        for module, cells in kinds.items()
    }
    netlist = Netlist.read(place / "flat.json", name)
    total = Area.of(Counter(cell.kind for cell in netlist.cells.values()))
    return Synthesis(total=total, blocks=areas, netlist=netlist)
