"""Recorded traffic: when requests came, how long prompt and answer were, which began alike. Reads three layouts.

Place: lab checks read a part of a trace, send by `arrivals.recorded` and build the requests with `workload.replay`.
Limits: a trace is no prompts, only their lengths; other columns than those named are refused, as they may change what a
request is. Files are read line by line, so that a part of a large one is cheap.

- JSON lines of our own: `time` in seconds, `prompt_tokens`, `output_tokens` and, where it shares one, `prefix_id`.
- The Azure LLM inference traces of 2023 and 2024 (Patel et al. 2024, "Splitwise"; Stojkovic et al. 2025, "DynamoLLM"):
  CSV with TIMESTAMP, ContextTokens, GeneratedTokens; a date and time of day, whose digits after the sixth are dropped.
- BurstGPT (Wang et al. 2024): CSV with Timestamp in seconds, Request tokens, Response tokens; Model, Total tokens, Log
  Type, Session ID and Elapsed time may stand there and are not read. 0 response tokens mean a request that failed.

Times count from the first request of CSV files, whatever their own zero, and are never rescaled.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from graders.errors import HarnessError

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")
BURSTGPT_MORE = ("Session ID", "Elapsed time", "Model", "Total tokens", "Log Type")

Tokens = Annotated[int, msgspec.Meta(ge=1)]
Line = tuple[int, str]
"""A line's number, from 1, and its text."""


class Arrival(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request of a trace: when in seconds, how many tokens in and out, whose beginning it shares (None: nobody's)."""

    time: Annotated[float, msgspec.Meta(ge=0)]
    prompt_tokens: Tokens
    output_tokens: Tokens
    prefix_id: str | None = None


def read_json_lines(path: Path, *, start: float = 0.0, seconds: float = float("inf")) -> tuple[Arrival, ...]:
    """The arrivals from `start` for `seconds`, with times from there; raises HarnessError with file and line."""
    return _cut(path, _json_arrivals(path), start, seconds)


def read_azure(path: Path, *, start: float = 0.0, seconds: float = float("inf")) -> tuple[Arrival, ...]:
    """The arrivals from `start` for `seconds`, with times from there; raises HarnessError with file and line."""
    return _cut(path, _csv_arrivals(path, AZURE, (), _date), start, seconds)


def read_burstgpt(path: Path, *, start: float = 0.0, seconds: float = float("inf")) -> tuple[Arrival, ...]:
    """The arrivals from `start` for `seconds`, with times from there; raises HarnessError with file and line."""
    return _cut(path, _csv_arrivals(path, BURSTGPT, BURSTGPT_MORE, float), start, seconds)


def _cut(path: Path, arrivals: Iterator[tuple[int, Arrival]], start: float, seconds: float) -> tuple[Arrival, ...]:
    """Those inside, in order; reads no further than it needs."""
    found: list[Arrival] = []
    before = 0.0
    for number, each in arrivals:
        if each.time < before:
            raise _error(path, number, f"its time is {before - each.time:g} s before the line above", "sort the trace")
        before = each.time
        if each.time >= start + seconds:
            break
        if each.time >= start:
            found.append(msgspec.structs.replace(each, time=each.time - start))
    if not found:
        until = "its end" if seconds == float("inf") else f"{start + seconds:g} s"
        raise HarnessError(f"{path} has no request from {start:g} s to {until}; choose another part of it")
    return tuple(found)


def _lines(path: Path) -> Iterator[Line]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise _error(path, number, f"it is no UTF-8 text: {error.reason}", "give a text file") from error
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}; give the file of a trace") from error


def _json_arrivals(path: Path) -> Iterator[tuple[int, Arrival]]:
    decoder = msgspec.json.Decoder(Arrival)
    for number, line in _lines(path):
        try:
            yield number, decoder.decode(line)
        except msgspec.DecodeError as error:
            todo = "each line needs time, prompt_tokens and output_tokens, and may have prefix_id"
            raise _error(path, number, f"it is no request: {error}", todo) from error


def _csv_arrivals(
    path: Path, columns: Sequence[str], more: Sequence[str], moment: Callable[[str], float]
) -> Iterator[tuple[int, Arrival]]:
    """Arrivals from rows with these columns, in any order: time, prompt tokens, output tokens; `more` may be there."""
    lines = _lines(path)
    names = _fields(path, *next(lines, (1, "")))
    if wrong := _wrong_header(names, columns, more):
        raise _error(path, 1, wrong, f"the columns {', '.join(columns)} are needed")
    first: float | None = None
    for number, line in lines:
        fields = _fields(path, number, line)
        if len(fields) != len(names):
            raise _error(path, number, f"it has {len(fields)} fields under {len(names)} columns", "correct the line")
        time, prompt, output = _row(path, number, dict(zip(names, fields, strict=True)), columns, moment)
        first = time if first is None else first
        yield number, Arrival(time - first, prompt, output)


def _fields(path: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise _error(path, number, f"it is no row of a CSV file: {error}", "correct the line") from error


def _wrong_header(names: Sequence[str], columns: Sequence[str], more: Sequence[str]) -> str | None:
    if missing := [each for each in columns if each not in names]:
        return f"the column {missing[0]!r} is missing from {', '.join(names) or 'an empty line'}"
    if unknown := [each for each in names if each not in (*columns, *more)]:
        return f"the column {unknown[0]!r} is not known here"
    twice = [each for each in names if names.count(each) > 1]
    return f"the column {twice[0]!r} stands there twice" if twice else None


def _row(
    path: Path, number: int, row: Mapping[str, str], columns: Sequence[str], moment: Callable[[str], float]
) -> tuple[float, int, int]:
    time, *tokens = (row[each] for each in columns)
    try:
        at = moment(time)
    except ValueError:
        at = float("nan")
    if not abs(at) < float("inf"):
        raise _error(path, number, f"{columns[0]} is {time!r}, which is no time", "correct the line")
    for name, each in zip(columns[1:], tokens, strict=True):
        if not (each.isascii() and each.isdigit() and len(each) < 10):
            raise _error(path, number, f"{name} is {each!r}, which is no number of tokens", "correct the line")
        if int(each) < 1:
            todo = "leave out requests that failed or had nothing to say"
            raise _error(path, number, f"{name} is {each}, which cannot be sent again", todo)
    return at, int(tokens[0]), int(tokens[1])


def _date(text: str) -> float:
    found = datetime.fromisoformat(text)
    # Without an offset it is taken as UTC: only differences count, and those must not jump with a summer time.
    return (found if found.tzinfo else datetime.fromisoformat(f"{text}+00:00")).timestamp()


def _error(path: Path, number: int, wrong: str, todo: str) -> HarnessError:
    return HarnessError(f"{path}:{number}: this line of a trace cannot be used: {wrong}; {todo}")
