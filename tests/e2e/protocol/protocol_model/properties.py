"""What must hold in every state that the host can reach."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

from ginseng.isa.mailbox import State as DeviceState
from ginseng.isa.table import Source
from protocol_model.device import Device, Session
from protocol_model.owner import Instance, Owner, Phase
from protocol_model.protocol import Secret, Switch, attestation_key
from protocol_model.scenarios import AGREED_PROGRAM, DATA_OWNER, Scenario
from protocol_model.terms import Knowledge, Op, Term, apply

__all__ = ["Property", "State", "World", "completed", "violations"]


class State(NamedTuple):
    """A state of the search: every party's state, and what the host knows."""

    sessions: tuple[Session, ...]
    instances: tuple[Instance, ...]
    knowledge: Knowledge
    #: Private keys of sessions that leaked after their end.
    leaked: frozenset[Term] = frozenset()


@dataclass(frozen=True)
class World:
    """The fixed part: who takes part and which bindings are on."""

    scenario: Scenario
    on: frozenset[Switch]

    @cached_property
    def device(self) -> Device:
        """The device; sessions say which one it is."""
        return Device(self.on)

    @cached_property
    def owners(self) -> Mapping[str, Owner]:
        """Honest owners."""
        s = self.scenario
        return {
            label: Owner(
                secrets=s.owners[label],
                agreement=s.agreement,
                sealed=s.sealed,
                devices=tuple(sorted(set(s.sessions))),
                on=self.on,
            )
            for label in s.instances
        }

    @cached_property
    def agreed_secrets(self) -> dict[int, Secret]:
        """What belongs into each slot."""
        return {n: s for mine in self.scenario.owners.values() for n, s in mine.items()}

    @cached_property
    def honest_slots(self) -> frozenset[int]:
        """Slots of honest owners."""
        return frozenset(n for owner in self.owners.values() for n in owner.secrets)

    @cached_property
    def secrets(self) -> frozenset[Term]:
        """Names that the host must never learn, but for those of sessions."""
        out = {attestation_key(device) for device in self.scenario.sessions}
        for number in self.honest_slots:
            secret = self.agreed_secrets[number]
            out |= {secret.secret, secret.blinding}
        if self.scenario.sealed and 1 in self.honest_slots:
            out.add(self.scenario.weights)
        for label, owner in self.owners.items():
            for index in range(self.scenario.instances[label]):
                out.update(owner.inputs(Instance(label, index)))
        return frozenset(out)


def secrecy(world: World, state: State) -> Iterator[str]:
    """Host learns no secret, key or tensor of an honest owner, and no key of a device."""
    known = state.knowledge
    for term in sorted(world.secrets):
        if known.derives(term):
            yield f"the host knows {term}"
    for session in state.sessions:
        for private in (session.private, session.kmem):
            if private not in state.leaked and known.derives(private):
                yield f"the host knows {private}"
    # A result is as secret as what it was computed from; a colluding data owner has its results.
    shown = AGREED_PROGRAM if DATA_OWNER in world.scenario.colluding else None
    for term in known.having(Op.APPLY):
        if term.terms[0] is not shown and world.secrets.intersection(term.terms):
            yield f"the host knows {term}"


def agreement(world: World, state: State) -> Iterator[str]:
    """A session that has an owner's secret is what the owner checked, and has it once."""
    loads: dict[int, int] = {}
    for session in state.sessions:
        keys = dict(session.keys)
        mine = [
            n for n in world.honest_slots
            if world.agreed_secrets[n].secret in keys.values()
        ]  # fmt: skip
        for number in mine:
            loads[number] = loads.get(number, 0) + 1
        if not mine:
            continue
        if session.setup != world.scenario.agreement:
            yield f"session {session.serial} opened slot {mine[0]}, its setup is not as agreed"
        for number, secret in session.keys:
            if number not in world.agreed_secrets or (
                world.agreed_secrets[number].secret is not secret
            ):
                yield (
                    f"session {session.serial} has an honest owner's key beside a key in slot "
                    f"{number} that was not agreed"
                )
    for number, count in loads.items():
        label = next(o for o, owner in world.owners.items() if number in owner.secrets)
        released = sum(i.owner == label and i.phase >= Phase.RELEASED for i in state.instances)
        if count > released:
            yield f"the key of slot {number} was released {released} times and opened {count} times"


