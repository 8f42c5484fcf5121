"""Owners' side of the TEC's DRAM format: tensors sealed and opened with a plain AES-GCM library."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ginseng.isa.formats import SECRET_BYTES, chunk_nonce, chunk_place, slot_info
from ginseng.isa.table import Domain, SlotUse, Source
from ginseng.program.errors import ProgramError
from ginseng.program.model import Program, SealedTensor, TensorSpec

__all__ = ["open_tensor", "seal_program", "seal_tensor", "session_key", "static_key"]


def static_key(secret: bytes, key_bytes: int) -> bytes:
    """Return the key of a static slot: the secret's first ``key_bytes`` bytes (§4)."""
    _check_secret(secret)
    return secret[:key_bytes]


def session_key(secret: bytes, *, cnf: bytes, slot: int, key_bytes: int) -> bytes:
    """Return the key of a session slot (TEC specification §4).

    Parameters
    ----------
    secret : bytes
        The owner's secret of this slot.
    cnf : bytes
        The session's public key, x ‖ y, from a quote that was verified.
    slot : int
        Which slot the key is for; it is part of the derivation.
    key_bytes : int
        `TecConfig.key_bytes` of the build.

    """
    _check_secret(secret)
    salt = Hash(SHA256())
    salt.update(cnf)
    return HKDF(SHA256(), key_bytes, salt.finalize(), slot_info(slot)).derive(secret)


def seal_tensor(key: bytes, tensor: TensorSpec, *, version: int, data: bytes) -> SealedTensor:
    """Seal ``data`` as ``tensor`` in ``version``, chunk by chunk (TEC specification §4).

    Never seal two texts with one key and version: the nonce is made of nothing else.
    """
    if len(data) != tensor.length:
        raise ProgramError(f"Tensor {tensor.name} has {tensor.length} bytes, not {len(data)}")
    cipher = AESGCM(key)
    sealed = bytearray()
    for index in range(tensor.chunks):
        nonce = chunk_nonce(tensor.domain, tensor.handle, version, index)
        sealed += cipher.encrypt(nonce, data[index * tensor.chunk :][: tensor.chunk], None)
    return SealedTensor(bytes(sealed))


def open_tensor(key: bytes, tensor: TensorSpec, *, version: int, sealed: SealedTensor) -> bytes:
    """Open ``tensor`` in ``version``; all chunks or nothing.

    Raises
    ------
    ProgramError
        If a chunk is not what was sealed under this key, for this tensor, version and place.

    """
    if len(sealed.data) != tensor.sealed_bytes:
        raise ProgramError(
            f"Tensor {tensor.name} takes {tensor.sealed_bytes} bytes with its tags, not "
            f"{len(sealed.data)}"
        )
    cipher = AESGCM(key)
    text = bytearray()
    for index in range(tensor.chunks):
        nonce = chunk_nonce(tensor.domain, tensor.handle, version, index)
        chunk = sealed.data[chunk_place(index, tensor.chunk) : chunk_place(index + 1, tensor.chunk)]
        try:
            text += cipher.decrypt(nonce, chunk, None)
        except InvalidTag:
            raise ProgramError(
                f"Tensor {tensor.name}: chunk {index} of version {version} does not open; it was "
                "changed, moved, or sealed for another run or session"
            ) from None
    return bytes(text)


def seal_program(program: Program, secret: bytes) -> Program:
    """Return ``program`` with its weights sealed under their owner's ``secret``.

    The result may be shown to anyone. Use a fresh random secret for every sealed program.

    Raises
    ------
    ProgramError
        If it is sealed already, or its weights name no static slot.

    """
    if program.is_sealed:
        raise ProgramError(f"Program {program.name} is sealed already; seal the compiler's output")
    assert program.config.tec is not None  # Program refuses such a configuration
    key = static_key(secret, program.config.tec.key_bytes)
    uses = {s.slot: s.use for s in program.slots}
    contents = dict(program.contents)
    for tensor in program.tensors:
        data = contents.get(tensor.name)
        if (
            tensor.domain is Domain.WEIGHTS
            and tensor.source is Source.SEALED
            and uses.get(tensor.slot) is SlotUse.STATIC
            and isinstance(data, bytes)
        ):
            contents[tensor.name] = seal_tensor(key, tensor, version=tensor.version, data=data)
    sealed = program.with_contents(contents)
    if not sealed.is_sealed:
        raise ProgramError(f"Program {program.name} has sealed weights that name no static slot")
    return sealed


def _check_secret(secret: bytes) -> None:
    if len(secret) != SECRET_BYTES:
        raise ProgramError(f"A secret has {SECRET_BYTES} bytes, not {len(secret)}")
