"""The tiny model that the server under test serves: made on the spot, the same bytes every time.

It is a real three-layer Llama with one token a byte, and it has two voices.

A printable character is embedded loudly, in one half of the hidden state, to which no layer writes. The output
matrix is laid out so that the likeliest token after it is the next one in ASCII: "abc" goes on with "defgh", on any
device and in any precision. A text that differs means that weights were not loaded or not used as they are.

Any other byte is embedded softly, in the other half, to which all layers write as much as is there. Its answer is
another byte of that kind, and depends on every layer and on every token before it, so a slip in the computation shows
in the log-probabilities (:mod:`smoke.server.numbers`). Queries and keys are large enough for attention to choose
single tokens; the hidden state is small enough for a wrong epsilon of the norms to show.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from build.gate import fingerprints
from build.host import scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
"""The characters that the model knows the order of; the last is followed by the first."""

_SEED = 20240229
_LOUD = 128
_HIDDEN = 2 * _LOUD
_INTERMEDIATE = 256
_LAYERS = 3
_HEADS, _KV_HEADS = 4, 2
_HEAD_DIM = 64  # a size that every attention backend of vLLM takes
_POSITIONS = 2048
_EPSILON = 1e-5
# Rotations cancel a shift of all positions. Below one this base makes angles of up to 2**32, which float32 rounds to
# more than a turn, and then they do not. Its powers are those whose float32 is farthest from a tie in rounding, so
# every processor's are the same.
_ROTARY_BASE = 1445 * 2.0**-34
# Size of the hidden state where it is soft, and of the scores that it gives to tokens.
_SOFT, _SPREAD = 0.05, 2.5
# GPT-2's byte-level alphabet: one printable character a byte.
_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
_BOS, _EOS = "<s>", "</s>"
_VOCABULARY = {token: number for number, token in enumerate([*_ALPHABET, _BOS, _EOS])}
QUIET = tuple(number for token, number in _VOCABULARY.items() if token not in (*PRINTABLE, "Ġ", _BOS, _EOS))
"""IDs of the tokens whose answer needs every layer: the bytes that are not printable."""

# Ends with what the user said, so that the answer to a chat is as foreseeable as a completion's.
_CHAT_TEMPLATE = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"


def write(folder: Path) -> None:
    """Write the model into a folder as Hugging Face has it: configuration, tokenizer, weights.

    Args:
        folder: Made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _config())
    _write_json(folder / "generation_config.json", {"bos_token_id": _id(_BOS), "eos_token_id": _id(_EOS)})
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    folder.joinpath("tokenizer.json").write_text(_tokenizer().to_str(pretty=True), encoding="utf-8")
    folder.joinpath("model.safetensors").write_bytes(save(_weights(), metadata={"format": "pt"}))


def fingerprint() -> str:
    """Digest of the model, by which a copy of it is recognised."""
    with scratch.folder() as folder:
        write(Path(folder))
        return fingerprints.model(Path(folder))


def continuation(prompt: str, length: int) -> str:
    """What the model says after a prompt that ends with a printable ASCII character.

    Args:
        prompt: Only its last character matters.
        length: How many tokens, which are characters here.
    """
    start = PRINTABLE.index(prompt[-1])
    return "".join(PRINTABLE[(start + step) % len(PRINTABLE)] for step in range(1, length + 1))


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _id(token: str) -> int:
    return _VOCABULARY[token]


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        # Where the suite does not say otherwise: vLLM makes bfloat16 of float32, which is eight times as coarse.
        "dtype": "float16",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD_DIM,
        "vocab_size": len(_VOCABULARY),
        "max_position_embeddings": _POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": _EPSILON,
        "rope_theta": _ROTARY_BASE,
        "tie_word_embeddings": False,
        "bos_token_id": _id(_BOS),
        "eos_token_id": _id(_EOS),
    }


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=_VOCABULARY, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_BOS, _EOS])
    return tokenizer


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _BOS,
        "eos_token": _EOS,
        "model_max_length": _POSITIONS,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }


