"""Offers items to a stream in Amaranth's simulator, with pauses before each."""

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["offers"]


def offers(stream: Any, values: Iterable[Any], pauses: Callable[[], bool]) -> Any:
    """Return a process that offers ``values`` one after the other, each until it is taken.

    Before each it waits for as many cycles as ``pauses`` is true.
    """

    async def process(ctx: Any) -> None:
        for value in values:
            while pauses():
                await ctx.tick()
            ctx.set(stream.payload, value)
            ctx.set(stream.valid, 1)
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(stream.ready)
            ctx.set(stream.valid, 0)

    return process
