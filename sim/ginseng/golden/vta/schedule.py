"""Which of the enabled steps the core takes next: in stream order, or at random."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from ginseng.isa.insn import Queue

__all__ = ["Kind", "RandomScheduler", "Scheduler", "Step", "stream_order"]


class Kind(IntEnum):
    """What a step does, in the order in which `stream_order` prefers them."""

    #: Verify the oldest unverified read.
    SETTLE = 0
    #: Complete a LOAD whose reads are verified: it pushes its tokens.
    RETIRE = 1
    #: Let a STORE past its barrier: it writes and pushes its tokens.
    TRANSFER = 2
    #: Start the head of a queue: it pops its tokens; without a second phase it also completes.
    ISSUE = 3
    #: Fetch the next instructions and append them to their queues.
    FETCH = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One atomic action of the core.

    Attributes
    ----------
    kind : Kind
    queue : Queue or None
        Whose instruction it concerns, None for SETTLE and FETCH.
    index : int
        Position in the stream of that instruction.

    """

    kind: Kind
    queue: Queue | None = None
    index: int = 0


#: Picks one of the enabled steps, of which there is at least one.
Scheduler: TypeAlias = Callable[[Sequence[Step]], Step]


def stream_order(enabled: Sequence[Step]) -> Step:
    """Finish what has begun, then start the oldest instruction that can; fetch last."""
    return min(enabled, key=lambda step: (step.kind, step.index))


class RandomScheduler:
    """Picks uniformly, repeatably from ``seed``."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, enabled: Sequence[Step]) -> Step:
        """Return one of ``enabled``."""
        return self._random.choice(enabled)