class _Noise:
    """Numbers from a fixed seed.

    Made of the generator's raw bits: those are the same in every numpy (NEP 19), unlike its distributions.
    """

    def __init__(self) -> None:
        self._bits = np.random.PCG64(_SEED)

    def uniform(self, *shape: int, scale: float) -> Matrix:
        """Numbers between ``-scale`` and ``scale``."""
        raw = self._bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
        return ((raw * 2.0**-52 - 1.0) * scale).astype(np.float32).reshape(shape)

    def matrix(self, *shape: int, gain: float) -> Matrix:
        """A matrix that makes of a vector whose numbers have size 1 one whose numbers have size ``gain``."""
        return self.uniform(*shape, scale=gain * math.sqrt(3 / shape[1]))

    def signs(self, *shape: int) -> Matrix:
        """Ones and minus ones."""
        return np.where(self.uniform(*shape, scale=1.0) < 0, -1.0, 1.0).astype(np.float32)


def _weights() -> dict[str, Matrix]:
    noise = _Noise()
    embeddings, head = _vocabulary(noise)
    tensors = {
        "model.embed_tokens.weight": embeddings,
        "model.norm.weight": np.ones(_HIDDEN, dtype=np.float32),
        "lm_head.weight": head,
    }
    for number in range(_LAYERS):
        tensors |= {f"model.layers.{number}.{name}": tensor for name, tensor in _layer(noise).items()}
    return tensors


def _vocabulary(noise: _Noise) -> tuple[Matrix, Matrix]:
    """Embeddings, and the output matrix: the row of a character is the embedding of the character before it.

    Random signs are nearly orthogonal, so a token's embedding meets its own copy with 128 and others with
    around ±11; brought to 8, the right token has a probability near 0.9 and leads by a factor of hundreds.
    """
    embeddings, head = (np.zeros((len(_VOCABULARY), _HIDDEN), dtype=np.float32) for _ in range(2))
    signs = noise.signs(len(PRINTABLE), _LOUD)
    characters = [_id("Ġ" if character == " " else character) for character in PRINTABLE]
    embeddings[characters, :_LOUD] = signs
    head[characters, :_LOUD] = np.roll(signs, 1, axis=0) / (16 * math.sqrt(2))
    embeddings[QUIET, _LOUD:] = noise.uniform(len(QUIET), _LOUD, scale=_SOFT * math.sqrt(3))
    head[QUIET, _LOUD:] = noise.matrix(len(QUIET), _LOUD, gain=_SPREAD / math.sqrt(2))
    return embeddings, head


def _layer(noise: _Noise) -> dict[str, Matrix]:
    attention, shared = _HEADS * _HEAD_DIM, _KV_HEADS * _HEAD_DIM
    tensors = {
        "input_layernorm.weight": np.ones(_HIDDEN, dtype=np.float32),
        "post_attention_layernorm.weight": np.ones(_HIDDEN, dtype=np.float32),
        "self_attn.q_proj.weight": noise.matrix(attention, _HIDDEN, gain=1.6),
        "self_attn.k_proj.weight": noise.matrix(shared, _HIDDEN, gain=1.6),
        "self_attn.v_proj.weight": noise.matrix(shared, _HIDDEN, gain=1.0),
        "self_attn.o_proj.weight": noise.matrix(_HIDDEN, attention, gain=1.2 * _SOFT),
        "mlp.gate_proj.weight": noise.matrix(_INTERMEDIATE, _HIDDEN, gain=1.5),
        "mlp.up_proj.weight": noise.matrix(_INTERMEDIATE, _HIDDEN, gain=1.0),
        "mlp.down_proj.weight": noise.matrix(_HIDDEN, _INTERMEDIATE, gain=1.5 * _SOFT),
    }
    for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        tensors[name][:_LOUD] = 0
    return tensors
