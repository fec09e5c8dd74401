"""Writes a tokenizer that needs no model hub: byte-level BPE without merges, so one token for each byte.

Place: `load_peers` gives it to the peers, which draw their prompts with one. Limits: prompts only; how many tokens came
back they are told by the server's usage.
"""

import json
from pathlib import Path

SPECIAL = ("<|begin|>", "<|end|>")


def alphabet() -> list[str]:
    """The character for each byte, as in GPT-2's `bytes_to_unicode`: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = (chr(256 + number) for number in range(256))
    return [chr(byte) if byte in printable else next(spare) for byte in range(256)]


def write(folder: Path) -> None:
    """Writes tokenizer.json and what transformers wants beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(SPECIAL)
    vocabulary = {text: number for number, text in enumerate([*SPECIAL, *alphabet()])}
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": number, "content": text, **marks} for number, text in enumerate(SPECIAL)],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 8192,
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "pad_token": SPECIAL[1],
    }
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 256 + count}
    for name, content in (("tokenizer", tokenizer), ("tokenizer_config", settings), ("config", config)):
        (folder / f"{name}.json").write_text(json.dumps(content))
