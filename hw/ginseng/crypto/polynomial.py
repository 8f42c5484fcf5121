"""Products of polynomials over GF(2) in pieces between which registers fit, and the field of GCM.

Bit ``n`` is the coefficient of ``x**n``. The standard's order of bits (NIST SP 800-38D, §6.3)
reverses those of each byte, which `reflected` does.
"""

from typing import Any, Final

from amaranth import Cat, Const, Module, Signal

__all__ = ["BLOCK", "folded", "gathered", "kept", "products", "reflected", "split"]

#: Bits of an element of the field.
BLOCK: Final = 128
#: x^128 = x^7 + x^2 + x + 1.
_FOLD: Final = (0, 1, 2, 7)
#: Factors of so many bits are multiplied term by term, longer ones are split (Karatsuba).
LEAF: Final = 16
#: A sum of three products of bits fills a lookup table.
_TERMS: Final = 3


def kept(m: Module, name: str, value: Any) -> Any:
    """Name ``value`` so that synthesis builds it as it stands.

    Left to itself, Yosys takes sums of products apart until they need half as many tables again.
    """
    signal = Signal(len(value), name=name, attrs={"keep": 1})
    m.d.comb += signal.eq(value)
    return signal


def split(m: Module, name: str, word: Any) -> list[Any]:
    """Return the factors of `LEAF` bits that stand for ``word``: parts, and sums of parts."""
    if len(word) <= LEAF:
        return [word]
    half = len(word) // 2
    total = kept(m, f"{name}_m", word[:half] ^ word[half:])
    parts = (("l", word[:half]), ("h", word[half:]), ("m", total))
    return [factor for side, part in parts for factor in split(m, f"{name}_{side}", part)]


def products(m: Module, name: str, a: list[Any], b: list[Any], *, small: bool = True) -> list[Any]:
    """Return the product of each factor of `split` with its counterpart.

    If they need not be ``small`` they are sums of shifted words, which simulate faster.
    """
    product = _product if small else _shifted
    return [product(m, f"{name}_{n}", *pair) for n, pair in enumerate(zip(a, b, strict=True))]


def _shifted(m: Module, name: str, a: Any, b: Any) -> Any:
    """Return the product of two short polynomials, a row for each bit of the first."""
    result = Signal(2 * len(a) - 1, name=name)
    m.d.comb += result.eq(_sum([(b << n) & bit.replicate(len(result)) for n, bit in enumerate(a)]))
    return result


def _product(m: Module, name: str, a: Any, b: Any) -> Any:
    """Return the product of two short polynomials, term by term."""
    size = len(a)
    sums: list[Any] = []
    for place in range(2 * size - 1):
        terms = [a[n] & b[place - n] for n in range(size) if 0 <= place - n < size]
        groups: list[Any] = []
        while len(terms) > _TERMS:
            group, terms = terms[:_TERMS], terms[_TERMS:]
            groups.append(kept(m, f"{name}_{place}_{len(groups)}", _sum(group)))
        sums.append(_sum(groups + terms))
    result = Signal(2 * size - 1, name=name)
    m.d.comb += result.eq(Cat(sums))
    return result


def gathered(m: Module, name: str, parts: list[Any]) -> Any:
    """Return the product of two words from those of their factors, as `products` gives them."""
    if len(parts) == 1:
        return parts[0]
    third = len(parts) // 3
    low, high, middle = (
        gathered(m, f"{name}_{side}", parts[n * third : (n + 1) * third])
        for n, side in enumerate("lhm")
    )
    half = (len(low) + 1) // 2
    result = Signal(4 * half - 1, name=name)
    m.d.comb += result.eq(low ^ ((middle ^ low ^ high) << half) ^ (high << 2 * half))
    return result


def folded(top: Any) -> Any:
    """Return ``top * x**128``, of lower degree, but not yet below 128 if ``top`` is long."""
    return _sum([top << place for place in _FOLD])


def reflected(m: Module, name: str, block: Any) -> Any:
    """Return ``block`` with the bits of each byte reversed, by swaps of whole words."""
    word: Any = block
    for distance, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
        lower = int.from_bytes(bytes([mask]) * (BLOCK // 8), "little")
        swapped = Signal(BLOCK, name=f"{name}_by_{distance}")
        m.d.comb += swapped.eq(((word >> distance) & lower) | ((word & lower) << distance))
        word = swapped
    return word


def _sum(terms: list[Any]) -> Any:
    """Return the sum of terms, 0 if there are none."""
    total: Any = None
    for term in terms:
        total = term if total is None else total ^ term
    return Const(0, 1) if total is None else total
