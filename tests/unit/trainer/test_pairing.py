import math

import numpy as np
import pytest
from trana.trainer.pairing import Losses, Pairing, standard_error


def singles(*losses: float) -> Losses:
    return Losses(np.array(losses), np.ones(len(losses)))


def test_error_of_single_samples_is_that_of_the_mean_of_their_differences() -> None:
    # Differences 1, 2 and 6: their mean is 3, their variance (4 + 1 + 9) / 2 = 7.
    assert standard_error(singles(1.5, 4, 6), np.array([0.5, 2, 0])) == pytest.approx(math.sqrt(7 / 3))


def test_error_of_groups_is_that_of_a_ratio_of_sums() -> None:
    # Summed differences 4, 2 and 6 of 2, 2 and 4 samples: 12 / 8 = 1.5 a sample, and so 1, -1 and 0 are left.
    losses = Losses(np.array([5.0, 3.0, 7.0]), np.array([2.0, 2.0, 4.0]))
    assert standard_error(losses, np.ones(3)) == pytest.approx(math.sqrt(3 / 2 * 2) / 8)


def test_spread_between_samples_does_not_count() -> None:
    before = np.array([1e-3, 5.0, 900.0])
    assert standard_error(Losses(before + 0.25, np.ones(3)), before) == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize(
    ("losses", "before"),
    [
        pytest.param(singles(1.0), np.zeros(1), id="one sample"),
        pytest.param(singles(1.0, 2.0), np.zeros(3), id="other samples"),
        pytest.param(singles(1.0, 2.0), np.empty(0), id="nothing before"),
        pytest.param(singles(1e300, -1e300), np.zeros(2), id="squares overflow"),
        pytest.param(singles(math.inf, 1.0), np.full(2, math.inf), id="no numbers"),
    ],
)
def test_error_that_is_not_known_is_nan(losses: Losses, before: np.ndarray) -> None:
    assert math.isnan(standard_error(losses, before))


def test_epochs_are_compared_with_the_best_up_to_them() -> None:
    pairing = Pairing()
    assert pairing.compare(singles(4, 4, 4), best=True) == 0
    assert pairing.compare(singles(5, 6, 10), best=False) == pytest.approx(math.sqrt(7 / 3))
    assert pairing.compare(singles(2, 3, 4), best=True) == 0
    assert pairing.compare(singles(3, 5, 10), best=False) == pytest.approx(math.sqrt(7 / 3))
    assert Pairing(pairing.best).compare(singles(3, 5, 10), best=False) == pytest.approx(math.sqrt(7 / 3))
