"""The `.ginseng` file: one compiled enclave program, read, written, sealed and measured.

It holds the instruction stream, the micro-ops, the packed weights and a manifest that says how
they stand in the tensor table. Nothing here needs the compiler.
"""

from ginseng.program.errors import ProgramError
from ginseng.program.file import dumps, load, loads, save
from ginseng.program.measure import Measurements, measure
from ginseng.program.model import LayerSpec, Program, SealedTensor, SlotSpec, TensorSpec
from ginseng.program.owner_side import OwnerStep
from ginseng.program.port import PortSpec
from ginseng.program.sealing import open_tensor, seal_program, seal_tensor

__all__ = [
    "LayerSpec",
    "Measurements",
    "OwnerStep",
    "PortSpec",
    "Program",
    "ProgramError",
    "SealedTensor",
    "SlotSpec",
    "TensorSpec",
    "dumps",
    "load",
    "loads",
    "measure",
    "open_tensor",
    "save",
    "seal_program",
    "seal_tensor",
]
