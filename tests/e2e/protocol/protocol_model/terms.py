"""Messages as terms over perfect cryptography, and what an intruder can deduce from them.

Terms are interned: two equal terms are one object, so comparing and hashing are cheap and a state
of the search can hold thousands of them.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import reduce
from typing import Any, ClassVar, Self

__all__ = [
    "Knowledge",
    "Op",
    "Term",
    "aead",
    "apply",
    "chain",
    "const",
    "hashed",
    "hpke",
    "kdf",
    "name",
    "pack",
    "public",
    "signed",
]


class Op(StrEnum):
    """Constructors. An intruder who has all arguments can apply any but NAME."""

    #: A fresh value, known to whoever made it.
    NAME = "name"
    #: A value that everybody knows; its one argument is not a term.
    CONST = "const"
    #: Concatenation; anybody can take it apart.
    PACK = "pack"
    #: SHA-256. Nobody inverts it or finds collisions.
    HASH = "hash"
    #: The public key of a private one.
    PUBLIC = "public"
    #: ECDSA together with what it signs: (private key, message).
    SIGNED = "signed"
    #: HPKE base mode: (recipient's public key, info, plaintext). Anybody can seal.
    HPKE = "hpke"
    #: HKDF: (input key material, salt, info).
    KDF = "kdf"
    #: AES-GCM: (key, nonce, plaintext). Reveals the nonce, nothing else; nobody forges it.
    AEAD = "aead"
    #: What a program computes: (program, argument, ...). Gives no argument away.
    APPLY = "apply"


class Term:
    """One message: a constructor and its arguments.

    Make terms with the functions of this module. The serial number gives terms an order, so that
    every search goes the same way and finds the same trace.
    """

    __slots__ = ("_text", "args", "op", "serial", "terms")

    _interned: ClassVar[dict[tuple[object, ...], Any]] = {}

    op: Op
    args: tuple[object, ...]
    #: Arguments that are terms themselves.
    terms: tuple["Term", ...]
    serial: int
    _text: str | None

    def __new__(cls, op: Op, *args: object) -> Self:
        key = (op, *args)
        term = cls._interned.get(key)
        if term is None:
            term = super().__new__(cls)
            term.op, term.args, term.serial = op, args, len(cls._interned)
            term.terms = tuple(arg for arg in args if isinstance(arg, Term))
            term._text = None
            cls._interned[key] = term
        return term

    def __lt__(self, other: "Term") -> bool:
        return self.serial < other.serial

    def __str__(self) -> str:
        if self._text is None:
            inside = ", ".join(map(str, self.args))
            if self.op in (Op.NAME, Op.CONST):
                self._text = inside
            else:
                self._text = f"({inside})" if self.op is Op.PACK else f"{self.op}({inside})"
        return self._text

    __repr__ = __str__


def name(label: str) -> Term:
    """Return the fresh value called ``label``."""
    return Term(Op.NAME, label)


def const(value: object) -> Term:
    """Return a value that everybody knows."""
    return Term(Op.CONST, value)


def pack(*parts: Term) -> Term:
    """Return the concatenation of ``parts``."""
    return Term(Op.PACK, *parts)


def hashed(*parts: Term) -> Term:
    """Return SHA-256 over ``parts``."""
    return Term(Op.HASH, *parts)


def chain(start: Term, *events: Term) -> Term:
    """Return a measurement register that stood at ``start`` and was extended with ``events``."""
    return reduce(lambda register, event: hashed(register, hashed(event)), events, start)


def public(private: Term) -> Term:
    """Return the public key of ``private``."""
    return Term(Op.PUBLIC, private)


def signed(private: Term, message: Term) -> Term:
    """Return ``message`` with a signature by ``private``."""
    return Term(Op.SIGNED, private, message)


def hpke(recipient: Term, info: Term, plaintext: Term) -> Term:
    """Return ``plaintext`` sealed to the public key ``recipient``."""
    return Term(Op.HPKE, recipient, info, plaintext)


def kdf(secret: Term, salt: Term, info: Term) -> Term:
    """Return the key derived from ``secret``."""
    return Term(Op.KDF, secret, salt, info)


def aead(key: Term, nonce: Term, plaintext: Term) -> Term:
    """Return ``plaintext`` sealed under ``key`` and ``nonce``."""
    return Term(Op.AEAD, key, nonce, plaintext)


def apply(program: Term, *arguments: Term) -> Term:
    """Return what ``program`` computes from ``arguments``."""
    return Term(Op.APPLY, program, *arguments)


class Knowledge:
    """What the intruder has, closed under taking apart whatever it has the keys for.

    *Guarantees*: `derives` decides the intruder's deduction exactly: a term follows from what was
    learnt by any sequence of constructors and destructors if and only if ``derives`` says so.
    Sound and complete because every destructor either needs no key or needs one that is built from
    analysed terms, and `learn` repeats until nothing more opens.
    """

    __slots__ = ("_hash", "_having", "_memo", "terms")

    def __init__(self, terms: frozenset[Term] = frozenset()) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._memo: dict[Term, bool] = {}
        self._having: dict[Op, list[Term]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Knowledge) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def having(self, op: Op) -> list[Term]:
        """Return the known terms that ``op`` made, oldest first."""
        if op not in self._having:
            self._having[op] = sorted(term for term in self.terms if term.op is op)
        return self._having[op]

    def derives(self, term: Term) -> bool:
        """Say whether the intruder can produce ``term``."""
        if term.op is Op.CONST or term in self.terms:
            return True
        if term.op is Op.NAME:
            return False
        known = self._memo.get(term)
        if known is None:
            known = self._memo[term] = all(map(self.derives, term.terms))
        return known

    def learn(self, messages: Iterable[Term]) -> "Knowledge":
        """Return the knowledge after ``messages`` were seen too."""
        todo = [message for message in messages if message not in self.terms]
        if not todo:
            return self
        terms = set(self.terms)
        closed = [term for term in self.terms if term.op in (Op.AEAD, Op.HPKE)]
        while todo:
            # Take apart what needs no key.
            while todo:
                term = todo.pop()
                if term.op is Op.CONST or term in terms:
                    continue
                terms.add(term)
                if term.op is Op.PACK:
                    todo.extend(term.terms)
                elif term.op is Op.SIGNED:
                    todo.append(term.terms[1])
                elif term.op is Op.AEAD or term.op is Op.HPKE:
                    closed.append(term)
            # Open what the new terms gave a key for; that may give more keys. What could be built
            # anyway is kept too, so that the order of learning leaves no trace in `terms`.
            now = Knowledge(frozenset(terms))
            inside = (c.terms[2] for c in closed if c.terms[2] not in terms and now._opens(c))
            todo = [term for term in inside if term.op is not Op.CONST]
        return Knowledge(frozenset(terms))

    def _opens(self, sealed: Term) -> bool:
        key = sealed.terms[0]
        if sealed.op is Op.AEAD:
            return self.derives(key)
        return key.op is Op.PUBLIC and self.derives(key.terms[0])
