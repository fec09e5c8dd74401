"""Workloads: the same bytes from the same seed, beginnings shared exactly where asked, and shares kept."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import arrivals, workload
from graders.errors import HarnessError
from graders.lengths import Fixed, Lognormal, Uniform
from graders.plan import Plan, Request, Target
from graders.prompts import NONCE, Prefixes, Sessions, Workload
from graders.streaming import Asked
from graders.trace import Arrival
from graders.workload import Chat, Completions

quick = settings(derandomize=True, max_examples=20, deadline=None)
seeds = st.integers(0, 2**32)
FORM = Completions(model="stub", ids=range(100, 4100))
CHAT = Chat(model="stub", words=[f"w{number}" for number in range(500)])
ALONE = Workload(name="alone", prompt=Uniform(8, 40), output=Lognormal(16, 0.5, 4, 64))
TALKS = Workload(name="talks", prompt=Uniform(5, 9), output=Uniform(3, 6), sessions=Sessions(Uniform(1, 5), live=3))
GROUPS = Workload(name="groups", prompt=Fixed(6), output=Fixed(2), prefixes=Prefixes(4, 32))
MIXED = [ALONE, TALKS, GROUPS]


def body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(request.body)
    return found


def prompts(requests: Sequence[Request]) -> list[list[int]]:
    return [body(each)["prompt"] for each in requests]


def common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def build(*workloads: Workload, seed: int = 1, count: int = 100) -> tuple[Request, ...]:
    return workload.build(FORM, workloads, seed=seed, count=count)


def test_completions_of_one_length_begin_differently() -> None:
    made = workload.completions(
        seed=1, count=200, ids=range(100, 9000), prompt_tokens=8, output_tokens=3, model="stub", extra={"stub": "x"}
    )
    bodies = [body(each) for each in made]
    assert len({tuple(each["prompt"][:NONCE]) for each in bodies}) == 200
    assert {len(each["prompt"]) for each in bodies} == {8}
    prompt = bodies[0].pop("prompt")
    assert all(100 <= each < 9000 for each in prompt)
    assert bodies[0] == {
        "model": "stub",
        "max_tokens": 3,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "stub": "x",
    }
    assert {each.asked for each in made} == {Asked(tokens=3, prompt_tokens=8, model="stub")}


@quick
@given(seeds)
def test_the_same_seed_gives_the_same_bytes(seed: int) -> None:
    made = build(*MIXED, seed=seed, count=30)
    assert made == build(*MIXED, seed=seed, count=30)
    assert made != build(*MIXED, seed=seed + 1, count=30)


def test_the_digest_of_a_whole_load_is_the_same_on_every_machine() -> None:
    plan = Plan(
        target=Target(host="127.0.0.1", port=1),
        requests=build(*MIXED),
        schedule=arrivals.constant(4, 25),
        window=25.0,
        seed=1,
    )
    assert plan.digest == "f64a681be9b39d3f61b0d70151de995609c190fc9151056d65410d56e76b7dc8"


@quick
@given(seeds, st.integers(1, 300))
def test_prompts_alone_share_nothing(seed: int, count: int) -> None:
    made = build(ALONE, seed=seed, count=count)
    assert len({each[0] for each in prompts(made)}) == count
    assert {each.shared_tokens for each in made} == {0}


def test_with_more_prompts_than_ids_the_first_ids_still_differ_together() -> None:
    form = Completions(model="m", ids=range(20))
    made = workload.build(form, [Workload(prompt=Fixed(9), output=Fixed(1))], seed=1, count=500)
    assert len({tuple(each[:NONCE]) for each in prompts(made)}) == 500
    assert max(each.shared_tokens or 0 for each in made) < NONCE


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 60))
def test_prefix_groups_share_exactly_their_prefix(seed: int, groups: int, tokens: int) -> None:
    made = build(Workload(prompt=Fixed(6), output=Fixed(2), prefixes=Prefixes(groups, tokens)), seed=seed, count=40)
    said = list(zip(made, prompts(made), strict=True))
    for (one, mine), (other, theirs) in itertools.combinations(said, 2):
        assert common(mine, theirs) == (tokens if one.prefix == other.prefix else 0)
    assert {len(each) for _, each in said} == {tokens + 6}
    assert len({each.prefix for each in made}) <= groups
    seen: set[str | None] = set()
    for request in made:
        assert request.shared_tokens == (tokens if request.prefix in seen else 0)
        seen.add(request.prefix)


def test_every_prefix_group_is_drawn() -> None:
    found = Counter(each.prefix for each in build(GROUPS, count=400))
    assert set(found) == {"groups/0", "groups/1", "groups/2", "groups/3"}
    assert min(found.values()) > 60


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 5), st.integers(1, 80))
def test_a_turn_contains_the_earlier_ones_and_their_stand_ins(seed: int, turns: int, live: int, count: int) -> None:
    talks = Workload(prompt=Uniform(5, 9), output=Uniform(3, 6), sessions=Sessions(Uniform(1, turns), live))
    made = build(talks, seed=seed, count=count)
    last: dict[int, tuple[Request, list[int], int]] = {}
    for place, (request, prompt) in enumerate(zip(made, prompts(made), strict=True)):
        assert request.session is not None
        assert request.turn is not None
        assert request.turn < turns
        if request.session in last:
            before, earlier, index = last[request.session]
            assert place - index == live
            assert request.turn == (before.turn or 0) + 1
            assert prompt[: len(earlier)] == earlier
            new = len(prompt) - len(earlier) - before.asked.tokens
            assert 5 <= new <= 9
            assert request.shared_tokens == len(earlier)
        else:
            assert request.shared_tokens == 0
            assert request.turn == 0 or request.session < live
        last[request.session] = (request, prompt, place)


def test_sessions_do_not_grow_in_step() -> None:
    made = build(Workload(prompt=Fixed(8), output=Fixed(4), sessions=Sessions(Fixed(8), 40)), count=400)
    means = [sum(len(each) for each in prompts(made)[part : part + 40]) / 40 for part in range(0, 400, 40)]
    assert means == pytest.approx([8 + 3.5 * 12] * 10, rel=0.25)


def test_a_conversation_keeps_its_prefix() -> None:
    both = Workload(
        prompt=Fixed(5), output=Fixed(3), sessions=Sessions(Fixed(3), 2), prefixes=Prefixes(groups=2, tokens=20)
    )
    made = build(both, count=60)
    by_session: dict[int | None, set[str | None]] = {}
    begins: dict[str | None, set[tuple[int, ...]]] = {}
    for request, prompt in zip(made, prompts(made), strict=True):
        by_session.setdefault(request.session, set()).add(request.prefix)
        begins.setdefault(request.prefix, set()).add(tuple(prompt[:20]))
    assert {len(each) for each in by_session.values()} == {1}
    assert [len(each) for each in begins.values()] == [1, 1]


@quick
@given(seeds, st.lists(st.floats(0.05, 5), min_size=1, max_size=5), st.integers(0, 300))
def test_mixtures_keep_their_shares(seed: int, shares: list[float], count: int) -> None:
    parts = [
        Workload(name=str(number), prompt=Fixed(5), output=Fixed(1), share=share) for number, share in enumerate(shares)
    ]
    found = Counter(each.workload for each in build(*parts, seed=seed, count=count))
    assert found.total() == count
    for each in parts:
        assert abs(found[each.name] - count * each.share / sum(shares)) < 1 + 1e-6


def test_a_mixture_is_mixed() -> None:
    first = Counter(each.workload for each in build(*MIXED, count=600)[:300])
    assert all(70 < first[each.name] < 130 for each in MIXED)


def test_one_concern_does_not_shift_another() -> None:
    made = build(ALONE)
    longer = build(replace(ALONE, prompt=Fixed(40)))
    assert all(theirs[: len(mine)] == mine for mine, theirs in zip(prompts(made), prompts(longer), strict=True))
    assert [each.asked.tokens for each in made] == [each.asked.tokens for each in longer]
    assert prompts(build(replace(ALONE, output=Fixed(1)))) == prompts(made)
    assert prompts(build(ALONE, count=50)) == prompts(made)[:50]
    mixed = [each for each in build(ALONE, GROUPS, count=200) if each.workload == "alone"]
    assert [each.asked for each in mixed] == [each.asked for each in made]


def test_a_chat_says_prefix_and_earlier_turns_as_messages() -> None:
    both = Workload(
        prompt=Fixed(4), output=Fixed(2), sessions=Sessions(Fixed(2), 1), prefixes=Prefixes(groups=1, tokens=5)
    )
    made = workload.build(CHAT, [both], seed=4, count=4)
    turn = next(each for each in made if each.turn == 1)
    found = body(turn)
    messages = found.pop("messages")
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "user"]
    assert [len(each["content"].split()) for each in messages] == [5, 4, 2, 4]
    assert set(" ".join(each["content"] for each in messages).split()) <= set(CHAT.words)
    assert found == {
        "model": "stub",
        "max_completion_tokens": 2,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    assert turn.asked == Asked(tokens=2, chat=True, model="stub")
    assert turn.shared_tokens is None


def test_a_trace_gives_lengths_and_shared_beginnings() -> None:
    lines = [
        Arrival(0.0, 30, 5, "a"),
        Arrival(0.5, 2, 93),
        Arrival(1.0, 40, 7, "a"),
        Arrival(1.5, 12, 7, "a"),
        Arrival(2.0, 30, 7, "b"),
        Arrival(2.5, 3, 7, "b"),
    ]
    made = workload.replay(FORM, lines, seed=3, prefix_tokens=20)
    assert [len(each) for each in prompts(made)] == [30, 2, 40, 12, 30, 3]
    assert [each.asked.tokens for each in made] == [5, 93, 7, 7, 7, 7]
    assert [each.shared_tokens for each in made] == [0, 0, 20, 12 - NONCE, 0, 0]
    assert [each.prefix for each in made] == ["a", None, "a", "a", "b", None]
    assert made == workload.replay(FORM, lines, seed=3, prefix_tokens=20)
    alone = workload.replay(FORM, lines, seed=3)
    assert {each.shared_tokens for each in alone} == {0}
    assert [each.time for each in lines] == list(arrivals.recorded([each.time for each in lines]).times)


@quick
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=30))
def test_shared_tokens_are_the_most_that_any_earlier_prompt_has(made: list[list[int]]) -> None:
    found = workload.shared_tokens([tuple(each) for each in made])
    for place, each in enumerate(made):
        assert found[place] == max((common(each, before) for before in made[:place]), default=0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: workload.completions(seed=1, count=100, ids=range(3), prompt_tokens=8, output_tokens=1, model="m"),
            "a prompt of 8 tokens from 3 ids or words cannot begin unlike 40 others; "
            "give at least 4 tokens and more ids or words",
        ),
        (
            lambda: Prefixes(groups=0, tokens=4),
            "a workload was asked for with a number of prefix groups of 0; it must be above 0",
        ),
        (
            lambda: Prefixes(groups=1, tokens=0),
            "a workload was asked for with a prefix length of 0; it must be above 0",
        ),
        (
            lambda: Sessions(Fixed(2), live=0),
            "a workload was asked for with a number of live sessions of 0; it must be above 0",
        ),
        (
            lambda: Workload(prompt=Fixed(4), output=Fixed(1), share=0),
            "a workload was asked for with a share of 0; it must be above 0",
        ),
        (
            lambda: build(ALONE, ALONE),
            "a mixture was asked for of workloads named ['alone', 'alone']; give one or more with unlike names",
        ),
        (
            lambda: build(),
            "a mixture was asked for of workloads named []; give one or more with unlike names",
        ),
    ],
)
def test_impossible_workloads_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        make()
    assert str(caught.value) == said


@quick
@given(seeds)
def test_a_first_word_is_given_again_where_short_prompts_used_up_the_others(seed: int) -> None:
    lines = [Arrival(0.0, tokens, 1) for tokens in (1, 8, 8, 8, 8, 8, 8, 1)]
    made = prompts(workload.replay(Completions(model="m", ids=range(4)), lines, seed=seed))
    assert len({tuple(each) for each in made}) == 8
