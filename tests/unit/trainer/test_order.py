import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trana.trainer.data.splitting import shuffle
from trana.trainer.order import num_steps, order, share


@given(count=st.integers(0, 300), seed=st.integers(0, 2**63 - 1), epoch=st.integers(1, 10**6))
def test_order_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    assert sorted(order(seed, epoch, count).tolist()) == list(range(count))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(order(1, 2, 50), order(1, 2, 50))
    orders = {tuple(order(seed, epoch, 50).tolist()) for seed in range(5) for epoch in range(1, 5)}
    assert len(orders) == 20


def test_shuffle_is_the_one_that_is_promised_for_good() -> None:
    # Written down once: another result would give old checkpoints' splits to the wrong samples.
    assert shuffle(10, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert order(1, 1, 8).tolist() == [5, 6, 3, 0, 7, 2, 1, 4]


@given(count=st.integers(0, 1000), parts=st.integers(1, 50))
def test_shares_follow_one_another_and_differ_by_at_most_one(count: int, parts: int) -> None:
    shares = [share(count, parts, index) for index in range(parts)]
    assert shares[0][0] == 0
    assert shares[-1][1] == count
    assert all(before[1] == after[0] for before, after in itertools.pairwise(shares))
    sizes = [stop - start for start, stop in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("count", "size", "steps"), [(90, 16, 6), (96, 16, 6), (97, 16, 7), (1, 16, 1), (16, 1, 16)])
def test_steps_are_as_few_as_the_batch_size_allows(count: int, size: int, steps: int) -> None:
    assert num_steps(count, size) == steps
