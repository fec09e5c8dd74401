"""What prompts say: words of a vocabulary, drawn from a seed, some beginning alike, some in conversations. Pure.

Place: `workload` makes requests of them. Limits: a word is its number in the vocabulary, and stands for one token where
the vocabulary is one of token ids.

Every prompt begins unlike all others, so that no cache can help, except where a workload shares prefixes or goes on
with a conversation. There the prompt of each turn is the one before it, an answer, and something new. The answer is a
stand-in, drawn beforehand with the length that was asked for: so everything is built before the clock starts, and a
server's answer cannot change what it is asked next. A prefix cache has the earlier turn's prompt, not that answer.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from graders.errors import HarnessError
from graders.lengths import Lengths
from graders.seeds import source
from graders.trace import Arrival

NONCE = 4
"""So many first words of a prompt, or of what follows a shared prefix, are those of no other one."""

Role = Literal["system", "user", "assistant"]
Words = tuple[int, ...]


class Part(NamedTuple):
    """What one side says: a shared prefix is the system's."""

    role: Role
    words: Words


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt, the length of the answer to ask for, and where it comes from, as in `plan.Request`."""

    parts: tuple[Part, ...]
    output_tokens: int
    workload: str | None = None
    prefix: str | None = None
    session: int | None = None
    turn: int | None = None

    @property
    def words(self) -> Words:
        """All of it."""
        return tuple(itertools.chain.from_iterable(part.words for part in self.parts))


@dataclass(frozen=True)
class Prefixes:
    """Prompts begin with one of `groups` prefixes of so many tokens, each prompt or conversation with any of them."""

    groups: int
    tokens: int

    def __post_init__(self) -> None:
        _positive("number of prefix groups", self.groups)
        _positive("prefix length", self.tokens)


@dataclass(frozen=True)
class Sessions:
    """Conversations of so many turns, `live` of them at any time, which take turns in the order of the requests.

    Request n of the workload belongs to conversation n mod `live`; where that one has ended, to a new one. So turns of
    one are `live` requests apart: in a closed loop of `live` streams each stream is a conversation, and otherwise that
    many arrivals lie between two of its turns, whether or not the answer has come. The first conversations begin at
    a turn drawn at random, with a past that was never sent, or all would grow long at the same time.
    """

    turns: Lengths
    live: int

    def __post_init__(self) -> None:
        _positive("number of live sessions", self.live)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One kind of requests.

    Attributes:
        name: keeps its random streams apart from those of others.
        prompt: tokens that each prompt has beside its prefix and the earlier turns.
        output: tokens of each answer.
        share: of all requests of a mixture, relative to the shares of the others.
        prefixes: which begin alike; None for none.
        sessions: conversations; None for requests that stand alone.
    """

    prompt: Lengths
    output: Lengths
    name: str = "all"
    share: float = 1.0
    prefixes: Prefixes | None = None
    sessions: Sessions | None = None

    def __post_init__(self) -> None:
        _positive("share", self.share)


class Author:
    """Writes words from the streams of one seed, and knows which beginnings it gave.

    Each text has a random stream by its own name, so that the length of one changes no other.
    """

    def __init__(self, seed: int, vocabulary: int) -> None:
        self.seed, self.vocabulary = seed, vocabulary
        self._firsts: dict[str, set[int]] = defaultdict(set)
        self._nonces: dict[tuple[str, int], set[Words]] = defaultdict(set)
        self._prefixes: dict[str, Words] = {}

    def words(self, name: str, count: int) -> Words:
        """So many words, drawn with replacement."""
        return tuple(source(self.seed, name).choices(range(self.vocabulary), k=count))

    def beginning(self, name: str, count: int, after: str = "") -> Words:
        """So many words that begin unlike all others after the same prefix.

        The very first word differs until all were used, the first NONCE words always do. Raises HarnessError when
        there are too few words for that.
        """
        draws, length = source(self.seed, name), min(NONCE, count)
        used, firsts = self._nonces[after, length], self._firsts[after]
        if 2 * (len(used) + 1) > self.vocabulary**length:
            raise HarnessError(
                f"a prompt of {count} tokens from {self.vocabulary} ids or words cannot begin unlike {len(used)} "
                f"others; give at least {NONCE} tokens and more ids or words"
            )
        if len(firsts) == self.vocabulary:
            firsts.clear()
        for tries in itertools.count():
            nonce = tuple(draws.choices(range(self.vocabulary), k=length))
            # Short beginnings may have used up every first word that is left: so many tries miss one once in e^20.
            if nonce not in used and (nonce[0] not in firsts or tries > 20 * self.vocabulary):
                break
        firsts.add(nonce[0])
        used.add(nonce)
        return (*nonce, *draws.choices(range(self.vocabulary), k=count - length))

    def prefix(self, name: str, count: int) -> Words:
        """The prefix of this name, the same at each call."""
        if name not in self._prefixes:
            self._prefixes[name] = self.beginning(f"prefix/{name}", count)
        return self._prefixes[name]


