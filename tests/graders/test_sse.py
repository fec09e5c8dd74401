"""Server-sent events by the standard's rules: a plain reader of one character at a time and ours find the same."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from graders.sse import events

quick = settings(derandomize=True, max_examples=300, deadline=None)
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=6)
LINE = st.one_of(
    st.just(""),
    st.builds("data:{}".format, TEXT),
    st.builds("data: {}".format, TEXT),
    st.builds("event: {}".format, TEXT),
    st.builds(":{}".format, TEXT),
    st.sampled_from(["data", "event", "id: 7", "retry: 9", "unknown: field", "da ta: x"]),
    TEXT,
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def plain(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The standard's algorithm (WHATWG HTML, section 9.2.6), one line at a time, written for this test alone."""
    text = body.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    kind, data = "", ""
    for line in text.split("\n")[:-1]:
        if line == "":
            if data:
                yield kind, data.removesuffix("\n").encode()
            kind, data = "", ""
        elif not line.startswith(":"):
            name, value = (line.split(":", 1) if ":" in line else (line, ""))[:2]
            value = value.removeprefix(" ")
            data += value + "\n" if name == "data" else ""
            kind = value if name == "event" else kind


@quick
@given(st.lists(st.tuples(LINE, ENDS), max_size=12), st.booleans())
def test_any_stream_is_read_as_the_standard_says(lines: list[tuple[str, str]], marked: bool) -> None:
    body = ("\ufeff" * marked + "".join(line + end for line, end in lines)).encode()
    assert [(kind, data) for offset, kind, data in events(body) if offset >= 0] == list(plain(body))


@quick
@given(st.lists(st.tuples(LINE, ENDS), max_size=12), st.integers(0, 200))
def test_an_event_is_there_from_the_byte_that_completes_it_on(lines: list[tuple[str, str]], cut: int) -> None:
    body = "".join(line + end for line, end in lines).encode()
    whole = [each for each in events(body) if each[0] >= 0]
    assert [each for each in events(body[:cut]) if each[0] >= 0] == [each for each in whole if each[0] < cut]


def test_what_a_stream_breaks_off_is_no_event() -> None:
    assert list(events(b"data: a\n\ndata: b\n")) == [(8, "", b"a"), (-1, "", b"b\n")]
    assert list(events(b"data: a\r\n\r\n: a comm")) == [(9, "", b"a"), (-1, "", b": a comm")]
