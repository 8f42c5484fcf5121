"""Slots, imports, LOCK, runs, and how a session ends (TEC specification §3, §4, §7)."""

import copy
import pickle

import numpy as np
import pytest

from ginseng.golden.dram import Dram
from ginseng.golden.port import Fatal, Transfer
from ginseng.golden.tec import Limits, TecError, keys
from ginseng.golden.tec.keys import KeySlots
from ginseng.golden.tec.lane import Sealer
from ginseng.isa.config import Memory
from ginseng.isa.formats import sealed_bytes
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import SlotUse


def test_the_whole_session_computes_on_what_the_owners_sealed(scene_of):
    for lazy in (False, True):
        scene = scene_of(lazy=lazy)
        assert scene.configure() == {
            name: scene[name].plaintext for name in ("program", "micro-ops", "bias")
        }
        scene.release()
        for run in (1, 2, 3):
            scene.offer(run, scene.rng.randbytes(scene.LENGTH))
            loaded = scene.run(run)
            for name, data in loaded.items():
                expected = scene.scratch if name == "scratch" else scene[name].plaintext
                assert data == expected
            assert scene.open_output(run) == scene.output


@pytest.mark.sec("TEC.KEY_SLOT_USE")
def test_keys_are_loaded_after_lock_once_and_into_declared_slots_only(scene_of):
    scene = scene_of()
    tec, key = scene.tec, bytes(16)
    assert tec.load_key(1, key) is Refusal.WRONG_STATE
    scene.configure()
    assert tec.load_key(0, key) is Refusal.KEY_SLOT
    assert tec.load_key(3, key) is Refusal.KEY_SLOT
    with pytest.raises(TecError, match="16 bytes, not 32"):
        tec.load_key(1, bytes(32))
    assert tec.load_key(1, key) is Refusal.NONE
    assert tec.load_key(1, key) is Refusal.KEY_SLOT


@pytest.mark.sec("TEC.KEY_SLOT_USE")
def test_the_tec_seals_under_session_keys_and_k_mem_but_never_under_an_owners(
    scene_of, monkeypatch
):
    """Every encryption of a session with all kinds of tensors, by its key."""
    sealed_under = set()

    class Watched(Sealer):
        def __init__(self, key, nonce):
            sealed_under.add(bytes(key))
            super().__init__(key, nonce)

    monkeypatch.setattr(keys, "Sealer", Watched)
    scene = scene_of().ready()
    scene.run()
    assert sealed_under == {scene.keys[0], scene.keys[2]}
    slots = KeySlots(16, Limits())
    slots.begin(bytes(16))
    assert slots.declare(1, SlotUse.STATIC) is Refusal.NONE
    assert slots.load(1, bytes(16)) is Refusal.NONE
    with pytest.raises(Fatal, match="slot use"):
        slots.sealer(1, bytes(12), 16)


@pytest.mark.sec("TEC.TABLE_LOCKED")
def test_lock_closes_rows_slots_and_plain_imports(scene_of):
    scene = scene_of()
    scene.configure()
    tec, program = scene.tec, scene["program"]
    spare = dict(scene["scratch"].fields, base=0x4000)
    scene["scratch"].fields.update(spare)
    assert tec.load_row(20, scene["scratch"].word) is Refusal.WRONG_STATE
    assert tec.declare_slot(5, SlotUse.STATIC) is Refusal.WRONG_STATE
    assert tec.check_import(program.handle, program.source) is Refusal.IMPORT_ROW
    assert tec.lock(program.handle) is Refusal.WRONG_STATE
    with pytest.raises(TecError, match="IMPORT_ROW"):
        tec.import_plain(program.handle, program.source)


@pytest.mark.sec("TEC.ENTRY_MEASURED")
def test_lock_takes_the_imported_x_row_once_every_plain_row_is_imported(scene_of):
    scene = scene_of()
    tec = scene.tec
    tec.begin(scene.k_mem)
    tec.declare_slot(1, SlotUse.STATIC)
    tec.declare_slot(2, SlotUse.SESSION)
    for tensor in scene.tensors.values():
        assert tec.load_row(tensor.handle, tensor.word) is Refusal.NONE
    program, other, bias = scene["program"], scene["micro-ops"], scene["bias"]
    for handle in (program.handle, other.handle, 63, 70):
        assert tec.check_lock(handle) is Refusal.LOCK_ENTRY
    tec.import_plain(program.handle, program.source)
    assert tec.lock(other.handle) is Refusal.LOCK_ENTRY
    assert tec.lock(program.handle) is Refusal.LOCK_IMPORT
    tec.import_plain(other.handle, other.source)
    assert tec.lock(program.handle) is Refusal.LOCK_IMPORT
    tec.import_plain(bias.handle, bias.source)
    # Imported, but not X.
    assert tec.lock(other.handle) is Refusal.LOCK_ENTRY
    assert tec.lock(program.handle) is Refusal.NONE


