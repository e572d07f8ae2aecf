"""The suite's own model, read back and run by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from build.config.folders import REPOSITORY
from build.gate import fingerprints
from smoke.server import numbers, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

_LAYERS, _HEADS, _SHARED, _HEAD_DIM = 3, 4, 2, 64
_BASE = 1445 * 2.0**-34


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny_model.write(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_is_the_same_in_another_process(folder: Path, tmp_path: Path) -> None:
    program = (
        f"from pathlib import Path; from smoke.server import tiny_model; tiny_model.write(Path({str(tmp_path)!r}))"
    )
    # Python's sets are ordered by this seed.
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert fingerprints.fingerprint(tmp_path, "**/*") == fingerprints.fingerprint(folder, "**/*")


def test_has_the_files_of_a_hugging_face_model(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_weights_are_those_of_the_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    assert weights["model.embed_tokens.weight"].shape == (config["vocab_size"], config["hidden_size"])
    layers = {name.split(".")[2] for name in weights if name.startswith("model.layers.")}
    assert layers == {str(number) for number in range(config["num_hidden_layers"])}
    assert all(np.isfinite(tensor).all() for tensor in weights.values())


@pytest.mark.parametrize("text", ["Go on: abc", "Grüße, 世界 🙂", "\x00\t\n", ""])
def test_tokens_are_bytes(tokenizer: Tokenizer, text: str) -> None:
    encoded = tokenizer.encode(text)
    assert len(encoded.ids) == len(text.encode())
    assert tokenizer.decode(encoded.ids) == text


def test_continuation_follows_ascii_and_wraps() -> None:
    assert tiny_model.continuation("Go on: abc", 5) == "defgh"
    assert tiny_model.continuation("}", 3) == "~ !"


def test_chat_ends_with_what_the_user_said(folder: Path) -> None:
    template = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    assert template.endswith("{{ message.content }}{% endfor %}")


def test_weights_say_what_continuation_says(folder: Path, tokenizer: Tokenizer) -> None:
    weights = load_file(folder / "model.safetensors")
    for character in tiny_model.PRINTABLE:
        scores = _scores(weights, tokenizer.encode(f"Some text: {character}").ids)
        best, second = np.argsort(scores)[:-3:-1]
        assert tokenizer.decode([int(best)]) == tiny_model.continuation(character, 1)
        # bfloat16, the coarsest type that is used, has steps of 1/32 at this size.
        assert scores[best] - scores[second] > 4


@dataclass(frozen=True, kw_only=True)
class Slip:
    """How a forward pass goes wrong.

    Attributes:
        scale: What norms multiply by.
        epsilon: What norms add.
        shift: Of all positions.
        beyond: How many tokens ahead attention sees.
        attention: What attention's output is multiplied by.
        order: How keys and values are ordered, by block.
    """

    scale: float = 1.0
    epsilon: float = 1e-5
    shift: int = 0
    beyond: int = 0
    attention: float = 1.0
    order: tuple[int, ...] = (0, 1, 2)


SLIPS = {
    "norms scaled": Slip(scale=1.05),
    "another epsilon": Slip(epsilon=1e-2),
    "a smaller epsilon": Slip(epsilon=1e-6),
    "positions off by one": Slip(shift=1),
    "a mask that sees a token too far": Slip(beyond=1),
    "no attention": Slip(attention=0.0),
    "blocks swapped": Slip(order=(1, 0, 2)),
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_in_the_computation_shows(folder: Path, slip: Slip) -> None:
    weights = load_file(folder / "model.safetensors")
    apart = 0.0
    for prompt in [numbers.PROMPTS[3], numbers.PROMPTS[13]]:  # a short one, and one of several blocks
        right, wrong = (_likelihood(_scores(weights, list(prompt.tokens), one)) for one in (Slip(), slip))
        likeliest = np.argsort(right)[-5:]
        apart = max(apart, np.abs(right - wrong)[likeliest].max())
    assert apart > 20 * numbers.TOLERANCE["cpu"]


@pytest.mark.parametrize("name", ["self_attn.o_proj", "mlp.down_proj"])
@pytest.mark.parametrize("number", range(_LAYERS))
def test_no_layer_is_for_show(folder: Path, number: int, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    ids = list(numbers.PROMPTS[5].tokens)
    right = _scores(weights, ids)
    weights[f"model.layers.{number}.{name}.weight"] *= 0
    assert np.abs(right - _scores(weights, ids)).max() > 1


@pytest.mark.parametrize("position", [0, 100, 260])
def test_every_token_before_counts(folder: Path, position: int) -> None:
    weights = load_file(folder / "model.safetensors")
    ids = list(numbers.PROMPTS[13].tokens)
    right = _likelihood(_scores(weights, ids))
    ids[position] = ids[position] + 1 if ids[position] + 1 in tiny_model.QUIET else ids[position] - 1
    assert np.abs(right - _likelihood(_scores(weights, ids))).max() > 10 * numbers.TOLERANCE["cpu"]


def test_powers_of_the_rotary_base_are_the_same_on_every_processor() -> None:
    """None is so near the middle between two numbers of float32 that an error in its last bits would round it so."""
    powers = [Decimal(_BASE) ** (Decimal(number) / 32) for number in range(32)]
    steps = [power / Decimal(2) ** (math.floor(math.log2(power)) - 23) for power in powers]
    assert min(abs(step % 1 - Decimal("0.5")) for step in steps) > Decimal("0.1")


def _likelihood(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    logarithms: NDArray[np.float32] = scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())
    return logarithms


def _scores(weights: Weights, ids: list[int], slip: Slip | None = None) -> NDArray[np.float32]:
    """A Llama's forward pass for the last of some tokens."""
    slip = slip or Slip()
    hidden = weights["model.embed_tokens.weight"][ids]
    for number in range(_LAYERS):
        layer = {
            name.removeprefix(f"model.layers.{number}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"model.layers.{number}.")
        }
        hidden = hidden + slip.attention * _attention(layer, _norm(hidden, slip), slip)
        hidden = hidden + _mlp(layer, _norm(hidden, slip))
    scores: NDArray[np.float32] = _norm(hidden, slip)[-1] @ weights["lm_head.weight"].T
    return scores


def _norm(hidden: NDArray[np.float32], slip: Slip) -> NDArray[np.float32]:
    root = np.sqrt((hidden**2).mean(-1, keepdims=True) + np.float32(slip.epsilon))
    normed: NDArray[np.float32] = hidden / root * np.float32(slip.scale)
    return normed


def _attention(layer: Weights, hidden: NDArray[np.float32], slip: Slip) -> NDArray[np.float32]:
    length = len(hidden)
    query, key, value = (
        (hidden @ layer[f"self_attn.{name}_proj.weight"].T).reshape(length, -1, _HEAD_DIM) for name in "qkv"
    )
    query, key = _rotated(query, slip.shift), _rotated(key, slip.shift)
    if length > 128 * len(slip.order):
        blocks = [np.arange(length)[128 * number :][:128] for number in slip.order]
        order = np.concatenate([*blocks, np.arange(128 * len(slip.order), length)])
        key, value = key[order], value[order]
    key, value = (np.repeat(one, _HEADS // _SHARED, axis=1).swapaxes(0, 1) for one in (key, value))
    scores = query.swapaxes(0, 1) @ key.swapaxes(1, 2) / np.sqrt(np.float32(_HEAD_DIM))
    seen = np.tril(np.ones((length, length)), slip.beyond)
    scores = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    mixed = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(length, -1)
    out: NDArray[np.float32] = mixed.astype(np.float32) @ layer["self_attn.o_proj.weight"].T
    return out


def _rotated(vectors: NDArray[np.float32], shift: int) -> NDArray[np.float32]:
    half = _HEAD_DIM // 2
    turns = 1 / np.float32(_BASE) ** (np.arange(half, dtype=np.float32) / np.float32(half))
    angles = (np.arange(len(vectors), dtype=np.float32) + np.float32(shift))[:, None] * turns
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = vectors[..., :half], vectors[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def _mlp(layer: Weights, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    gate = hidden @ layer["mlp.gate_proj.weight"].T
    up = hidden @ layer["mlp.up_proj.weight"].T
    out: NDArray[np.float32] = (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj.weight"].T
    return out
