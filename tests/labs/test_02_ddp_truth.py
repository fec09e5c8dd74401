"""The grader's own run of lab 02: against torch's numbers, which stand here, and against what holds of any run."""

import itertools
import runpy
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ddp_data
from ddp_lab import truth
from ddp_lab.truth import Problem, Truth, loss_and_gradients, replay

SIZES: dict[str, Any] = {
    "samples": 50,
    "features": 6,
    "outputs": 3,
    "hidden": [5, 4],
    "learning_rate": 0.1,
    "momentum": 0.9,
    "data_seed": 3,
    "weights_seed": 4,
}
# What torch 2.13.0 came to with these samples on a CPU: DistributedDataParallel over gloo in two processes, SGD.
BATCHES = [
    [9, 49, 18, 14, 32, 22, 42, 40, 39, 34, 45, 12],
    [1, 41, 8, 27, 26, 33, 10, 23, 2, 38, 35, 16],
    [7, 48, 21, 20, 36, 5, 43, 4, 6, 28, 13, 47],
    [15, 25, 44, 46, 31, 24, 30, 29, 11, 3, 37, 0],
    [19, 17],
    [6, 26, 12, 4, 16, 10, 39, 40, 34, 9, 11, 42],
    [21, 47, 8, 28, 0, 45, 44, 15, 22, 23, 32, 7],
    [48, 41, 36, 38, 27, 13, 3, 17, 31, 43, 18, 46],
    [19, 5, 2, 33, 30, 49, 25, 1, 35, 37, 14, 29],
    [20, 24],
]
LOSSES = [
    0.5960563325778123,
    0.5320058780891304,
    0.5414613843169409,
    0.6193302866082864,
    0.1203900597738081,
    0.5905360339647164,
    0.5466634731085964,
    0.28197313149432796,
    0.2892464815542477,
    0.424643768518679,
]
LOSSES_FLOAT32 = [
    0.596056342124939,
    0.5320059061050415,
    0.5414614081382751,
    0.6193302869796753,
    0.12039005756378174,
    0.5905359983444214,
    0.5466634035110474,
    0.2819731533527374,
    0.28924649953842163,
    0.42464372515678406,
]
FIRST_FINAL_WEIGHTS = [0.3881415257263744, 0.1586428383363474, 0.44476103732067634, -0.4330846564577399]
SQUARES_OF_FINAL_WEIGHTS = 6.375887251622713
SEED = 2**40 + 17  # more bits than the generator takes
DRAWS = [
    0.43424123525619507,
    0.5351095795631409,
    0.8302087187767029,
    0.1238635778427124,
    0.02932107448577881,
    0.5493960976600647,
    0.3824911117553711,
    0.5462597012519836,
    0.46827828884124756,
    0.017152726650238037,
]


def problem(dtype: str = "float64", **changes: Any) -> Problem:
    return Problem.of(dtype=dtype, **{**SIZES, **changes})


def flat(weights: Sequence[truth.Array]) -> truth.Array:
    return np.concatenate([each.ravel() for each in weights])


def test_it_computes_what_torch_does() -> None:
    found = replay(problem(), BATCHES)
    assert found.losses == pytest.approx(LOSSES, rel=1e-12, abs=0)
    final = flat(found.weights[9])
    assert final[:4] == pytest.approx(FIRST_FINAL_WEIGHTS, rel=1e-12, abs=0)
    assert final @ final == pytest.approx(SQUARES_OF_FINAL_WEIGHTS, rel=1e-12, abs=0)


def test_it_is_as_near_to_torch_in_float32_as_float32_is() -> None:
    assert replay(problem("float32"), BATCHES).losses == pytest.approx(LOSSES_FLOAT32, rel=1e-6, abs=0)


def test_draws_are_torchs() -> None:
    assert list(itertools.islice(truth.draws(SEED), len(DRAWS))) == DRAWS
    assert list(itertools.islice(truth.draws(SEED % 2**32), len(DRAWS))) == DRAWS


def test_draws_go_on_as_one_stream() -> None:
    drawn = list(itertools.islice(truth.draws(1), 2000))
    assert len(set(drawn)) > 1990
    assert drawn[1500:] == list(itertools.islice(truth.draws(1), 1500, 2000))


def test_weights_are_kept_after_the_steps_that_are_asked_for_and_the_last() -> None:
    found = replay(problem(), BATCHES, keep=[0, 4])
    assert sorted(found.weights) == [0, 4, 9]
    for step in (0, 4):
        assert (flat(found.weights[step]) == flat(replay(problem(), BATCHES[: step + 1]).weights[step])).all()


def test_a_run_of_no_steps_comes_to_nothing() -> None:
    assert replay(problem(), []) == Truth((), {})


def test_a_step_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^step 1 has no samples; the mean over none is nothing$"):
        replay(problem(), [[1], []])


@given(st.permutations(BATCHES[0]))
def test_the_order_within_a_batch_changes_nothing_but_rounding(batch: list[int]) -> None:
    one, other = replay(problem(), [BATCHES[0]]), replay(problem(), [batch])
    assert one.losses == pytest.approx(other.losses, rel=1e-14)
    assert flat(one.weights[0]) == pytest.approx(flat(other.weights[0]), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("hidden", [[], [5], [5, 4, 3]])
def test_gradients_are_slopes_of_the_loss(hidden: list[int]) -> None:
    small = problem(hidden=hidden)
    rng, nudge = np.random.default_rng(1), 1e-6
    _, gradients = loss_and_gradients(small.weights, small.data.x, small.data.y)
    towards = [rng.standard_normal(each.shape) for each in small.weights]
    losses = [
        loss_and_gradients(
            [w + sign * nudge * t for w, t in zip(small.weights, towards, strict=True)], small.data.x, small.data.y
        )[0]
        for sign in (1, -1)
    ]
    slope = sum(float(np.sum(g * t)) for g, t in zip(gradients, towards, strict=True))
    assert (losses[0] - losses[1]) / (2 * nudge) == pytest.approx(slope, rel=1e-6)


def test_the_grader_has_the_services_module_without_a_path_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ddp_data")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not folder.endswith("pods")])
    found = runpy.run_path(truth.__file__)["ddp_data"]
    assert found is not ddp_data
    assert found.__file__ == ddp_data.__file__


def test_a_problem_is_what_the_service_hands_out() -> None:
    found = problem("float32")
    data = ddp_data.make_data(3, 50, 6, 3, "float32")
    assert found.data.x.dtype == found.weights[0].dtype == np.float64
    assert (found.data.x == data.x).all()
    assert (found.data.y == data.y).all()


def test_a_large_batch_is_computed_in_pieces_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.of(**SIZES, dtype="float64")
    whole = loss_and_gradients(problem.weights, problem.data.x, problem.data.y)

    monkeypatch.setattr(truth, "PIECE", 16)
    loss, found = loss_and_gradients(problem.weights, problem.data.x, problem.data.y)

    assert loss == pytest.approx(whole[0], rel=1e-14)
    for one, other in zip(found, whole[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-16)
