"""Traces: three layouts are read as they stand in public, and what is no request is refused with file and line."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graders import trace
from graders.errors import HarnessError
from graders.trace import Arrival

Reader = Callable[[Path], tuple[Arrival, ...]]

JSON_LINES = (
    b'{"time":0.5,"prompt_tokens":100,"output_tokens":20,"prefix_id":"a"}\n'
    b'{"time":0.5,"prompt_tokens":7,"output_tokens":1}\n'
    b'{"prompt_tokens":9,"time":2,"output_tokens":3,"prefix_id":null}\n'
)
AZURE_2023 = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    b"2023-11-16 18:15:46.6805900,374,44\r\n"
    b"2023-11-16 18:15:50.9951690,396,109\r\n"
    b"2023-11-16 18:15:51.2224679,879,55"
)
AZURE_2024 = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
    b"2024-05-12 23:59:59.500000+00:00,100,10\n"
    b"2024-05-13 00:00:00+00:00,200,20\n"
)
BURSTGPT = (
    b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    b"5,ChatGPT,472,18,490,Conversation log\n"
    b"45,ChatGPT,1087,230,1317,Conversation log\n"
    b"118,GPT-4,417,276,693,API log\n"
)
BURSTGPT_SESSIONS = (
    b"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    b"5.5,s1,1.25,GPT-4,100,10,110,Conversation log\n"
)


def written(folder: Path, text: bytes, name: str = "trace") -> Path:
    path = folder / name
    path.write_bytes(text)
    return path


def test_json_lines_keep_their_times_and_prefixes(tmp_path: Path) -> None:
    assert trace.read_json_lines(written(tmp_path, JSON_LINES)) == (
        Arrival(0.5, 100, 20, "a"),
        Arrival(0.5, 7, 1),
        Arrival(2.0, 9, 3),
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_azure_times_count_from_the_first_request(tmp_path: Path, mark: bytes) -> None:
    found = trace.read_azure(written(tmp_path, mark + AZURE_2023))
    assert [each.time for each in found] == pytest.approx([0, 4.314579, 4.541877], abs=1e-6)
    assert [(each.prompt_tokens, each.output_tokens) for each in found] == [(374, 44), (396, 109), (879, 55)]
    assert [each.time for each in trace.read_azure(written(tmp_path, AZURE_2024))] == [0, 0.5]


def test_burstgpt_is_read_with_and_without_the_newer_columns(tmp_path: Path) -> None:
    assert trace.read_burstgpt(written(tmp_path, BURSTGPT)) == (
        Arrival(0.0, 472, 18),
        Arrival(40.0, 1087, 230),
        Arrival(113.0, 417, 276),
    )
    assert trace.read_burstgpt(written(tmp_path, BURSTGPT_SESSIONS)) == (Arrival(0.0, 100, 10),)


def test_a_part_is_cut_out_with_its_gaps_and_nothing_behind_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, BURSTGPT + b"after the part,nobody looks\n")
    assert trace.read_burstgpt(path, start=30, seconds=83) == (Arrival(10.0, 1087, 230),)
    assert trace.read_burstgpt(path, start=0, seconds=40) == (Arrival(0.0, 472, 18),)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 9999), st.integers(1, 9999)), min_size=1, max_size=30))
def test_what_was_written_as_json_lines_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int, int]]
) -> None:
    arrivals = [Arrival(*row) for row in sorted(rows)]
    path = written(tmp_path_factory.mktemp("trace"), msgspec.json.Encoder().encode_lines(arrivals))
    assert trace.read_json_lines(path) == tuple(arrivals)


USED = "this line of a trace cannot be used"
JSON_NEEDS = "each line needs time, prompt_tokens and output_tokens, and may have prefix_id"
AZURE_NEEDS = "the columns TIMESTAMP, ContextTokens, GeneratedTokens are needed"
HEAD = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
TOLD = b"2024-05-12 00:00:01,1,1\n"


@pytest.mark.parametrize(
    ("read", "text", "line", "wrong"),
    [
        (
            trace.read_json_lines,
            b'{"time":0,"prompt_tokens":1}',
            1,
            f"it is no request: Object missing required field `output_tokens`; {JSON_NEEDS}",
        ),
        (
            trace.read_json_lines,
            JSON_LINES + b'{"time":3,"prompt_tokens":0,"output_tokens":1}',
            4,
            f"it is no request: Expected `int` >= 1 - at `$.prompt_tokens`; {JSON_NEEDS}",
        ),
        (
            trace.read_json_lines,
            b'{"time":3,"prompt_tokens":1,"output_tokens":1,"images":2}',
            1,
            f"it is no request: Object contains unknown field `images`; {JSON_NEEDS}",
        ),
        (
            trace.read_json_lines,
            b'{"time":-1,"prompt_tokens":1,"output_tokens":1}',
            1,
            f"it is no request: Expected `float` >= 0.0 - at `$.time`; {JSON_NEEDS}",
        ),
        (
            trace.read_json_lines,
            JSON_LINES + b"\n",
            4,
            f"it is no request: Input data was truncated; {JSON_NEEDS}",
        ),
        (
            trace.read_json_lines,
            JSON_LINES + b'{"time":1.5,"prompt_tokens":1,"output_tokens":1}',
            4,
            "its time is 0.5 s before the line above; sort the trace",
        ),
        (trace.read_json_lines, b"\xff", 1, "it is no UTF-8 text: invalid start byte; give a text file"),
        (trace.read_azure, b"", 1, f"the column 'TIMESTAMP' is missing from an empty line; {AZURE_NEEDS}"),
        (
            trace.read_azure,
            b"TIMESTAMP,ContextTokens\n",
            1,
            f"the column 'GeneratedTokens' is missing from TIMESTAMP, ContextTokens; {AZURE_NEEDS}",
        ),
        (
            trace.read_azure,
            b"TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n",
            1,
            f"the column 'NumImages' is not known here; {AZURE_NEEDS}",
        ),
        (
            trace.read_azure,
            b"TIMESTAMP,TIMESTAMP,ContextTokens,GeneratedTokens\n",
            1,
            f"the column 'TIMESTAMP' stands there twice; {AZURE_NEEDS}",
        ),
        (trace.read_azure, HEAD + b"now,1,1\n", 2, "TIMESTAMP is 'now', which is no time; correct the line"),
        (
            trace.read_azure,
            HEAD + TOLD + b"2024-05-12 00:00:00,1,1\n",
            3,
            "its time is 1 s before the line above; sort the trace",
        ),
        (trace.read_azure, HEAD + TOLD + b"\n", 3, "it has 0 fields under 3 columns; correct the line"),
        (
            trace.read_azure,
            HEAD + b"2024-05-12 00:00:00,1,-1\n",
            2,
            "GeneratedTokens is '-1', which is no number of tokens; correct the line",
        ),
        (
            trace.read_azure,
            HEAD + b'2024-05-12 00:00:00,"1,1\n',
            2,
            "it is no row of a CSV file: unexpected end of data; correct the line",
        ),
        (
            trace.read_burstgpt,
            BURSTGPT + b"120,GPT-4,12,0,12,API log\n",
            5,
            "Response tokens is 0, which cannot be sent again; leave out requests that failed or had nothing to say",
        ),
        (
            trace.read_burstgpt,
            BURSTGPT + b"nan,GPT-4,12,1,13,API log\n",
            5,
            "Timestamp is 'nan', which is no time; correct the line",
        ),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(
    tmp_path: Path, read: Reader, text: bytes, line: int, wrong: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(HarnessError) as caught:
        read(path)
    assert str(caught.value) == f"{path}:{line}: {USED}: {wrong}"


def test_a_file_without_a_request_in_the_part_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, BURSTGPT)
    with pytest.raises(HarnessError) as caught:
        trace.read_burstgpt(path, start=50, seconds=10)
    assert str(caught.value) == f"{path} has no request from 50 s to 60 s; choose another part of it"
    empty = written(tmp_path, b"", "empty")
    with pytest.raises(HarnessError) as caught:
        trace.read_json_lines(empty)
    assert str(caught.value) == f"{empty} has no request from 0 s to its end; choose another part of it"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        trace.read_azure(tmp_path / "none.csv")
    said = f"{tmp_path / 'none.csv'} cannot be read: No such file or directory; give the file of a trace"
    assert str(caught.value) == said
