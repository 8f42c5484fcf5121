"""The host's moves.

The host is the network and the operator: it hears every message, and can send to devices and
owners whatever `Knowledge` lets it derive.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import product

from ginseng.isa.mailbox import State as DeviceState
from ginseng.isa.table import Source
from protocol_model.device import FatalError, RefusedError, Session
from protocol_model.owner import Instance, Owner, Phase, RejectedError
from protocol_model.properties import State, World
from protocol_model.protocol import Secret, Setup, Switch, attestation_key
from protocol_model.scenarios import HOST_PRIVATE, HOST_SECRET, HOST_VALUE
from protocol_model.terms import Knowledge, Op, Term, aead, const, hpke, pack, public, signed

__all__ = ["Host"]

Move = tuple[str, State]


class Host:
    """All moves of the host in one world. Counts what was refused in `refused`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scenario = world.scenario
        self.refused: Counter[str] = Counter()
        #: Where a quote came from, for the trace.
        self._origin: dict[Term, str] = {}
        self._quotes: dict[tuple[Term, tuple[Term, ...], Term], Term] = {}
        # CONFIG does not depend on what the host learns, so each setup is opened only once.
        self._opened: dict[tuple[int, Setup], tuple[Session, tuple[Term, ...]] | None] = {}

    def start(self) -> State:
        """Return the state before the first message."""
        s = self.scenario
        public_texts = [public(attestation_key(device)) for device in sorted(set(s.sessions))]
        public_texts += [secret.commitment for secret in self.world.agreed_secrets.values()]
        own = [HOST_PRIVATE, HOST_VALUE, HOST_SECRET.secret, HOST_SECRET.blinding]
        given = [
            part
            for label in s.colluding
            for secret in s.owners[label].values()
            for part in (secret.secret, secret.blinding)
        ]
        if not s.sealed:
            given.append(s.weights)
        knowledge = Knowledge().learn([*public_texts, *s.sealed.values(), *own, *given])
        idle = [Instance(label, n) for label, count in s.instances.items() for n in range(count)]
        state = State((), tuple(idle), knowledge)
        if not s.late:
            for n in range(len(idle)):
                _, state = self._ask(state, n)
        return state

    def moves(self, state: State) -> Iterator[Move]:
        """Yield every move, with a sentence for the trace."""
        if self.scenario.late:
            yield from self._end(state)
        yield from self._open(state)
        for n, session in enumerate(state.sessions):
            if session.state is DeviceState.LOCKED:
                yield from self._load(state, n)
                yield from self._import(state, n)
                yield from self._run(state, n)
        for n, instance in enumerate(state.instances):
            yield from self._deliver(state, n)
            if instance.phase is Phase.IDLE:
                yield self._ask(state, n)
        if self.scenario.leaks:
            yield from self._leak(state)

    def _heard(self, state: State, *messages: Term) -> State:
        """Let the host learn ``messages``, and every quote that it can take now.

        QUOTE changes nothing in a device, so taking each quote as soon as it can be had loses no
        attack and saves the search the choice.
        """
        challenges = [const("the host's challenge")]
        challenges += [i.nonce for i in state.instances if i.phase is not Phase.IDLE]
        learnt = list(messages)
        for session in state.sessions:
            if session.state is DeviceState.LOCKED:
                learnt.append(session.cnf)
                learnt += [self._quote(session, challenge) for challenge in challenges]
        return state._replace(knowledge=state.knowledge.learn(learnt))

    def _quote(self, session: Session, challenge: Term) -> Term:
        at = (session.private, session.pcrs, challenge)
        quote = self._quotes.get(at)
        if quote is None:
            quote = self._quotes[at] = self.world.device.quote(session, challenge)
            sealed = {r.handle for r in session.rows if r.imported and r.source is Source.SEALED}
            final = sealed <= {handle for handle, _, _ in session.imports}
            self._origin.setdefault(
                quote,
                f"QUOTE({challenge}) of session {session.serial} on device {session.device} "
                f"(PCR4 {'final' if final else 'as at LOCK'}, {session.runs} runs done)",
            )
        return quote

    def _open(self, state: State) -> Iterator[Move]:
        """BEGIN, all of CONFIG and LOCK in one move.

        Nothing but BEGIN's keys and K_mem ciphertexts of public plaintexts comes of the commands
        up to LOCK, so the order in which they mix with others makes no difference; a test
        compares with all orders of the single commands.
        """
        serial = len(state.sessions)
        if serial == len(self.scenario.sessions):
            return
        on = self.scenario.sessions[serial]
        kept = tuple(
            self.world.device.end(session) if session.device == on else session
            for session in state.sessions
        )
        killed = kept != state.sessions
        for label, setup in self.scenario.setups:
            opened = self._configured(serial, setup)
            if opened is not None:
                session, texts = opened
                before = f"END on device {on}, then " if killed else ""
                commitments = ", ".join(
                    f"SLOT({slot.slot}, {self._whose(slot.commitment)})" for slot in setup.slots
                )
                yield (
                    f"host: {before}BEGIN of session {serial} on device {on}; rows, {commitments}, "
                    f"imports, LOCK(entry {setup.entry}, max_runs {setup.max_runs}): {label}",
                    self._heard(state._replace(sessions=(*kept, session)), *texts),
                )

    def _whose(self, commitment: Term) -> str:
        for label, secrets in self.scenario.owners.items():
            if any(secret.commitment is commitment for secret in secrets.values()):
                return f"commitment of {label}"
        return "commitment of the host"

    def _configured(self, serial: int, setup: Setup) -> tuple[Session, tuple[Term, ...]] | None:
        key = (serial, setup)
        if key not in self._opened:
            self._opened[key] = None
            device = self.world.device
            texts: list[Term] = []
            try:
                session = device.begin(self.scenario.sessions[serial], serial)
                for row in setup.rows:
                    session = device.row(session, row)
                for slot in setup.slots:
                    session = device.slot(session, slot)
                for handle, content in setup.contents:
                    session, written = device.import_(session, handle, content)
                    texts += written
                session = device.lock(session, setup.entry, setup.max_runs)
                self._opened[key] = (session, tuple(texts))
            except RefusedError as refusal:
                self.refused[str(refusal)] += 1
        return self._opened[key]

    def _load(self, state: State, n: int) -> Iterator[Move]:
        """LOADKEY with every message heard, and with every one that the host can make."""
        session = state.sessions[n]
        known = state.knowledge
        messages = {message: "an owner's message" for message in known.having(Op.HPKE)}
        mine: list[Secret] = [HOST_SECRET, *self.world.agreed_secrets.values()]
        for secret in mine:
            if known.derives(secret.secret) and known.derives(secret.blinding):
                for slot in session.slots:
                    plaintext = pack(const(slot.slot), secret.secret, secret.blinding)
                    messages[hpke(session.cnf, session.info, plaintext)] = "a message of the host"
        for message, whose in messages.items():
            try:
                after = self.world.device.loadkey(session, message)
            except RefusedError as refusal:
                self.refused[str(refusal)] += 1
                continue
            number, secret_term, _ = message.terms[2].terms
            yield (
                f"host: LOADKEY in session {n} with {whose}: {secret_term} in slot {number}",
                self._heard(self._with(state, n, after)),
            )

    def _import(self, state: State, n: int) -> Iterator[Move]:
        """IMPORT of every sealed row, from every text that opens."""
        session = state.sessions[n]
        for row in session.rows:
            if not row.imported or row.source is not Source.SEALED:
                continue
            keys = dict(session.keys)
            texts = list(self.scenario.sealed.values())
            if row.slot in keys:
                place = self.world.device.import_place(session, row)
                texts = [*texts, *self._texts(state, *place)]
            for text in dict.fromkeys(texts):
                try:
                    after, written = self.world.device.import_(session, row.handle, text)
                except (RefusedError, FatalError) as refusal:
                    self.refused[str(refusal)] += 1
                    continue
                yield (
                    f"host: IMPORT({row.handle}) in session {n} of {text.terms[2]}, sealed",
                    self._heard(self._with(state, n, after), *written),
                )

    def _run(self, state: State, n: int) -> Iterator[Move]:
        """RUN over every content of DRAM that opens."""
        session = state.sessions[n]
        device = self.world.device
        try:
            device.can_run(session)
        except RefusedError as refusal:
            self.refused[str(refusal)] += 1
            return
        reads = device.reads(session)
        for choice in product(*(self._texts(state, *where) for where in reads.values())):
            dram = dict(zip(reads, choice, strict=True))
            after, written = device.run(session, dram)
            content = ", ".join(f"{handle}: {text.terms[2]}" for handle, text in dram.items())
            yield (
                f"host: RUN {after.runs} in session {n}; DRAM holds, sealed, {{{content}}}",
                self._heard(self._with(state, n, after), *written),
            )

    def _texts(self, state: State, key: Term, at: Term) -> list[Term]:
        """Return all that the host can put where the device opens with ``key`` and nonce ``at``.

        Of what it could seal itself, its own tensor stands for all: nobody looks inside.
        """
        texts = [t for t in state.knowledge.having(Op.AEAD) if t.terms[:2] == (key, at)]
        if state.knowledge.derives(key):
            texts.append(aead(key, at, HOST_VALUE))
        return list(dict.fromkeys(texts))

    def _ask(self, state: State, n: int) -> Move:
        instance = state.instances[n]
        dead = frozenset(s.cnf for s in state.sessions if s.state is DeviceState.IDLE)
        asked = self._owner(instance).ask(instance, dead)
        instances = (*state.instances[:n], asked, *state.instances[n + 1 :])
        after = self._heard(state._replace(instances=instances), asked.nonce)
        return f"{instance}: sends its nonce", after

    def _deliver(self, state: State, n: int) -> Iterator[Move]:
        """Show an owner every quote heard, and a forged one, with every public key there is."""
        instance = state.instances[n]
        if instance.phase not in (Phase.ASKED, Phase.RELEASED):
            return
        owner = self._owner(instance)
        used = frozenset(
            other.cnf
            for other in state.instances
            if other.owner == instance.owner and other.cnf is not None
        )
        quotes = state.knowledge.having(Op.SIGNED)
        forged = [self._forged(quote, instance) for quote in quotes[:1]]
        keys = [const("none")]
        if Switch.CNF not in self.world.on:
            keys = [public(HOST_PRIVATE), *(s.cnf for s in state.sessions)]
        for quote, claimed in product([*quotes, *forged], keys):
            try:
                if instance.phase is Phase.ASKED:
                    after, sent = owner.release(instance, quote, claimed, used)
                    what = "releases " + ", ".join(str(s.secret) for s in owner.secrets.values())
                    if after.phase is Phase.SENT and owner.inputs(after):
                        what += " and sends its inputs"
                elif owner.waits:
                    after, sent = owner.send(instance, quote, claimed)
                    what = "sends its inputs"
                else:
                    return
            except RejectedError as reason:
                self.refused[f"quote: {reason}"] += 1
                continue
            beside = f", with {claimed} beside it" if len(keys) > 1 else ""
            instances = (*state.instances[:n], after, *state.instances[n + 1 :])
            yield (
                f"{instance}: accepts {self._origin.get(quote, str(quote))}{beside}; {what}",
                self._heard(state._replace(instances=instances), *sent),
            )

    def _forged(self, quote: Term, instance: Instance) -> Term:
        """Return a quote of a device that the host emulates."""
        _, _, *rest = quote.terms[1].terms
        return signed(HOST_PRIVATE, pack(instance.nonce, public(HOST_PRIVATE), *rest))

    def _end(self, state: State) -> Iterator[Move]:
        for n, session in enumerate(state.sessions):
            if session.state is DeviceState.LOCKED:
                after = self.world.device.end(session)
                yield f"host: END of session {n}", self._with(state, n, after)

    def _leak(self, state: State) -> Iterator[Move]:
        if any(instance.phase is not Phase.IDLE for instance in state.instances):
            return
        for session in state.sessions:
            if session.state is DeviceState.IDLE and session.private not in state.leaked:
                after = state._replace(leaked=state.leaked | {session.private})
                yield (
                    f"leak: the host learns {session.private}",
                    self._heard(after, session.private),
                )

    def _owner(self, instance: Instance) -> Owner:
        return self.world.owners[instance.owner]

    def _with(self, state: State, n: int, session: Session) -> State:
        return state._replace(sessions=(*state.sessions[:n], session, *state.sessions[n + 1 :]))
