"""The comparison of load generators: readers on recorded results, the arithmetic, the words, and what goes wrong."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import environments, reports, runs, tokenizer
from benchmarks.peers.clients import OURS, PEERS, Client, Place
from benchmarks.peers.figures import Accuracy, Figures, Load, Measured, Truth, compare, judge, to_the_end, window
from benchmarks.peers.reports import Report, UnreadableReport
from benchmarks.peers.table import goals, over_rounds, rows
from clusters.api import MachineError

SAMPLES = Path(__file__).with_name("samples")
LOAD = Load(streams=2, rounds=3, tokens=3, ttft=1.0, tpot=0.5)


def about(value: float) -> Any:
    """Equal to within a millionth; typed so that it may stand in a struct."""
    return pytest.approx(value)


def silent(text: str) -> None:
    """Progress that nobody sees."""


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def test_vllm_lists_requests_by_number_and_its_gaps_are_summed() -> None:
    first, second = reports.vllm(sample("vllm.json"), "bench-")
    assert first == Report("bench-0", 0.0544373570010066, about(0.009735467666663), 4)
    assert (second.name, second.tokens) == ("bench-1", 4)


def test_a_request_that_vllm_calls_failed_is_left_out_and_keeps_its_number() -> None:
    said = json.loads(sample("vllm.json"))
    said["errors"][0] = "Traceback"
    assert [each.name for each in reports.vllm(json.dumps(said).encode(), "bench-")] == ["bench-1"]


def test_guidellm_names_a_request_by_the_id_of_its_answer_and_gives_tpot_as_inter_token_latency() -> None:
    assert reports.guidellm(sample("guidellm.json")) == [
        Report("request-0", about(0.05086326599), about(0.01000613636), 64)
    ]


def test_aiperf_gives_tpot_as_inter_token_latency() -> None:
    assert reports.aiperf(sample("aiperf.jsonl")) == [
        Report("8754da00-da2c-4c13-8260-868f90e9dd2a", 0.06556724, about(0.009973925746), 64),
        Report("6c105df9-d286-4562-ab72-21e079c0b3a2", about(0.06281354), about(0.010041087143), 64),
    ]


def test_aiperf_leaves_out_its_warm_up_and_failures() -> None:
    warm, failed = (json.loads(line) for line in sample("aiperf.jsonl").splitlines())
    warm["metadata"]["benchmark_phase"] = "warmup"
    failed["error"] = {"code": 503}
    assert reports.aiperf(f"{json.dumps(warm)}\n{json.dumps(failed)}\n".encode()) == []


def test_a_result_file_of_another_version_says_where_it_differs() -> None:
    with pytest.raises(UnreadableReport, match=r"^Object missing required field `itls`$"):
        reports.vllm(b'{"ttfts": []}', "bench-")
    with pytest.raises(UnreadableReport, match=r"^Object missing required field `requests` - at `\$.benchmarks\[0\]`$"):
        reports.guidellm(b'{"benchmarks": [{}]}')
    with pytest.raises(UnreadableReport, match=r"^Object missing required field `metadata` - at `\$\[0\]`$"):
        reports.aiperf(b"{}\n")


def truth(received: float, *, late: float = 0.0) -> Truth:
    """A request as LOAD has it: the first token after 1 s, two more after 0.5 s each."""
    return Truth(received, ((received + 1 + late, 1), (received + 1.5, 1), (received + 2, 1)))


def run() -> Measured:
    """Two streams of three requests, from 10 s to 16 s; the client has used 0.1 s before, and 0.1 s for each second."""
    log = {f"{stream}-{turn}": truth(10.0 + 2 * turn) for stream in range(2) for turn in range(3)}
    log["probe"] = truth(1.0)
    return Measured(
        load=LOAD,
        reports=[Report(name, 1.1, 0.55, 3) for name in log if name != "probe"],
        truth=log,
        looks=[(number / 2, 0.1 + max(0, number / 2 - 10) / 10) for number in range(16, 33)],
        cpu=1.0,
    )


def test_a_truth_has_the_first_writes_tokens_outside_its_tpot() -> None:
    written = Truth(1.0, ((2.0, 3), (2.5, 1), (4.0, 3)))
    assert (written.ttft, written.tokens, written.tpot) == (1.0, 7, 0.5)
    assert Truth(1.0, ((2.0, 3),)).tpot is None


def test_a_load_lasts_as_long_as_the_requests_of_one_stream() -> None:
    assert (LOAD.requests, LOAD.request_seconds, LOAD.seconds) == (6, 2.0, 6.0)


def test_the_window_is_while_all_streams_were_busy() -> None:
    # From 12 s, a request's length after the first one came, to 14 s, when the last ones came.
    assert window(run()) == (about(3.0), about(30.0))


def test_without_looks_or_time_there_is_no_window() -> None:
    short = replace(run(), looks=[(12.0, 1.0), (12.5, 1.1)])
    idle = replace(run(), looks=[(12.0, 1.0), (14.0, 1.0)])
    assert window(short) == (None, None)
    assert window(idle) == (about(3.0), None)
    assert window(replace(run(), reports=[])) == (None, None)


def test_to_the_end_counts_all_processor_time_since_the_first_request() -> None:
    assert to_the_end(run()) == about(18 / (1.0 - 0.1))
    assert to_the_end(replace(run(), cpu=0.3)) == about(18 / (0.7 - 0.1))  # a process that nobody waited for
    assert to_the_end(replace(run(), looks=[(11.0, 0.2)])) is None
    assert to_the_end(replace(run(), reports=[])) is None


def test_accuracy_is_of_pairs() -> None:
    found = compare([(1.1, 1.0), (1.9, 2.0), (5.0, None)])
    assert found == Accuracy(about(-0.1), None, about(0.075))
    many = compare([(1.0 + number / 1000, 1.0) for number in range(300)])
    assert many == Accuracy(about(0.149), about(0.296), about(0.1495))
    assert compare([]) is None


def test_a_client_is_judged_by_the_requests_that_both_sides_name() -> None:
    measured = run()
    measured = replace(measured, reports=[*measured.reports[:-1], Report("unknown", 1.0, 0.5, 3)])
    figures = judge(replace(measured, reports=[replace_tokens(measured.reports[0]), *measured.reports[1:]]))
    assert (figures.requests, figures.miscounted) == (5, 1)
    assert figures.ttft == Accuracy(about(0.1), None, about(0.1))
    assert figures.tpot == Accuracy(about(0.05), None, about(0.1))


def replace_tokens(report: Report) -> Report:
    return Report(report.name, report.ttft, report.tpot, 4)


OUR_ROW = Figures(6, 0, 1000.0, 90000.0, 60000.0, Accuracy(0.0001, 0.0005, 0.002), Accuracy(0.0, 0.000001, 0.0001))
PEER_ROW = Figures(5, 1, 900.0, 20000.0, None, Accuracy(0.001, None, 0.02), Accuracy(0.00005, 0.0001, 0.00005))


def test_the_table_names_what_was_not_measured() -> None:
    assert rows({"ours": OUR_ROW, "peer 1.0": PEER_ROW, "other 2.0": "it ended with status 3"}, LOAD) == [
        "client    requests  events/s  per core  to the end  TTFT +p50 ms      +p99 ms  error %  TPOT +p50 µs  +p99 µs"
        "  error %",
        "ours           6/6     1,000    90,000      60,000          0.10         0.50    0.200          0.00     1.00"
        "    0.010",
        "peer 1.0       5/6       900    20,000           -          1.00  n too small    2.000         50.00   100.00"
        "    0.005",
        "peer 1.0: tokens miscounted in 1 of 5 requests",
        "other 2.0: not measured: it ended with status 3",
    ]


def test_each_goal_is_reached_missed_or_open() -> None:
    assert goals({"ours": OUR_ROW, "peer": PEER_ROW, "other": "no"}, "ours") == [
        "events per second per core, in the window: ours 90,000, peer 20,000: 4.5 times [goal 3], reached",
        "events per second per core, to the end: open, as no peer was measured",
        "smallest error of TTFT: ours 0.200 %, peer 2.000 %, reached",
        "smallest error of TPOT: ours 0.010 %, peer 0.005 %, missed",
    ]
    assert goals({"ours": "no", "peer": PEER_ROW}, "ours")[0] == (
        "events per second per core, in the window: open, as ours was not measured"
    )


def test_rounds_are_judged_by_their_median() -> None:
    slower = replace(PEER_ROW, in_window=45_000.0)
    assert over_rounds([{"ours": OUR_ROW, "peer": row} for row in (PEER_ROW, slower, slower)], "ours") == [
        "events per second per core, in the window, median of 3 rounds: 2.0 times the best peer's (2.0 to 4.5) "
        "[goal 3], missed"
    ]
    assert over_rounds([{"ours": "no", "peer": PEER_ROW}], "ours") == []


def test_the_tokenizer_has_a_token_for_each_byte(tmp_path: Path) -> None:
    tokenizer.write(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    assert sorted(model["vocab"].values()) == list(range(258))
    assert [model["vocab"][text] for text in "!AĠ"] == [2 + ord("!"), 2 + ord("A"), 2 + ord(" ")]


def test_an_environments_folder_depends_on_its_lock() -> None:
    one, other = (environments.folder_name("guidellm", lock) for lock in (b"a==1", b"a==2"))
    assert one.startswith("guidellm-")
    assert one != other


def locked(folder: Path, status: int) -> tuple[Path, str]:
    """A lock, and a uv that notes its arguments and makes a python, or ends with a status."""
    (folder / "tool.txt").write_text("a==1")
    uv = folder / "uv"
    lines = ("#!/bin/sh", f'echo "$1" >>{folder}/said', '[ "$1" = venv ] && mkdir -p "$4/bin" && touch "$4/bin/python"')
    uv.write_text("\n".join([*lines, "echo cannot reach the index", f"exit {status}"]))
    uv.chmod(0o755)
    return folder / "cache", str(uv)


def test_an_environment_is_made_once(tmp_path: Path) -> None:
    cache, uv = locked(tmp_path, 0)
    made = [
        environments.prepare("tool", cache, dict(os.environ), silent, locks=tmp_path, uv=lambda _: uv) for _ in range(2)
    ]
    assert made == [cache / "peers" / environments.folder_name("tool", b"a==1") / "bin"] * 2
    assert (tmp_path / "said").read_text().splitlines() == ["venv", "pip"]


def test_an_environment_that_cannot_be_made_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    cache, uv = locked(tmp_path, 2)
    with pytest.raises(MachineError) as caught:
        environments.prepare("tool", cache, dict(os.environ), silent, locks=tmp_path, uv=lambda _: uv)
    assert str(caught.value) == (
        "making its environment failed, which needs a package index that uv can reach: cannot reach the index"
    )
    assert [path for path in (cache / "peers").iterdir() if path.is_dir()] == []


def test_every_peer_is_asked_for_the_same_load() -> None:
    place = Place(8123, Path("/tokenizer"), Path("/out"))
    for client in PEERS:
        command = " ".join(client.command(Path("/bin"), Load(16, 5, 128, 0.05, 0.01), place))
        assert "http://127.0.0.1:8123" in command
        for asked in ("16", "80", "128", "/tokenizer"):
            assert asked in command, client.name


def failing(script: str) -> Client:
    return Client("tool", lambda *_: Path("/bin"), lambda *_: [sys.executable, "-c", script], "said.json", reports.ours)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("print('no such option'); raise SystemExit(3)", "it ended with status 3; its output ends: no such option"),
        ("print('all is well')", "it ended well but wrote no said.json; its output ends: all is well"),
        (
            "open('said.json', 'w').write('{}')",
            "its said.json is not as its version writes it: Expected `array`, got `object`",
        ),
        (
            'open("said.json", "w").write(\'[{"name": "x", "ttft": 1.0, "tpot": null, "tokens": 1}]\')',
            "of 1 requests that it reports, the stub knows none by name",
        ),
    ],
)
def test_a_client_that_gives_no_figures_is_not_measured(script: str, why: str) -> None:
    with pytest.raises(runs.NotMeasured) as caught:
        runs.measure(failing(script), Path("/bin"), LOAD, dict(os.environ), silent)
    assert str(caught.value) == why


def test_a_peer_that_cannot_be_installed_is_not_measured() -> None:
    def find(*_: object) -> Path:
        raise MachineError("no index")

    with pytest.raises(runs.NotMeasured, match=r"^no index$"):
        runs.find(replace(failing(""), find=find), Path("/cache"), {}, silent)


def test_ours_is_measured_and_reports_every_request(tmp_path: Path) -> None:
    load = Load(streams=2, rounds=2, tokens=4, ttft=0.02, tpot=0.005)
    programs = runs.find(OURS, tmp_path, {}, silent)
    run = runs.measure(OURS, programs, load, dict(os.environ), silent)
    figures = judge(run)
    assert (figures.requests, figures.miscounted) == (4, 0)
    assert run.cpu > 0