def inputs(world: World, state: State) -> Iterator[str]:
    """A session that computes on an honest owner's input has the agreed program and weights."""
    rows = world.scenario.agreement.rows
    sealed = {row.handle for row in rows if row.imported and row.source is Source.SEALED}
    for instance in state.instances:
        if instance.phase is not Phase.SENT or not world.owners[instance.owner].inputs(instance):
            continue
        for session in state.sessions:
            if session.cnf is instance.cnf and session.runs:
                for handle, _, content in session.imports:
                    if handle in sealed and content is not world.scenario.weights:
                        yield f"{instance} sent inputs for the agreed weights, it ran on {content}"


def key_use(world: World, state: State) -> Iterator[str]:
    """No two plaintexts under one key and nonce, in all that owners and devices ever sealed.

    Everything they seal goes to the host, and all it knows sealed but cannot open came from them.
    """
    used: dict[tuple[Term, Term], Term] = {}
    for sealed in state.knowledge.having(Op.AEAD):
        key, nonce, plaintext = sealed.terms
        other = used.setdefault((key, nonce), plaintext)
        if other is not plaintext:
            yield f"{other} and {plaintext} are sealed under one key and nonce {nonce}"


def results(world: World, state: State) -> Iterator[str]:
    """What a client accepts as result n is the agreed computation on its own input n."""
    for instance in state.instances:
        if instance.phase is not Phase.SENT:
            continue
        owner = world.owners[instance.owner]
        for run, (key, at, plain) in enumerate(owner.expects(instance), start=1):
            good = apply(AGREED_PROGRAM, world.scenario.weights, plain)
            if state.knowledge.derives(key):
                yield f"the host can forge result {run} of {instance}"
            for sealed in state.knowledge.having(Op.AEAD):
                if sealed.terms[:2] == (key, at) and sealed.terms[2] is not good:
                    yield f"{instance} accepts {sealed.terms[2]} as result {run}"


def runs(world: World, state: State) -> Iterator[str]:
    """No session runs more often than LOCK allowed."""
    for session in state.sessions:
        if session.runs > session.max_runs:
            yield f"session {session.serial} did {session.runs} runs of {session.max_runs}"


def uses(world: World, state: State) -> Iterator[str]:
    """No owner's key serves more runs than the owner allowed, over all sessions."""
    for label, owner in world.owners.items():
        released = sum(i.owner == label and i.phase >= Phase.RELEASED for i in state.instances)
        allowed = released * world.scenario.agreement.max_runs
        for secret in owner.secrets.values():
            done = sum(s.runs for s in state.sessions if secret.secret in dict(s.keys).values())
            if done > allowed:
                yield f"{label} allowed {allowed} runs, {secret.secret} served in {done}"


def freshness(world: World, state: State) -> Iterator[str]:
    """No owner accepts a session that was over before it asked."""
    for instance in state.instances:
        if instance.cnf in instance.dead:
            yield f"{instance} accepted a session that was over before it asked"


class Property(StrEnum):
    """Names of the properties, in the order of their weight."""

    SECRECY = "secrecy"
    KEY_USE = "key use"
    AGREEMENT = "agreement"
    INPUTS = "input agreement"
    RESULTS = "result freshness"
    RUNS = "run limit"
    USES = "allowed uses"
    FRESHNESS = "session freshness"


_CHECKS: Mapping[Property, Callable[[World, State], Iterator[str]]] = MappingProxyType(
    {
        Property.SECRECY: secrecy,
        Property.KEY_USE: key_use,
        Property.AGREEMENT: agreement,
        Property.INPUTS: inputs,
        Property.RESULTS: results,
        Property.RUNS: runs,
        Property.USES: uses,
        Property.FRESHNESS: freshness,
    }
)


def violations(
    world: World, state: State, wanted: frozenset[Property]
) -> Iterator[tuple[Property, str]]:
    """Yield the properties of ``wanted`` that ``state`` violates, with what went wrong."""
    for label, check in _CHECKS.items():
        if label in wanted:
            for detail in check(world, state):
                yield label, detail


def completed(world: World, state: State) -> bool:
    """Say whether some session did all agreed runs, in the agreed setup."""
    agreed = world.scenario.agreement
    return any(
        session.setup == agreed
        and session.state is DeviceState.LOCKED
        and session.runs == agreed.max_runs
        for session in state.sessions
    )
