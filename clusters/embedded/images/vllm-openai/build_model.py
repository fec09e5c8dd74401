"""Writes the small model that the labs serve where nothing can be downloaded: random weights, a trained tokenizer.

Place: a build step of this image's recipe, run with the image's own Python: `build_model.py FOLDER`. It prints the
SHA-256 of what it wrote, which the recipe expects. Limits: the shape of a Llama and the cost of its operations are
real, the text it writes means nothing.

Two machines get the same bytes: the weights are bytes drawn from SHAKE-256 and scaled by powers of two, which bfloat16
holds exactly, and the tokenizer learns from source files of a package that the lock pins by its hash and that is the
same on every platform.
"""

import hashlib
import json
import math
import os
import sys
from importlib import metadata
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
from safetensors import TensorSpec, serialize_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = "gpulab-tiny 1"
TEXT = "transformers"  # a package in pure Python: one wheel for every machine
TEXT_CHARACTERS = 2_000_000
SPECIAL = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCABULARY, HIDDEN, LAYERS, HEADS, KEY_HEADS, HEAD, MLP = 4096, 256, 4, 4, 2, 64, 768
CONTEXT = 8192
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "head_dim": HEAD,
    "intermediate_size": MLP,
    "hidden_act": "silu",
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "dtype": "bfloat16",
}


def text() -> list[str]:
    """The modules of the pinned package in order of their names, up to TEXT_CHARACTERS."""
    files = sorted((file for file in metadata.files(TEXT) or () if file.suffix == ".py"), key=str)
    parts, size = [], 0
    for file in files:
        parts.append(Path(str(file.locate())).read_text(encoding="utf-8"))
        size += len(parts[-1])
        if size >= TEXT_CHARACTERS:
            return parts
    raise SystemExit(f"the package {TEXT} holds {size} characters of source; the tokenizer needs {TEXT_CHARACTERS}")


def train_tokenizer() -> Tokenizer:
    """A byte-level BPE tokenizer of VOCABULARY entries, the special ones first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text(), trainer)
    return tokenizer


def draw(name: str, *shape: int) -> np.ndarray:
    """Uniform numbers of standard deviation near 1/sqrt(inputs), as float32 that bfloat16 holds exactly."""
    raw = np.frombuffer(hashlib.shake_256(f"{SEED} {name}".encode()).digest(math.prod(shape)), dtype=np.int8)
    power = (shape[-1].bit_length() - 2) // 2
    return (raw.astype(np.float32) * np.float32(2.0 ** -(7 + power))).reshape(shape)


def weights(tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Tensors by the names that Hugging Face gives a Llama."""
    tensors = {"model.embed_tokens.weight": draw("embed", VOCABULARY, HIDDEN)}
    shapes = {
        "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
        "self_attn.k_proj": (KEY_HEADS * HEAD, HIDDEN),
        "self_attn.v_proj": (KEY_HEADS * HEAD, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
        "mlp.gate_proj": (MLP, HIDDEN),
        "mlp.up_proj": (MLP, HIDDEN),
        "mlp.down_proj": (HIDDEN, MLP),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{norm}.weight"] = np.ones(HIDDEN, np.float32)
        tensors |= {f"{at}.{part}.weight": draw(f"{at}.{part}", *shape) for part, shape in shapes.items()}
    tensors["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    tensors["lm_head.weight"] = draw("head", VOCABULARY, HIDDEN)
    # Logit 0 is never the highest of thousands: every token that is sampled greedily is text one can see.
    tensors["lm_head.weight"][mute(tokenizer)] = 0
    return tensors


def mute(tokenizer: Tokenizer) -> list[int]:
    """Token ids that are no whole characters by themselves: special tokens and fragments of UTF-8."""
    texts = tokenizer.decode_batch([[token] for token in range(VOCABULARY)], skip_special_tokens=False)
    fragments = [token for token, text in enumerate(texts) if "\N{REPLACEMENT CHARACTER}" in text]
    return [*range(len(SPECIAL)), *fragments]


def save(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Writes tensors as bfloat16, which NumPy lacks: the upper half of a float32."""
    halves = {name: (tensor.view(np.uint32) >> 16).astype("<u2") for name, tensor in tensors.items()}
    described = {
        name: TensorSpec(dtype="bfloat16", shape=half.shape, data_ptr=half.ctypes.data, data_len=half.nbytes)
        for name, half in halves.items()
    }
    serialize_file(described, path, {"format": "pt"})
    path.chmod(0o644)  # the library makes it private, and caches may be shared


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files of a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def write(folder: Path) -> None:
    """Writes the model's folder as `transformers` and vLLM read it."""
    folder.mkdir(parents=True)
    tokenizer = train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[1]}
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        **named,
    }
    generation = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    for name, content in {
        "config.json": CONFIG,
        "generation_config.json": generation,
        "tokenizer_config.json": described,
    }.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    save(weights(tokenizer), folder / "model.safetensors")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    sys.stdout.write(f"{digest(Path(sys.argv[1]))}\n")
