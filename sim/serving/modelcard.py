"""A model that the specifications do not have, from its own `config.json` as published beside its weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.serving.known import UnknownError


def read(path: Path) -> tuple[str, Mapping[str, Any]]:
    """Its name and what `specs/models.toml` would say of it. `path`: config.json, or the folder that has it."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text("utf-8"))
        return file.resolve().parent.name.lower(), _shape(config)
    except (OSError, ValueError) as e:
        raise UnknownError(f"{file}: want a model's config.json ({e})") from e
    except KeyError as e:
        raise UnknownError(f"{file}: want a decoder's config.json: there is no {e}") from e


def _shape(config: Mapping[str, Any]) -> Mapping[str, Any]:
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    attention = 2 * hidden * head_dim * (heads + kv_heads)
    feed_forward = 3 * hidden * config["intermediate_size"]
    experts = config.get("num_local_experts") or config.get("num_experts") or 0
    each = 3 * hidden * (config.get("moe_intermediate_size") or config["intermediate_size"])
    head = config["vocab_size"] * hidden  # the other table is looked up, not multiplied
    shape = {
        "hidden": hidden,
        "billions": (head + layers * (attention + (0 if experts else feed_forward))) / 1e9,
        "layers": layers,
        "full_attention": layers,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
    }
    if experts:
        shape |= {"expert_billions": layers * experts * each / 1e9, "experts": experts}
        shape["experts_used"] = config["num_experts_per_tok"]
    return shape
