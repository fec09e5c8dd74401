"""Every liar is caught by the checks that name its lie and accused of nothing else; the honest stub of nothing."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from graders.plan import Target
from graders.process import Child
from tests.graders import inspection
from tests.graders.inspection import Report
from tests.graders.liars import SERVERS
from tests.graders.lying_answers import ANSWERS
from tests.patience import PATIENCE

pytestmark = pytest.mark.alone

HONEST = ("honest", "prefix_cache", "says_it_simulates")
TIMES = 3
"""So often is each of the honest examined; `benchmarks/honest.py` does it 200 times beside busy processes."""
LIES = {
    "inflated_usage": {"usage"},
    "truncated": {"length", "usage"},
    "stops_early": {"length", "finish_reason"},
    "empty_first_chunk": {"early_chunk"},
    "text_first": {"early_chunk"},
    "end_burst": {"held_back"},
    "all_at_once": {"held_back", "coalesced_chunks"},
    "many_to_a_chunk": {"coalesced_chunks"},
    "coalesced_chunks": {"coalesced_chunks"},
    "error_inside": {"error_inside", "no_finish_reason", "no_usage", "length"},
    "error_body": {"error_inside", "protocol"},
    "wrong_model": {"model"},
    "another_tokenizer": {"prompt_tokens"},
    "foreign_text": {"tokenizer"},
    "no_ids": {"no_token_ids"},
    "no_done": {"no_done"},
    "cut": {"broken_off"},
    "shifted_clock": {"clock"},
    "canned_tokens": {"canned_tokens"},
    "response_cache": {"response_cache"},
    "first_seed_only": {"tuned_to_seed"},
    "drops_under_load": {"drops_under_load", "status"},
    "healthy_while_probed": {"healthy_while_probed", "status"},
    "closes_connections": {"closes_connections"},
    "hangs_up": {"closes_connections"},
    "frozen_metrics": {"frozen_metrics"},
    "idle_gauges": {"littles_law"},
    "faked_histogram": {"impossible_histogram"},
    "counter_reset": {"counter_reset"},
    "counts_double": {"generation_tokens", "step_tokens"},
    "counts_others": {"finished_requests", "prompt_tokens", "generation_tokens", "histogram_counts"},
    "claims_hits": {"prefix_cache_hits"},
    "fast_clock": {"mean_tpot", "mean_ttft", "mean_e2e"},
    "flatters": {"mean_tpot"},
    "poses_as_gpu": {"simulated_gpu"},
}
"""What each is accused of."""
ALSO = {"counts_others": {"counters_during"}, "counts_double": {"counters_during"}}
"""What is true of it as well, and depends on the moments at which one looked."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Report]]]:
    """Each of them examined, a few at a time; again, up to five times, who was not caught.

    A machine that is busy with other things blurs an examination: a liar may slip through, but nobody is ever accused
    of what is not true.
    """
    folder = tmp_path_factory.mktemp("liars")
    argv = [sys.executable, "-m", "tests.graders.liars", str(inspection.TTFT), str(inspection.TPOT)]
    with Child(argv, log=folder / "liars.log") as child, ThreadPoolExecutor(4) as pool:
        ports = inspection.ports(child.hear(PATIENCE))
        asked = {
            name: pool.submit(examined, name, Target(host="127.0.0.1", port=port), number, folder)
            for number, (name, port) in enumerate(ports.items(), 100)
        }
        yield {name: each.result(PATIENCE) for name, each in asked.items()}


def examined(name: str, target: Target, seed: int, folder: Path) -> list[Report]:
    """A liar until it is caught, five times at most; one after the other, as a server must be examined alone."""
    found: list[Report] = []
    while len(found) < (TIMES if name in HONEST else 5):
        turn = len(found)
        found.append(inspection.examine(target, 1000 * turn + seed, folder, turn=turn))
        if name in LIES and LIES[name] <= found[-1].names:
            break
    return found


def test_every_liar_is_in_the_table() -> None:
    assert {*HONEST, *LIES} == {*ANSWERS, *SERVERS}
    assert len(LIES) >= 20


def test_the_documentation_says_who_is_accused_of_what() -> None:
    text = (Path(__file__).parents[2] / "docs" / "measurement.md").read_text()
    table = text.partition("| lie | what it does | accused of |\n|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [row.strip("|").split("|") for row in table.splitlines()]
    assert {lie.strip(): set(names.replace(",", " ").split()) for lie, _, names in rows} == LIES


@pytest.mark.slow
@pytest.mark.parametrize("name", LIES)
def test_a_liar_is_accused_of_its_lie_and_of_nothing_else(reports: dict[str, list[Report]], name: str) -> None:
    *before, last = reports[name]
    assert last.names - ALSO.get(name, set()) == LIES[name], last.accusations
    assert all(each.names <= LIES[name] | ALSO.get(name, set()) for each in before), before


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_the_honest_are_accused_of_nothing(reports: dict[str, list[Report]], name: str) -> None:
    assert [each.accusations for each in reports[name]] == [()] * TIMES
