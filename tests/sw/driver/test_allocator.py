import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ginseng.driver import BoardError
from ginseng.driver.allocator import PAGE_BYTES, Allocator

BASE, SIZE = 1 << 20, 64 * PAGE_BYTES


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(1, 20 * PAGE_BYTES)),
            st.tuples(st.just("give"), st.integers(0, 1 << 16)),
        ),
        max_size=60,
    )
)
def test_buffers_are_aligned_disjoint_and_inside_the_window(steps):
    allocator, held = Allocator(BASE, SIZE), {}
    for what, number in steps:
        if what == "take":
            largest = allocator.largest_bytes
            if number > largest:
                with pytest.raises(BoardError, match="does not fit"):
                    allocator.take(number)
                continue
            address = allocator.take(number)
            assert address % PAGE_BYTES == 0
            assert address >= BASE
            assert address + number <= BASE + SIZE
            assert all(
                address + number <= other or other + size <= address for other, size in held.items()
            )
            held[address] = number
        elif held:
            address = sorted(held)[number % len(held)]
            del held[address]
            allocator.give(address)
        pages = sum(-(-size // PAGE_BYTES) for size in held.values())
        assert allocator.free_bytes == SIZE - pages * PAGE_BYTES
    for address in held:
        allocator.give(address)
    assert allocator.largest_bytes == SIZE, "what was freed is one piece again"


def test_the_first_range_that_fits_is_taken():
    allocator = Allocator(BASE, SIZE)
    first, second, third = (allocator.take(2 * PAGE_BYTES) for _ in range(3))
    allocator.give(first)
    allocator.give(third)
    assert allocator.take(PAGE_BYTES) == first
    assert allocator.take(PAGE_BYTES + 1) == third
    assert second not in (first, third)


def test_what_is_left_is_named_when_nothing_fits():
    allocator = Allocator(BASE, 4 * PAGE_BYTES)
    taken = [allocator.take(1) for _ in range(4)]
    allocator.give(taken[0])
    allocator.give(taken[2])
    with pytest.raises(BoardError, match=f"{2 * PAGE_BYTES} bytes are free, {PAGE_BYTES} in one"):
        allocator.take(PAGE_BYTES + 1)


def test_address_zero_is_never_handed_out():
    allocator = Allocator(0, 4 * PAGE_BYTES)
    assert allocator.take(3 * PAGE_BYTES) == PAGE_BYTES
    assert allocator.free_bytes == 0


@pytest.mark.parametrize("nbytes", [0, -1])
def test_an_empty_buffer_is_refused(nbytes):
    with pytest.raises(BoardError, match="at least 1 byte"):
        Allocator(BASE, SIZE).take(nbytes)


def test_freeing_twice_is_refused():
    allocator = Allocator(BASE, SIZE)
    address = allocator.take(1)
    allocator.give(address)
    with pytest.raises(BoardError, match="freed before"):
        allocator.give(address)
