"""The suite's own model, read back and run by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from build.config.folders import REPOSITORY
from build.gate import rules
from smoke.server import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

_HEADS, _HEAD_DIM = 2, 64


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
    assert rules.fingerprint(tmp_path, "**/*") == rules.fingerprint(folder, "**/*")


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


def test_layers_are_not_for_show(folder: Path, tokenizer: Tokenizer) -> None:
    weights = load_file(folder / "model.safetensors")
    ids = tokenizer.encode("Go on: abc").ids
    without = {name: tensor * 0 if "_proj" in name else tensor for name, tensor in weights.items()}
    assert np.abs(_scores(weights, ids) - _scores(without, ids)).max() > 0.1


def _scores(weights: Weights, ids: list[int]) -> NDArray[np.float32]:
    """A Llama's forward pass for the last of some tokens."""
    hidden = weights["model.embed_tokens.weight"][ids]
    for number in range(2):
        layer = {
            name.removeprefix(f"model.layers.{number}."): tensor
            for name, tensor in weights.items()
            if name.startswith(f"model.layers.{number}.")
        }
        hidden = hidden + _attention(layer, _norm(hidden))
        hidden = hidden + _mlp(layer, _norm(hidden))
    scores: NDArray[np.float32] = _norm(hidden)[-1] @ weights["lm_head.weight"].T
    return scores


def _norm(hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    normed: NDArray[np.float32] = hidden / np.sqrt((hidden**2).mean(-1, keepdims=True) + 1e-5)
    return normed


def _attention(layer: Weights, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    length = len(hidden)
    query, key, value = (
        (hidden @ layer[f"self_attn.{name}_proj.weight"].T).reshape(length, _HEADS, _HEAD_DIM) for name in "qkv"
    )
    scores = np.einsum("thd,shd->hts", _rotated(query), _rotated(key)) / np.sqrt(_HEAD_DIM)
    scores = np.where(np.tril(np.ones((length, length))), np.exp(scores), 0)
    mixed = np.einsum("hts,shd->thd", scores / scores.sum(-1, keepdims=True), value).reshape(length, -1)
    out: NDArray[np.float32] = mixed @ layer["self_attn.o_proj.weight"].T
    return out


def _rotated(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    half = _HEAD_DIM // 2
    angles = np.arange(len(vectors))[:, None] / 10000 ** (np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = vectors[..., :half], vectors[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def _mlp(layer: Weights, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
    gate = hidden @ layer["mlp.gate_proj.weight"].T
    up = hidden @ layer["mlp.up_proj.weight"].T
    out: NDArray[np.float32] = (gate / (1 + np.exp(-gate)) * up) @ layer["mlp.down_proj.weight"].T
    return out
