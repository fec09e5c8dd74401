"""The scorecard, whole: what a learner reads after a run."""

import shlex
from pathlib import Path

import msgspec
import pytest

from graders.report import render_scorecard, typed
from graders.rubric import Left
from graders.told import score as scored
from tests.graders.verdicts import result, verdict_on

PLACE = Path("results/03_vllm/20260901T120000Z-a1b2c3/verdict.json")
STREAMS = result(
    "streams",
    "passed",
    30,
    title="Streams are correct",
    expected="every stream whole: lengths, finish reason, usage, [DONE]",
    observed="64 of 64 streams are whole",
    n=64,
    why="Nothing else counts while answers are broken.",
)
THROUGHPUT = result(
    "throughput",
    "failed",
    40,
    expected="at least 2 times the starter's tokens per second",
    observed="1.102 times",
    unit="times",
    value=1.102,
    n=5,
    interval=(1.0211, 1.2),
    confidence=0.95,
    hint="Look at how many sequences one step serves.\nRaise max-num-seqs.",
    why="A GPU that serves one request at a time is mostly idle: batching is what its memory bandwidth is for.",
    attempts=2,
    error_class="learner",
)
OBJECTIVE = result(
    "objective", "skipped", 30, title="Service-level objective", observed="not measured, as 'Throughput' did not pass"
)
VERDICT = verdict_on((STREAMS, THROUGHPUT, OBJECTIVE), title="Serve a model within its service-level objective")
SCORECARD = """\
03_vllm: Serve a model within its service-level objective

passed          30/30  Streams are correct
  expected    every stream whole: lengths, finish reason, usage, [DONE]
  observed    64 of 64 streams are whole (n = 64)

failed           0/40  Throughput
  expected    at least 2 times the starter's tokens per second
  observed    1.102 times (n = 5; 95% interval 1.021 to 1.2 times; measured 2
              times)
  why         A GPU that serves one request at a time is mostly idle: batching
              is what its memory bandwidth is for.
  hint        Look at how many sequences one step serves.
              Raise max-num-seqs.

skipped          0/30  Service-level objective
  observed    not measured, as 'Throughput' did not pass

30/100 failed
level L1; simulated: GPUs

what to look at next:
  pytest labs/03_vllm -k test_throughput
  gpulab report results/03_vllm/20260901T120000Z-a1b2c3

verdict, with evidence beside it:
results/03_vllm/20260901T120000Z-a1b2c3/verdict.json
"""


def test_a_scorecard_is_this_text() -> None:
    assert render_scorecard(VERDICT, PLACE) == SCORECARD


def test_full_marks_are_said_in_one_line_and_nothing_is_next() -> None:
    whole = msgspec.structs.replace(VERDICT, points=100, status="passed", checks=())
    text = render_scorecard(whole, PLACE)
    assert "\n100/100 passed\n" in text
    assert "next" not in text


def test_a_command_that_fits_on_no_line_can_still_be_copied() -> None:
    flags = ("--name=course", "--submission=/home/instructor/handed in/alice", "--images=/srv/own.toml")
    page = render_scorecard(msgspec.structs.replace(VERDICT, flags=flags), PLACE)
    told = page.partition("what to look at next:\n")[2].partition("  gpulab report")[0]
    assert told == (
        "  pytest labs/03_vllm -k test_throughput --name=course \\\n"
        "    '--submission=/home/instructor/handed in/alice' --images=/srv/own.toml\n"
    )
    alone = ["pytest", "labs/03_vllm", "-k", "test_throughput", *flags]
    assert shlex.split(told.replace("\\\n", "")) == alone
    assert typed(shlex.join(alone), 10).count(" \\\n") == 6


