"""Register accesses of a wild host, each predicted by a small model of the state."""

import collections
import random
from itertools import pairwise

import pytest

from ginseng.golden.keygen import DeviceIdentity, RandomSource
from ginseng.golden.protected import ProtectedDevice
from ginseng.isa.codec import Codec
from ginseng.isa.mailbox import COMMANDS, Command, Refusal, State
from ginseng.isa.registers import ARGUMENT_BYTES, MAGIC, CommandWord, StatusWord, register_map

OPERATIONS, MANY = 10_000, 1_000_000
MAX_RUNS = 3
COMMAND = Codec(CommandWord)
STATUS = Codec(StatusWord)
#: What a row or an import of garbage may be refused for.
ROW_REFUSALS = frozenset(r for r in Refusal if r >= Refusal.ROW_HANDLE)
IMPORT_REFUSALS = frozenset(
    {Refusal.IMPORT_ROW, Refusal.IMPORT_ORDER, Refusal.IMPORT_SOURCE, Refusal.IMPORT_KEY}
)
DONE = frozenset({Refusal.NONE})


class Model:
    """What the state must be, from the specification's tables and sentences."""

    def __init__(self, kit, host):
        self.kit = kit
        self.host = host
        self.reset()

    def reset(self):
        self.state = State.IDLE
        self.argument = bytearray(ARGUMENT_BYTES)
        self.refusal = 0
        self.result_length = 0
        self.interrupt = 0
        self.close()

    def close(self):
        self.slots = {}
        self.rows = set()
        self.imports = set()
        self.keys = set()
        self.limit = 0
        self.runs = 0
        self.placed = 0
        self.honest = False
        # The good host knows this session's nonce; of one that the wild host began it does not.
        self.known = False

    def status(self):
        if self.state is State.FATAL:
            return {"state": State.FATAL, "busy": 0, "refusal": 0, "result_length": 0}
        return {
            "state": self.state,
            "busy": 0,
            "refusal": self.refusal,
            "result_length": self.result_length,
        }

    def predict(self, code, argument, meant):
        """Return the refusals that may follow, and change the state if none does.

        ``meant`` says what a good host's argument is: a row, a tensor or a slot.
        """
        if code not in set(Command):
            return {Refusal.UNKNOWN_COMMAND}
        command = Command(code)
        spec = COMMANDS[command]
        if self.state not in spec.states:
            return {Refusal.WRONG_STATE}
        if len(argument) != spec.length:
            return {Refusal.WRONG_LENGTH}
        fields = spec.argument.unpack(argument) if spec.argument else {}
        return getattr(self, f"do_{command.name.lower()}")(fields, argument, meant)

    def do_begin(self, fields, argument, meant):
        self.close()
        self.state = State.CONFIG
        return DONE

    def do_end(self, fields, argument, meant):
        self.close()
        self.state = State.IDLE
        return DONE

    def do_row(self, fields, argument, meant):
        if meant is None or meant in self.rows:
            return ROW_REFUSALS
        slot = self.host.program.rows[meant].slot
        if slot and self.slots.get(slot, (None,))[0] != self.kit.USES[slot]:
            return {Refusal.ROW_SLOT}
        self.rows.add(meant)
        return DONE

    def do_slot(self, fields, argument, meant):
        slot, use = fields["slot"], fields["use"]
        if slot > 7 or use > 3:
            return {Refusal.ILLEGAL_ARGUMENT}
        if slot == 0 or use not in (1, 2):
            return {Refusal.SLOT_USE}
        if slot in self.slots:
            return {Refusal.SLOT_TAKEN}
        self.slots[slot] = (use, argument[2:])
        return DONE

    def do_import(self, fields, argument, meant):
        if meant is None or meant not in self.rows:
            return IMPORT_REFUSALS
        sealed = meant == self.kit.MEASURED_WEIGHTS
        if sealed != (self.state is State.LOCKED):
            return {Refusal.IMPORT_ROW}
        earlier = {h for h in self.imports if (h == self.kit.MEASURED_WEIGHTS) == sealed}
        if earlier and meant <= max(earlier):
            return {Refusal.IMPORT_ORDER}
        if sealed and self.kit.MODEL_SLOT not in self.keys:
            return {Refusal.IMPORT_KEY}
        self.imports.add(meant)
        return DONE

    def do_lock(self, fields, argument, meant):
        kit = self.kit
        if fields["max_runs"] == 0:
            return {Refusal.LOCK_RUNS}
        if fields["entry"] != kit.PROGRAM or kit.PROGRAM not in self.imports:
            return {Refusal.LOCK_ENTRY}
        plain = {kit.PROGRAM, kit.UOPS, kit.BIAS} & self.rows
        if plain - self.imports:
            return {Refusal.LOCK_IMPORT}
        self.limit = fields["max_runs"]
        self.state = State.LOCKED
        commitments = {s: (use, self.host.owners[s].commitment) for s, use in kit.USES.items()}
        self.honest = (
            self.rows == set(self.host.program.rows)
            and self.slots == commitments
            and self.limit == MAX_RUNS
        )
        return DONE

    def do_quote(self, fields, argument, meant):
        return DONE

    def do_loadkey(self, fields, argument, meant):
        if meant is None or not (self.honest and self.known):
            return {Refusal.KEY_REFUSED}
        if meant in self.keys:
            return {Refusal.KEY_SLOT}
        self.keys.add(meant)
        return DONE

    def do_run(self, fields, argument, meant):
        rows = self.host.program.rows
        if {rows[h].slot for h in self.rows} - {0} - self.keys:
            return {Refusal.RUN_KEY}
        if self.kit.MEASURED_WEIGHTS in self.rows - self.imports:
            return {Refusal.RUN_IMPORT}
        if self.runs >= self.limit:
            return {Refusal.RUN_LIMIT}
        self.runs += 1
        if self.placed != self.runs or self.rows != set(rows):
            self.state = State.FATAL
        return DONE


