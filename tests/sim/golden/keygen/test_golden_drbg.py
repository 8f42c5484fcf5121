"""HMAC_DRBG and private keys against HACL*, RFC 6979 and hand-made generators."""

import hashlib
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.golden.keygen import HmacDrbg, KeygenError, private_key
from ginseng.golden.keygen.drbg import REQUEST_LIMIT
from ginseng.golden.keygen.scalar import ORDER
from ginseng.golden.port import Fatal

#: RFC 6979 section A.2.5: P-256, SHA-256; x, then k by message. There k is the first output of an
#: HMAC_DRBG with entropy x and nonce H(m) (section 3.3).
X = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
K = {
    b"sample": 0xA6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60,
    b"test": 0xD16B6AE827F17175E040871A1C7EC3500192C4C92677336EC2537ACAEE0008E0,
}

seeds = st.binary(min_size=32, max_size=80)
texts = st.binary(max_size=80)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("generate"), st.integers(1, 200)),
        st.tuples(st.just("reseed"), seeds),
    ),
    max_size=6,
)


class Scripted(HmacDrbg):
    """Gives chosen outputs."""

    def __init__(self, *outputs):
        super().__init__(bytes(32))
        self.outputs = list(outputs)

    def generate(self, nbytes, additional=b""):
        return self.outputs.pop(0).to_bytes(nbytes, "big")


@settings(max_examples=150, deadline=None)
@given(seeds, texts, texts, steps)
def test_the_generator_is_that_of_hacl(drbg_oracle, entropy, nonce, personalization, script):
    ours = HmacDrbg(entropy, nonce, personalization)
    theirs = drbg_oracle(entropy, nonce, personalization)
    for action, value in [*script, ("generate", 32)]:
        if action == "generate":
            assert ours.generate(value) == theirs.generate(value)
        else:
            ours.reseed(value)
            theirs.reseed(value)


@settings(max_examples=50, deadline=None)
@given(seeds, texts, st.binary(min_size=1, max_size=64), st.integers(1, 100))
def test_additional_input_of_a_request_is_that_of_hacl(drbg_oracle, entropy, nonce, extra, nbytes):
    ours, theirs = HmacDrbg(entropy, nonce), drbg_oracle(entropy, nonce, b"")
    assert ours.generate(nbytes, extra) == theirs.generate(nbytes, extra)
    assert ours.generate(nbytes) == theirs.generate(nbytes)


@pytest.mark.parametrize("message", sorted(K))
def test_the_generator_gives_the_nonces_of_rfc_6979(message):
    drbg = HmacDrbg(X.to_bytes(32, "big"), hashlib.sha256(message).digest())
    assert int.from_bytes(drbg.generate(32), "big") == K[message]


def test_a_short_seed_and_a_long_request_are_refused():
    with pytest.raises(KeygenError, match="at least 32 bytes, not 31"):
        HmacDrbg(bytes(31))
    drbg = HmacDrbg(bytes(32))
    with pytest.raises(KeygenError):
        drbg.reseed(bytes(31))
    with pytest.raises(KeygenError):
        drbg.generate(REQUEST_LIMIT + 1)
    assert len(drbg.generate(REQUEST_LIMIT)) == REQUEST_LIMIT


def test_a_zeroized_generator_is_dead_and_no_generator_is_pickled():
    drbg = HmacDrbg(bytes(32))
    with pytest.raises(TypeError):
        pickle.dumps(drbg)
    drbg.zeroize()
    with pytest.raises(Fatal):
        drbg.generate(1)
    with pytest.raises(Fatal):
        drbg.reseed(bytes(32))


@pytest.mark.sec("KEYGEN.REJECTION_SAMPLING")
@pytest.mark.parametrize("bad", [0, ORDER, ORDER + 1, (1 << 256) - 1])
def test_a_scalar_out_of_range_is_drawn_again_and_never_reduced(bad):
    drbg = Scripted(bad, bad, 5)
    assert private_key(drbg).private_numbers().private_value == 5
    assert not drbg.outputs


@pytest.mark.parametrize("scalar", [1, ORDER - 1])
def test_the_ends_of_the_range_are_private_keys(scalar):
    assert private_key(Scripted(scalar)).private_numbers().private_value == scalar


def test_the_order_is_that_of_the_curve():
    # n - 1 times the base point is its negative: the library agrees on what n is.
    one, last = private_key(Scripted(1)), private_key(Scripted(ORDER - 1))
    here, there = (key.public_key().public_numbers() for key in (one, last))
    assert here.x == there.x
    assert here.y != there.y
