"""Small loads and cases for tests."""

import gzip
import json
from pathlib import Path

import numpy as np

from sim.fluid.load import Counts, FloatArray, Load, load_of
from sim.fluid.pool import Terms
from sim.fluid.runs import Case
from sim.fluid.service import H100_70B_TP4

SERVICE = H100_70B_TP4


def load(requests: FloatArray, prompt_tokens: float = 1100.0, output_tokens: float = 170.0) -> Load:
    """`requests`: by second."""
    return load_of(SERVICE, Counts(requests, requests * prompt_tokens, requests * output_tokens))


def case(
    requests: FloatArray,
    *,
    cold_start_ticks: int = 4,
    most: int = 12,
    first: int = 2,
    scored_from: int = 0,
    tokens: tuple[float, float] = (1100.0, 170.0),
) -> Case:
    """`tokens`: of a request, prompt and output."""
    terms = Terms(np.full(8, cold_start_ticks, np.int64), scored_from, first, most)
    return Case(SERVICE, load(requests, *tokens), terms)


def waves(ticks: int, seed: int, mean_per_s: float = 15.0) -> FloatArray:
    """Requests by second: noise around a level that changes every minute or so."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.uniform(0.2, 2.0, ticks // 4 + 1), 60)[: ticks * 15]
    return np.asarray(random.poisson(mean_per_s * level).astype(np.float64))


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:{minute:02d}:{second:02d}.0000000,{800 + 10 * second},{20 + second}\n"
    for minute in range(10)
    for second in range(0, 60, 2)
)
WEEK = "t_s,client,rate_rps,iat_cv,iat_family,iat_p1,iat_p2\n" + "".join(
    f"{600 * i},{client},{rate * (1 + i % 3)},1.1,{family},{shape},1\n"
    for i in range(6)
    for client, rate, family, shape in ((0, 0.5, "Gamma", 0.8), (1, 4.0, "Weibull", 0.7), (2, 0.2, "Weibull", 1.3))
)
LENGTHS = "client,window_s,kind,q10,q90,mean\n" + "".join(
    f"{client},all,{kind}_tokens,{low},{high},{mean}\n"
    for client in (0, 1)
    for kind, low, high, mean in (("input", 100, 3000, 1000), ("output", 20, 400, 150))
)
MOONCAKE = "".join(
    json.dumps({"timestamp": 3000 * i, "input_length": 6000 + i, "output_length": 300, "hash_ids": [0]}) + "\n"
    for i in range(200)
    for _ in range(4)
)


def write(folder: Path) -> Path:
    """A folder with one load of each kind, plain and compressed, and a file that is none."""
    (folder / "azure_2023_conv.csv").write_text(AZURE)
    with gzip.open(folder / "mooncake_tool.jsonl.gz", "wt") as text:
        text.write(MOONCAKE)
    with gzip.open(folder / "servegen_m-mid_week1.csv.gz", "wt") as text:
        text.write(WEEK)
    (folder / "servegen_m-mid_lengths.csv").write_text(LENGTHS)
    (folder / "README.md").write_text("not a load\n")
    return folder
