"""The protected device through its registers, as an honest and as a wild host use them."""

import pytest
from cryptography.exceptions import InvalidTag

from ginseng.golden.keygen import RandomSource, StuckSource
from ginseng.golden.protected import ProtectedDevice
from ginseng.isa.codec import Codec
from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import ConfigError
from ginseng.isa.mailbox import COMMANDS, Cause, Command, Refusal, State
from ginseng.isa.registers import (
    ARGUMENT_BYTES,
    MAGIC,
    RESULT_BYTES,
    Access,
    Build,
    CommandWord,
    StatusWord,
    register_map,
)

COMMAND = Codec(CommandWord)
STATUS = Codec(StatusWord)


class Mailbox:
    """Reads and writes registers by name."""

    def __init__(self, device):
        self.device = device
        self.map = register_map(device.config)

    def read(self, name):
        register = self.map[name]
        return b"".join(
            self.device.read(register.offset + at).to_bytes(4, "little")
            for at in range(0, register.nbytes, 4)
        )

    def number(self, name):
        return int.from_bytes(self.read(name), "little")

    def write(self, name, value, at=0):
        self.device.write(self.map[name].offset + at, value)

    @property
    def status(self):
        return STATUS.unpack(self.read("status"))

    def put(self, argument):
        padded = argument + bytes(-len(argument) % 4)
        for at in range(0, len(padded), 4):
            self.write("argument", int.from_bytes(padded[at : at + 4], "little"), at)

    def start(self, command, length):
        word = COMMAND.pack(command=command, length=length)
        self.write("command", int.from_bytes(word, "little"))

    def execute(self, command, argument):
        self.put(argument)
        self.start(command, len(argument))
        status = self.status
        return Refusal(status["refusal"]), self.read("result")[: status["result_length"]]


@pytest.fixture
def device(config, identity):
    return ProtectedDevice(config, identity, entropy=RandomSource(3))


@pytest.fixture
def box(device):
    return Mailbox(device)


@pytest.fixture
def host(kit, box, config):
    return kit.Host(box.execute, box.device.dram, kit.tiny_program(config))


def test_a_device_tells_its_build(box, config):
    assert box.number("magic") == MAGIC
    assert box.number("build") == Build.PROTECTED | 0x100
    assert box.read("digest") == config.digest
    assert box.status == {"state": State.IDLE, "busy": 0, "refusal": 0, "result_length": 0}


def test_a_build_without_debug_or_without_tec(kit, identity):
    box = Mailbox(ProtectedDevice(kit.make_config(debug=False), identity))
    assert box.number("build") == Build.PROTECTED
    with pytest.raises(ConfigError):
        ProtectedDevice(SystemConfig(tec=None), identity)


def test_a_whole_session_through_the_mailbox(host, box, kit):
    host.to_ready()
    quote = host.do(Command.QUOTE, nonce=b"n" * 32)
    assert len(quote) == box.status["result_length"]
    assert len(quote) <= RESULT_BYTES
    assert host.run() is Refusal.NONE
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])
    # The counters are those of the run: 8 instructions, 2 steps of GEMM, one vector out.
    assert box.number("insns") == 8
    assert box.number("gemm_uops") == 2
    assert box.number("write_bytes") == 16 + 16
    host.do(Command.END)
    assert box.status["state"] == State.IDLE


@pytest.mark.sec("MON.WINDOWS_CLEARED")
def test_no_argument_is_read_back_or_used_twice(host, box, kit):
    assert box.map["argument"].access is Access.WRITE
    host.to_locked()
    message = host.message(kit.MODEL_SLOT)
    box.put(message)
    assert box.read("argument") == bytes(ARGUMENT_BYTES)
    box.start(Command.LOADKEY, len(message))
    assert box.status["refusal"] == Refusal.NONE
    # A refused command clears the window as well: what is left of a QUOTE's nonce is zeros.
    box.put(b"\xaa" * 32)
    box.start(Command.QUOTE, 31)
    assert box.status["refusal"] == Refusal.WRONG_LENGTH
    box.start(Command.QUOTE, 32)
    assert bytes(32) in box.read("result")
    assert b"\xaa" * 32 not in box.read("result")


def test_a_result_is_gone_when_the_next_command_starts(host, box):
    host.begin()
    assert box.read("result")[:64] == host.cnf
    assert box.status["result_length"] == 64
    box.start(Command.LOCK, 3)
    assert box.read("result") == bytes(RESULT_BYTES)
    assert box.status["result_length"] == 0


def test_a_command_longer_than_the_window_is_refused(box):
    for length in (ARGUMENT_BYTES, ARGUMENT_BYTES + 1, 0xFFFF):
        box.start(Command.BEGIN, length)
        assert box.status["refusal"] == Refusal.WRONG_LENGTH


def test_the_interrupt_rises_when_a_command_ends_and_falls_when_it_is_cleared(box):
    assert box.number("interrupt") == 0
    for command, length in ((Command.BEGIN, 0), (Command.RUN, 0), (200, 7)):
        box.start(command, length)
        assert box.number("interrupt") == 1
        box.write("interrupt", 0)
        assert box.number("interrupt") == 1
        box.write("interrupt", 1)
        assert box.number("interrupt") == 0


