"""Which part of a board's DRAM window is free: first fit, whole pages."""

from typing import Final

from ginseng.driver.errors import BoardError

__all__ = ["PAGE_BYTES", "Allocator"]

#: Alignment and granularity of every allocation, in bytes.
PAGE_BYTES: Final = 4096


class Allocator:
    """Hands out page-aligned address ranges that never overlap.

    Parameters
    ----------
    base : int
        First address of the window, a multiple of `PAGE_BYTES`. Address 0 is never handed out:
        to many programs it means "no buffer".
    nbytes : int
        Size of the window.

    """

    def __init__(self, base: int, nbytes: int) -> None:
        skip = 0 if base else PAGE_BYTES
        #: Free ranges (address, bytes), ascending, never adjacent.
        self._free: list[tuple[int, int]] = [(base + skip, nbytes - skip)] if nbytes > skip else []
        self._taken: dict[int, int] = {}

    @property
    def free_bytes(self) -> int:
        """Bytes that are not handed out, in all ranges together."""
        return sum(size for _, size in self._free)

    @property
    def largest_bytes(self) -> int:
        """The most that one `take` can get."""
        return max((size for _, size in self._free), default=0)

    def take(self, nbytes: int) -> int:
        """Return the address of ``nbytes`` fresh bytes.

        Raises
        ------
        BoardError
            If ``nbytes`` is not positive, or no free range is long enough.

        """
        if nbytes <= 0:
            raise BoardError(f"A buffer has at least 1 byte, not {nbytes}")
        need = -(-nbytes // PAGE_BYTES) * PAGE_BYTES
        for at, (address, size) in enumerate(self._free):
            if size >= need:
                rest = (address + need, size - need)
                self._free[at : at + 1] = [rest] if rest[1] else []
                self._taken[address] = need
                return address
        raise BoardError(
            f"A buffer of {nbytes} bytes does not fit: {self.free_bytes} bytes are free, "
            f"{self.largest_bytes} in one piece; free buffers or choose a larger window"
        )

    def give(self, address: int) -> None:
        """Take back what `take` returned.

        Raises
        ------
        BoardError
            If ``address`` is not, or no longer, handed out.

        """
        size = self._taken.pop(address, None)
        if size is None:
            raise BoardError(f"No buffer at {address:#x} is in use; was it freed before?")
        merged: list[tuple[int, int]] = []
        for start, length in sorted([*self._free, (address, size)]):
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self._free = merged
