"""Whose turn it is: one queue per client, served round robin."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from ginseng.secureos.errors import QueueFullError

__all__ = ["FairQueue"]

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue in which no client waits for more than one item of every other client.

    Parameters
    ----------
    per_client : int
        Items that one client may have waiting.

    """

    def __init__(self, per_client: int) -> None:
        self._limit = per_client
        #: Clients with waiting items, the next to be served first.
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(items) for items in self._waiting.values())

    def __iter__(self) -> Iterator[T]:
        """Items in the order in which they would be served."""
        queues = [list(items) for items in self._waiting.values()]
        for turn in range(max(map(len, queues), default=0)):
            yield from (items[turn] for items in queues if turn < len(items))

    def push(self, client: str, item: T) -> None:
        """Add an item behind the client's others.

        Raises
        ------
        QueueFullError
            If the client has as many waiting as it may.

        """
        items = self._waiting.setdefault(client, deque())
        if len(items) >= self._limit:
            raise QueueFullError(
                f"Client {client} has {len(items)} sessions waiting, which is the limit; "
                "wait for one of them or end it"
            )
        items.append(item)

    def pop(self) -> T | None:
        """Take the next item; its client goes to the end of the round."""
        if not self._waiting:
            return None
        client, items = self._waiting.popitem(last=False)
        item = items.popleft()
        if items:
            self._waiting[client] = items
        return item

    def remove(self, client: str, item: T) -> bool:
        """Take out one item; return whether it was there."""
        items = self._waiting.get(client, deque())
        if item not in items:
            return False
        items.remove(item)
        if not items:
            del self._waiting[client]
        return True
