"""The eight key slots: what each is for, and how much was encrypted under it."""

from collections.abc import Mapping
from typing import NoReturn

from ginseng.golden.port import Fatal
from ginseng.golden.tec.errors import TecError
from ginseng.golden.tec.lane import Opener, Sealer
from ginseng.isa.mailbox import Refusal
from ginseng.isa.table import GRANULE, K_MEM, KEY_SLOTS, Limits, SlotUse

__all__ = ["KeySlots"]


class KeySlots:
    """Write-only keys.

    Parameters
    ----------
    key_bytes : int
        Length of every key.
    limits : Limits

    """

    def __init__(self, key_bytes: int, limits: Limits) -> None:
        self._key_bytes = key_bytes
        self._limits = limits
        self._uses: dict[int, SlotUse] = {}
        self._keys: dict[int, bytearray] = {}
        self._blocks: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"KeySlots(loaded={sorted(self._keys)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("KeySlots holds keys and is never pickled or copied")

    @property
    def uses(self) -> Mapping[int, SlotUse]:
        """Declared slots and what each is for; without slot 0."""
        return self._uses

    def declare(self, slot: int, use: SlotUse) -> Refusal:
        """Say what slots 1 to 7 are for: exactly one use, exactly once."""
        if not 0 <= slot < KEY_SLOTS:
            return Refusal.ILLEGAL_ARGUMENT
        # SEC: TEC.KEY_SLOT_USE -- a secret is a static key or the seed of session keys, never both.
        if slot == K_MEM or int(use) not in (SlotUse.STATIC.value, SlotUse.SESSION.value):
            return Refusal.SLOT_USE
        if slot in self._uses:
            return Refusal.SLOT_TAKEN
        self._uses[slot] = SlotUse(use)
        return Refusal.NONE

    def begin(self, k_mem: bytes) -> None:
        """Empty every slot and put ``k_mem`` into slot 0."""
        self._require_length(k_mem)
        self.zeroize()
        self._keys[K_MEM] = bytearray(k_mem)

    def load(self, slot: int, key: bytes) -> Refusal:
        """Fill a declared slot, once; KEY_SLOT otherwise.

        Raises
        ------
        TecError
            If ``key`` has another length than the build's.

        """
        if slot not in self._uses or slot in self._keys:
            return Refusal.KEY_SLOT
        self._require_length(key)
        self._keys[slot] = bytearray(key)
        return Refusal.NONE

    def loaded(self, slot: int) -> bool:
        """Whether ``slot`` has a key."""
        return slot in self._keys

    def sealer(self, slot: int, nonce: bytes, nbytes: int) -> Sealer:
        """Start the encryption of a chunk of ``nbytes`` bytes.

        Raises
        ------
        Fatal
            If the slot has no key, is not one to encrypt with, or has encrypted all it may.

        """
        # SEC: TEC.KEY_SLOT_USE -- a key that outlives the session never meets its counters.
        if slot != K_MEM and self._uses.get(slot) is not SlotUse.SESSION:
            raise Fatal("slot use")
        if slot not in self._keys:
            raise Fatal("unloaded slot")
        # SEC: TEC.BLOCK_LIMIT -- counted before the first pad, for the whole chunk.
        blocks = self._blocks.get(slot, 0) + -(-nbytes // GRANULE)
        if blocks > self._limits.blocks:
            raise Fatal("block limit")
        self._blocks[slot] = blocks
        return Sealer(self._keys[slot], nonce)

    def opener(self, slot: int, nonce: bytes, ciphertext: bytes, tag: bytes) -> Opener:
        """Decrypt one chunk.

        Raises
        ------
        Fatal
            If the slot has no key.

        """
        if slot not in self._keys:
            # SEC: TEC.UNLOADED_SLOT -- an empty slot is no key of zeros.
            raise Fatal("unloaded slot")
        return Opener(self._keys[slot], nonce, ciphertext, tag)

    def zeroize(self) -> None:
        """Overwrite and forget every key, every use and every count."""
        # SEC: TEC.ZEROIZE
        for key in self._keys.values():
            key[:] = bytes(len(key))
        self._keys.clear()
        self._uses.clear()
        self._blocks.clear()

    def _require_length(self, key: bytes) -> None:
        if len(key) != self._key_bytes:
            raise TecError(
                f"A tensor key of this build has {self._key_bytes} bytes, not {len(key)}; "
                "derive it at TecConfig.key_bytes"
            )
