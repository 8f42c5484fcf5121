"""Breadth-first search through everything that the host can do in a scenario.

Breadth first, so that an attack is a shortest one.
"""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from protocol_model.host import Host
from protocol_model.properties import Property, State, World, completed, violations
from protocol_model.protocol import Switch
from protocol_model.scenarios import Scenario

__all__ = ["ALL_ON", "Attack", "Outcome", "explore"]

ALL_ON = frozenset(Switch)
ALL_PROPERTIES = frozenset(Property)


@dataclass(frozen=True)
class Attack:
    """A run of the protocol that ends where a property does not hold."""

    violated: Property
    detail: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{n:2}. {step}" for n, step in enumerate(self.steps, start=1)]
        return "\n".join([*lines, f"  => {self.violated}: {self.detail}"])


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes
    ----------
    attack : Attack or None
        A shortest one; None if no reachable state violates a property.
    states, moves : int
        Distinct states reached, and moves that led to them or to known ones.
    seconds : float
    completed : bool
        Whether the agreed runs were all done in some state: an honest execution is among these.
    refused : Counter of str
        How often a device refused, or an owner rejected, and why.

    """

    attack: Attack | None
    states: int
    moves: int
    seconds: float
    completed: bool
    refused: Counter[str] = field(repr=False)


def explore(
    scenario: Scenario,
    off: frozenset[Switch] = frozenset(),
    properties: frozenset[Property] = ALL_PROPERTIES,
) -> Outcome:
    """Search all that the host can do in ``scenario`` without the bindings in ``off``.

    Stops at the first state that violates one of ``properties``.
    """
    began = time.perf_counter()
    world = World(scenario, ALL_ON - off)
    host = Host(world)
    start = host.start()
    parents: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    moves, done, attack = 0, False, None
    while queue and attack is None:
        state = queue.popleft()
        done = done or completed(world, state)
        for violated, detail in violations(world, state, properties):
            attack = Attack(violated, detail, _steps(parents, state))
            break
        for label, after in host.moves(state):
            moves += 1
            if after not in parents:
                parents[after] = (state, label)
                queue.append(after)
    seconds = time.perf_counter() - began
    return Outcome(attack, len(parents), moves, seconds, done, host.refused)


def _steps(parents: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    steps = []
    while (parent := parents[state]) is not None:
        state, label = parent
        steps.append(label)
    return tuple(reversed(steps))