LEFT = Left(
    "03-vllm-x2k4p", "gpulab kubectl --namespace 03-vllm-x2k4p", "gpulab kubectl delete namespace 03-vllm-x2k4p"
)
WITH_LEFT = """
what to look at next:
  gpulab kubectl --namespace 03-vllm-x2k4p get pods -o wide
  gpulab kubectl --namespace 03-vllm-x2k4p events --types=Warning
  pytest labs/03_vllm -k test_throughput
  gpulab report results/03_vllm/20260901T120000Z-a1b2c3

left on the cluster; remove it before you grade again:
  gpulab kubectl delete namespace 03-vllm-x2k4p

verdict, with evidence beside it:
results/03_vllm/20260901T120000Z-a1b2c3/verdict.json
"""


def test_what_was_left_on_the_cluster_is_said_with_how_to_remove_it() -> None:
    left = msgspec.structs.replace(VERDICT, left=LEFT)
    before, _, after = render_scorecard(left, PLACE).partition("\nlevel L1; simulated: GPUs\n")
    assert SCORECARD.startswith(before)
    assert after == WITH_LEFT
    passed = render_scorecard(msgspec.structs.replace(left, status="passed", checks=()), PLACE)
    assert passed.endswith(WITH_LEFT.replace("  pytest labs/03_vllm -k test_throughput\n", ""))


@pytest.mark.parametrize("width", [60, 80])
def test_it_fits_and_has_no_escapes(width: int) -> None:
    endless = msgspec.structs.replace(THROUGHPUT, title="T" * 200, observed="x" * 200, status="inconclusive")
    verdict = msgspec.structs.replace(VERDICT, checks=(*VERDICT.checks, endless), reason="y" * 200)
    place = PLACE.parent / ("z" * 200) / PLACE.name
    lines = render_scorecard(verdict, place, width=width).splitlines()
    assert {line.strip() for line in lines if len(line) > width} == {str(place), str(place.parent)}
    assert not any("\x1b" in line for line in lines)


def test_colour_is_there_when_asked_for() -> None:
    assert "\x1b[1;31mfailed" in render_scorecard(VERDICT, PLACE, color=True)


def test_what_a_pod_said_steers_no_terminal_and_is_no_markup() -> None:
    nasty = msgspec.structs.replace(STREAMS, observed="[bold]\x1b[2J\rowned", n=None)
    text = render_scorecard(msgspec.structs.replace(VERDICT, checks=(nasty,)), PLACE)
    assert "observed    [bold]\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}owned\n" in text


def test_a_run_that_saw_no_cluster_says_so() -> None:
    blind = msgspec.structs.replace(
        VERDICT, level=None, simulated=None, status="error", reason="the run did not finish"
    )
    assert (
        "30/100 error\nthe run did not finish\nno cluster was seen, so what is simulated is not known\n"
        in render_scorecard(blind, PLACE)
    )


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("infrastructure", "of the lab's infrastructure, not yours"),
        ("harness", "of the grader, not yours"),
    ],
)
def test_an_error_says_whose_fault_it_is(fault: str, said: str) -> None:
    broken = msgspec.structs.replace(STREAMS, status="error", error_class=fault)
    assert f"fault       {said}\n" in render_scorecard(msgspec.structs.replace(VERDICT, checks=(broken,)), PLACE)


def test_a_real_cluster_simulates_nothing() -> None:
    real = msgspec.structs.replace(VERDICT, level="L3", simulated=())
    assert "\nlevel L3; simulated: nothing\n" in render_scorecard(real, PLACE)


@pytest.mark.parametrize(
    ("essential", "score"),
    [
        ({}, "0/100 failed; nothing is earned without 'Throughput'"),
        ({"hidden": True}, "0/100 failed; nothing is earned without another check"),
        ({"status": "error"}, "0/100 error"),
    ],
)
def test_a_score_names_the_check_without_which_nothing_is_earned(essential: dict[str, object], score: str) -> None:
    throughput = msgspec.structs.replace(THROUGHPUT, essential=True, **essential)
    checks = (msgspec.structs.replace(STREAMS, points=0), throughput, OBJECTIVE)
    assert scored(verdict_on(checks)) == score
