"""What the judges of lab 03 make of small facts beyond what test_judges.py asks of every lab's."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graders.errors import HarnessError
from graders.judging import Asked, Facts
from graders.rubric import Finding
from graders.stats import Outcome
from tests.labs.facts_03_vllm import CALM, FACTS, LAB, but, loads, paced, pair
from tests.labs.facts_03_vllm import load as load_of
from vllm_lab import judges
from vllm_lab.loads import Answered, Load
from vllm_lab.objective_facts import ServiceLevel
from vllm_lab.performance_facts import Throughput

JUDGES = judges.JUDGES


def judged(check: str, facts: Facts, **numbers: float) -> Finding:
    """By the numbers of lab.toml at L1, and by these."""
    known = {**LAB.thresholds["L1"], **numbers}
    return JUDGES[check].judge(msgspec.json.encode(facts), known.__getitem__)


ASKED = {
    "resources_within_budget": {"budget_replicas", "budget_memory_gib", "budget_kv_mib"},
    "server_comes_up": set[str](),
    "streams_are_correct": set[str](),
    "counters_agree": {"slo_ttft_factor", "slo_tpot_factor"},
    "throughput": {"throughput_ratio"},
    "service_level_objective": {"slo_share", "slo_ttft_factor", "slo_tpot_factor"},
    "highest_load": {"slo_share", "slo_ttft_factor", "slo_tpot_factor", "knee_factor"},
    "kv_cache": {"kv_share", "kv_flowing"},
    "prefix_cache": {"prefix_gain"},
    "rolling_upgrade": set[str](),
    "replica_loss": {"loss_share"},
}


@pytest.mark.parametrize("check", FACTS)
def test_it_is_judged_by_these_numbers_and_no_others(check: str) -> None:
    asked = Asked(LAB.thresholds["L1"].__getitem__)

    JUDGES[check].judge(msgspec.json.encode(FACTS[check]), asked)

    assert asked.numbers.keys() == ASKED[check]


@pytest.mark.parametrize(
    ("check", "numbers", "verdict"),
    [
        ("resources_within_budget", {"budget_replicas": 1}, "failed"),
        ("resources_within_budget", {"budget_memory_gib": 1}, "passed"),  # who says nothing gets what is given
        ("counters_agree", {"slo_ttft_factor": 60}, "failed"),
        ("throughput", {"throughput_ratio": 5}, "passed"),
        ("throughput", {"throughput_ratio": 6}, "inconclusive"),
        ("throughput", {"throughput_ratio": 7}, "failed"),
        ("service_level_objective", {"slo_share": 0.95}, "inconclusive"),
        ("service_level_objective", {"slo_ttft_factor": 9}, "failed"),
        ("service_level_objective", {"slo_tpot_factor": 2}, "failed"),
        ("highest_load", {"knee_factor": 3}, "passed"),
        ("highest_load", {"knee_factor": 9}, "failed"),
        ("highest_load", {"slo_ttft_factor": 9}, "failed"),
        ("kv_cache", {"kv_flowing": 15.5}, "failed"),
        ("kv_cache", {"kv_share": 0.99}, "inconclusive"),
        ("prefix_cache", {"prefix_gain": 4.5}, "failed"),
        ("replica_loss", {"loss_share": 0.99}, "inconclusive"),
    ],
)
def test_another_threshold_decides_otherwise(check: str, numbers: dict[str, float], verdict: Outcome) -> None:
    assert judged(check, FACTS[check], **numbers).verdict == verdict


def test_a_knee_lies_between_the_load_that_holds_and_the_next_or_above_all() -> None:
    found = judged("highest_load", FACTS["highest_load"])
    assert (found.value, found.interval, found.confidence) == (6.0, (6.0, 9.0), None)
    above = judged("highest_load", but("highest_load", rungs=((3.0, paced(loads(60))), (9.0, paced(loads(60))))))
    assert (above.value, above.interval) == (9.0, None)
    assert above.observed == "it holds at 9 times, the most that was tried; in time were 60 of 60 at 3, 60 of 60 at 9"


def test_bounds_decide_how_late_the_client_may_be() -> None:
    part = paced(loads(60, client=msgspec.structs.replace(CALM, send_lag=0.018)))
    facts = but("service_level_objective", parts=(part, part))

    assert judged("service_level_objective", facts).verdict == "passed"
    assert judged("service_level_objective", facts, slo_ttft_factor=30).verdict == "inconclusive"


answers = st.builds(
    Answered,
    st.integers(0, 10**6),
    good=st.booleans(),
    complete=st.booleans(),
    ttft=st.none() | st.floats(0, 100),
    tpot=st.none() | st.floats(0, 1),
)


@given(st.lists(st.lists(answers, max_size=30).map(lambda each: load_of(*each)), min_size=1, max_size=3))
def test_judging_what_was_read_again_is_judging_what_was_measured(parts: list[Load]) -> None:
    facts = ServiceLevel(parts=tuple(map(paced, parts)))
    judge = JUDGES["service_level_objective"]
    assert judge.judge(msgspec.json.encode(facts), LAB.thresholds["L1"].__getitem__) == judge.decide(
        facts, LAB.thresholds["L1"].__getitem__
    )


@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=8), st.floats(0.5, 10), st.floats(0, 5))
def test_a_lower_goal_never_turns_a_pass_into_anything_else(ratios: list[float], goal: float, less: float) -> None:
    facts = Throughput(streams=8, pairs=tuple(map(pair, ratios)), gpu=None)
    worth = {"failed": 0, "inconclusive": 1, "passed": 2}
    high, low = (judged("throughput", facts, throughput_ratio=each).verdict for each in (goal, goal - less))
    assert worth[low] >= worth[high]


def test_facts_of_another_check_are_refused() -> None:
    with pytest.raises(HarnessError) as caught:
        judged("throughput", FACTS["replica_loss"])
    assert str(caught.value) == (
        "these facts cannot be read as 03_vllm/throughput/v1: Object missing required field `streams`; correct the lab"
    )
