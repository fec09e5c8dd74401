"""What is sent: prompts drawn from a seed as token ids, each unlike any other, so that no cache can help.

Place: lab checks build the requests of a plan with it. Limits: completions; every request has the same lengths. Token
ids are sent, not text, because decoded random ids come back as another number of tokens.
"""

import random
from collections.abc import Mapping

import msgspec

from graders.errors import HarnessError
from graders.plan import Request
from graders.streaming import Asked

NONCE = 4
"""So many first ids of a prompt are those of no other prompt of its workload."""


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
    """Requests for streamed completions of exactly `output_tokens` tokens.

    Args:
        seed: of the prompts; the same seed gives the same bytes.
        count: how many requests.
        ids: token ids to draw from; leave out the tokenizer's special tokens.
        prompt_tokens: length of each prompt, at least the nonce's.
        output_tokens: length of each answer, exact by ignore_eos.
        model: name of the served model; another one that answers is a fault.
        extra: further fields of the body.

    Raises:
        HarnessError: so many prompts cannot differ in their first tokens.
    """
    if prompt_tokens < NONCE or len(ids) ** NONCE < 2 * count:
        raise HarnessError(
            f"{count} prompts of {prompt_tokens} tokens from {len(ids)} ids cannot all begin differently; "
            f"give at least {NONCE} tokens and more ids"
        )
    source = random.Random(seed)  # noqa: S311 - reproducible prompts, not a secret
    asked = Asked(tokens=output_tokens, prompt_tokens=prompt_tokens, model=model)
    fields = {
        "model": model,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        **(extra or {}),
    }
    used: set[tuple[int, ...]] = set()
    requests = []
    for _ in range(count):
        prompt = _draw(source, ids, prompt_tokens, used)
        requests.append(Request(body=msgspec.json.encode({**fields, "prompt": prompt}), asked=asked))
    return tuple(requests)


def _draw(source: random.Random, ids: range, length: int, used: set[tuple[int, ...]]) -> list[int]:
    while (nonce := tuple(source.choices(ids, k=NONCE))) in used:
        pass
    used.add(nonce)
    return [*nonce, *source.choices(ids, k=length - NONCE)]
