"""Every variant of every lab is one that its reference can pass, as far as that shows without grading it."""

import itertools
from functools import partial
from pathlib import Path

import pytest

from graders.lab import Lab
from graders.submission import parse_values
from graders.variants import Variant, applied
from vllm_lab import caches
from vllm_lab.bench import PROMPT_TOKENS

ROOT = Path(__file__).resolve().parents[1]
LABS = [Lab.load(path.parent) for path in sorted(ROOT.glob("labs/*/lab.toml"))]
VLLM = Lab.load(ROOT / "labs/03_vllm")
MEBI, TOKEN_BYTES = 2**20, 2048


def all_variants(lab: Lab) -> list[Variant]:
    """Every combination of choices, at one level after the other."""
    per_level = {
        level: [dict(itertools.chain(*(each.items() for each in one))) for one in itertools.product(*groups.values())]
        for level, groups in lab.variants.items()
    }
    return [
        Variant(lab=lab.name, student="s", fingerprint="", numbers=dict(zip(per_level, one, strict=True)))
        for one in itertools.product(*per_level.values())
    ]


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_every_variant_is_one_of_the_lab_and_keeps_its_other_numbers(lab: Lab) -> None:
    for variant in all_variants(lab):
        graded = applied(lab, variant)
        for level, own in lab.thresholds.items():
            kept = {name: number for name, number in own.items() if name not in variant.numbers.get(level, {})}
            assert kept.items() <= graded.thresholds[level].items()
            assert own.keys() == graded.thresholds[level].keys()


def test_there_are_enough_of_them_that_two_students_seldom_have_the_same() -> None:
    assert len(all_variants(VLLM)) == 64


def engine_of(name: str) -> dict[str, int]:
    """The engine's sizes that a submission of ours asks for."""
    found = parse_values((ROOT / "tests" / name / "values.yaml").read_text(), name)["engine"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("variant", all_variants(VLLM), ids=lambda one: str(dict(one.numbers["L1"])))
def test_the_reference_of_03_vllm_has_room_for_every_variant(variant: Variant) -> None:
    number, engine = partial(applied(VLLM, variant).threshold, "L1"), engine_of("solutions/03_vllm")
    assert engine["kvCacheMemoryBytes"] < number("budget_kv_mib") * MEBI
    longest = number("prefix_tokens") + caches.OWN_TOKENS + caches.ANSWER_TOKENS
    assert max(longest, PROMPT_TOKENS + number("upgrade_output_tokens")) < engine["maxModelLen"]
    answers = number("kv_streams") * (PROMPT_TOKENS + number("kv_output_tokens"))
    assert number("kv_streams") <= engine["maxNumSeqs"]
    assert answers * TOKEN_BYTES * 4 < engine["kvCacheMemoryBytes"]
    assert number("kv_flowing") == 0.75 * number("kv_streams")
    assert number("prefix_tokens") % 64 == 0


@pytest.mark.parametrize("variant", all_variants(VLLM), ids=lambda one: str(dict(one.numbers["L1"])))
def test_the_fault_of_a_cache_too_small_is_one_in_every_variant(variant: Variant) -> None:
    lab = applied(VLLM, variant)
    longest = lab.threshold("L1", "kv_streams") * (PROMPT_TOKENS + lab.threshold("L1", "kv_output_tokens"))
    engine = engine_of("faults/03_vllm/kv_cache_too_small")
    assert longest * TOKEN_BYTES > 1.5 * engine["kvCacheMemoryBytes"]


def test_a_cache_as_large_as_one_student_may_have_is_too_large_for_others() -> None:
    budgets = [variant.numbers["L1"]["budget_kv_mib"] for variant in all_variants(VLLM)]
    assert sum(budget < max(budgets) for budget in budgets) == 48
    longest = {variant.numbers["L1"]["prefix_tokens"] for variant in all_variants(VLLM)}
    assert len(longest) == 4
