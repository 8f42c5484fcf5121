"""The adversary at the DRAM: nothing it does is accepted (TEC specification §10 A and F)."""

import itertools
import random

import numpy as np
import pytest

from ginseng.golden.dram import Dram
from ginseng.golden.plain import PlainPort
from ginseng.golden.port import Fatal, Transfer
from ginseng.isa.config import Memory
from ginseng.isa.formats import chunk_place, sealed_bytes
from ginseng.isa.mailbox import Refusal
from ginseng.isa.transfer import Client

READ = (
    "program",
    "micro-ops",
    "weights",
    "measured weights",
    "bias",
    "input",
    "scratch",
)
CHUNKS = {"first": 0, "middle": 2, "last": 4}
each = pytest.mark.parametrize("name", READ)
place = pytest.mark.parametrize("index", CHUNKS.values(), ids=CHUNKS)


def must_stop(scene, attack, name):
    """Attack a tensor while it stands in DRAM, before it is read: F."""
    quiet = scene.copy("output")
    if name == "scratch":
        with scene.forged():
            scene.run(1, middle=attack)
    else:
        attack()
        with scene.forged():
            scene.run(1)
    for before, after in zip(quiet, scene.copy("output"), strict=True):
        assert np.array_equal(before, after), "a byte of the result left"
    scene.assert_stopped()


@pytest.mark.both
@each
@place
@pytest.mark.parametrize("part", [0, 1], ids=["data", "tag"])
def test_one_flipped_bit_is_fatal(scene_of, name, index, part, record_property):
    cases = list(itertools.product(scene_of.LAZINESS, ("front", "back")))
    record_property("trials", len(cases))
    for lazy, where in cases:
        scene = scene_of(lazy=lazy).ready()

        def attack(scene=scene, where=where):
            span = scene.spans(name, index)[part]
            at = span[0] if where == "front" else span[-1]
            scene.dram.bytes[at] ^= 1 if where == "front" else 0x80

        must_stop(scene, attack, name)


@pytest.mark.both(campaign=True)
@each
def test_every_bit_of_every_tag_counts(scene_of, name, record_property):
    record_property("trials", 6)
    rng = random.Random(name)
    for bit in rng.sample(range(128), 6):
        scene = scene_of().ready()

        def attack(scene=scene, bit=bit):
            span = scene.spans(name, rng.randrange(5))[1]
            scene.dram.bytes[span[bit // 8]] ^= 1 << bit % 8

        must_stop(scene, attack, name)


@pytest.mark.both
@each
@place
def test_a_zeroed_chunk_with_a_zeroed_tag_is_fatal(scene_of, name, index):
    scene = scene_of().ready()

    def attack():
        for span in scene.spans(name, index):
            scene.dram.bytes[span] = 0

    must_stop(scene, attack, name)


@pytest.mark.both(campaign=True)
@each
@place
def test_a_zeroed_tag_alone_is_fatal(scene_of, name, index):
    scene = scene_of().ready()

    def attack():
        scene.dram.bytes[scene.spans(name, index)[1]] = 0

    must_stop(scene, attack, name)


@pytest.mark.both(campaign=True)
@each
def test_a_truncated_tensor_is_fatal(scene_of, name):
    """Its tail is as if it had never been written; and its last chunk is shorter than it says."""
    for kept in (0, 1, 3):
        scene = scene_of().ready()

        def attack(scene=scene, kept=kept):
            for index in range(kept, 5):
                for span in scene.spans(name, index):
                    scene.dram.bytes[span] = 0

        must_stop(scene, attack, name)
    scene = scene_of().ready()

    def shorten():
        span = scene.spans(name, 4)[0]
        scene.dram.bytes[span[-16:]] = 0

    must_stop(scene, shorten, name)


@pytest.mark.both(campaign=True)
@pytest.mark.sec("TEC.NONCE_BINDS")
@each
@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 3), (0, 3)])
def test_two_chunks_of_a_tensor_that_change_places_are_fatal(scene_of, name, one, other):
    scene = scene_of().ready()

    def attack():
        mine, yours = scene.copy(name, one), scene.copy(name, other)
        scene.paste(name, yours, one)
        scene.paste(name, mine, other)

    must_stop(scene, attack, name)


