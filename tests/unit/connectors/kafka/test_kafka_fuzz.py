"""A small share of `python -m reliability fuzz-kafka`: bytes that no client writes, held against plain decoders."""

import pytest

from tests.kafka.fuzzed_batches import check
from tests.kafka.fuzzed_values import check_value


@pytest.mark.parametrize("part", range(4))
def test_batches_that_no_client_writes(part):
    outcomes = {check(seed) for seed in range(1_500 * part, 1_500 * (part + 1))}
    assert outcomes == {"read", "flaw", "damaged", "nothing", "refused by brokers"}


def test_values_that_no_client_writes():
    assert len({check_value(seed) for seed in range(2_000)}) == 8
