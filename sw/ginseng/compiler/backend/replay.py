"""Plays the finished stream against the cost model: cycles and bytes of every layer.

Each queue runs its instructions in order, waits for tokens, and shares one bus. Instruction fetch
is taken to be far enough ahead, but its bytes are counted.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ginseng.compiler.backend.chunks import protected_bytes
from ginseng.compiler.backend.cost import CostModel
from ginseng.compiler.backend.stream import CHANNELS, Insn
from ginseng.isa.insn import INSN_BYTES, Opcode, Queue

__all__ = ["LayerCost", "replay"]


@dataclass(slots=True)
class LayerCost:
    """What one layer takes: cycles until it ends after its predecessor did, bytes, instructions."""

    cycles: int = 0
    nbytes: int = 0
    instructions: int = 0


def replay(
    insns: Sequence[Insn], model: CostModel, *, layers: int, protect: bool
) -> list[LayerCost]:
    """Return the cost of each of ``layers`` layers.

    Parameters
    ----------
    insns : sequence of Insn
        In stream order, with tokens.
    model : CostModel
        Cycles of a beat, a latency, a pipeline.
    layers : int
        How many there are; each instruction names its own.
    protect : bool
        Whether transfers move whole chunks and tags.

    """
    costs = [LayerCost() for _ in range(layers)]
    ends = [0] * layers
    tokens: dict[tuple[Queue, Queue], deque[int]] = {channel: deque() for channel in CHANNELS}
    ready = dict.fromkeys(Queue, 0)
    done = dict.fromkeys(Queue, 0)
    bus = 0
    for insn in insns:
        queue = insn.queue
        start = ready[queue]
        for channel, (_, pop) in CHANNELS.items():
            if channel[1] is queue and insn.fields.get(pop):
                start = max(start, tokens[channel].popleft())
        cost = costs[insn.layer]
        cost.instructions += 1
        cost.nbytes += INSN_BYTES
        end = start + 1
        ready[queue] = end
        if insn.access is not None and insn.segment is not None:
            moved = insn.access.nbytes
            if protect:
                moved = protected_bytes(insn.access, insn.segment.chunk, insn.segment.length)
            cost.nbytes += moved
            begin = max(start, bus)
            bus = begin + model.beats(moved)
            if insn.opcode is Opcode.STORE:
                end = bus + model.write_latency
            else:
                end = bus + model.read_latency
            # The load queue issues ahead of its completions, the others wait for theirs.
            ready[queue] = start + model.issue if queue is Queue.LOAD else end
        elif insn.steps:
            end = start + insn.steps + model.fill
            ready[queue] = end
        done[queue] = max(done[queue], end)
        for channel, (push, _) in CHANNELS.items():
            if channel[0] is queue and insn.fields.get(push):
                tokens[channel].append(done[queue])
        ends[insn.layer] = max(ends[insn.layer], done[queue])
    previous = 0
    for cost, end in zip(costs, ends, strict=True):
        end = max(previous, end)
        cost.cycles, previous = end - previous, end
    return costs
