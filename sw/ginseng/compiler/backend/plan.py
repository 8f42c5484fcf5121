"""What the compiler decided for each layer, and why: the content of `ginseng compile --explain`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ginseng.compiler.backend.lowering import Code
from ginseng.compiler.backend.replay import LayerCost
from ginseng.compiler.backend.tuned import Tuned
from ginseng.isa.config import Memory
from ginseng.isa.insn import Opcode

__all__ = ["LayerPlan", "layer_plans"]


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer of a program as it is scheduled, cycles as the model expects them.

    Attributes
    ----------
    name, kind : str
    memory : str
        The timing of memory that the plan assumes.
    macs : int
    utilisation : float
        Multiply-accumulates over those of the layer's cycles.
    cycles : int
        From the end of the layer before to its own.
    gemm, alu, bus : int
        Cycles for which these three are busy; they overlap.
    exposed : int
        Cycles beyond the busiest of the three: what nothing hides.
    nbytes, instructions : int
    transfers : dict
        LOADs by memory, and STOREs, that move anything.
    chunk : int
        Bytes of a chunk of the output; 0 without protection.
    tuned : Tuned or None
        The tiling, and the one that came second; None where there is nothing to choose.

    """

    name: str
    kind: str
    memory: str
    macs: int
    utilisation: float
    cycles: int
    gemm: int
    alu: int
    bus: int
    exposed: int
    nbytes: int
    instructions: int
    transfers: dict[str, int]
    chunk: int
    tuned: Tuned | None

    @property
    def reason(self) -> str:
        """Why the tiling that came second did."""
        tuned = self.tuned
        if tuned is None:
            return ""
        if tuned.second is None:
            return "nothing else fits"
        slower = tuned.second_cycles - tuned.cycles
        if slower:
            return f"{slower:,} cycles more on its own (+{100 * slower / tuned.cycles:.2f} %)"
        more = tuned.second_nbytes - tuned.nbytes
        return f"as fast, {more:,} bytes more" if more else "as good, ranked later by formulae"

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self) | {"reason": self.reason}


def layer_plans(code: Code, costs: Sequence[LayerCost]) -> tuple[LayerPlan, ...]:
    """Return the plan of every layer of a lowered graph."""
    transfers = [Counter[str]() for _ in code.graph.nodes]
    # Where a layer stores: a value that stands in another has no segment of its own.
    chunks = [0] * len(transfers)
    for insn in code.stream.insns:
        if insn.access is not None:
            name = Memory(insn.fields["memory"]).name
            transfers[insn.layer]["STORE" if insn.opcode is Opcode.STORE else name] += 1
        if insn.opcode is Opcode.STORE and insn.segment is not None:
            chunks[insn.layer] = max(chunks[insn.layer], insn.segment.chunk)
    plans = []
    for n, (node, cost) in enumerate(zip(code.graph.nodes, costs, strict=True)):
        plans.append(
            LayerPlan(
                name=node.name,
                kind=node.kind,
                memory=code.model.memory.name,
                macs=node.macs,
                utilisation=node.macs / (max(1, cost.cycles) * code.config.core.macs),
                cycles=cost.cycles,
                gemm=cost.gemm,
                alu=cost.alu,
                bus=cost.bus,
                exposed=max(0, cost.cycles - max(cost.gemm, cost.alu, cost.bus)),
                nbytes=cost.nbytes,
                instructions=cost.instructions,
                transfers=dict(sorted(transfers[n].items())),
                chunk=chunks[n],
                tuned=code.tuned.get(node.name),
            )
        )
    return tuple(plans)
