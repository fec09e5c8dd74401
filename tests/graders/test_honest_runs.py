"""Honest engines under many loads are never accused; the same runs with one lie are. Seeds are fixed."""

import re

import msgspec
import pytest

from graders.crosscheck import compare
from graders.metrics import VLLM
from graders.scrape import Scrapes
from tests.graders.simulated_engine import Setting, Simulation

SETTINGS = {
    "a few requests": Setting(rate=1),
    "some load": Setting(rate=4),
    "much load": Setting(rate=8),
    "overload": Setting(rate=20),
    "as many streams as seats": Setting(streams=8),
    "three times as many": Setting(streams=24, requests=120),
    "long prompts": Setting(rate=2, prefill=0.004),
    "a machine with more work than cores": Setting(rate=4, path=0.01, stall=0.2),
    "batching off": Setting(rate=3, seats=1, requests=60),
    "short answers": Setting(rate=10, tokens=4),
}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_an_honest_engine_is_not_accused(setting: Setting) -> None:
    for seed in range(6):
        found = compare(VLLM, *Simulation(setting, seed).run(), path_seconds=0.5)
        assert found.disagreements == ()
        assert {"finished_requests", "mean_tpot", "buckets_ttft"} <= set(found.agreed)


def hiding(scrapes: Scrapes, name: str) -> Scrapes:
    """The same scrapes, in which a gauge is always 0."""
    line = re.compile(rf"^{name} .*$", re.MULTILINE)
    during = tuple(
        tuple(msgspec.structs.replace(each, text=line.sub(f"{name} 0", each.text)) for each in one)
        for one in scrapes.during
    )
    return msgspec.structs.replace(scrapes, during=during)


@pytest.mark.parametrize("name", ["overload", "three times as many"])
def test_a_queue_that_a_server_hides_is_found(name: str) -> None:
    for seed in range(6):
        scrapes, client = Simulation(SETTINGS[name], seed).run()
        found = compare(VLLM, hiding(scrapes, VLLM.waiting), client)
        assert [each.name for each in found.disagreements] == ["littles_law"]


@pytest.mark.parametrize("name", ["some load", "much load", "as many streams as seats"])
def test_a_server_that_hides_its_work_is_found(name: str) -> None:
    for seed in range(6):
        scrapes, client = Simulation(SETTINGS[name], seed).run()
        found = compare(VLLM, hiding(scrapes, VLLM.running), client)
        assert [each.name for each in found.disagreements] == ["littles_law"]
