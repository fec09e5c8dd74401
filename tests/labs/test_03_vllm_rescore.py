"""Runs of lab 03 made of small facts and judged again: the same verdict, or what another lab.toml makes of them."""

import contextlib
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders.budget import Used
from graders.check import Check, LabRun
from graders.judging import Facts, load
from graders.lab import Lab
from graders.record import Record
from graders.rescore import Rescored, read_run, rescore
from graders.rubric import ClusterFacts, result_of, root_cause, skipped_for
from graders.submission import Submission
from graders.variants import Variant, WrongVariant, applied
from tests.graders.verdicts import NOON, header_of
from tests.labs.facts_03_vllm import FACTS, LAB
from tests.labs.shortfalls_03_vllm import FAILURES
from vllm_lab.start_facts import Start

OF_L3 = "a GPU that hardly works"
WAYS = {
    check: [facts, *(each[1] for name, each in FAILURES.items() if each[0] == check and name != OF_L3)]
    for check, facts in FACTS.items()
}
"""What each check may measure."""
MEASURED_BY = {
    "streams_are_correct": "correctness_",
    "counters_agree": "counters_",
    "throughput": "throughput_",
    "service_level_objective": "slo_",
    "highest_load": "knee_",
    "kv_cache": "kv_",
    "prefix_cache": "prefix_",
    "rolling_upgrade": "upgrade_",
    "replica_loss": "loss_",
}
"""How the thresholds begin that measuring asks for."""


def measure(check: Check, facts: Facts, _: int) -> Facts:
    """Asks for thresholds as the check does, and finds these facts."""
    if begins := MEASURED_BY.get(check.spec.id):
        for name in LAB.thresholds["L1"]:
            if name.startswith(begins):
                check.threshold(name)
    return facts


def graded(folder: Path, facts: Mapping[str, Facts], variant: Variant | None = None) -> Path:
    """A run in which each check measures these facts, as the plugin goes through them; with a student's numbers."""
    lab = applied(LAB, variant) if variant else LAB
    header = header_of(lab, hint_tiers=2, variant=variant)
    cluster = ClusterFacts("L1", ("GPUs",), {"backend": "fake"})
    run = LabRun(lab, Record(folder), header, Submission(folder, {}, "ab12"), lambda: cluster, lambda: None)
    for spec in lab.checks:
        if root := root_cause(lab, spec, run.finished):
            run.settle(skipped_for(spec, root))
            continue
        check = Check(spec, run, None)
        with contextlib.suppress(pytest.fail.Exception):
            check.measure(partial(measure, check, facts[spec.id]))
        assert check.finding is not None
        run.settle(result_of(spec, check.finding, why=None, attempts=check.attempts, tiers=2))
    run.finish(NOON, None)
    return folder


def again(folder: Path, **numbers: float) -> Rescored:
    """The run by the lab with these thresholds."""
    thresholds = {"L1": {**LAB.thresholds["L1"], **numbers}}
    lab: Lab = msgspec.structs.replace(LAB, thresholds=thresholds)
    return rescore(read_run(folder), lab, load(lab))


@settings(max_examples=10)
@given(st.fixed_dictionaries({check: st.sampled_from(ways) for check, ways in WAYS.items()}))
def test_a_run_judged_again_has_the_verdict_that_it_had(facts: dict[str, Facts]) -> None:
    with tempfile.TemporaryDirectory() as name:
        found = again(graded(Path(name) / "run", facts))

    assert found.now == found.then
    assert found.changes == ()


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A run with full marks."""
    return graded(tmp_path / "run", FACTS)


HERS = Variant(
    lab=LAB.name,
    student="ada",
    fingerprint="f" * 16,
    numbers={
        "L1": {"budget_kv_mib": 224.0, "kv_streams": 18.0, "kv_flowing": 13.5, "prefix_tokens": 1472.0},
    },
)


def test_a_students_own_numbers_stay_hers(tmp_path: Path) -> None:
    found = {}
    for used in (200.0, 240.0):
        budget = msgspec.structs.replace(
            FACTS["resources_within_budget"], uses=(Used("MiB of KV cache", used, "budget_kv_mib"),)
        )
        found[used] = again(graded(tmp_path / str(used), {**FACTS, "resources_within_budget": budget}, HERS))

    assert found[200.0].changes == found[240.0].changes == ()
    assert found[200.0].now.status == "passed"
    assert found[240.0].now.checks[0].observed == "240 MiB of KV cache, where 224 are given"


def test_numbers_that_the_lab_does_not_offer_any_more_are_refused(tmp_path: Path) -> None:
    folder = graded(tmp_path / "run", FACTS, HERS)
    lab = msgspec.structs.replace(LAB, variants={})
    with pytest.raises(WrongVariant) as caught:
        rescore(read_run(folder), lab, load(lab))
    assert (
        str(caught.value) == "the numbers of 'ada' are for the levels L1, which 03_vllm does not offer; draw them anew"
    )


def test_words_that_the_record_redacts_or_cuts_are_judged_as_it_has_them(tmp_path: Path) -> None:
    words = f"the log says HF_TOKEN=hf_{'a1' * 12}, and {'much ' * 9999}"
    facts = {**FACTS, "server_comes_up": Start(seconds=None, problem=words, kind="starting")}

    found = again(graded(tmp_path / "run", facts))

    assert found.changes == ()
    observed = found.now.checks[1].observed or ""
    assert observed.startswith("the log says HF_TOKEN=[redacted], and much")
    assert observed.endswith(" more characters]")


def test_a_threshold_changes_the_check_that_asks_for_it_and_what_needs_that(full: Path) -> None:
    found = again(full, throughput_ratio=9.0)

    assert (found.then.points, found.now.points) == (100, 40)
    assert {change.check: change.now and change.now.status for change in found.changes} == {
        "throughput": "failed",
        "service_level_objective": "skipped",
        "highest_load": "skipped",
        "kv_cache": "skipped",
        "prefix_cache": "skipped",
    }
    assert {change.why for change in found.changes if change.why} == {("throughput_ratio 2 -> 9",)}


@pytest.mark.parametrize(
    ("numbers", "changed"),
    [
        ({"knee_factor": 4.0}, {"highest_load": "passed"}),
        ({"loss_share": 0.7}, {"replica_loss": "passed"}),
        ({"throughput_pairs": 9.0, "slo_seconds": 20.0, "counters_requests": 90.0, "upgrade_patience": 1.6}, {}),
        ({"kv_streams": 32.0}, {"kv_cache": "inconclusive", "prefix_cache": "skipped"}),
        ({"upgrade_patience": 2.0}, {"rolling_upgrade": "inconclusive"}),
    ],
)
def test_other_numbers_change_no_other_check(full: Path, numbers: dict[str, float], changed: dict[str, str]) -> None:
    found = again(full, **numbers)

    assert {change.check: change.now and change.now.status for change in found.changes} == changed
