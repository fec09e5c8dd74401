"""Answers that each lie in one way, on top of the honest stub's.

Place: `liars` serves them. Limits: each lies in every answer, and about nothing else.
"""

import time
from collections.abc import Sequence

from tests.graders.stub_server import LAST, Answer, Request, Stub, event, plain, word
from tests.graders.stub_wire import Wire


class InflatedUsage(Answer):
    def usage(self) -> dict[str, int]:
        return super().usage() | {"completion_tokens": 100 * self.sent}


class Truncated(Answer):
    """Half of the answer, with the finish_reason and the usage of all of it."""

    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        self.steps = self.steps[: len(self.steps) // 2]

    def usage(self) -> dict[str, int]:
        return super().usage() | {"completion_tokens": self.request.tokens}


class StopsEarly(Truncated):
    """Half of the answer, as if the model had come to an end."""

    def finish(self) -> str:
        return "stop"

    def usage(self) -> dict[str, int]:
        return Answer.usage(self)


class EmptyFirstChunk(Answer):
    opening = ""

    def begin(self) -> None:
        super().begin()
        self.write(self.encode(self.opening, [], None))


class TextFirst(EmptyFirstChunk):
    opening = " "


class EndBurst(Answer):
    """The first token in time, all others together at the end."""

    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        first, last = self.steps[0][0], self.steps[-1][0]
        self.steps = [(first, 1)] + [(max(last, first + 0.15), 1)] * (len(self.steps) - 1)


class AllAtOnce(Answer):
    """A proxy that buffers: every token when the last one is there."""

    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        self.steps = [(self.steps[-1][0], len(self.ids))]


class ManyToAChunk(Answer):
    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        self.shape.each = 4
        self.steps = self.shape.steps(len(self.ids))


class CoalescedChunks(Answer):
    """A token to a chunk, but four chunks to a write."""

    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        self.steps = [(self.steps[place // 4 * 4 + 3][0], 1) for place in range(len(self.steps) // 4 * 4)]
        self.ids = self.ids[: len(self.steps)]
        self.held = b""

    def write(self, data: bytes) -> None:
        self.held += data
        if self.place % 4 == 0:
            super().write(self.held)
            self.held = b""


class ErrorInside(Answer):
    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        self.shape.error_after = 3


class ErrorBody(Answer):
    """HTTP 200 with an error instead of a stream."""

    def begin(self) -> None:
        self.wire.whole(plain("200 OK", b'{"error":{"message":"the engine is dead","code":500}}'))


class WrongModel(Answer):
    def model(self) -> str:
        return "other"


class AnotherTokenizer(Answer):
    """Its tokenizer takes fewer tokens for the same prompt."""

    def usage(self) -> dict[str, int]:
        return super().usage() | {"prompt_tokens": (len(self.request.prompt) + 1) // 2}


class ForeignText(Answer):
    """The text is not that of the token ids."""

    def words(self, ids: Sequence[int]) -> str:
        return "".join(word(each + 1) for each in ids)


class NoIds(Answer):
    def encode(self, text: str, ids: Sequence[int], finish: str | None) -> bytes:
        return super().encode(text, [] if ids != [0] else ids, finish)

    def text(self, ids: Sequence[int]) -> bytes:
        return self.encode(self.words(ids), ids, None)


class NoDone(Answer):
    def end(self) -> None:
        last = event(self.head | {"object": "text_completion", "choices": [], "usage": self.usage()})
        self.write(last + LAST)
        self.stub.finished.append(self)
        self.over()


class Cut(Answer):
    """The connection ends in the middle."""

    def chunk(self) -> None:
        super().chunk()
        if self.place == 3:
            self.wire.close()


class ShiftedClock(Answer):
    def created(self) -> int:
        return int(time.time()) + 3600


class Canned(Answer):
    """The same tokens whatever the prompt."""

    def __init__(self, stub: Stub, wire: Wire, request: Request) -> None:
        super().__init__(stub, wire, request)
        self.ids = list(range(2000, 2000 + len(self.ids)))


ANSWERS = {
    "honest": Answer,
    "inflated_usage": InflatedUsage,
    "truncated": Truncated,
    "stops_early": StopsEarly,
    "empty_first_chunk": EmptyFirstChunk,
    "text_first": TextFirst,
    "end_burst": EndBurst,
    "all_at_once": AllAtOnce,
    "many_to_a_chunk": ManyToAChunk,
    "coalesced_chunks": CoalescedChunks,
    "error_inside": ErrorInside,
    "error_body": ErrorBody,
    "wrong_model": WrongModel,
    "another_tokenizer": AnotherTokenizer,
    "foreign_text": ForeignText,
    "no_ids": NoIds,
    "no_done": NoDone,
    "cut": Cut,
    "shifted_clock": ShiftedClock,
    "canned_tokens": Canned,
}
"""Lies of an answer, by name."""


def refuse(wire: Wire) -> None:
    wire.whole(plain("503 Service Unavailable", b'{"error":{"message":"no healthy replica","code":503}}'))


class Refused(Answer):
    def begin(self) -> None:
        refuse(self.wire)


class Silent(Answer):
    def begin(self) -> None:
        pass


FAILURES: dict[str, type[Answer]] = {"refused": Refused, "silent": Silent}
"""No lies, but no answers."""
