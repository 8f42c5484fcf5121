"""The lane in gates against a library: chunks of several contexts in bursts, in any order."""

import random

import pytest
from Crypto.Cipher import AES

from ginseng.bench.lane import Burst, Chunk, LaneModel
from ginseng.crypto.aes import AesConfig
from ginseng.crypto.job import LaneConfig

pytestmark = pytest.mark.rtl

FORMS = {
    "64": LaneConfig(),
    "64, AES-256": LaneConfig(aes=AesConfig.of_passes(2, key_bits=256)),
    "128": LaneConfig(data_bits=128, aes=AesConfig.of_passes(1)),
    "512, AES-256": LaneConfig(data_bits=512, aes=AesConfig.of_passes(1, key_bits=256)),
}


def sealed_or_opened(key, chunk):
    """Return text and tag of a chunk, from a library."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=chunk.nonce)
    if chunk.seals:
        return cipher.encrypt_and_digest(chunk.text)
    plain = cipher.decrypt(chunk.text)
    return plain, AES.new(key, AES.MODE_GCM, nonce=chunk.nonce).encrypt_and_digest(plain)[1]


def random_chunks(rng, config, count, slots, most):
    return [
        Chunk(
            seals=rng.random() < 0.5,
            slot=rng.choice(slots),
            context=rng.randrange(config.contexts),
            nonce=rng.randbytes(12),
            text=rng.randbytes(16 * rng.choice([1, 1, 2, 3, rng.randint(1, most)])),
            place=config.granule * rng.randrange(config.granules),
        )
        for _ in range(count)
    ]


def random_bursts(rng, chunks, longest):
    """Cut chunks into bursts: those of a context in order, contexts in any order."""
    waiting = {}
    for n, chunk in enumerate(chunks):
        at = 0
        while at < chunk.blocks:
            to = min(chunk.blocks, at + rng.choice([1, rng.randint(1, longest), longest]))
            waiting.setdefault(chunk.context, []).append(Burst(n, at, to))
            at = to
    while contexts := [context for context in waiting if waiting[context]]:
        yield waiting[rng.choice(contexts)].pop(0)


@pytest.mark.parametrize("idle", [0, 0.4])
@pytest.mark.parametrize("form", FORMS)
def test_chunks_of_several_contexts_come_out_as_from_a_library(form, idle):
    rng = random.Random(form)
    config = FORMS[form]
    keys = {slot: rng.randbytes(config.aes.key_bits // 8) for slot in (0, 2, 7)}
    chunks = random_chunks(rng, config, 300, list(keys), 40)
    lane = LaneModel(config, idle=idle)
    lane.load(keys)
    # A burst that starts inside a beat ends a beat later.
    longest = (config.burst_beats - 1) * config.data_bits // 128
    texts, tags = lane.run(chunks, random_bursts(rng, chunks, longest))
    for text, tag, chunk in zip(texts, tags, chunks, strict=True):
        assert (text, tag) == sealed_or_opened(keys[chunk.slot], chunk)
