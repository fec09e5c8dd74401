"""Plans: what they hash, so that nobody changes afterwards what was asked, or when."""

import msgspec
import pytest

from graders import arrivals
from graders.errors import HarnessError
from graders.plan import Plan, Request, Target
from graders.samples import Run
from graders.streaming import Asked

REQUESTS = tuple(Request(body=b"{%d}" % number, asked=Asked(tokens=1)) for number in range(2))
PLAN = Plan(
    target=Target(host="127.0.0.1", port=1), requests=REQUESTS, schedule=arrivals.constant(2, 1), window=1.0, seed=1
)


def test_the_digest_is_the_same_on_every_machine() -> None:
    assert PLAN.digest == "351b4f8fa4a0ae9dd183f2f9a0e5cd0d12a76ef5a4100867352d885d3afa2858"
    assert msgspec.json.decode(msgspec.json.encode(PLAN), type=Plan).digest == PLAN.digest


def test_the_digest_tells_what_is_sent_and_when() -> None:
    other = msgspec.structs.replace(REQUESTS[1], body=b"{}")
    longer = msgspec.structs.replace(REQUESTS[1], asked=Asked(tokens=2))
    changed = [
        msgspec.structs.replace(PLAN, schedule=arrivals.constant(2.5, 0.8)),
        msgspec.structs.replace(PLAN, schedule=arrivals.closed(2)),
        msgspec.structs.replace(PLAN, requests=(REQUESTS[0], other)),
        msgspec.structs.replace(PLAN, requests=(REQUESTS[0], longer)),
        msgspec.structs.replace(PLAN, requests=REQUESTS[::-1]),
        msgspec.structs.replace(PLAN, requests=REQUESTS[:1]),
    ]
    assert len({PLAN.digest, *(each.digest for each in changed)}) == 7


def test_a_record_whose_requests_were_changed_is_refused() -> None:
    lines = Run(PLAN, 0.0, 0.0, (), ()).encode()
    assert Run.decode(lines).plan == PLAN
    with pytest.raises(HarnessError) as caught:
        Run.decode(lines.replace(b'"tokens":1', b'"tokens":2', 1))
    assert str(caught.value) == (
        "these lines are a load run of format 'gpulab/load/v2' or were changed; this program reads 'gpulab/load/v2'"
    )
