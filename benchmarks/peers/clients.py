"""The load generators that are compared: where each is installed, how it is started, what reads its results.

Place: `load_peers` runs them. Limits: the versions that are locked here, each as it comes, with one exception that
favours it: tokens are counted by the server's usage where a client would else tokenize every answer once more.

Nothing is fetched while they run: the tokenizer is a folder, and the address of the model hub is a dead one.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.peers import environments, reports
from benchmarks.peers.figures import Load
from benchmarks.peers.reports import Report
from clusters.api import MachineError, Progress
from clusters.embedded import prepare
from clusters.embedded.runtime import images

ROOT = Path(__file__).resolve().parents[2]
VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"
VLLM_PREFIX = "bench-"
PROMPT_TOKENS = 32
OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class Place:
    """What one run is given: the port of the stub, the folder of a tokenizer, and a folder for what it writes."""

    port: int
    tokenizer: Path
    out: Path


@dataclass(frozen=True)
class Client:
    """A load generator.

    `find` gives the folder of its programs and makes it where needed; `command` is what is run; `result` names the file
    that `read` understands, in the folder it is given.
    """

    name: str
    find: Callable[[Path, Mapping[str, str], Progress], Path]
    command: Callable[[Path, Load, Place], list[str]]
    result: str
    read: Callable[[bytes], list[Report]]
    env: Mapping[str, str] = field(default_factory=dict)


def _ours(bin_folder: Path, load: Load, place: Place) -> list[str]:
    numbers = map(str, (place.port, load.streams, load.rounds, load.tokens, load.seconds))
    return [str(bin_folder / "python"), "-m", "benchmarks.peers.ours", *numbers, str(place.out / "ours.json")]


def _vllm(bin_folder: Path, load: Load, place: Place) -> list[str]:
    options = {
        "backend": "openai",
        "base-url": _address(place),
        "endpoint": "/v1/completions",
        "model": "stub",
        "tokenizer": place.tokenizer,
        "dataset-name": "random",
        "random-input-len": PROMPT_TOKENS,
        "random-output-len": load.tokens,
        "num-prompts": load.requests,
        "max-concurrency": load.streams,
        "seed": 1,
        "request-id-prefix": VLLM_PREFIX,
        "result-dir": place.out,
        "result-filename": "vllm.json",
        "ready-check-timeout-sec": 0,
    }
    flags = ["--ignore-eos", "--save-result", "--save-detailed", "--disable-tqdm"]
    return [str(bin_folder / "vllm"), "bench", "serve", *_words(options), *flags]


def _guidellm(bin_folder: Path, load: Load, place: Place) -> list[str]:
    options = {
        "backend": f"kind=openai_http,target={_address(place)},model=stub,request_format=/v1/completions",
        "profile": f"kind=concurrent,streams={load.streams}",
        "constraint": f"kind=max_requests,count={load.requests}",
        "tokenizer": f"kind=hf_auto,model={place.tokenizer}",
        "data": f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={load.tokens}",
        "output": f"kind=json,path={place.out / 'guidellm.json'}",
    }
    return [str(bin_folder / "guidellm"), "run", *_words(options), "--disable-console"]


def _aiperf(bin_folder: Path, load: Load, place: Place) -> list[str]:
    options = {
        "model": "stub",
        "url": _address(place),
        "endpoint-type": "completions",
        "tokenizer": place.tokenizer,
        "concurrency": load.streams,
        "request-count": load.requests,
        "prompt-input-tokens-mean": PROMPT_TOKENS,
        "prompt-output-tokens-mean": load.tokens,
        "extra-inputs": "ignore_eos:true",
        "output-artifact-dir": place.out / "aiperf",
        "ui": "none",
        "random-seed": 1,
    }
    flags = ["streaming", "use-server-token-count", "use-legacy-max-tokens", "no-server-metrics", "no-gpu-telemetry"]
    return [str(bin_folder / "aiperf"), "profile", *_words(options), *(f"--{flag}" for flag in flags)]


def _address(place: Place) -> str:
    return f"http://127.0.0.1:{place.port}"


def _words(options: Mapping[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _find_vllm(cache: Path, env: Mapping[str, str], progress: Progress) -> Path:
    """The programs of the embedded cluster's image, which is the environment that labs serve from."""
    image = images.load(prepare.prepare([VLLM_IMAGE], cache, env, progress)).find(VLLM_IMAGE)
    if image is None:
        raise MachineError(f"the image {VLLM_IMAGE} was prepared but is not in the list of images")
    return Path(image.binds[0].source) / "env" / "bin"


def _find_ours(cache: Path, env: Mapping[str, str], progress: Progress) -> Path:  # noqa: ARG001 - as the others
    return Path(sys.executable).parent


def _release(peer: str) -> str:
    """Name and version of a peer, from what its lock is made of."""
    return (environments.LOCKS / f"{peer}.in").read_text().strip().replace("==", " ")


OURS = Client("ours", _find_ours, _ours, "ours.json", reports.ours, {"PYTHONPATH": str(ROOT)})
PEERS = (
    Client(
        f"vllm bench serve {VLLM_IMAGE.rpartition(':v')[2]}",
        _find_vllm,
        _vllm,
        "vllm.json",
        partial(reports.vllm, prefix=VLLM_PREFIX),
        {**OFFLINE, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
    ),
    Client(
        _release("guidellm"),
        partial(environments.prepare, "guidellm"),
        _guidellm,
        "guidellm.json",
        reports.guidellm,
        {**OFFLINE, "HF_HUB_OFFLINE": "1"},
    ),
    # With HF_HUB_OFFLINE, AIPerf takes the tokenizer's folder for the name of a repository and ends.
    Client(
        _release("aiperf"),
        partial(environments.prepare, "aiperf"),
        _aiperf,
        "aiperf/profile_export.jsonl",
        reports.aiperf,
        OFFLINE,
    ),
)
