"""PromQL on series with known answers, as Prometheus's own engine answers it: promtool's rule tests."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.e2e.parts.tools import tools_or_skip

#: One sample each 15 s from 0 on; queries are answered as of then.
AT: Final = "5m"
Series = dict[str, str]
"""Series -> its values, in promtool's shorthand."""
Want = Mapping[tuple[str, ...], float]


def flat(value: float) -> str:
    return f"{value}+0x40"


def rate(per_s: float) -> str:
    """A counter that grows by so much a second."""
    return f"0+{15 * per_s}x40"


def native(per_s: float, buckets: str) -> str:
    """A native histogram, schema 0, whose buckets grow by so much in 15 s. `buckets`: from (0.5, 1] on."""
    count = sum(float(n) for n in buckets.split())
    zero = f"{{{{schema:0 sum:0 count:0 buckets:[{' '.join('0' for _ in buckets.split())}]}}}}"
    return f"{zero}+{{{{schema:0 sum:{per_s * 15} count:{count:g} buckets:[{buckets}]}}}}x40"


def answered(expression: str, series: Series, want: Want, tmp_path: Path, *, labels: tuple[str, ...] = ()) -> None:
    """Asserts that `expression` yields `want`: (namespace, workload, values of `labels`) -> value."""
    promtool = tools_or_skip("promtool").binary("promtool")
    named = ("namespace", "workload", *labels)
    expected: list[dict[str, Any]] = []
    for key, value in want.items():
        text = ",".join(f'{name}="{of}"' for name, of in zip(named, key, strict=False) if of)
        expected.append({"labels": f"{{{text}}}", "value": value})
    story = {
        "evaluation_interval": "15s",
        "fuzzy_compare": True,
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f"round({expression}, 0.0001)",
                        "eval_time": AT,
                        "exp_samples": expected,
                    }
                ],
            }
        ],
    }
    path = tmp_path / "query.yaml"
    path.write_text(yaml.safe_dump(story))
    ran = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
