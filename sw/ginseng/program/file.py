"""Reading and writing `.ginseng` files: safetensors with a canonical manifest in its metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ginseng.isa.config import SystemConfig
from ginseng.isa.errors import IsaError
from ginseng.isa.table import Domain, Permission, SlotUse, Source
from ginseng.program.errors import ProgramError
from ginseng.program.model import LayerSpec, Program, SealedTensor, SlotSpec, TensorSpec
from ginseng.program.owner_side import OwnerStep
from ginseng.program.port import PortSpec

__all__ = ["dumps", "load", "loads", "save"]

_FORMAT: Final = "ginseng-program-3"
#: A manifest beyond this is refused unread: nothing legitimate comes near.
_MANIFEST_LIMIT: Final = 16 << 20


def manifest(program: Program) -> str:
    """Return the canonical manifest: JSON with sorted keys, no white space and no floats."""
    tree = {
        "format": _FORMAT,
        "name": program.name,
        "config": program.config.canonical.decode(),
        "config_digest": program.config.digest.hex(),
        "tensors": [asdict(t) for t in program.tensors],
        "slots": [asdict(s) for s in program.slots],
        "entry": program.entry,
        "inputs": [asdict(p) for p in program.inputs],
        "outputs": [asdict(p) for p in program.outputs],
        "model_sha256": program.model_sha256,
        "layers": [asdict(layer) for layer in program.layers],
    }
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def dumps(program: Program) -> bytes:
    """Return the bytes of ``program`` as a file; the same program gives the same bytes."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, content in program.contents.items():
        if isinstance(content, SealedTensor):
            arrays[f"{name}/sealed"] = np.frombuffer(content.data, np.uint8)
        else:
            arrays[f"{name}/plain"] = np.frombuffer(content, np.uint8)
    return bytes(save_tensors(dict(sorted(arrays.items())), {"ginseng": manifest(program)}))


def loads(data: bytes, *, name: str = "This program") -> Program:
    """Read the bytes of a `.ginseng` file; ``name`` is what errors call it.

    Raises
    ------
    ProgramError
        If they are cut short, no `.ginseng` file, or contradict themselves.

    """
    try:
        arrays = load_tensors(data)
        header = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + header]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProgramError(f"{name} is no .ginseng file, or cut short: {error}") from None
    if "ginseng" not in metadata:
        raise ProgramError(f"{name} is a safetensors file without a Ginseng manifest")
    text = metadata["ginseng"]
    if len(text) > _MANIFEST_LIMIT:
        raise ProgramError(f"{name}: its manifest is longer than {_MANIFEST_LIMIT} bytes")
    for key, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 1:
            raise ProgramError(f"{name}: array {key} is not a row of bytes")
    try:
        program = _parse(json.loads(text), {k: v.tobytes() for k, v in arrays.items()})
    except (ProgramError, IsaError) as error:
        raise ProgramError(f"{name}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProgramError(f"{name}: its manifest is damaged ({error})") from None
    if manifest(program) != text:
        raise ProgramError(f"{name}: its manifest is not in canonical form")
    return program


def save(program: Program, path: Path) -> None:
    """Write ``program`` to ``path``."""
    path.write_bytes(dumps(program))


def load(path: Path) -> Program:
    """Read a `.ginseng` file.

    Raises
    ------
    ProgramError
        If the file does not exist, is cut short, is no `.ginseng` file, or contradicts itself.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProgramError(f"{path} cannot be read: {error.strerror}") from error
    return loads(data, name=str(path))


def _parse(tree: Mapping[str, Any], arrays: Mapping[str, bytes]) -> Program:
    if tree["format"] != _FORMAT:
        raise ProgramError(f"it is in format {tree['format']!r}, this release reads {_FORMAT!r}")
    tensors = tuple(
        TensorSpec(
            **(
                t
                | {
                    "domain": Domain(t["domain"]),
                    "permissions": Permission(t["permissions"]),
                    "source": Source(t["source"]),
                }
            )
        )
        for t in tree["tensors"]
    )
    contents: dict[str, bytes | SealedTensor] = {}
    for key, data in arrays.items():
        name, _, kind = key.rpartition("/")
        if kind not in ("plain", "sealed") or name in contents:
            raise ProgramError(f"array {key} has no meaning, or is there twice")
        contents[name] = data if kind == "plain" else SealedTensor(data)
    config = SystemConfig.from_canonical(tree["config"].encode())
    if tree["config_digest"] != config.digest.hex():
        raise ProgramError("its config_digest is not that of its configuration")
    return Program(
        name=tree["name"],
        config=config,
        tensors=tensors,
        slots=tuple(SlotSpec(**(s | {"use": SlotUse(s["use"])})) for s in tree["slots"]),
        entry=tree["entry"],
        inputs=tuple(_port(p) for p in tree["inputs"]),
        outputs=tuple(_port(p) for p in tree["outputs"]),
        contents=contents,
        model_sha256=tree["model_sha256"],
        layers=tuple(LayerSpec(**layer) for layer in tree["layers"]),
    )


def _port(tree: dict[str, Any]) -> PortSpec:
    shape, image = tree["shape"], tree["image"]
    if not isinstance(shape, list) or not isinstance(image, list | None):
        raise ProgramError(f"Port {tree['name']!r} has lists of extents, not {shape!r}, {image!r}")
    steps = tuple(_step(step) for step in tree["steps"])
    known: dict[str, Any] = {"steps": steps}
    known |= {"shape": tuple(shape), "image": None if image is None else tuple(image)}
    return PortSpec(**(tree | known))


_PAIRS: Final = ("kernel", "strides", "origin")


def _step(tree: dict[str, Any]) -> OwnerStep:
    plain = {key: tuple(tree[key]) for key in ("before", "after", "axes", *_PAIRS)}
    reals = {key: tuple(map(tuple, tree[key])) for key in ("factors", "offsets")}
    return OwnerStep(**(tree | plain | reals))
