import pytest
from trana.spec.capacity import for_each, warn_of_capacity


@pytest.mark.parametrize(("num_parameters", "num_train"), [(0, 0), (5, 0), (0, 5), (2, 5), (49, 5), (9_999, 1_000)])
def test_network_that_its_data_may_fill_needs_no_warning(num_parameters: int, num_train: int) -> None:
    assert warn_of_capacity(num_parameters, num_train) == ""


@pytest.mark.parametrize(
    ("num_parameters", "num_train", "told"),
    [
        (50, 5, "50 parameters for 5 training samples, 10 for each"),
        (1_234_567, 1, "1,234,567 parameters for 1 training sample, 1,234,567 for each"),
    ],
)
def test_network_far_larger_than_its_data_is_warned_of_with_what_to_do(
    num_parameters: int, num_train: int, told: str
) -> None:
    text = warn_of_capacity(num_parameters, num_train)
    assert told in text
    assert "dropout" in text
    assert "early_stopping: {by: VERDICT}" in text


def test_a_job_that_stops_early_is_not_told_to() -> None:
    text = warn_of_capacity(50, 5, stops_early=True)
    assert text.endswith("or get more data")
    assert "early_stopping" not in text


@pytest.mark.parametrize(("load", "told"), [(1.4, "1.4 for each"), (5017.8, "5,018 for each"), (12, "12 for each")])
def test_parameters_for_each_sample_are_told_to_the_digits_that_count(load: float, told: str) -> None:
    assert for_each(load) == told
