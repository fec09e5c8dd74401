"""What exporters tell of the GPUs of pods: asked by address, and the means over what was told in the windows."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graders import gpu_scrape
from graders.errors import HarnessError
from graders.gpu_scrape import Activity, activity, watched
from graders.sampler import Scrape
from tests.patience import PATIENCE

PAGE = """\
DCGM_FI_DEV_GPU_UTIL{{gpu="0",pod="race-0"}} {busy}
DCGM_FI_DEV_FB_USED{{gpu="0",pod="race-0"}} {held}
DCGM_FI_DEV_GPU_UTIL{{gpu="1",pod="another"}} 1
DCGM_FI_DEV_FB_USED{{gpu="1",pod="another"}} 99999
"""
PROFILED = 'DCGM_FI_PROF_SM_ACTIVE{gpu="0",pod="race-0"} 0.5\nDCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu="0",pod="race-0"} 0\n'


def scrape(asked: float, *, busy: float = 80, held: float = 1024, more: str = "", failure: str | None = None) -> Scrape:
    text = "" if failure else PAGE.format(busy=busy, held=held) + more
    return Scrape(
        replica="10.0.0.1", round=0, asked=asked, answered=asked + 0.1, status=200, text=text, failure=failure
    )


def test_what_was_told_of_the_pods_in_the_windows_counts() -> None:
    scrapes = [
        scrape(9.9, busy=0, held=9999),
        scrape(10.0, busy=80),
        scrape(11.0, busy=90, held=2048),
        scrape(12.0, failure="nobody answered"),
        scrape(13.0, busy=0, held=9999),
        scrape(20.0, busy=100),
    ]

    found = activity(scrapes, [(10.0, 13.0), (20.0, 21.0)], ["race-0", "race-1"])

    assert found == Activity(utilisation=90.0, used_gib=2.0, tensor=None, sm=None)


def test_the_activity_of_its_parts_is_told_where_the_exporter_has_it() -> None:
    found = activity([scrape(10.0, more=PROFILED)], [(10.0, 13.0)], ["race-0"])

    assert found == Activity(utilisation=80.0, used_gib=1.0, tensor=0.0, sm=0.5)


@pytest.mark.parametrize(
    ("scrapes", "pod"),
    [
        ([], "race-0"),
        ([scrape(9.0)], "race-0"),
        ([scrape(10.0)], "race-1"),
        ([scrape(10.0, failure="HTTP 503")], "race-0"),
        ([Scrape(replica="10.0.0.1", round=0, asked=10.0, answered=10.1, status=200, text="up 1\n")], "race-0"),
    ],
    ids=["nobody asked", "too early", "another's", "no answer", "nothing of GPUs"],
)
def test_what_nobody_told_is_not_known(scrapes: list[Scrape], pod: str) -> None:
    assert activity(scrapes, [(10.0, 13.0)], [pod]) is None


class Exporter(ThreadingHTTPServer):
    """Tells one page on loopback; `twice` is set once it was asked twice."""

    def __init__(self) -> None:
        self.asked, self.twice = 0, threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = ("# HELP up\nup 1\n" + PAGE.format(busy=80, held=1024)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                if outer.asked > 1:
                    outer.twice.set()

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporter]:
    with Exporter() as found:
        monkeypatch.setattr(gpu_scrape, "EXPORTER_PORT", found.server_address[1])
        monkeypatch.setattr(gpu_scrape, "EVERY_SECONDS", 0.01)
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_exporters_are_asked_by_address_and_a_node_once(exporter: Exporter, tmp_path: Path) -> None:
    with watched(["127.0.0.1", "127.0.0.1"], enter=list, folder=tmp_path, seed=1) as scrapes:
        assert scrapes == []
        assert exporter.twice.wait(PATIENCE)

    assert {(each.replica, each.status) for each in scrapes} == {("127.0.0.1", 200)}
    assert [each.round for each in scrapes] == list(range(len(scrapes)))
    assert scrapes[0].text == PAGE.format(busy=80, held=1024)
    told = activity(scrapes, [(scrapes[0].asked, scrapes[-1].answered)], ["race-0"])
    assert told == Activity(utilisation=80.0, used_gib=1.0, tensor=None, sm=None)


def test_without_a_node_there_is_nobody_to_ask(tmp_path: Path) -> None:
    with (
        pytest.raises(HarnessError) as error,
        watched([], enter=list, folder=tmp_path, seed=1),
    ):
        pass
    assert str(error.value) == "no replica was named whose metrics to scrape; name those that take the load"
