"""A run's GPUs on its page: figures over time, who held them, and what was not told."""

from pathlib import Path

import msgspec
import pytest

from graders.gpu_telemetry import FORMAT, Gpu, Look
from graders.html import gpus
from graders.html.devices import NO_FIGURES, SILENT, Device, Point, Span, devices_of
from graders.html.draw import draw
from graders.html.evidence import read
from graders.html.gpus import MOST_ROWS, Shown, parts, shown
from tests.graders.verdicts import NOON
from tests.html.conftest import STREAMS
from tests.html.runs import store

BEGIN = NOON.timestamp()
WORD = "its exporter did not answer: 503 Service Unavailable"


def gpu(busy: float | None, *pods: str, place: str = "0", simulated: bool = True) -> Gpu:
    figures = {} if busy is None else {"utilisation": busy, "memory_mib": 10 * busy, "watts": busy / 2}
    return Gpu(gpu=place, uuid=f"GPU-{place}", model="NVIDIA L4", simulated=simulated, held_by=pods, **figures)  # type: ignore[arg-type]


def look(at: float, *seen: Gpu, node: str = "gpu-1", failure: str | None = None) -> Look:
    return Look(at=BEGIN + at, node=node, gpus=seen, failure=failure)


def page_of(tmp_path: Path, looks: list[Look], seconds: float = 120.0) -> tuple[Shown, ...]:
    content = msgspec.json.Encoder().encode_lines([{"format": FORMAT}, *looks])
    store(tmp_path / "run", [STREAMS], {"gpus.jsonl": content}, seconds=seconds)
    return shown(read(tmp_path / "run"))


def test_a_device_has_its_figures_and_its_holders_over_time() -> None:
    looks = [look(0, gpu(0)), look(3, gpu(90, "ns/a")), look(6, gpu(80, "ns/a", "ns/b")), look(9, gpu(1, "ns/b"))]
    (device,) = devices_of(looks)
    assert device == Device(
        node="gpu-1",
        gpu="0",
        uuid="GPU-0",
        model="NVIDIA L4",
        simulated=True,
        points=(
            Point(BEGIN, 0.0, 0.0, 0.0),
            Point(BEGIN + 3, 90.0, 900.0, 45.0),
            Point(BEGIN + 6, 80.0, 800.0, 40.0),
            Point(BEGIN + 9, 1.0, 10.0, 0.5),
        ),
        held=(Span("ns/a", BEGIN + 3, BEGIN + 6), Span("ns/b", BEGIN + 6, BEGIN + 9)),
    )


def test_devices_come_by_node_and_place_real_and_simulated() -> None:
    looks = [
        look(0, gpu(1, place="1"), gpu(2, place="0"), node="gpu-2"),
        look(0, gpu(3, simulated=False), node="gpu-1"),
    ]
    assert [(each.node, each.gpu, each.simulated) for each in devices_of(looks)] == [
        ("gpu-1", "0", False),
        ("gpu-2", "0", True),
        ("gpu-2", "1", True),
    ]


def test_a_node_that_is_lost_and_comes_back_leaves_a_gap_in_each_of_its_devices() -> None:
    both = (gpu(5, "ns/a"), gpu(6, place="1"))
    (one, two) = devices_of([look(0, *both), look(3, failure=WORD), look(30, *both)])
    for device in (one, two):
        assert device.gaps == (Span(WORD, BEGIN + 3, BEGIN + 30),)
        assert device.points[1] == Point(BEGIN + 3)
    assert one.held == (Span("ns/a", BEGIN, BEGIN + 30),)


def test_a_gap_may_last_until_the_end_and_change_its_reason() -> None:
    (device,) = devices_of([look(0, gpu(5)), look(3, failure=WORD), look(9, failure="the cluster has no GPU there")])
    assert device.gaps == (Span(WORD, BEGIN + 3, BEGIN + 9), Span("the cluster has no GPU there", BEGIN + 9, None))


def test_a_device_that_is_missing_or_tells_no_figures_has_a_gap() -> None:
    one, other = gpu(5), gpu(7, place="1")
    looks = [look(0, one, other), look(3, one), look(6, one, gpu(None, "ns/a", place="1")), look(9, one, other)]
    first, second = devices_of(looks)
    assert first.gaps == ()
    assert second.gaps == (Span(SILENT, BEGIN + 3, BEGIN + 6), Span(NO_FIGURES, BEGIN + 6, BEGIN + 9))
    assert second.held == (Span("ns/a", BEGIN + 6, BEGIN + 6),)


def test_a_node_that_was_silent_at_first_says_so_of_its_devices_and_one_that_always_was_of_itself() -> None:
    looks = [look(0, failure=WORD), look(0, node="gpu-2", failure=WORD), look(6, gpu(5)), look(6, node="gpu-3")]
    assert [(each.node, each.gpu, each.gaps) for each in devices_of(looks)] == [
        ("gpu-1", "0", (Span(WORD, BEGIN, BEGIN + 6),)),
        ("gpu-2", None, (Span(WORD, BEGIN, None),)),
        ("gpu-3", None, (Span(SILENT, BEGIN + 6, None),)),
    ]


