"""What a compiled enclave program consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import EncodingError
from ginseng.isa.formats import chunk_count, sealed_bytes
from ginseng.isa.table import (
    GRANULE,
    KEY_SLOTS,
    MAX_CHUNK,
    TENSOR_ROW,
    Domain,
    Permission,
    SlotUse,
    Source,
)
from ginseng.program.errors import ProgramError
from ginseng.program.fields import require_types
from ginseng.program.port import PortSpec

__all__ = ["LayerSpec", "Program", "SealedTensor", "SlotSpec", "TensorSpec"]

#: What a slot of each use may serve.
_SLOT_DOMAINS = {
    SlotUse.STATIC: (Domain.WEIGHTS,),
    SlotUse.SESSION: (Domain.IMPORT, Domain.EXPORT),
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One row of the tensor table, but for its place in DRAM.

    Attributes
    ----------
    name : str
        Unique in its program.
    handle : int
        Index of the row.
    domain, permissions, slot, measured, source, version
        As in `ginseng.isa.table.TensorRow`.
    chunk, length : int
        Bytes.

    """

    name: str
    handle: int
    domain: Domain
    permissions: Permission
    length: int
    chunk: int
    slot: int = 0
    measured: bool = False
    source: Source = Source.SEALED
    version: int = 0

    def __post_init__(self) -> None:
        require_types(self, f"Tensor {self.name!r}")
        for what, value in (("length", self.length), ("chunk", self.chunk)):
            if value <= 0 or value % GRANULE:
                raise ProgramError(
                    f"Tensor {self.name}: its {what} is a positive multiple of {GRANULE} bytes, "
                    f"not {value}"
                )
        if self.chunk > MAX_CHUNK:
            raise ProgramError(
                f"Tensor {self.name}: its chunk is at most {MAX_CHUNK} bytes, not {self.chunk}"
            )
        try:
            self.row()
        except EncodingError as error:
            raise ProgramError(f"Tensor {self.name}: {error}") from None

    @property
    def chunks(self) -> int:
        """Chunks of the tensor."""
        return chunk_count(self.length, self.chunk)

    @property
    def sealed_bytes(self) -> int:
        """Bytes that it takes in DRAM, its tags included."""
        return sealed_bytes(self.length, self.chunk)

    @property
    def is_imported(self) -> bool:
        """Whether IMPORT re-seals it under the session's memory key: measured, or a program."""
        return self.domain is Domain.PROGRAM or (self.domain is Domain.WEIGHTS and self.measured)

    def row(self, *, base: int = 0) -> bytes:
        """Return the row as the mailbox takes it; at place zero, as PCR2 hashes it."""
        return TENSOR_ROW.pack(
            domain=int(self.domain),
            permissions=int(self.permissions),
            slot=self.slot,
            measured=int(self.measured),
            source=int(self.source),
            chunk=self.chunk,
            base=base,
            length=self.length,
            version=self.version,
        )


@dataclass(frozen=True, kw_only=True)
class SlotSpec:
    """A key slot: what for, and which owner commits to its secret (``model`` or ``data``, say)."""

    slot: int
    use: SlotUse
    owner: str

    def __post_init__(self) -> None:
        require_types(self, f"Slot {self.slot!r}")
        if not 1 <= self.slot < KEY_SLOTS:
            raise ProgramError(f"An owner's slot is 1 to {KEY_SLOTS - 1}, not {self.slot}")
        if self.use not in _SLOT_DOMAINS:
            raise ProgramError(f"Slot {self.slot} is either static or session, not {self.use!r}")
        if not self.owner:
            raise ProgramError(f"Slot {self.slot} has no owner; name one")


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """What the compiler expects of one layer; integers only, a manifest holds no floats.

    ``cycles_plain`` is the layer compiled for a core without TEC, ``bytes_plain`` its traffic.
    """

    name: str
    kind: str
    macs: int
    cycles_plain: int
    cycles_protected: int
    bytes_plain: int
    bytes_protected: int
    instructions: int

    def __post_init__(self) -> None:
        require_types(self, f"Layer {self.name!r}")


