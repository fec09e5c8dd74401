"""What is sent: the requests of a plan, as bodies for completions or chat, built from a seed before the clock starts.

Place: lab checks build the requests of a plan with it; what prompts say is in `prompts`. Limits: streamed answers of
one choice, exactly as long as asked by ignore_eos.

Completions send token ids, not text, because decoded random ids come back as another number of tokens. A chat can only
send text: how many tokens its template makes of it is not known here, and is left to the server's own count.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from graders.lengths import Fixed
from graders.plan import Request
from graders.prompts import Author, Prompt, Words, Workload, mixture, replayed
from graders.streaming import Asked
from graders.trace import Arrival


@dataclass(frozen=True, kw_only=True)
class Completions:
    """Requests for /v1/completions.

    `ids`: token ids to draw from; leave out the tokenizer's special tokens. `model`: name of the served model; another
    one that answers is a fault. `extra`: further fields of the body.
    """

    model: str
    ids: range
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """How many words prompts are drawn from."""
        return len(self.ids)

    def content(self, prompt: Prompt) -> dict[str, Any]:
        """The fields that say the prompt."""
        return {"prompt": [self.ids[word] for word in prompt.words], "max_tokens": prompt.output_tokens}

    def asked(self, prompt: Prompt) -> Asked:
        """What the answer is held to."""
        return Asked(tokens=prompt.output_tokens, prompt_tokens=len(prompt.words), model=self.model)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Requests for /v1/chat/completions: a prefix is the system's message, earlier answers are the assistant's.

    `words`: text to draw from; best such as the tokenizer makes one token of after a space. Others as in `Completions`.
    """

    model: str
    words: Sequence[str]
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        """How many words prompts are drawn from."""
        return len(self.words)

    def content(self, prompt: Prompt) -> dict[str, Any]:
        """The fields that say the prompt."""
        messages = [
            {"role": part.role, "content": " ".join(self.words[word] for word in part.words)} for part in prompt.parts
        ]
        return {"messages": messages, "max_completion_tokens": prompt.output_tokens}

    def asked(self, prompt: Prompt) -> Asked:
        """What the answer is held to."""
        return Asked(tokens=prompt.output_tokens, chat=True, model=self.model)


Form = Completions | Chat


def build(form: Form, workloads: Sequence[Workload], *, seed: int, count: int) -> tuple[Request, ...]:
    """So many requests of a workload or a mixture; the same arguments give the same bytes.

    Raises HarnessError when so many prompts cannot begin unlike each other.
    """
    return _requests(form, mixture(workloads, Author(seed, form.vocabulary), count))


def replay(form: Form, arrivals: Iterable[Arrival], *, seed: int, prefix_tokens: int = 0) -> tuple[Request, ...]:
    """A request for each arrival of a trace, with its lengths; send them by `arrivals.recorded`.

    Prompts with one prefix id begin with the same `prefix_tokens` tokens, shorter ones with what leaves some of their
    own. Raises HarnessError when so many prompts cannot begin unlike each other.
    """
    return _requests(form, list(replayed(arrivals, Author(seed, form.vocabulary), prefix_tokens)))


def completions(
    *,
    seed: int,
    count: int,
    ids: range,
    prompt_tokens: int,
    output_tokens: int,
    model: str,
    extra: Mapping[str, object] | None = None,
) -> tuple[Request, ...]:
    """So many completions of one length whose prompts are unlike each other; see `Completions` and `build`."""
    one = Workload(prompt=Fixed(prompt_tokens), output=Fixed(output_tokens))
    return build(Completions(model=model, ids=ids, extra=extra or {}), [one], seed=seed, count=count)


def shared_tokens(prompts: Iterable[Words]) -> list[int]:
    """For each prompt how many of its first words are those of one before it, at most."""
    # In alphabetical order the prompt that shares most stands next to it. Prompts of other first words share nothing.
    sorted_by_first: dict[int, list[Words]] = defaultdict(list)
    found = []
    for prompt in prompts:
        known = sorted_by_first[prompt[0]]
        place = bisect.bisect(known, prompt)
        found.append(max((_common(prompt, each) for each in known[max(0, place - 1) : place + 1]), default=0))
        known.insert(place, prompt)
    return found


def _requests(form: Form, prompts: Sequence[Prompt]) -> tuple[Request, ...]:
    shared: Sequence[int | None] = [None] * len(prompts)
    if isinstance(form, Completions):
        shared = shared_tokens(each.words for each in prompts)
    fields = {
        "model": form.model,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    return tuple(
        Request(
            body=msgspec.json.encode({**fields, **form.content(each), **form.extra}),
            asked=form.asked(each),
            workload=each.workload,
            prefix=each.prefix,
            session=each.session,
            turn=each.turn,
            shared_tokens=tokens,
        )
        for each, tokens in zip(prompts, shared, strict=True)
    )


def _common(one: Words, other: Words) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))