@pytest.mark.sec("TEC.IMPORT_ONCE")
def test_imports_ascend_within_plain_and_then_within_sealed(scene_of):
    kinds = dict(scene_of.KINDS)
    kinds["second"] = kinds["measured weights"]
    scene = scene_of(kinds=kinds)
    tec = scene.tec
    tec.begin(scene.k_mem)
    tec.declare_slot(1, SlotUse.STATIC)
    tec.declare_slot(2, SlotUse.SESSION)
    for tensor in scene.tensors.values():
        assert tec.load_row(tensor.handle, tensor.word) is Refusal.NONE

    def check(name):
        tensor = scene[name]
        return tec.check_import(tensor.handle, tensor.source)

    for name in ("weights", "input", "scratch", "output", "measured weights"):
        assert check(name) is Refusal.IMPORT_ROW
    assert tec.check_import(60, scene["program"].source) is Refusal.IMPORT_ROW
    tec.import_plain(scene["program"].handle, scene["program"].source)
    assert check("program") is Refusal.IMPORT_ORDER
    tec.import_plain(scene["micro-ops"].handle, scene["micro-ops"].source)
    tec.import_plain(scene["bias"].handle, scene["bias"].source)
    assert check("micro-ops") is Refusal.IMPORT_ORDER
    assert tec.lock(scene["program"].handle) is Refusal.NONE
    # A lower handle than the last plain one: sealed imports have an order of their own.
    assert scene["measured weights"].handle < scene["bias"].handle
    assert check("measured weights") is Refusal.IMPORT_KEY
    tec.load_key(1, scene.keys[1])
    assert check("measured weights") is Refusal.NONE
    second = scene["second"]
    scene.place("second", second.source)
    tec.import_sealed(second.handle, second.source)
    assert check("measured weights") is Refusal.IMPORT_ORDER
    with pytest.raises(TecError, match="IMPORT_ORDER"):
        tec.import_sealed(second.handle, second.source)


