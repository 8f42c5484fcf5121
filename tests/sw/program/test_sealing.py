from dataclasses import replace

import pytest
from Crypto.Cipher import AES

from ginseng.isa.config import TecConfig
from ginseng.isa.formats import chunk_nonce
from ginseng.program import ProgramError, SealedTensor, open_tensor, seal_program, seal_tensor
from ginseng.program.sealing import session_key

SECRET = bytes(range(32))
KEY = bytes(range(16))


def test_every_chunk_opens_with_another_library(tiny):
    sealed = seal_program(tiny.program, SECRET)
    for tensor in sealed.tensors:
        content = sealed.contents.get(tensor.name)
        if not isinstance(content, SealedTensor):
            continue
        text = b""
        for n in range(tensor.chunks):
            nonce = chunk_nonce(tensor.domain, tensor.handle, tensor.version, n)
            cipher = AES.new(SECRET[:16], AES.MODE_GCM, nonce=nonce)
            at = n * (tensor.chunk + 16)
            piece = content.data[at : at + tensor.chunk + 16]
            text += cipher.decrypt_and_verify(piece[:-16], piece[-16:])
        assert text == tiny.program.contents[tensor.name]
    assert isinstance(sealed.contents["weights"], SealedTensor)
    assert isinstance(sealed.contents["bias"], SealedTensor)
    assert sealed.contents["code"] == tiny.program.contents["code"]


def test_a_wider_key_uses_more_of_the_secret(config, tiny_for):
    wide = replace(config, tec=TecConfig(key_bits=256))
    program = tiny_for(wide).program
    sealed = seal_program(program, SECRET)
    bias = program.by_name["bias"]
    opened = open_tensor(SECRET, bias, version=0, sealed=sealed.contents["bias"])
    assert opened == program.contents["bias"]


def test_a_tensor_opens_only_whole_and_only_as_what_it_was_sealed_as(tiny):
    bias, y = tiny.program.by_name["bias"], tiny.program.by_name["y"]
    data = bytes(range(128))
    sealed = seal_tensor(KEY, bias, version=3, data=data)
    assert open_tensor(KEY, bias, version=3, sealed=sealed) == data
    wrong = [
        (bytes(16), bias, 3, sealed),
        (KEY, bias, 4, sealed),
        (KEY, replace(bias, handle=9), 3, sealed),
        (KEY, replace(bias, domain=y.domain), 3, sealed),
        (KEY, bias, 3, SealedTensor(sealed.data[80:] + sealed.data[:80])),
        (KEY, bias, 3, SealedTensor(sealed.data[:-16] + bytes(16))),
        (KEY, bias, 3, SealedTensor(sealed.data[:-1])),
        (KEY, bias, 3, SealedTensor(sealed.data[:-16])),
        (KEY, bias, 3, SealedTensor(sealed.data + bytes(16))),
    ]
    for key, tensor, version, value in wrong:
        with pytest.raises(ProgramError):
            open_tensor(key, tensor, version=version, sealed=value)


def test_every_flipped_bit_is_noticed(tiny):
    x = tiny.program.by_name["x"]
    sealed = seal_tensor(KEY, x, version=1, data=bytes(32))
    assert len(sealed.data) == 64
    for at in range(64):
        data = bytearray(sealed.data)
        data[at] ^= 1 << at % 8
        with pytest.raises(ProgramError, match="does not open"):
            open_tensor(KEY, x, version=1, sealed=SealedTensor(bytes(data)))


def test_a_session_key_depends_on_secret_session_and_slot():
    def key(secret=SECRET, cnf=bytes(64), slot=2):
        return session_key(secret, cnf=cnf, slot=slot, key_bytes=16)

    keys = {key(), key(secret=bytes(32)), key(cnf=bytes([1]) * 64), key(slot=3)}
    assert len(keys) == 4
    assert key() == key()


def test_sealing_twice_and_wrong_sizes_are_refused(tiny):
    sealed = seal_program(tiny.program, SECRET)
    with pytest.raises(ProgramError, match="sealed already"):
        seal_program(sealed, SECRET)
    with pytest.raises(ProgramError, match="32 bytes, not 31"):
        seal_program(tiny.program, SECRET[:31])
    with pytest.raises(ProgramError, match="has 128 bytes, not 127"):
        seal_tensor(KEY, tiny.program.by_name["bias"], version=0, data=bytes(127))


def test_weights_without_a_static_slot_cannot_be_sealed(tiny):
    tensors = tuple(replace(t, slot=0) if t.name == "bias" else t for t in tiny.program.tensors)
    with pytest.raises(ProgramError, match="no static slot"):
        seal_program(replace(tiny.program, tensors=tensors), SECRET)