def test_while_it_is_busy_the_device_is_deaf_and_says_so(host, device, box, kit):
    host.to_ready()
    seen = []
    read = device.dram.read

    def meddle(address, nbytes):
        device.dram.read = read
        seen.append(box.status)
        box.put(b"\xff" * 32)
        box.start(Command.END, 0)
        box.write("reset", 1)
        box.write("interrupt", 1)
        seen.append(box.status)
        return read(address, nbytes)

    device.dram.read = meddle
    assert host.run() is Refusal.NONE
    busy = {"state": State.RUN, "busy": 1, "refusal": 0, "result_length": 0}
    assert seen == [busy, busy]
    assert host.output(1) == host.program.result(host.program.contents[kit.INPUT])
    box.start(Command.QUOTE, 32)
    assert b"\xff" * 32 not in box.read("result")


@pytest.mark.sec("MON.FATAL_SILENT")
@pytest.mark.parametrize("debug", [True, False])
def test_in_fatal_every_readable_register_is_constant(kit, identity, debug):
    config = kit.make_config(debug=debug)
    images = []
    for fault in ("input", "program", "import", "entropy"):
        source = StuckSource(1, after=3072 + 1024, seed=1) if fault == "entropy" else None
        device = ProtectedDevice(config, identity, entropy=source)
        box = Mailbox(device)
        host = kit.Host(box.execute, device.dram, kit.tiny_program(config))
        if fault == "entropy":
            host.begin()
            host.do(Command.END)
            assert host.call(Command.BEGIN) == (Refusal.NONE, b"")
        elif fault == "import":
            host.to_locked()
            host.load_keys()
            where = host.put_source(kit.MEASURED_WEIGHTS, bytes(256), bytes(48))
            host.call(Command.IMPORT, handle=kit.MEASURED_WEIGHTS, **where)
        else:
            host.to_ready()
            assert host.run() is Refusal.NONE
            host.place_input(2)
            handle = kit.INPUT if fault == "input" else kit.PROGRAM
            row = host.program.rows[handle]
            host.place(handle, bytes(row.length), bytes(16 * row.chunks))
            host.run()
        assert box.status == {"state": State.FATAL, "busy": 0, "refusal": 0, "result_length": 0}
        assert box.number("interrupt") == 1
        box.write("interrupt", 1)
        image = {
            register.name: box.read(register.name)
            for register in box.map.registers
            if register.name != "cause"
        }
        # Nothing that the host does is heard, and none of it is answered.
        for command in (*Command, 0, 77):
            length = COMMANDS[command].length if command in COMMANDS else 0
            box.put(b"\x55" * length)
            box.start(command, length)
        assert image == {name: box.read(name) for name in image}
        causes = {"import": Cause.IMPORT, "entropy": Cause.ENTROPY}
        assert box.number("cause") == (causes.get(fault, Cause.RUN) if debug else 0)
        images.append(image)
    assert all(image == images[0] for image in images)


def test_a_reset_is_the_same_device_with_nothing_of_its_session(host, device, box, kit):
    host.to_ready()
    assert host.run() is Refusal.NONE
    output, cnf = host.fetch(kit.OUTPUT), host.cnf
    dram = device.dram.bytes.copy()
    box.put(b"\x77" * 32)
    box.write("reset", 0)
    assert box.status["state"] == State.LOCKED
    box.write("reset", 1)
    assert box.status == {"state": State.IDLE, "busy": 0, "refusal": 0, "result_length": 0}
    assert (device.dram.bytes == dram).all()
    assert box.number("insns") == box.number("interrupt") == 0
    assert box.read("result") == bytes(RESULT_BYTES)
    host.to_locked()
    assert host.cnf != cnf
    # The window was cleared too, and the device is still the one that was certified.
    box.start(Command.QUOTE, 32)
    assert b"\x77" * 32 not in box.read("result")
    host.load_keys()
    assert host.fetch(kit.OUTPUT) == output
    with pytest.raises(InvalidTag):
        host.output(1)


def test_a_reset_leaves_fatal_and_old_data_is_dead(host, box, kit, device):
    host.to_ready()
    image = device.dram.bytes.copy()
    host.place(kit.INPUT, bytes(16), bytes(16))
    host.run()
    assert box.status["state"] == State.FATAL
    box.write("reset", 1)
    assert box.status["state"] == State.IDLE
    # The host restores all of DRAM as it was in the first session.
    host.to_ready()
    device.dram.bytes[:] = image
    host.run()
    assert box.status["state"] == State.FATAL


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_value_that_is_no_word_is_a_mistake_of_the_caller(device, value):
    with pytest.raises(ValueError, match="32 bits"):
        device.write(0x100, value)


def test_registers_that_are_not_there_read_zero_and_take_nothing(device, box):
    image = {name: box.read(name) for name in ("magic", "digest", "status")}
    for offset in (0x0C, 0x40, 0x1FC, 0x300, 0xC00, 0xFFFC):
        device.write(offset, 0xFFFFFFFF)
        assert device.read(offset) == 0
    for name in ("magic", "digest", "status", "cycles", "result", "cause"):
        box.write(name, 0xFFFFFFFF)
    assert image == {name: box.read(name) for name in image}
    assert box.read("result") == bytes(RESULT_BYTES)
