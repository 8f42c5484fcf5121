"""What a compiled enclave program consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import ldexp, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import EncodingError
from ginseng.isa.formats import TAG_BYTES, chunk_count
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
from ginseng.program.owner_side import OwnerStep

__all__ = ["LayerSpec", "PortSpec", "Program", "SealedTensor", "SlotSpec", "TensorSpec"]

#: What a slot of each use may serve.
_SLOT_DOMAINS = {
    SlotUse.STATIC: (Domain.WEIGHTS,),
    SlotUse.SESSION: (Domain.IMPORT, Domain.EXPORT),
}
#: Largest shift of a port: beyond it every device integer means the same float32.
_MAX_SHIFT = 64
#: A mantissa has the 24 bits of a float32.
_MAX_MANTISSA = (1 << 24) - 1


def _require_types(part: Any, name: str) -> None:
    """Refuse a field of the wrong type: JSON would let ``1``, ``1.0`` and ``true`` pass as one."""
    for item in fields(part):
        value = getattr(part, item.name)
        expected = item.type
        if isinstance(expected, type) and type(value) is not expected:
            raise ProgramError(f"{name}: {item.name} is of type {expected.__name__}, not {value!r}")


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
        _require_types(self, f"Tensor {self.name!r}")
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
    def tag_bytes(self) -> int:
        """Bytes of its tags."""
        return TAG_BYTES * self.chunks

    @property
    def is_imported(self) -> bool:
        """Whether IMPORT re-seals it under the session's memory key: measured, or a program."""
        return self.domain is Domain.PROGRAM or (self.domain is Domain.WEIGHTS and self.measured)

    def row(self, *, base: int = 0, tag_base: int = 0) -> bytes:
        """Return the row as the mailbox takes it; with both places zero, as PCR2 hashes it."""
        return TENSOR_ROW.pack(
            domain=int(self.domain),
            permissions=int(self.permissions),
            slot=self.slot,
            measured=int(self.measured),
            source=int(self.source),
            chunk=self.chunk,
            base=base,
            length=self.length,
            tag_base=tag_base,
            version=self.version,
        )


@dataclass(frozen=True, kw_only=True)
class SlotSpec:
    """A key slot: what for, and which owner commits to its secret (``model`` or ``data``, say)."""

    slot: int
    use: SlotUse
    owner: str

    def __post_init__(self) -> None:
        _require_types(self, f"Slot {self.slot!r}")
        if not 1 <= self.slot < KEY_SLOTS:
            raise ProgramError(f"An owner's slot is 1 to {KEY_SLOTS - 1}, not {self.slot}")
        if self.use not in _SLOT_DOMAINS:
            raise ProgramError(f"Slot {self.slot} is either static or session, not {self.use!r}")
        if not self.owner:
            raise ProgramError(f"Slot {self.slot} has no owner; name one")


