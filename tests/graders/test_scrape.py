"""Scrapes of a server of this test on loopback: whole rounds, rounds in passing, failures as facts, evidence."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graders import sampler, scrape
from graders.errors import HarnessError, InfrastructureError
from graders.metrics import VLLM
from graders.sampler import Job, Place, Sampler, Scrape
from graders.scrape import Scraper, Scrapes
from tests.graders.engine_metrics import EngineMetrics
from tests.patience import PATIENCE

Answer = tuple[int, bytes]


class Server:
    """Serves what `say` returns on each GET, and counts them."""

    def __init__(self) -> None:
        self.say: Callable[[], Answer] = lambda: (200, b"up 1\n")
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                status, body = outer.say()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.place = Place(host="127.0.0.1", port=self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def scraper(server: Server, folder: Path) -> Scraper:
    return Scraper({"a": server.place}, folder=folder, brief=VLLM.brief, seed=1)


def test_a_whole_round_keeps_all_that_each_replica_says(server: Server, tmp_path: Path) -> None:
    engine = EngineMetrics()
    server.say = lambda: (200, engine.text().encode())
    places = {"a": server.place, "b": server.place}
    with Scraper(places, folder=tmp_path, brief=VLLM.brief, seed=1) as one:
        first, second = one.whole(), one.whole()
        kept = one.scrapes()
    assert [(each.replica, each.round, each.status, each.failure) for each in kept] == [
        ("a", 0, 200, None),
        ("b", 0, 200, None),
        ("a", 1, 200, None),
        ("b", 1, 200, None),
    ]
    assert kept == first + second
    assert all(each.text == engine.text() and each.asked <= each.answered for each in kept)
    assert list(tmp_path.iterdir()) == []


def test_a_load_is_scraped_before_during_and_after_it(server: Server, tmp_path: Path) -> None:
    engine = EngineMetrics()
    engine.waiting.set(1)
    server.say = lambda: (200, engine.text().encode())
    enough = threading.Event()

    def say() -> Answer:
        if server.asked >= 8:
            enough.set()
        return 200, engine.text().encode()

    with scraper(server, tmp_path) as one:
        engine.waiting.set(0)
        with one.around(VLLM, every=0.001) as window:
            engine.running.set(3)
            server.say = say
            assert enough.wait(PATIENCE)
            engine.running.set(0)
            engine.serve(64, [0.1, 0.2])
    found = window.scrapes
    assert [len(found.before), len(found.after)] == [1, 1]
    assert found.before[0].text != found.after[0].text == engine.text()
    assert len(found.during) >= 5
    looks = scrape.series(found.during, VLLM.running, VLLM.waiting)
    assert {"a": 3.0} in [values for _, values in looks]
    assert [moment for moment, _ in looks] == sorted(moment for moment, _ in looks)
    assert Scrapes.decode(found.encode()) == found


def test_a_round_without_all_replicas_is_no_look_at_a_gauge() -> None:
    good = Scrape(replica="a", round=0, asked=1.0, answered=3.0, status=200, text="x 1\ny 2\n")
    bad = Scrape(replica="b", round=0, asked=3.0, answered=4.0, failure="HTTP 503")
    assert scrape.series([(good,)], "x", "y") == [(2.0, {"a": 3.0})]
    assert scrape.series([(good, bad), ()], "x", "y") == []
    assert scrape.series([(good,)], "z") == []


def test_an_idle_server_is_one_that_rests_for_two_rounds(server: Server, tmp_path: Path) -> None:
    engine = EngineMetrics()
    states = iter([(1, 0), (0, 1), (0, 0)])

    def say() -> Answer:
        running, waiting = next(states, (0, 0))
        engine.running.set(running)
        engine.waiting.set(waiting)
        return 200, engine.text().encode()

    server.say = say
    with scraper(server, tmp_path) as one:
        found = one.idle(VLLM, seconds=60, sleep=lambda _: None)
    assert [each.round for each in found] == [3]


def test_a_server_that_never_rests_is_scraped_until_the_time_is_spent(server: Server, tmp_path: Path) -> None:
    ticks = iter(range(100))
    with scraper(server, tmp_path) as one:
        found = one.idle(VLLM, seconds=3, clock=lambda: next(ticks), sleep=lambda _: None)
    assert [each.round for each in found] == [3]


def test_rounds_in_passing_keep_what_is_named(server: Server, tmp_path: Path) -> None:
    engine = EngineMetrics()
    engine.running.set(3)
    enough = threading.Event()

    def say() -> Answer:
        if server.asked >= 5:
            enough.set()
        return 200, engine.text().encode()

    server.say = say
    with scraper(server, tmp_path) as one:
        with one.during(every=0.001):
            assert enough.wait(PATIENCE)
        count = len(one.scrapes())
        assert count >= 5
        one.whole()
        assert len(one.scrapes()) == count + 1
        names = [line.partition("{")[0].partition(" ")[0] for line in one.scrapes()[0].text.splitlines()]
    assert set(names) == set(VLLM.brief)


def test_what_goes_wrong_is_a_fact_in_the_scrape(server: Server) -> None:
    def fetch(place: Place) -> Scrape:
        return sampler.fetch("a", place, 0, seconds=5, clock=lambda: 1.0)

    server.say = lambda: (404, b"nothing here")
    assert fetch(server.place) == Scrape(replica="a", round=0, asked=1.0, answered=1.0, status=404, failure="HTTP 404")
    server.say = lambda: (200, b"\xff")
    assert fetch(server.place).failure == "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
    server.close()
    assert fetch(server.place).failure == "[Errno 111] Connection refused"


def test_an_endless_answer_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "MOST_BYTES", 4)
    found = sampler.fetch("a", server.place, 0, seconds=5, clock=lambda: 1.0)
    assert (found.text, found.failure) == ("", "more than 4 bytes")


def test_a_sampler_knows_three_words(tmp_path: Path) -> None:
    job = Job(places={}, brief=(), out="", seed=1, seconds=1)
    with (tmp_path / "out").open("wb") as out:
        one = Sampler(job, out, clock=lambda: 10.0)
        one.obey("begin 0.5")
        assert one.due is not None
        assert one.due > 10
        one.obey("stop")
        assert one.due is None
        with pytest.raises(ValueError, match=r"^a sampler was told 'dance'; it knows all, begin and stop$"):
            one.obey("dance")


def test_a_sampler_that_cannot_start_or_breaks_says_why(tmp_path: Path) -> None:
    def one(script: str) -> Scraper:
        places = {"a": Place(host="127.0.0.1", port=1)}
        return Scraper(places, enter=lambda _: ["sh", "-c", script], folder=tmp_path, brief=(), seed=1)

    with pytest.raises(InfrastructureError) as caught:
        one("echo no such network >&2")
    assert str(caught.value) == (
        "the scrapes could not start in the cluster's network; the sampler's log ends: no such network"
    )
    assert list(tmp_path.iterdir()) == []
    with one("echo ready; read word") as broken, pytest.raises(HarnessError) as ended:
        broken.whole()
    assert str(ended.value) == "the sampler did not do 'all' within 50 s; its log ends: it logged nothing"
    with pytest.raises(HarnessError) as nobody:
        Scraper({}, folder=tmp_path, brief=(), seed=1)
    assert str(nobody.value) == "no replica was named whose metrics to scrape; name those that take the load"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            b"{}\n",
            "these lines are no scrapes that can be read: Object missing required field `format`; measure again",
        ),
        (
            b'{"format":"x","before":0,"after":1}\n',
            "these lines are of format 'x'; this program reads 'gpulab/scrapes/v1'",
        ),
    ],
)
def test_other_lines_are_no_scrapes(text: bytes, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        Scrapes.decode(text)
    assert str(caught.value) == said
