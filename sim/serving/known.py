"""What datasheets and model cards say, by any of the names that a GPU or a model goes by."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final

PRECISIONS: Final = ("bf16", "fp8", "fp4")
PARALLEL: Final = (1, 2, 4, 8)
_PRECISION_WORDS: Final = MappingProxyType(
    {
        "fp16": "bf16",
        "float16": "bf16",
        "bfloat16": "bf16",
        "fp8_block": "fp8",
        "float8": "fp8",
        "mxfp4": "fp4",
        "nvfp4": "fp4",
        "w4a16": "fp4",
    }
)
_NOISE: Final = re.compile(r"-(instruct|chat|it|hf|fp8|fp16|bf16|fp4|mxfp4|dynamic|nvidia|hbm3e?|\d{4}|v0\.\d)(?=-|$)")


class UnknownError(ValueError):
    """A GPU, a model or a parallelism of which nothing is known; the message says what is, and how to add one."""


@dataclass(frozen=True, slots=True)
class Known:
    """One model on one kind of GPU, as far as specifications tell."""

    gpu_name: str
    gpu: Mapping[str, Any]
    model_name: str
    model: Mapping[str, Any]
    tensor_parallel: int
    precision: str

    @property
    def name(self) -> str:
        return f"{self.gpu_name}-{self.model_name}-{self.precision}-tp{self.tensor_parallel}"


@cache
def specs(kind: str) -> Mapping[str, Mapping[str, Any]]:
    """`gpus` or `models`, by name."""
    file = resources.files(__package__) / "specs" / f"{kind}.toml"
    return MappingProxyType(tomllib.loads(file.read_text("utf-8")))


@cache
def canonical(kind: str, name: str) -> str:
    """The name under which the specifications have it. Raises `UnknownError`."""
    asked = _spellings(name)
    for known, entry in specs(kind).items():
        if not asked.isdisjoint({known, *entry.get("aliases", ())}):
            return known
    names = ", ".join(specs(kind))
    raise UnknownError(
        f"nothing is known of {name!r}; known {kind}: {names}; add one to sim/serving/specs/{kind}.toml, or another "
        "name of one to its aliases"
    )


def _spellings(name: str) -> frozenset[str]:
    """`NVIDIA-H100-80GB-HBM3`, `h100_sxm`, `Qwen/Qwen3-32B-FP8` as they stand here, with and without their endings."""
    words = re.sub(r"[\s_]+", "-", name.rsplit("/", 1)[-1].strip().lower())
    words = words.removeprefix("nvidia-").removeprefix("meta-")
    found = [words]
    while (shorter := _NOISE.sub("", found[-1])) != found[-1]:
        found.append(shorter)
    return frozenset(found)


def precision_of(text: str) -> str:
    word = text.strip().lower()
    word = _PRECISION_WORDS.get(word, word)
    if word not in PRECISIONS:
        raise UnknownError(f"no such precision: {text}; there are {', '.join(PRECISIONS)}")
    return word


def known(gpu: str, model: str, tensor_parallel: int, precision: str | None = None) -> Known:
    """`precision` None: the one that the model is published in. Raises `UnknownError`."""
    model_name = canonical("models", model)
    return described(gpu, model_name, specs("models")[model_name], tensor_parallel, precision)


def described(
    gpu: str, model_name: str, shape: Mapping[str, Any], tensor_parallel: int, precision: str | None = None
) -> Known:
    """As `known`, of a model whose `shape` is given."""
    gpu_name = canonical("gpus", gpu)
    if tensor_parallel not in PARALLEL:
        raise UnknownError(f"no such tensor parallelism: {tensor_parallel}; there are {', '.join(map(str, PARALLEL))}")
    chosen = precision_of(precision) if precision else shape.get("published", "bf16")
    return Known(gpu_name, specs("gpus")[gpu_name], model_name, shape, tensor_parallel, chosen)