@dataclass(frozen=True, kw_only=True)
class PortSpec:
    """An input or output of the network, as its owner sees it.

    Attributes
    ----------
    name : str
        The model's name for it.
    tensor : str
        Where it lies.
    shape : tuple of int
        Of one sample, without the batch: ``(channels, height, width)`` or ``(features,)``.
    shift, mantissa, zero : int
        A device integer ``q`` means ``(q - zero) * mantissa * 2**-shift``: mantissa and shift
        are exactly one positive float32, the scale; without further ado the mantissa is 1 and
        the zero point 0.
    image : tuple of int or None
        ``(channels, height, width)`` if ``shape`` is its flattened form, channels slowest.
    steps : tuple of OwnerStep
        What the owner does to samples before they are quantised (inputs), or to results (outputs).
    row_elements : int
        Elements between the starts of two image rows in DRAM; at least ``width``. Elements
        between are padding that owners write as zero and ignore.

    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    shift: int
    row_elements: int
    mantissa: int = 1
    zero: int = 0
    image: tuple[int, int, int] | None = None
    steps: tuple[OwnerStep, ...] = ()

    def __post_init__(self) -> None:
        _require_types(self, f"Port {self.name!r}")
        if len(self.shape) not in (1, 3) or not all(
            type(extent) is int and extent > 0 for extent in self.shape
        ):
            raise ProgramError(
                f"Port {self.name}: its shape is (features,) or (channels, height, width), all "
                f"positive, not {self.shape}"
            )
        if abs(self.shift) > _MAX_SHIFT:
            raise ProgramError(
                f"Port {self.name}: its shift is -{_MAX_SHIFT} to {_MAX_SHIFT}, not {self.shift}"
            )
        if not 1 <= self.mantissa <= _MAX_MANTISSA or not -128 <= self.zero <= 127:
            raise ProgramError(
                f"Port {self.name}: its mantissa is 1 to {_MAX_MANTISSA} and its zero point an "
                f"int8, not {self.mantissa} and {self.zero}"
            )
        if self.image is not None and not (
            len(self.image) == 3
            and all(type(extent) is int and extent > 0 for extent in self.image)
            and self.shape == (prod(self.image),)
        ):
            raise ProgramError(
                f"Port {self.name}: its shape {self.shape} is not the image {self.image} flattened"
            )
        if self.row_elements < self.extents[2]:
            raise ProgramError(
                f"Port {self.name}: a row of {self.row_elements} elements does not hold its "
                f"{self.extents[2]} pixels"
            )

    def nbytes(self, *, batch: int, block: int) -> int:
        """Bytes of the packed tensor."""
        channels, height, _ = self.extents
        return -(-channels // block) * height * self.row_elements * batch * block

    @property
    def given_shape(self) -> tuple[int, ...]:
        """Shape of a sample that the owner of an input gives."""
        return self.steps[0].before if self.steps else self.shape

    @property
    def extents(self) -> tuple[int, int, int]:
        """``(channels, height, width)``; a vector is one pixel."""
        if self.image is not None:
            return self.image
        return (*self.shape, 1, 1) if len(self.shape) == 1 else self.shape  # type: ignore[return-value]

    def quantise(self, samples: NDArray[np.floating]) -> NDArray[np.int8]:
        """Return the samples, after the owner's steps, as device integers.

        That is ``sample / scale``, rounded half to even, plus the zero point, saturating.

        In the precision of ``samples``, as ONNX's QuantizeLinear does with float32.

        Raises
        ------
        ProgramError
            If a sample is not a number.

        """
        for step in self.steps:
            samples = step(samples)
        if np.isnan(samples).any():
            raise ProgramError(f"Port {self.name}: a sample is not a number; clean the data")
        steps = np.rint(samples / ldexp(self.mantissa, -self.shift)) + self.zero
        integers: NDArray[np.int8] = steps.clip(-128, 127).astype(np.int8)
        return integers

    def dequantise(self, samples: NDArray[np.int8]) -> NDArray[Any]:
        """Return what device integers mean to the owner: the steps' result.

        That is real values, to the nearest float32, or what the steps make of them.
        """
        exact = samples.astype(np.float64) - self.zero
        values: NDArray[Any] = np.ldexp(exact * self.mantissa, -self.shift).astype(np.float32)
        for step in self.steps:
            values = step(values)
        return values

    def pack(self, samples: NDArray[np.int8], *, batch: int, block: int) -> bytes:
        """Lay ``(n, *shape)`` integers, ``n <= batch``, out as the core reads them.

        The layout is ``[channel blocks][height][row_elements][batch][block]`` int8 (VTA
        specification §1.1); absent samples and channels are zero.

        Raises
        ------
        ProgramError
            If the shape is another.

        """
        if samples.shape[1:] != self.shape or not 1 <= len(samples) <= batch:
            raise ProgramError(
                f"Port {self.name} takes 1 to {batch} samples of shape {self.shape}, "
                f"not {samples.shape}"
            )
        channels, height, width = self.extents
        blocks = -(-channels // block)
        image = np.zeros((batch, blocks * block, height, self.row_elements), np.int8)
        image[: len(samples), :channels, :, :width] = samples.reshape(-1, channels, height, width)
        split = image.reshape(batch, blocks, block, height, self.row_elements)
        return split.transpose(1, 3, 4, 0, 2).tobytes()

    def unpack(self, data: bytes, *, batch: int, block: int) -> NDArray[np.int8]:
        """Undo `pack`: return ``(batch, *shape)`` integers."""
        channels, height, width = self.extents
        blocks = -(-channels // block)
        split = np.frombuffer(data, np.int8)
        if split.size != self.nbytes(batch=batch, block=block):
            raise ProgramError(f"Port {self.name}: {split.size} bytes are no tensor of its shape")
        split = split.reshape(blocks, height, self.row_elements, batch, block)
        image = split.transpose(3, 0, 4, 1, 2).reshape(batch, blocks * block, height, -1)
        return image[:, :channels, :, :width].reshape(batch, *self.shape).copy()


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
        _require_types(self, f"Layer {self.name!r}")


@dataclass(frozen=True)
class SealedTensor:
    """A tensor in the TEC's DRAM format."""

    ciphertext: bytes
    tags: bytes


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
        _require_types(self, "Program")
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
            size = len(content.ciphertext if isinstance(content, SealedTensor) else content or b"")
            if held and size != tensor.length:
                raise ProgramError(
                    f"Tensor {tensor.name} has {tensor.length} bytes, its contents {size}"
                )
            if isinstance(content, SealedTensor) and (
                tensor.source is not Source.SEALED or len(content.tags) != tensor.tag_bytes
            ):
                raise ProgramError(f"Tensor {tensor.name}: its contents do not fit its row")
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