@pytest.mark.both(campaign=True)
@pytest.mark.sec("TEC.NONCE_BINDS")
@each
@pytest.mark.parametrize("index", [0, 2, 4, None], ids=["first", "middle", "last", "whole"])
def test_the_same_chunk_of_another_tensor_is_fatal(scene_of, name, index):
    """Also a whole tensor that the driver moved to another's place, tags and all."""
    for other in READ:
        if other == name:
            continue
        scene = scene_of().ready()
        if other == "scratch":
            # Only an earlier run's scratch exists before the run reads the others.
            scene.run(1)
            stolen = scene.copy(other, index)
            scene.offer(2)
            scene.paste(name, stolen, index)
            with scene.forged():
                scene.run(2)
            scene.assert_stopped()
            continue

        def attack(scene=scene, other=other):
            mine, yours = scene.copy(name, index), scene.copy(other, index)
            scene.paste(name, yours, index)
            scene.paste(other, mine, index)

        must_stop(scene, attack, name)


@pytest.mark.both(campaign=True)
@pytest.mark.sec("TEC.NONCE_BINDS")
@pytest.mark.parametrize("index", [0, 2, 4, None], ids=["first", "middle", "last", "whole"])
@pytest.mark.parametrize("name", ["input", "scratch"])
def test_what_an_earlier_run_saw_is_fatal_in_the_next(scene_of, name, index):
    scene = scene_of().ready()
    scene.run(1)
    stale = scene.copy(name, index)
    scene.offer(2, scene.rng.randbytes(scene.LENGTH))
    if name == "input":
        scene.paste(name, stale, index)
    with scene.forged():
        scene.run(2, middle=lambda: scene.paste("scratch", stale, index))
    scene.assert_stopped()


@pytest.mark.both(campaign=True)
@pytest.mark.sec("TEC.NONCE_BINDS")
@pytest.mark.parametrize("index", [0, 2, 4, None], ids=["first", "middle", "last", "whole"])
@pytest.mark.parametrize("name", ["weights", "measured weights"])
def test_an_older_version_of_an_owners_weights_is_fatal(scene_of, name, index):
    scene = scene_of()
    scene.configure()
    tensor = scene[name]
    arguments = () if name == "weights" else (tensor.handle, tensor.source)
    if name == "weights":
        tensor.version -= 1
        scene.place(name)
        stale = scene.copy(name, index)
        tensor.version += 1
        scene.release()
        scene.offer(1)
        scene.paste(name, stale, index)
        with scene.forged():
            scene.run(1)
    else:
        tensor.version -= 1
        scene.place(name, *arguments[1:])
        scene.tec.load_key(1, scene.keys[1])
        with scene.forged():
            scene.tec.import_sealed(*arguments)
    scene.assert_stopped()


@pytest.mark.both(campaign=True)
@pytest.mark.parametrize("name", ["program", "micro-ops", "measured weights", "bias", "scratch"])
@pytest.mark.parametrize("same_owners", [False, True])
def test_what_an_earlier_session_left_is_fatal(scene_of, name, same_owners):
    """K_mem is fresh in each session, even where nothing else is."""
    earlier = scene_of().ready()
    earlier.run(1)
    scene = scene_of(0 if same_owners else 1)
    scene.k_mem = scene.keys[0] = random.Random("another").randbytes(16)
    scene.ready()
    must_stop(scene, lambda: scene.paste(name, earlier.copy(name)), name)


@pytest.mark.both
def test_the_whole_dram_of_an_earlier_session_is_fatal(scene_of):
    earlier = scene_of().ready()
    earlier.run(1)
    scene = scene_of()
    scene.k_mem = scene.keys[0] = random.Random("another").randbytes(16)
    scene.ready()
    scene.dram.bytes[:] = earlier.dram.bytes
    with scene.forged():
        scene.run(1)
    scene.assert_stopped()


@pytest.mark.both
@pytest.mark.sec("TEC.NONCE_BINDS")
@pytest.mark.parametrize("when", ["same run", "next run"])
def test_a_result_offered_as_an_input_is_fatal(scene_of, when):
    """Same slot, same length, same version even: still of another domain and handle."""
    scene = scene_of().ready()
    scene.tec.start_run(1)
    scene.store("output", scene.rng.randbytes(scene.LENGTH))
    if when == "next run":
        scene.tec.finish_run()
        scene.tec.start_run(2)
    scene.paste("input", scene.copy("output"))
    with scene.forged():
        scene.load("input")
    scene.assert_stopped()


