"""The metrics of an engine that serves under vLLM's names, written by the client library that vLLM itself uses.

Place: tests of the cross-checks, and servers of tests that tell what they did. Limits: one engine, one model; requests
are observed when they finish, and `step` once per step.
"""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LABELS = {"model_name": "gpulab-tiny", "engine": "0"}
TTFT_EDGES = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TPOT_EDGES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
E2E_EDGES = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0)
TOKEN_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
STEP_EDGES = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class EngineMetrics:
    """Counts like vLLM 0.32; `text` is what it says at /metrics."""

    def __init__(self, *, started: float = 1000.0) -> None:
        self.registry = CollectorRegistry()
        self._started = Gauge("process_start_time_seconds", "Start of the process.", registry=self.registry)
        self._started.set(started)
        self.running = self._gauge("num_requests_running")
        self.waiting = self._gauge("num_requests_waiting")
        self.kv_usage = self._gauge("kv_cache_usage_perc")
        self._finished = Counter("vllm:request_success", "doc", (*LABELS, "finished_reason"), registry=self.registry)
        for reason in ("stop", "length", "abort", "error"):
            self._finished.labels(**LABELS, finished_reason=reason)
        self._prompt = self._counter("prompt_tokens")
        self._generated = self._counter("generation_tokens")
        self._preempted = self._counter("num_preemptions")
        self._queries = self._counter("prefix_cache_queries")
        self._hits = self._counter("prefix_cache_hits")
        self._sources = Counter("vllm:prompt_tokens_by_source", "doc", (*LABELS, "source"), registry=self.registry)
        for source in ("local_compute", "local_cache_hit", "external_kv_transfer"):
            self._sources.labels(**LABELS, source=source)
        self._ttft = self._histogram("time_to_first_token_seconds", TTFT_EDGES)
        self._tpot = self._histogram("request_time_per_output_token_seconds", TPOT_EDGES)
        self._e2e = self._histogram("e2e_request_latency_seconds", E2E_EDGES)
        self._prompts = self._histogram("request_prompt_tokens", TOKEN_EDGES)
        self._answers = self._histogram("request_generation_tokens", TOKEN_EDGES)
        self._steps = self._histogram("iteration_tokens_total", STEP_EDGES)

    def admit(self, prompt: int, *, cached: int = 0) -> None:
        """A prompt is looked up and computed, but for what the cache has, in one step with its first token."""
        self._prompt.inc(prompt)
        self._queries.inc(prompt)
        self._hits.inc(cached)
        self._sources.labels(**LABELS, source="local_cache_hit").inc(cached)
        self._sources.labels(**LABELS, source="local_compute").inc(prompt - cached)
        self._generated.inc()
        self._steps.observe(prompt - cached + 1)

    def step(self, tokens: int) -> None:
        """A step that generates so many tokens."""
        self._generated.inc(tokens)
        self._steps.observe(tokens)

    def finish(self, *, prompt: int, tokens: int, ttft: float, e2e: float, tpot: float) -> None:
        """A request of that many tokens ends for its length."""
        self._finished.labels(**LABELS, finished_reason="length").inc()
        for histogram, value in (
            (self._ttft, ttft),
            (self._tpot, tpot),
            (self._e2e, e2e),
            (self._prompts, prompt),
            (self._answers, tokens),
        ):
            histogram.observe(value)

    def preempt(self) -> None:
        """A request loses its place in the KV cache."""
        self._preempted.inc()

    def serve(self, prompt: int, times: Sequence[float], *, cached: int = 0) -> None:
        """One whole request, alone; `times` are its tokens' in seconds after it came."""
        self.admit(prompt, cached=cached)
        for _ in times[1:]:
            self.step(1)
        last = len(times) - 1
        tpot = (times[-1] - times[0]) / last if last else 0.0
        self.finish(prompt=prompt, tokens=len(times), ttft=times[0], e2e=times[-1], tpot=tpot)

    def text(self) -> str:
        """Prometheus' text format, as a GET of /metrics gives it."""
        return generate_latest(self.registry).decode()

    def _gauge(self, name: str) -> Gauge:
        return Gauge(f"vllm:{name}", "doc", tuple(LABELS), registry=self.registry).labels(**LABELS)

    def _counter(self, name: str) -> Counter:
        return Counter(f"vllm:{name}", "doc", tuple(LABELS), registry=self.registry).labels(**LABELS)

    def _histogram(self, name: str, edges: Sequence[float]) -> Histogram:
        own = Histogram(f"vllm:{name}", "doc", tuple(LABELS), registry=self.registry, buckets=edges)
        return own.labels(**LABELS)