@dataclass
class _Talk:
    """A conversation as far as it has come; a request that stands alone is one of one turn."""

    number: int
    turns: int
    prefix: str | None
    parts: tuple[Part, ...]
    turn: int = 0


class _Writer:
    """Writes the prompts of one workload, one after the other."""

    def __init__(self, workload: Workload, author: Author) -> None:
        self.workload, self.author = workload, author
        self._prompt, self._output, self._turns, self._groups = (
            source(author.seed, f"{concern}/{workload.name}")
            for concern in ("prompt lengths", "output lengths", "turns", "groups")
        )

    def begin(self, number: int) -> _Talk:
        """Begins a conversation."""
        prefixes, sessions = self.workload.prefixes, self.workload.sessions
        turns = sessions.turns.draw(self._turns) if sessions else 1
        if prefixes is None:
            return _Talk(number, turns, None, ())
        name = f"{self.workload.name}/{self._groups.randrange(prefixes.groups)}"
        return _Talk(number, turns, name, (Part("system", self.author.prefix(name, prefixes.tokens)),))

    def go_on(self, talk: _Talk) -> Prompt:
        """Writes the next prompt of a conversation, and the stand-in of its answer for the one after it."""
        count, output = self.workload.prompt.draw(self._prompt), self.workload.output.draw(self._output)
        where = f"{self.workload.name}/{talk.number}/{talk.turn}"
        if talk.turn:
            new = self.author.words(f"prompt/{where}", count)
        else:
            new = self.author.beginning(f"prompt/{where}", count, talk.prefix or "")
        parts = (*talk.parts, Part("user", new))
        alone = self.workload.sessions is None
        prompt = Prompt(
            parts=parts,
            output_tokens=output,
            workload=self.workload.name,
            prefix=talk.prefix,
            session=None if alone else talk.number,
            turn=None if alone else talk.turn,
        )
        talk.turn += 1
        if talk.turn < talk.turns:
            talk.parts = (*parts, Part("assistant", self.author.words(f"answer/{where}", output)))
        return prompt

    def conversations(self, live: int) -> Iterator[Prompt]:
        """Prompts of so many conversations in turn, without end."""
        numbers = itertools.count()
        talks = [self.begin(next(numbers)) for _ in range(live)]
        for talk in talks:
            for _ in range(self._turns.randrange(talk.turns)):
                self.go_on(talk)
        for seat in itertools.cycle(range(live)):
            if talks[seat].turn == talks[seat].turns:
                talks[seat] = self.begin(next(numbers))
            yield self.go_on(talks[seat])


def prompts(workload: Workload, author: Author) -> Iterator[Prompt]:
    """The prompts of a workload, without end."""
    writer = _Writer(workload, author)
    if workload.sessions is not None:
        return writer.conversations(workload.sessions.live)
    return (writer.go_on(writer.begin(number)) for number in itertools.count())


def mixture(workloads: Sequence[Workload], author: Author, count: int) -> list[Prompt]:
    """So many prompts of these workloads, each with its share to within one prompt, in an order drawn at random.

    Whole numbers from shares by the method of largest remainders (Balinski and Young 1982, "Fair representation").
    """
    names = [each.name for each in workloads]
    if not names or len(set(names)) < len(names):
        raise HarnessError(f"a mixture was asked for of workloads named {names}; give one or more with unlike names")
    total = math.fsum(each.share for each in workloads)
    exact = [count * each.share / total for each in workloads]
    counts = [math.floor(each) for each in exact]
    for place in sorted(range(len(counts)), key=lambda place: counts[place] - exact[place])[: count - sum(counts)]:
        counts[place] += 1
    order = [place for place, each in enumerate(counts) for _ in range(each)]
    source(author.seed, "mixture").shuffle(order)
    written = [prompts(each, author) for each in workloads]
    return [next(written[place]) for place in order]


def replayed(arrivals: Iterable[Arrival], author: Author, prefix_tokens: int) -> Iterator[Prompt]:
    """A prompt for each arrival of a trace, with its lengths.

    Those with one prefix id begin with the same `prefix_tokens` tokens, or as many as leave NONCE of their own.
    """
    for number, each in enumerate(arrivals):
        shared = min(prefix_tokens, each.prompt_tokens - NONCE) if each.prefix_id is not None else 0
        name = f"trace/{each.prefix_id}" if shared > 0 else None
        parts = (Part("system", author.prefix(name, prefix_tokens)[:shared]),) if name else ()
        own = author.beginning(f"prompt/trace/{number}", each.prompt_tokens - max(0, shared), name or "")
        yield Prompt(
            parts=(*parts, Part("user", own)),
            output_tokens=each.output_tokens,
            workload="trace",
            prefix=each.prefix_id if name else None,
        )


def _positive(what: str, value: float) -> None:
    if not value > 0:
        raise HarnessError(f"a workload was asked for with a {what} of {value:g}; it must be above 0")