@pytest.mark.both
def test_a_client_opens_no_result_that_was_touched_or_is_of_another_run(scene_of):
    rng = random.Random(7)
    scene = scene_of().ready()
    scene.run(1)
    assert scene.open_output(1) == scene.output
    first = scene.copy("output")
    for part in (0, 1):
        for index in range(5):
            span = scene.spans("output", index)[part]
            at, bit = rng.choice(span), rng.randrange(8)
            scene.dram.bytes[at] ^= 1 << bit
            with pytest.raises(ValueError, match="MAC check failed"):
                scene.open_output(1)
            scene.dram.bytes[at] ^= 1 << bit
    assert scene.open_output(1) == scene.output
    scene.offer(2)
    scene.run(2)
    assert scene.open_output(2) == scene.output
    scene.paste("output", first)
    with pytest.raises(ValueError, match="MAC check failed"):
        scene.open_output(2)
    for index in (0, 4):
        mine = scene.copy("output", index)
        scene.paste("output", tuple(np.zeros_like(part) for part in mine), index)
        with pytest.raises(ValueError, match="MAC check failed"):
            scene.open_output(1)
        scene.paste("output", mine, index)


@pytest.mark.both(campaign=True)
@each
def test_memory_that_changes_between_two_reads_of_a_chunk_is_fatal_or_consistent(scene_of, name):
    for part in (0, 1):
        scene = scene_of().ready()

        def twice(scene=scene, part=part):
            data = scene.load(name, 8, 4)
            assert scene.load(name, 8, 4) == data
            span = scene.spans(name, 2)[part]
            held = scene.dram.bytes[span].copy()
            scene.dram.bytes[span] ^= 0xFF
            scene.dram.bytes[span] = held
            assert scene.load(name, 8, 4) == data, "what is back as it was is consistent"
            scene.dram.bytes[span[5]] ^= 4
            scene.load(name, 8, 4)

        if name == "scratch":
            with scene.forged():
                scene.run(1, middle=twice)
        else:
            scene.tec.start_run(1)
            with scene.forged():
                twice()
        scene.assert_stopped()


class Fickle(Dram):
    """Answers the second read of one address with something else."""

    target = None

    def read(self, address, nbytes):
        data = super().read(address, nbytes)
        if address == self.target:
            self.reads += 1
            if self.reads == 2:
                data[7] ^= 0x20
        return data


def test_memory_that_changes_inside_one_load_is_fatal(scene_of):
    """Overlapping rows fetch their chunk anew, and each fetch is verified."""
    scene = scene_of(dram=Fickle(0, scene_of.WINDOW)).ready()
    scene.dram.target, scene.dram.reads = scene["weights"].fields["base"], 0
    scene.tec.start_run(1)
    assert scene.load("weights", 0, 2, rows=2, stride=2) == scene["weights"].plaintext[:64]
    assert scene.dram.reads == 1, "rows in order share one fetch"
    scene.dram.reads = 0
    with scene.forged():
        scene.load("weights", 0, 2, rows=2, stride=1)
    assert scene.dram.reads == 2
    scene.assert_stopped()


@pytest.mark.both
@pytest.mark.sec("TEC.IMPORT_VERIFIED")
@pytest.mark.parametrize("part", ["data", "tag"])
@pytest.mark.parametrize("index", CHUNKS.values(), ids=CHUNKS)
def test_a_forged_import_is_fatal_and_destroys_k_mem(scene_of, part, index):
    scene = scene_of()
    scene.configure()
    scene.tec.load_key(1, scene.keys[1])
    tensor = scene["measured weights"]
    scene.place("measured weights", tensor.source)
    at = chunk_place(index, tensor.chunk)
    if part == "tag":
        at += min(tensor.chunk, tensor.length - index * tensor.chunk)
    scene.dram.bytes[tensor.source + at] ^= 0x40
    with scene.forged():
        scene.tec.import_sealed(tensor.handle, tensor.source)
    scene.assert_stopped()


