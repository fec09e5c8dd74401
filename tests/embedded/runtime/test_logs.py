"""The CRI's log format."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.embedded.runtime.attached import Audience
from clusters.embedded.runtime.logs import LONGEST, Lines, LogFile, Pump, timestamp


def test_lines_are_cut_where_they_end() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == [("F", b"one")]
    assert lines.feed(b"o\n\n") == [("F", b"two"), ("F", b"")]
    assert lines.end() == []


def test_the_rest_without_a_newline_is_kept() -> None:
    lines = Lines()
    assert lines.feed(b"rest") == []
    assert lines.end() == [("P", b"rest")]
    assert lines.end() == []


@pytest.mark.parametrize("length", [LONGEST, LONGEST + 1, 3 * LONGEST])
def test_a_long_line_is_split(length: int) -> None:
    lines = Lines()
    entries = lines.feed(b"x" * length + b"\n")
    assert [tag for tag, _ in entries] == ["P"] * ((length - 1) // LONGEST) + ["F"]
    assert b"".join(text for _, text in entries) == b"x" * length


@settings(derandomize=True, database=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_nothing_is_lost_however_it_arrives(data: bytes, cuts: list[int]) -> None:
    lines, edges = Lines(), [0, *sorted(cuts), len(data)]
    entries = [entry for start, end in pairwise(edges) for entry in lines.feed(data[start:end])]
    text = b"".join(part + b"\n" * (tag == "F") for tag, part in [*entries, *lines.end()])
    assert text.removesuffix(b"\n") == data.removesuffix(b"\n")


def test_time_is_written_as_the_kubelet_reads_it() -> None:
    assert timestamp(1_700_000_000_000_000_042) == "2023-11-14T22:13:20.000000042Z"


def test_both_streams_reach_the_file(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "c.log", lambda: 0)
    log.reopen()
    out, err = Pump(log, "stdout", Audience()), Pump(log, "stderr", Audience())
    out.data_received(b"a\nb")
    err.data_received(b"no\n")
    out.connection_lost(None)
    log.close()
    err.data_received(b"late\n")
    when = "1970-01-01T00:00:00.000000000Z"
    assert (tmp_path / "c.log").read_text() == f"{when} stdout F a\n{when} stderr F no\n{when} stdout P b\n"
    assert (out.last, out.ended.is_set(), err.ended.is_set()) == (b"b", True, False)


def test_a_container_without_a_log_keeps_nothing() -> None:
    log = LogFile(None, lambda: 0)
    log.reopen()
    log.write("stdout", [("F", b"x")])
    log.close()
    assert log._file is None
