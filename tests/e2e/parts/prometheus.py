"""Prometheus, scraping each second what an HTTP service discovery names."""

from pathlib import Path
from typing import Self

import httpx
import yaml

from tests.e2e.parts.process import LOOPBACK, Process, answers, free_port
from tests.e2e.parts.tools import Tools


class Prometheus(Process):
    url: str

    def __init__(self, tools: Tools, folder: Path, *, discovery_url: str) -> None:
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        # A folder of its own: a predecessor's last samples would count for five minutes.
        own = folder / f"prometheus-{port}"
        own.mkdir()
        config = own / "prometheus.yaml"
        job = {
            "job_name": "engines",
            "http_sd_configs": [{"url": discovery_url, "refresh_interval": "1s"}],
            # As in a cluster's pod scrape job: the discovery's labels `namespace` and `pod` are the series' labels.
            "honor_labels": False,
        }
        intervals = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config.write_text(yaml.safe_dump({"global": intervals, "scrape_configs": [job]}))
        super().__init__(
            name="prometheus",
            logs=folder / "logs",
            argv=[
                tools.binary("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={own / 'tsdb'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
        )

    def up(self) -> Self:
        self.start().wait_ready(answers(f"{self.url}/-/ready"))
        return self

    def value(self, promql: str) -> float | None:
        """The one value of an instant query, None for none."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql}, timeout=5.0)
        result = answer.raise_for_status().json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None