def test_an_import_fetches_each_byte_of_its_source_once(scene_of):
    """What is measured is what is sealed: there is no second look."""

    class Counting(Dram):
        def read(self, address, nbytes):
            spans.append((address, address + nbytes))
            return super().read(address, nbytes)

    spans = []
    scene = scene_of(dram=Counting(0, scene_of.WINDOW))
    scene.configure()
    scene.release()
    for name in ("program", "measured weights"):
        tensor = scene[name]
        fetched = [
            at
            for first, last in spans
            for at in range(first, last)
            if tensor.source <= at < tensor.source + 0x400
        ]
        nbytes = tensor.length
        if name == "measured weights":
            nbytes = sealed_bytes(nbytes, tensor.chunk)
        assert sorted(fetched) == list(range(tensor.source, tensor.source + nbytes))


@pytest.mark.both
def test_changing_the_source_after_the_import_changes_nothing(scene_of):
    scene = scene_of().ready()
    for name in ("program", "micro-ops", "bias", "measured weights"):
        scene.dram.bytes[scene[name].source : scene[name].source + scene.LENGTH] = 0xA5
    loaded = scene.run(1)
    assert all(loaded[name] == scene[name].plaintext for name in ("program", "bias"))
    assert loaded["measured weights"] == scene["measured weights"].plaintext


def corrupt(scene_of, trials, seed):
    """Flip 1 to 64 bits anywhere in the data and tags of all that one run reads, ever again."""
    rng = random.Random(seed)
    names = ("program", "weights", "input", "scratch")
    kinds = {name: scene_of.KINDS[name] for name in names}
    first = scene_of(kinds=kinds).ready()
    # Everything is made from one seed, so what the owners place is the same in every trial.
    image = first.dram.bytes.copy()
    cells = [at for name in names for span in first.spans(name) for at in span]
    causes = []
    for trial in range(trials + 1):
        scene = scene_of(kinds=kinds)
        scene.configure()
        scene.tec.load_key(1, scene.keys[1])
        scene.tec.load_key(2, scene.keys[2])
        scene.dram.bytes[:] = image
        scene.tec.start_run(1)
        scene.store("scratch", scene["input"].plaintext)
        # The first trial flips nothing and must succeed: the others fail for their flips alone.
        count = rng.randint(1, 64) if trial else 0
        for at, bit in {(rng.choice(cells), rng.randrange(8)) for _ in range(count)}:
            scene.dram.bytes[at] ^= 1 << bit
        try:
            for name in names:
                scene.load(name)
            causes.append(None)
        except Fatal as fault:
            causes.append(fault.cause)
    assert causes == [None, *[scene_of.FAULT] * trials]


@pytest.mark.both(campaign=True)
def test_thousands_of_random_corruptions_are_never_silent(scene_of, record_property):
    corrupt(scene_of, scene_of.TRIALS, 2026)
    record_property("trials", scene_of.TRIALS)


@pytest.mark.campaign
def test_a_hundred_thousand_random_corruptions_are_never_silent(scene_of, record_property):
    corrupt(scene_of, 100_000, 2027)
    record_property("trials", 100_000)


def test_without_the_tec_the_same_flips_change_the_result_silently(scene_of):
    """The control: it is the TEC that stops the attacks above."""
    scene = scene_of()
    port = PlainPort(scene.dram, scene.config.core, scene.config.bus)
    for tensor in scene.tensors.values():
        scene.dram.write(tensor.fields["base"], tensor.plaintext)
        for index in CHUNKS.values():
            at = tensor.fields["base"] + index * tensor.chunk
            scene.dram.bytes[at] ^= 1
            transfer = Transfer(Memory.INP, tensor.fields["base"] // 16, 1, tensor.length // 16, 0)
            assert port.read(Client.INP, transfer).tobytes() != tensor.plaintext
            scene.dram.bytes[at] ^= 1


def test_two_rows_cannot_be_made_to_name_one_place(scene_of):
    """The driver places tensors, and can only place them apart."""
    scene = scene_of()
    scene.tec.begin(scene.k_mem)
    scratch = scene["scratch"]
    assert scene.tec.load_row(1, scratch.word) is Refusal.NONE
    assert scene.tec.load_row(2, scratch.word) is Refusal.ROW_OVERLAP
