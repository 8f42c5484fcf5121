"""The intruder's deduction, against cases by hand and against a naive closure."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from protocol_model.terms import (
    Knowledge,
    Op,
    Term,
    aead,
    const,
    hashed,
    hpke,
    kdf,
    name,
    pack,
    public,
    signed,
)

A, B, C = name("a"), name("b"), name("c")
AT = const("nonce")


def knows(*messages: Term) -> Knowledge:
    return Knowledge().learn(messages)


def test_equal_terms_are_one_object():
    assert aead(A, AT, pack(B, C)) is aead(A, AT, pack(B, C))


def test_a_fresh_name_is_known_only_once_it_was_sent():
    assert not knows(B).derives(A)
    assert knows(A).derives(A)


def test_a_hash_gives_away_nothing_and_can_be_computed():
    assert not knows(hashed(A, B)).derives(A)
    assert knows(A, B).derives(hashed(A, B))
    assert not knows(A).derives(hashed(A, B))


def test_a_ciphertext_opens_once_its_derived_key_can_be_computed():
    sealed = aead(kdf(A, hashed(public(B)), const("slot")), AT, C)
    assert not knows(sealed, public(B)).derives(C)
    assert knows(sealed, public(B), A).derives(C)
    # The key arrives after the ciphertext, and inside another one.
    assert knows(sealed, public(B), hpke(public(B), AT, A)).learn([B]).derives(C)


def test_hpke_opens_with_the_private_key_only_and_anybody_can_seal_it():
    message = hpke(public(A), AT, B)
    assert not knows(message, public(A)).derives(B)
    assert knows(message, A).derives(B)
    assert knows(public(A), B).derives(message)


def test_a_signature_shows_its_message_and_nobody_else_makes_it():
    quote = signed(A, pack(B, AT))
    assert knows(quote).derives(B)
    assert not knows(public(A), B).derives(quote)
    assert not knows(quote).derives(A)


def test_sealing_a_public_constant_ends():
    assert knows(aead(A, AT, AT), A).derives(aead(A, AT, AT))


def grow(terms: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    return st.one_of(
        st.builds(pack, terms, terms),
        st.builds(hashed, terms),
        st.builds(public, terms),
        st.builds(signed, terms, terms),
        st.builds(kdf, terms, st.just(AT), st.just(AT)),
        st.builds(aead, terms, st.just(AT), terms),
        st.builds(lambda key, plain: hpke(public(key), AT, plain), terms, terms),
    )


TERMS = st.recursive(st.sampled_from([A, B, C, AT]), grow, max_leaves=6)


def subterms(term: Term) -> set[Term]:
    return {term}.union(*map(subterms, term.terms))


def closure(messages: list[Term], goal: Term) -> set[Term]:
    """Everything derivable among the subterms in sight, by applying each rule until none adds."""
    universe = set().union(*map(subterms, [*messages, goal]))
    known = set(messages) | {term for term in universe if term.op is Op.CONST}
    while True:
        new = {t for t in universe if t.terms and set(t.terms) <= known}
        for term in known:
            if term.op is Op.PACK:
                new |= set(term.terms)
            elif term.op is Op.SIGNED:
                new.add(term.terms[1])
            elif (term.op is Op.AEAD and term.terms[0] in known) or (
                term.op is Op.HPKE and term.terms[0].terms[0] in known
            ):
                new.add(term.terms[2])
        if new <= known:
            return known
        known |= new


@settings(max_examples=200, deadline=None)
@given(st.lists(TERMS, max_size=5), TERMS)
def test_deduction_agrees_with_the_naive_closure(messages: list[Term], goal: Term):
    assert knows(*messages).derives(goal) == (goal in closure(messages, goal))


@settings(max_examples=100, deadline=None)
@given(st.lists(TERMS, max_size=5))
@example(
    [
        aead(name("a"), name("nonce"), hashed(name("c"))),
        name("a"),
        aead(name("a"), name("nonce"), name("c")),
    ]
)
def test_the_order_of_messages_does_not_matter(messages: list[Term]):
    one_by_one = Knowledge()
    for message in reversed(messages):
        one_by_one = one_by_one.learn([message])
    assert one_by_one == knows(*messages)
