"""Records what vLLM says at /metrics while clients wait for it: `python -m tests.e2e.record_engine TOOLS FILE`.

TOOLS is where tests/e2e/install-vllm put it. tests/contract/engines/, the vLLM preset's golden payload, was made so.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Final

from tests.e2e.clients import asks, closed_loop
from tests.e2e.parts.vllm import Vllm, environment

SLOTS: Final = 4
CLIENTS: Final = 3 * SLOTS
REQUESTS: Final = 60
BLOCKS: Final = 10  #: of 128 tokens: too few for four requests, so that some are preempted
SHARED_TOKENS: Final = 140  #: at the begin of all prompts: more than a block, as only whole ones are found in the cache
FINISHED: Final = 30  #: requests before the recording; enough to fill the histograms


async def recorded(engine: Vllm) -> str:
    """/metrics in the middle of a load with more clients than slots, and with a prefix that many prompts share."""
    load = asks([0.0] * REQUESTS, prompt_tokens=(160, 400), output_tokens=(20, 100), seed=1, shared=SHARED_TOKENS)
    async with asyncio.TaskGroup() as tasks:
        clients = tasks.create_task(closed_loop(engine.url, load, clients=CLIENTS))
        while True:
            await asyncio.sleep(0.2)
            said = await asyncio.to_thread(engine.metrics)
            if _total(said, "vllm:request_success_total") >= FINISHED:
                break
        await clients
    return said


def _total(metrics: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(f"{name}{{"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.record_engine", description=__doc__)
    parser.add_argument("tools", type=Path, help="the folder that tests/e2e/install-vllm installed into")
    parser.add_argument(
        "file", type=Path, help="where the recording goes, such as tests/contract/engines/vllm-0.32.txt"
    )
    arguments = parser.parse_args()
    installed = environment(arguments.tools.expanduser())
    if installed is None:
        parser.error(
            f"there is no vLLM in {arguments.tools}; install it with: tests/e2e/install-vllm {arguments.tools}"
        )
    with tempfile.TemporaryDirectory(prefix="slicewise-vllm-") as folder:
        (Path(folder) / "logs").mkdir()
        engine = Vllm(installed, Path(folder), slots=SLOTS, options=(f"--num-gpu-blocks-override={BLOCKS}",))
        try:
            arguments.file.write_text(asyncio.run(recorded(engine.up())))
        finally:
            engine.stop()


if __name__ == "__main__":
    main()
