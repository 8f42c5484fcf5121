"""Bursts of the cycle model: what the DMA and the TEC cut transfers into."""

import pytest

from ginseng.compiler.backend.cost import CostModel
from ginseng.compiler.backend.dma import STORE_BEATS, cut
from ginseng.compiler.backend.segment import Access, Role, Segment
from ginseng.isa.config import BusConfig, BusProtocol, SystemConfig
from ginseng.isa.formats import TAG_BYTES, sealed_bytes


def model(protocol=BusProtocol.AXI4, data_bits=64, *, protect=True):
    bus = BusConfig(protocol=protocol, data_bits=data_bits)
    return CostModel.of(SystemConfig(bus=bus), protect=protect)


def bursts(chunk, *, length=None, begin=0, nbytes=None, on=None, stores=False):
    length = chunk if length is None else length
    segment = Segment("t", Role.SCRATCH, length, chunk=chunk)
    nbytes = length - begin if nbytes is None else nbytes
    return cut(Access(begin, 1, nbytes, nbytes), segment, on or model(), stores=stores)


def test_stores_are_cut_where_the_gates_cut_them():
    segment = pytest.importorskip("ginseng.tec.segment")
    assert segment.BURST_LIMIT == STORE_BEATS


@pytest.mark.parametrize("stores", [False, True])
def test_a_tag_is_two_more_beats_of_its_chunks_burst(stores):
    assert bursts(256, stores=stores) == [32 + 2]
    assert bursts(256, length=1024, stores=stores) == 4 * [32 + 2]


@pytest.mark.parametrize("stores", [False, True])
def test_the_last_chunk_may_be_short(stores):
    assert bursts(256, length=256 + 48, stores=stores) == [32 + 2, 6 + 2]


def test_a_chunk_that_is_read_in_part_comes_whole():
    assert bursts(256, length=1024, begin=300, nbytes=16) == [32 + 2]


def test_a_store_ends_a_burst_at_128_beats_and_its_tag_lengthens_the_last():
    assert bursts(1024 + 256, stores=True) == [128, 32 + 2]
    assert bursts(1024, stores=True) == [128 + 2]
    assert bursts(1024 + 256) == [160 + 2]


@pytest.mark.parametrize("stores", [False, True])
def test_no_burst_is_longer_than_the_bus_allows(stores):
    on = model(BusProtocol.AXI3)
    assert bursts(112, on=on, stores=stores) == [14 + 2]
    assert bursts(128, on=on, stores=stores) == [16, 2]
    assert bursts(512, on=on, stores=stores) == [16, 16, 16, 16, 2]


@pytest.mark.parametrize("stores", [False, True])
def test_a_tag_behind_a_page_is_a_burst_of_its_own(stores):
    chunk, index = 288, 26
    assert index * (chunk + TAG_BYTES) + chunk == 2 * 4096
    at = {"begin": index * chunk, "nbytes": chunk, "length": 30 * chunk}
    assert bursts(chunk, **at, stores=stores) == [36, 2]


@pytest.mark.parametrize("stores", [False, True])
def test_a_tag_shares_the_last_beat_of_a_wide_bus(stores):
    on = model(data_bits=512)
    assert bursts(48, on=on, stores=stores) == [1]
    assert bursts(64, on=on, stores=stores) == [2]


def test_without_a_tec_there_are_no_tags_and_no_chunks():
    assert bursts(256, length=1024, on=model(protect=False)) == [128]


@pytest.mark.parametrize("stores", [False, True])
@pytest.mark.parametrize("protocol", list(BusProtocol))
def test_what_the_bursts_move_is_what_a_tensor_takes(protocol, stores):
    for chunk in (16, 128, 496, 2032, 2048, 4096, 9008):
        length = 5 * chunk - 16 if chunk > 16 else 5 * chunk
        moved = sum(bursts(chunk, length=length, on=model(protocol), stores=stores)) * 8
        assert moved == sealed_bytes(length, chunk)