class WildHost:
    """Does what it likes, and checks the device against the model after each access."""

    def __init__(self, kit, config, identity, seed, *, secrets=0):
        self.kit = kit
        self.random = random.Random(seed)
        self.device = ProtectedDevice(config, identity, entropy=RandomSource(seed + secrets))
        self.map = register_map(config)
        self.host = kit.Host(self.carry, self.device.dram, kit.tiny_program(config), secrets)
        self.model = Model(kit, self.host)
        self.meant = None
        self.seen = collections.Counter()
        self.states = [State.IDLE]
        #: What was read anywhere, but of results, which are quotes.
        self.read_back = []

    def check(self):
        offset = self.map["status"].offset
        status = STATUS.unpack(self.device.read(offset).to_bytes(4, "little"))
        assert status == self.model.status()
        assert self.device.read(self.map["interrupt"].offset) == self.model.interrupt
        if self.states[-1] is not self.model.state:
            self.states.append(self.model.state)

    def read_word(self, name, at=0):
        return self.device.read(self.map[name].offset + at)

    def write_argument(self, at, value):
        self.device.write(self.map["argument"].offset + at, value)
        self.model.argument[at : at + 4] = value.to_bytes(4, "little")

    def start(self, code, length, meant=None):
        """Write the command word and compare what follows with the model."""
        argument = bytes(self.model.argument[:length]).ljust(length, b"\0")
        word = COMMAND.pack(command=code, length=length)
        self.device.write(self.map["command"].offset, int.from_bytes(word, "little"))
        if self.model.state is State.FATAL:
            return self.check()
        allowed = self.model.predict(code, argument, meant)
        self.model.argument = bytearray(ARGUMENT_BYTES)
        self.model.interrupt = 1
        word = STATUS.unpack(self.read_word("status").to_bytes(4, "little"))
        assert word["refusal"] in allowed or self.model.state is State.FATAL
        self.model.refusal = word["refusal"]
        gives = {Command.BEGIN: 64, Command.QUOTE: word["result_length"]}
        done = not word["refusal"] and self.model.state is not State.FATAL
        self.model.result_length = gives.get(code, 0) if done else 0
        if code == Command.QUOTE and done:
            assert word["result_length"] > 500
        if code in set(Command):
            self.seen[Command(code), Refusal(word["refusal"]), self.model.state] += 1
        return self.check()

    def carry(self, code, argument):
        """Be the good host's mailbox."""
        padded = argument + bytes(-len(argument) % 4)
        for at in range(0, len(padded), 4):
            self.write_argument(at, int.from_bytes(padded[at : at + 4], "little"))
        self.start(code, len(argument), self.meant)
        length = self.model.result_length
        result = b"".join(
            self.read_word("result", at).to_bytes(4, "little") for at in range(0, length, 4)
        )
        return Refusal(self.model.refusal), result[:length]

    def mean(self, meant, step):
        self.meant = meant
        step()
        self.meant = None

    def good_steps(self):
        """Return what a good host could do some time in its session, in order."""
        host, kit = self.host, self.kit
        steps = [(slot, lambda s=slot: host.commit(s)) for slot in kit.USES]
        steps += [(h, lambda h=h: host.row(h)) for h in host.program.rows]
        steps += [(h, lambda h=h: host.import_plain(h)) for h in (kit.PROGRAM, kit.UOPS, kit.BIAS)]
        steps.append((None, lambda: host.lock(MAX_RUNS)))
        if host.cnf:
            steps += [(slot, lambda s=slot: host.load_key(s)) for slot in kit.USES]
        steps.append((kit.MEASURED_WEIGHTS, host.import_sealed))
        return steps

    def good(self):
        """Go one step on, or several at once."""
        if self.model.state is State.IDLE:
            self.mean(None, lambda: setattr(self.host, "cnf", self.host.call(Command.BEGIN)[1]))
            self.model.known = True
            return
        steps = self.good_steps()
        if self.random.random() < 0.5:
            for meant, step in steps:
                self.mean(meant, step)
        else:
            self.mean(*self.random.choice(steps))

    def place(self):
        """Put into DRAM what the next run reads, or not."""
        if self.host.cnf:
            self.host.place_weights()
            self.host.place_input(self.model.runs + 1)
            self.model.placed = self.model.runs + 1

    def access(self):
        """Do one thing at random."""
        chance = self.random.random()
        if chance < 0.25:
            self.write_argument(
                4 * self.random.randrange(ARGUMENT_BYTES // 4),
                self.random.choice((0, 1, 0x0102, self.random.getrandbits(32))),
            )
        elif chance < 0.40:
            self.read_anywhere()
        elif chance < 0.50:
            self.write_anywhere()
        elif chance < 0.80:
            code = self.random.choice([*Command, *Command, self.random.randrange(256)])
            if code in (Command.END, Command.BEGIN) and self.random.random() < 0.8:
                code = Command.QUOTE
            right = COMMANDS[code].length if code in COMMANDS else 0
            length = right if self.random.random() < 0.8 else self.random.randrange(300)
            self.start(code, length)
        elif chance < 0.92:
            self.good()
        elif chance < 0.98:
            self.place()
            self.start(Command.RUN, 0)
        elif chance < 0.99 or self.model.state is State.FATAL:
            self.device.write(self.map["reset"].offset, self.random.getrandbits(31) << 1 | 1)
            self.model.reset()
            self.host.cnf = b""
        self.check()

    def read_anywhere(self):
        offset = 4 * self.random.randrange(0x400)
        value = self.device.read(offset)
        register = self.map.at(offset)
        if register is None or register.name != "result":
            self.read_back.append((offset, value))
        if register is None or register.name in ("argument", "command", "reset", "cycles"):
            assert value == 0
            return
        at = offset - register.offset
        if register.name == "magic":
            assert value == MAGIC
        elif register.name == "digest":
            assert value == int.from_bytes(self.device.config.digest[at : at + 4], "little")
        elif register.name == "result":
            assert value == 0 or at < self.model.result_length
        elif register.name not in ("build", "interrupt", "status", "cause"):
            assert value == 0 or self.model.state is not State.FATAL

    def write_anywhere(self):
        offset = 4 * self.random.randrange(0x400)
        value = self.random.getrandbits(32)
        register = self.map.at(offset)
        if register is None or register.name not in ("argument", "command", "reset"):
            self.device.write(offset, value)
            if register is not None and register.name == "interrupt" and value & 1:
                self.model.interrupt = 0


def walk(kit, config, identity, seed, accesses, **options):
    wild = WildHost(kit, config, identity, seed, **options)
    for _ in range(accesses):
        wild.access()
    # The walk was worth its while: every command was done and refused, every state was reached.
    done = {command for command, refusal, _ in wild.seen if refusal is Refusal.NONE}
    assert done == set(Command)
    assert {refusal for _, refusal, _ in wild.seen} >= {
        Refusal.WRONG_STATE,
        Refusal.WRONG_LENGTH,
        Refusal.SLOT_TAKEN,
        Refusal.ROW_DUPLICATE,
        Refusal.IMPORT_ORDER,
        Refusal.LOCK_RUNS,
        Refusal.LOCK_ENTRY,
        Refusal.KEY_REFUSED,
        Refusal.KEY_SLOT,
        Refusal.RUN_KEY,
        Refusal.RUN_LIMIT,
    }
    # No state was skipped; a run is over, well or badly, when its command ends.
    steps = {
        State.IDLE: {State.CONFIG},
        State.CONFIG: {State.LOCKED, State.IDLE},
        State.LOCKED: {State.IDLE, State.FATAL},
        State.FATAL: {State.IDLE},
    }
    assert set(wild.states) == set(steps)
    assert all(after in steps[before] for before, after in pairwise(wild.states))
    return wild


@pytest.mark.parametrize("seed", [1, 2])
def test_a_wild_host_finds_only_what_the_model_says(kit, config, identity, seed):
    walk(kit, config, identity, seed, OPERATIONS // 2)


def compare(kit, config, identity, seed, accesses):
    """Do the same with other secrets of device, owners and session: the same is read."""
    one = walk(kit, config, identity, seed, accesses)
    another = walk(kit, config, DeviceIdentity(bytes(range(32))), seed, accesses, secrets=1)
    assert one.read_back == another.read_back
    assert one.states == another.states
    assert len(one.read_back) > accesses // 10


def test_nothing_that_is_read_depends_on_a_key(kit, config, identity):
    compare(kit, config, identity, 3, OPERATIONS // 2)


@pytest.mark.campaign
def test_a_million_accesses_find_only_that(kit, config, identity, record_property):
    seeds = range(10, 20)
    for seed in seeds:
        compare(kit, config, identity, seed, MANY // len(seeds))
    record_property("trials", MANY)