def test_lines_end_where_nothing_was_told_and_have_no_more_points_than_a_plot_shows() -> None:
    looks = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, None), (4.0, 3.0)]
    assert parts(looks) == [((0.0, 1.0), (1.0, 2.0)), ((4.0, 3.0),)]
    assert parts(looks, most=3) == [((0.5, 1.5),), ((4.0, 3.0),)]
    assert parts([(0.0, None)]) == []
    (line,) = parts([(float(at), 100.0 * (at % 2)) for at in range(400)])
    assert (len(line), line[-1]) == (134, (399.0, 100.0))
    assert line[0][1] == pytest.approx(100 / 3)


def test_what_is_shown_of_a_device(tmp_path: Path) -> None:
    looks = [look(6, gpu(0)), look(12, gpu(90, "ns/a")), look(60, gpu(60, "ns/a")), look(66, failure=WORD)]
    (device,) = page_of(tmp_path, looks)
    assert (device.title, device.kind) == ("gpu-1, GPU 0", "simulated")
    assert device.facts == (("Product", "NVIDIA L4"), ("UUID", "GPU-0"))
    busy, memory, power = device.panel.plots
    assert (busy.title, busy.words) == ("Utilisation", ("On average 50 %, at most 90 %",))
    assert (busy.x, busy.y, busy.ends, busy.top) == ("s", "%", (0.0, 120.0), 104.0)
    assert [line.points for line in busy.lines] == [((6.0, 0.0), (12.0, 90.0), (60.0, 60.0))]
    assert (memory.title, memory.words) == ("Memory in use", ("On average 500 MiB, at most 900 MiB",))
    assert (power.title, power.words) == ("Power", ("On average 25 W, at most 45 W",))
    held, gap = device.rows
    assert (held.what, held.when) == ("Held by ns/a", "0:12 to 1:00")
    assert [(mark.kind, mark.start, mark.length) for mark in held.marks] == [("load", 10.0, 40.0)]
    assert (gap.what, gap.when) == (f"No figures: {WORD}", "1:06 to 2:00")
    assert [(mark.kind, mark.start, mark.length) for mark in gap.marks] == [("object", 55.0, 45.0)]


def test_a_long_run_counts_minutes(tmp_path: Path) -> None:
    (device,) = page_of(tmp_path, [look(60, gpu(1)), look(660, gpu(2))], seconds=1200.0)
    plot = device.panel.plots[0]
    assert (plot.x, plot.ends, plot.lines[0].points) == ("min", (0.0, 20.0), ((1.0, 1.0), (11.0, 2.0)))


def test_what_is_not_known_of_a_device_is_not_shown(tmp_path: Path) -> None:
    partition = Gpu(gpu="0", uuid="GPU-0", partition="1g.10gb (1)", memory_mib=5.0)
    looks = [look(0, partition), look(0, node="gpu-2", failure=WORD)]
    device, silent = page_of(tmp_path, looks)
    assert (device.kind, device.facts) == ("real", (("UUID", "GPU-0"), ("Partition", "1g.10gb (1)")))
    assert [plot.title for plot in device.panel.plots] == ["Memory in use"]
    assert [row.what for row in device.rows] == ["No pod held it"]
    assert (silent.title, silent.kind, silent.facts, silent.panel.plots) == ("gpu-2", None, (), ())
    assert [(row.what, row.when) for row in silent.rows] == [(f"No figures: {WORD}", "0:00 to 2:00")]


def test_more_rows_than_are_shown_are_counted(tmp_path: Path) -> None:
    looks = [look(float(at), gpu(1, f"ns/pod-{at}")) for at in range(MOST_ROWS + 3)]
    (device,) = page_of(tmp_path, looks)
    assert [row.what for row in device.rows[-2:]] == [f"Held by ns/pod-{MOST_ROWS - 1}", "3 more are in the record"]


def test_a_run_without_looks_shows_no_devices(tmp_path: Path) -> None:
    assert page_of(tmp_path, []) == ()


def test_a_plot_begins_and_ends_with_the_run(tmp_path: Path) -> None:
    (device,) = page_of(tmp_path, [look(50, gpu(1)), look(53, gpu(1))])
    text = draw(device.panel.plots[0], "gpu-1-1")
    assert all(f">{tick}<" in text for tick in (0, 25, 50, 75, 100))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store(tmp_path / "run", [STREAMS], {"gpus.jsonl": b'{"format":"gpulab/gpus/v9"}\n'})
    found = read(tmp_path / "run")
    assert gpus.shown(found) == ()
    assert [(file.name, file.why) for file in found.unread] == [
        (
            "evidence/gpus.jsonl",
            "these lines are of format 'gpulab/gpus/v9'; this program reads 'gpulab/gpus/v1'",
        )
    ]
