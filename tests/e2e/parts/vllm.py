"""vLLM itself on the CPU, with random weights: an engine whose /metrics say what really happened in it."""

import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import httpx
import pytest

from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port

MODEL: Final = "random"  #: the name that it is served under
VOCABULARY: Final = 256  # one token a byte
READY_WITHIN_S: Final = 600.0  # a tenth of it on two idle cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """How much a model computes for a token; it computes nonsense whatever its size."""

    layers: int
    hidden: int


SMALL: Final = Width(layers=4, hidden=256)


def environment_or_skip() -> Path:
    """The environment that install-vllm made, or a skipped test that says what is lacking (in CI: a failed one)."""
    given = os.environ.get("SLICEWISE_TOOLS")
    if not given:
        pytest.skip(
            "SLICEWISE_TOOLS is not set; install vLLM with `make vllm` and run `make integration` or `make e2e`"
        )
    found = environment(Path(given).expanduser())
    if found is None:
        message = f"{given} lacks vLLM; install it with: tests/e2e/install-vllm {given}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def environment(tools: Path) -> Path | None:
    """vLLM's environment in the folder of the tools; None where it is not, or not wholly, installed."""
    whole = os.access(tools / "vllm" / "bin" / "vllm", os.X_OK) and (tools / "stamps" / "vllm").is_file()
    return tools / "vllm" if whole else None


def write_model(folder: Path, width: Width, *, context_tokens: int) -> None:
    """A Llama without weights and a tokenizer with one token a byte: what vLLM wants to find in a model's folder."""
    folder.mkdir(parents=True)
    llama = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": width.layers,
        "hidden_size": width.hidden,
        "intermediate_size": 4 * width.hidden,
        "num_attention_heads": width.hidden // 64,
        "num_key_value_heads": width.hidden // 64,
        "max_position_embeddings": context_tokens,
        "vocab_size": VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "float32",
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {char: byte for byte, char in enumerate(_byte_chars())}, "merges": []},
    }
    files = {"config.json": llama, "tokenizer.json": tokenizer}
    files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_tokens}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))


def _byte_chars() -> list[str]:
    """How a byte-level vocabulary writes each byte: printable ones as themselves, the others from U+0100 on (GPT-2)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


class Vllm(Process):
    """`vllm serve` on loopback with a model made on the fly. `slots`: requests in service at a time; others wait."""

    url: str

    def __init__(
        self,
        environment: Path,
        folder: Path,
        *,
        slots: int,
        width: Width = SMALL,
        context_tokens: int = 1024,
        options: tuple[str, ...] = (),
        threads: int | None = None,
    ) -> None:
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        own = folder / f"vllm-{port}"
        write_model(own / "model", width, context_tokens=context_tokens)
        super().__init__(
            name=own.name,
            logs=folder / "logs",
            env=_variables(own, environment, threads),
            argv=[
                environment / "bin" / "vllm",
                "serve",
                own / "model",
                f"--served-model-name={MODEL}",
                f"--host={LOOPBACK}",
                f"--port={port}",
                "--load-format=dummy",
                "--dtype=float32",
                f"--max-model-len={context_tokens}",
                f"--max-num-seqs={slots}",
                "--enforce-eager",
                "--disable-uvicorn-access-log",
                *options,
            ],
        )

    def up(self) -> Self:
        return self.start().serving()

    def serving(self) -> Self:
        """Waits until it serves; for several that start at once."""
        return self.wait_ready(answers(f"{self.url}/health"), within_s=READY_WITHIN_S)

    def metrics(self) -> str:
        """What it says at /metrics now."""
        return httpx.get(f"{self.url}/metrics", timeout=10.0).raise_for_status().text

    def stop(self, *, grace_s: float = 20.0) -> int | None:
        """Its engine is a child process of the server: whatever is left of the group after the grace is killed."""
        status = super().stop(grace_s=grace_s)
        self._kill_group()
        return status

    def kill(self) -> None:
        self._kill_group()
        super().kill()

    def _kill_group(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):  # the group has ended, as it should
                os.killpg(self._child.pid, signal.SIGKILL)


def _variables(folder: Path, environment: Path, threads: int | None) -> Mapping[str, str]:
    """`threads`: of the computation; None: as vLLM chooses."""
    nowhere = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"), "1")
    homes = ("HF_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "XDG_CACHE_HOME")
    caches = dict.fromkeys(homes, str(folder / "cache"))
    bound = {} if threads is None else {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
    return {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        **nowhere,
        **caches,
        **bound,
    }
