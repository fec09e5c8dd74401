"""Data and first weights of lab 02: the same from the same seed, and laid out as they travel."""

import numpy as np
import pytest

import ddp_data
from ddp_data import Data, from_bytes, make_data, make_weights, parameters, to_bytes

SHAPES = (("0.weight", (5, 6)), ("0.bias", (5,)), ("2.weight", (3, 5)), ("2.bias", (3,)))


def test_data_is_a_teachers_answer_to_noise() -> None:
    data = make_data(3, 50, 6, 2, "float64")
    rng = np.random.default_rng(3)
    teacher, x = rng.standard_normal((6, 2)), rng.standard_normal((50, 6))
    assert (data.x == x).all()
    assert data.y == pytest.approx(np.tanh(x) @ teacher / np.sqrt(6))
    assert (make_data(3, 50, 6, 2, "float32").y == data.y.astype("f4")).all()
    assert not (make_data(4, 50, 6, 2, "float64").x == x).any()


def test_numbers_of_a_seed_do_not_change() -> None:
    assert make_data(3, 2, 2, 1, "float64").x.ravel() == pytest.approx(
        [0.41809884672577885, -0.5677696061279298, -0.45264929211044586, -0.2155971630897659]
    )
    assert make_weights(4, (("0.weight", (1, 2)),), "float64")[0].ravel() == pytest.approx(
        [0.626575953392648, 0.016019578818567637]
    )


def test_parameters_are_named_as_torch_names_them() -> None:
    assert parameters(6, [5], 3) == SHAPES
    assert parameters(6, [], 3) == (("0.weight", (3, 6)), ("0.bias", (3,)))


def test_weights_are_within_the_bound_of_their_layer() -> None:
    for weights, inputs in zip(
        make_weights(1, parameters(400, [100], 50), "float64"), [400, 400, 100, 100], strict=True
    ):
        bound = 1 / np.sqrt(inputs)
        assert 0.9 * bound < np.abs(weights).max() <= bound


@pytest.mark.parametrize("dtype", ddp_data.DTYPES)
def test_weights_come_back_as_they_went(dtype: str) -> None:
    weights = make_weights(1, SHAPES, dtype)
    back = from_bytes(to_bytes(weights), SHAPES, dtype)
    assert [each.shape for each in back] == [shape for _, shape in SHAPES]
    assert all((one == other).all() for one, other in zip(weights, back, strict=True))


def test_weights_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^3 numbers came, where 53 belong$"):
        from_bytes(bytes(24), SHAPES, "float64")


@pytest.mark.parametrize("rows", [[], [0], [7, 3, 3, 49]])
@pytest.mark.parametrize("dtype", ddp_data.DTYPES)
def test_rows_are_written_x_first(rows: list[int], dtype: str) -> None:
    data = make_data(3, 50, 6, 2, dtype)
    whole = bytearray(len(rows) * data.row_bytes)
    data.write(np.array(rows, np.intp), memoryview(whole))
    assert whole == data.x[rows].tobytes() + data.y[rows].tobytes()


def test_rows_are_written_where_a_head_of_any_length_ends() -> None:
    data = Data(np.arange(6.0).reshape(3, 2), np.arange(3.0).reshape(3, 1))
    whole = bytearray(5 + 2 * data.row_bytes)
    data.write(np.array([2, 0]), memoryview(whole)[5:])
    assert np.frombuffer(whole, "<f8", offset=5).tolist() == [4.0, 5.0, 0.0, 1.0, 2.0, 0.0]
