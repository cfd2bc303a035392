"""The partition of a key is the one that the Java client takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import RecordError
from streamflow.operators.connectors.kafka.partitioner import murmur2, partitioner

# Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2.
KNOWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hash"), KNOWN.items())
def test_murmur2_is_kafkas(key, hash):
    assert murmur2(key) == hash


@given(st.binary(max_size=40), st.integers(1, 50))
def test_murmur2_agrees_with_aiokafkas_own(key, count):
    java = pytest.importorskip("aiokafka.partitioner")
    expected = (java.murmur2(key) & 0x7FFFFFFF) % count
    assert partitioner("murmur2", count)([key]) == [expected]


def test_keyless_records_go_together_within_a_batch_and_take_turns_between():
    assign = partitioner("murmur2", 3, first=1)
    assert assign([None, None]) == [1, 1]
    assert assign([None, b"foobar", None]) == [2, (-790332482 & 0x7FFFFFFF) % 3, 2]
    assert assign([None]) == [0]


def test_round_robin_goes_on_where_the_last_batch_ended():
    assign = partitioner("round_robin", 3, first=5)
    assert assign([b"a"] * 4) == [2, 0, 1, 2]
    assert assign([None, b"x"]) == [0, 1]


def test_a_key_that_was_forgotten_keeps_its_partition():
    assign = partitioner("murmur2", 7)
    before = assign([b"a", b"b"])
    assign([b"%d" % i for i in range(100_001)])
    assert assign([b"a", b"b"]) == before


@pytest.mark.parametrize("answer", [3, -1, 1.0, True, None])
def test_a_function_that_names_no_partition_is_told(answer):
    assign = partitioner(lambda key, count: answer, 3)
    with pytest.raises(RecordError, match="partitioner answers"):
        assign([b"a"])


def test_a_function_gets_key_and_count():
    assert partitioner(lambda key, count: len(key or b"") % count, 4)([b"abcde", None]) == [1, 0]