@pytest.mark.sec("TEC.IMPORT_SOURCE")
def test_a_source_is_aligned_inside_the_window_and_touches_no_row(scene_of):
    scene = scene_of()
    tec = scene.tec
    scene.configure()
    tec.load_key(1, scene.keys[1])
    tensor, other = scene["measured weights"], scene["scratch"].fields
    end = other["base"] + sealed_bytes(other["length"], other["chunk"])
    assert tec.check_import(tensor.handle, tensor.source) is Refusal.NONE
    assert tec.check_import(tensor.handle, -(-end // 128) * 128) is Refusal.NONE
    for source in (
        tensor.source + 16,
        other["base"],
        other["base"] + 256,
        # The last tag alone.
        (end - 1) // 128 * 128,
        tensor.fields["base"],
        scene.WINDOW - 256,
        scene.WINDOW,
        (1 << 40) - 128,
    ):
        assert tec.check_import(tensor.handle, source) is Refusal.IMPORT_SOURCE
    fresh = scene_of()
    fresh.tec.begin(fresh.k_mem)
    program = fresh["program"]
    fresh.tec.load_row(program.handle, program.word)
    below = program.fields["base"] - 256
    assert fresh.tec.check_import(program.handle, below) is Refusal.IMPORT_SOURCE


@pytest.mark.sec("TEC.UNLOADED_SLOT")
def test_a_run_waits_for_every_key_and_every_import(scene_of):
    scene = scene_of()
    tec = scene.tec
    assert tec.check_run() is Refusal.WRONG_STATE
    scene.configure()
    tensor = scene["measured weights"]
    assert tec.check_run() is Refusal.RUN_KEY
    tec.load_key(1, scene.keys[1])
    assert tec.check_run() is Refusal.RUN_KEY
    tec.load_key(2, scene.keys[2])
    assert tec.check_run() is Refusal.RUN_IMPORT
    with pytest.raises(TecError, match="RUN_IMPORT"):
        tec.start_run(1)
    scene.place("measured weights", tensor.source)
    tec.import_sealed(tensor.handle, tensor.source)
    assert tec.check_run() is Refusal.NONE
    tec.start_run(1)
    assert tec.check_run() is Refusal.WRONG_STATE


@pytest.mark.sec("TEC.UNLOADED_SLOT")
def test_an_empty_slot_is_not_a_key_of_zeros(scene_of):
    slots = KeySlots(16, Limits())
    slots.begin(bytes(16))
    slots.declare(2, SlotUse.SESSION)
    with pytest.raises(Fatal, match="unloaded slot"):
        slots.sealer(2, bytes(12), 16)
    with pytest.raises(Fatal, match="unloaded slot"):
        slots.opener(2, bytes(12), bytes(16), bytes(16))


@pytest.mark.sec("TEC.NONCE_UNIQUE")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_run_number_that_does_not_rise_is_fatal(scene_of, number):
    scene = scene_of().ready()
    scene.run(1)
    scene.offer(2)
    scene.run(2)
    with pytest.raises(Fatal, match="run number"):
        scene.tec.start_run(number)
    scene.assert_stopped()


@pytest.mark.sec("TEC.EPOCH")
def test_epochs_end_in_a_fault_and_are_never_reused(scene_of):
    # Four imports, then one epoch for each run.
    scene = scene_of(limits=Limits(epochs=6)).ready()
    scene.run(1)
    scene.offer(2)
    scene.run(2)
    with pytest.raises(Fatal, match="epoch limit"):
        scene.tec.start_run(3)
    scene.assert_stopped()
    # Run numbers end where epochs do: both are the 48-bit version of a nonce.
    scene = scene_of(limits=Limits(epochs=6)).ready()
    with pytest.raises(Fatal, match="run number"):
        scene.tec.start_run(7)
    scene.assert_stopped()


@pytest.mark.sec("TEC.EPOCH")
def test_an_import_beyond_the_last_epoch_is_fatal(scene_of):
    scene = scene_of(limits=Limits(epochs=2))
    with pytest.raises(Fatal, match="epoch limit"):
        scene.configure()
    scene.assert_stopped()


def test_the_limits_are_the_specifications():
    assert Limits() == Limits(epochs=2**48 - 1, blocks=2**40)


@pytest.mark.sec("TEC.BLOCK_LIMIT")
def test_a_key_encrypts_its_last_allowed_block_and_no_more(scene_of):
    blocks = scene_of.LENGTH // 16
    # Under K_mem: four imports and one scratch tensor.
    enough = scene_of(limits=Limits(blocks=5 * blocks)).ready()
    enough.run(1)
    scene = scene_of(limits=Limits(blocks=5 * blocks - 1)).ready()
    with pytest.raises(Fatal, match="block limit"):
        scene.run(1)
    scene.assert_stopped()
    # Only what is encrypted counts, per key: the session key seals one output a run.
    enough.offer(2)
    with pytest.raises(Fatal, match="block limit"):
        enough.run(2)
    enough.assert_stopped()


@pytest.mark.sec("TEC.ZEROIZE")
@pytest.mark.parametrize("lazy", [False, True])
def test_zeroize_leaves_no_key_and_no_plaintext(scene_of, held_by, lazy):
    scene = scene_of(lazy=lazy).ready()
    tec = scene.tec
    tec.start_run(1)
    plaintext = scene.load("weights")
    alive = held_by(tec)
    assert any(scene.k_mem in held for held in alive), "the search finds what is there"
    if lazy:
        assert any(plaintext[:64] in held for held in alive)
    tec.zeroize()
    left = held_by(tec)
    assert not any(key in held for key in scene.keys.values() for held in left)
    assert not any(plaintext[:64] in held for held in left)
    tec.zeroize()
    scene.assert_stopped()


@pytest.mark.sec("TEC.ZEROIZE")
def test_keys_are_in_no_repr_and_cannot_be_copied(scene_of):
    scene = scene_of().ready()
    text = "".join(repr(part) for part in (scene.tec, *vars(scene.tec).values()))
    for key in scene.keys.values():
        assert repr(bytes(key))[2:-1] not in text
        assert key.hex() not in text
    assert "loaded=[0, 1, 2]" in text
    for copier in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            copier(scene.tec)


@pytest.mark.sec("TEC.STICKY_FATAL")
def test_after_a_fault_every_method_is_dead(scene_of):
    scene = scene_of().ready()
    scene.tec.start_run(1)
    with pytest.raises(Fatal, match="range"):
        scene.load("weights", 0, 1000)
    scene.assert_stopped()


def test_transfers_outside_a_run_are_fatal(scene_of):
    for action in (
        lambda scene: scene.load("weights"),
        lambda scene: scene.store("scratch", bytes(64)),
        lambda scene: scene.tec.finish_run(),
    ):
        scene = scene_of().ready()
        with pytest.raises(Fatal, match="no run"):
            action(scene)
        scene.assert_stopped()


def test_a_tec_has_one_session(scene_of):
    scene = scene_of()
    assert scene.tec.load_row(0, scene["program"].word) is Refusal.WRONG_STATE
    assert scene.tec.declare_slot(1, SlotUse.STATIC) is Refusal.WRONG_STATE
    with pytest.raises(TecError, match="16 bytes, not 15"):
        scene.tec.begin(bytes(15))
    scene.tec.begin(scene.k_mem)
    with pytest.raises(TecError, match="new one"):
        scene.tec.begin(bytes(16))


def test_a_bus_error_is_fatal(scene_of):
    """The DRAM behind the window is smaller than the window says."""
    scene = scene_of(dram=Dram(0, 0x1000))
    scene.tec.begin(scene.k_mem)
    program = scene["program"]
    assert scene.tec.load_row(program.handle, program.word) is Refusal.NONE
    with pytest.raises(Fatal, match="bus error"):
        scene.tec.import_plain(program.handle, program.source)
    with pytest.raises(Fatal, match="dead"):
        scene.tec.rows()


def test_a_caller_is_told_what_it_did_wrong(scene_of):
    scene = scene_of()
    with pytest.raises(TecError, match="handle 3"):
        scene.tec.length(3)
    scene.ready()
    assert scene.tec.length(3) == scene.LENGTH
    scene.tec.start_run(1)
    transfer = Transfer(Memory.OUT, scene.address("scratch"), 2, 2, 2)
    with pytest.raises(TecError, match="64 bytes, not 48"):
        scene.tec.write(transfer, np.zeros(48, np.uint8), 0)