@dataclass(frozen=True)
class SealedTensor:
    """A tensor as it stands in DRAM: chunks of ciphertext, each followed by its tag (§4)."""

    data: bytes


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled enclave program.

    Attributes
    ----------
    name : str
    config : SystemConfig
        The build it was compiled for.
    tensors : tuple of TensorSpec
        Ascending handles.
    slots : tuple of SlotSpec
        Ascending.
    entry : str
        Name of the X row.
    inputs, outputs : tuple of PortSpec
    contents : mapping of str to bytes or SealedTensor
        By tensor name: what the model's owner puts into DRAM. Domain 3 is plain bytes; weights
        are plain bytes until `seal_program` has sealed them.
    model_sha256 : str
        Hash of the source model, hexadecimal.
    layers : tuple of LayerSpec

    """

    name: str
    config: SystemConfig
    tensors: tuple[TensorSpec, ...]
    slots: tuple[SlotSpec, ...]
    entry: str
    inputs: tuple[PortSpec, ...]
    outputs: tuple[PortSpec, ...]
    contents: Mapping[str, bytes | SealedTensor] = field(repr=False)
    model_sha256: str
    layers: tuple[LayerSpec, ...] = ()

    def __post_init__(self) -> None:
        require_types(self, "Program")
        if self.config.tec is None:
            raise ProgramError("A .ginseng program needs a build with a TEC, this one has none")
        handles = [t.handle for t in self.tensors]
        if handles != sorted(set(handles)):
            raise ProgramError("Tensors stand in ascending order of their handles, each used once")
        if handles and handles[0] < 0:
            raise ProgramError(f"A handle is at least 0, not {handles[0]}")
        if len(self.model_sha256) != 64 or not set(self.model_sha256) <= set("0123456789abcdef"):
            raise ProgramError(
                f"The hash of the source model is 64 hexadecimal digits, not {self.model_sha256!r}"
            )
        names = {t.name for t in self.tensors}
        if len(names) != len(self.tensors):
            raise ProgramError("Two tensors have the same name")
        if handles and handles[-1] >= self.config.tec.table_entries:
            raise ProgramError(
                f"Handle {handles[-1]} is beyond the {self.config.tec.table_entries} rows of the "
                "tensor table; merge tensors or choose a build with more rows"
            )
        for name in (self.entry, *(p.tensor for p in (*self.inputs, *self.outputs))):
            if name not in names:
                raise ProgramError(f"Tensor {name} is used but not in the table")
        if stray := set(self.contents) - names:
            raise ProgramError(f"Contents of {sorted(stray)} are given, but no such tensor")
        for port, domain in (
            *((port, Domain.IMPORT) for port in self.inputs),
            *((port, Domain.EXPORT) for port in self.outputs),
        ):
            self._check_port(port, domain)
        slots = [s.slot for s in self.slots]
        if slots != sorted(set(slots)):
            raise ProgramError("Slots stand in ascending order, each once")
        uses = {s.slot: s.use for s in self.slots}
        for tensor in self.tensors:
            held = tensor.domain in (Domain.WEIGHTS, Domain.PROGRAM)
            if held != (tensor.name in self.contents):
                raise ProgramError(
                    f"Tensor {tensor.name}: contents are given for weights and programs only, and "
                    "for each of them"
                )
            content = self.contents.get(tensor.name)
            sealed = isinstance(content, SealedTensor)
            size = len(content.data if isinstance(content, SealedTensor) else content or b"")
            wanted = tensor.sealed_bytes if sealed else tensor.length
            if held and size != wanted:
                raise ProgramError(f"Tensor {tensor.name} has {wanted} bytes, its contents {size}")
            if sealed and tensor.source is not Source.SEALED:
                raise ProgramError(f"Tensor {tensor.name} is plain by its row, its contents sealed")
            if tensor.slot and tensor.slot not in uses:
                raise ProgramError(f"Tensor {tensor.name} names slot {tensor.slot}, nobody's")
            if tensor.slot and tensor.domain not in _SLOT_DOMAINS[uses[tensor.slot]]:
                raise ProgramError(
                    f"Tensor {tensor.name} is of domain {tensor.domain.name}, which slot "
                    f"{tensor.slot} cannot serve: it is {uses[tensor.slot].name}"
                )

    def _check_port(self, port: PortSpec, domain: Domain) -> None:
        tensor = self.by_name[port.tensor]
        core = self.config.core
        nbytes = port.nbytes(batch=core.batch, block=core.block)
        if tensor.domain is not domain or tensor.length != nbytes:
            raise ProgramError(
                f"Port {port.name} of shape {port.shape} needs a tensor of domain {domain.name} "
                f"and {nbytes} bytes; {tensor.name} is of domain {tensor.domain.name} and "
                f"{tensor.length} bytes"
            )

    @cached_property
    def by_name(self) -> Mapping[str, TensorSpec]:
        """Tensors by name."""
        return {t.name: t for t in self.tensors}

    @property
    def is_sealed(self) -> bool:
        """Whether every tensor that travels sealed is sealed, so that the file may be shown."""
        return all(
            isinstance(self.contents[t.name], SealedTensor)
            for t in self.tensors
            if t.domain is Domain.WEIGHTS and t.source is Source.SEALED
        )

    def with_contents(self, contents: Mapping[str, bytes | SealedTensor]) -> "Program":
        """Return the same program with other contents."""
        return replace(self, contents=contents)
