"""What servers and GPU exporters told, as plots."""

from graders.html.counters import MOST_DEVICES, counters_of
from graders.html.loads import loads_of
from graders.html.telemetry import of_counters
from graders.sampler import Scrape
from graders.scrape import Scrapes
from tests.html.runs import MONOTONIC, even, load_run, scrapes


def told(texts: list[str], replicas: tuple[str, ...] = ("exporter",)) -> Scrapes:
    rounds = [
        tuple(
            Scrape(replica=name, round=place, asked=float(place), answered=float(place), text=text) for name in replicas
        )
        for place, text in enumerate(texts)
    ]
    return Scrapes(before=rounds[0], during=tuple(rounds[1:-1]), after=rounds[-1])


def test_the_queue_and_the_cache_of_a_server_from_the_beginning_of_its_load() -> None:
    values = [(0, 0, 0.0), (4, 0, 0.25), (4, 3, 1.0), (0, 0, 0.5)]
    counters = counters_of("kv-1-scrapes", scrapes(values, begin=MONOTONIC - 1))
    (panel,) = of_counters(counters, loads_of("kv-1-submission", load_run(even(9, 0.2), streams=4)))
    assert [(key.label, key.style) for key in panel.legend] == [("running", 0), ("waiting", 1)]
    queue, cache = panel.plots
    assert (queue.title, queue.words) == (
        "Requests in the server",
        ("running: at most 4 requests", "waiting: at most 3 requests"),
    )
    assert queue.lines[1].points == ((-1.0, 0.0), (0.0, 0.0), (1.0, 3.0), (2.0, 0.0))
    assert queue.span == (0.5, 4.5)
    assert (cache.title, cache.words, cache.top) == ("KV cache in use", ("At most 100 %",), 104.0)
    assert cache.lines[0].points == ((-1.0, 0.0), (0.0, 25.0), (1.0, 100.0), (2.0, 50.0))


def test_each_gpu_has_a_line() -> None:
    text = 'DCGM_FI_DEV_GPU_UTIL{{gpu="0"}} {}\nDCGM_FI_DEV_GPU_UTIL{{gpu="1"}} 5\n'
    text += 'DCGM_FI_DEV_POWER_USAGE{{gpu="0"}} 70.5\n'
    (panel,) = of_counters(counters_of("gpu-scrapes", told([text.format(busy) for busy in (0, 90, 80)])), ())
    assert [key.label for key in panel.legend] == ["exporter, GPU 0", "exporter, GPU 1"]
    utilisation, power = panel.plots
    assert utilisation.words == ("exporter, GPU 0: at most 90 %", "exporter, GPU 1: at most 5 %")
    assert utilisation.lines[0].points == ((0.0, 0.0), (1.0, 90.0), (2.0, 80.0))
    assert (power.title, power.y, len(power.lines)) == ("GPU power", "W", 1)


def test_of_many_gpus_a_plot_shows_a_few() -> None:
    text = "".join(f'DCGM_FI_DEV_GPU_UTIL{{gpu="{number}"}} 50\n' for number in range(9))
    (panel,) = of_counters(counters_of("gpu-scrapes", told([text] * 3)), ())
    assert len(panel.plots[0].lines) == MOST_DEVICES


def test_what_is_told_before_and_after_a_load_only_is_no_line() -> None:
    queue = "vllm:num_requests_running 1\n"
    whole = f"{queue}vllm:kv_cache_usage_perc 0\n"
    (panel,) = of_counters(counters_of("kv-1-scrapes", told([whole, *[queue] * 4, whole])), ())
    assert [plot.title for plot in panel.plots] == ["Requests in the server"]


def test_what_is_no_number_or_no_metric_is_left_out() -> None:
    texts = [
        "vllm:num_requests_running 1\n",
        "vllm:num_requests_running NaN\n",
        "}{ <script>\n",
        "",
        "vllm:num_requests_running 3\n",
    ]
    texts += ["vllm:num_requests_running +Inf\n", "vllm:num_requests_running 2\n", "vllm:num_requests_running 2\n"]
    (panel,) = of_counters(counters_of("kv-1-scrapes", told([*texts, texts[0]])), ())
    assert [y for _, y in panel.plots[0].lines[0].points] == [1.0, 3.0, 2.0, 2.0, 1.0]
    assert of_counters(counters_of("kv-1-scrapes", told(["", "", ""])), ()) == []
