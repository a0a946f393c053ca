from typing import Any

import aiohttp
import pytest

from slicewise.demo.metric_source import MetricSource, UnknownQueryError, Vector


def answer(query: str) -> Vector:
    if query != "up":
        raise UnknownQueryError(query)
    return [({"pod": "a"}, 1.0), ({"pod": "b"}, 0.1)]


Json = dict[str, Any]


async def ask(source: MetricSource, query: str, *, method: str = "GET", status: int = 200, time: str = "") -> Json:
    asked = {"query": query, "time": time}
    params, form = (asked, None) if method == "GET" else (None, asked)
    url = f"{source.url}/api/v1/query"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, params=params, data=form) as response,
    ):
        assert response.status == status
        told: Json = await response.json()
        return told


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_known_query_is_answered_as_prometheus_answers_it(method: str) -> None:
    async with MetricSource(lambda: 1700000000.5, answer) as source:
        told = await ask(source, "up", method=method)
    assert source.url.startswith("http://127.0.0.1:")
    assert told == {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"pod": "a"}, "value": [1700000000.5, "1"]},
                {"metric": {"pod": "b"}, "value": [1700000000.5, "0.10000000000000001"]},
            ],
        },
    }


async def test_the_time_of_the_question_is_the_time_of_the_answer() -> None:
    async with MetricSource(lambda: 0.0, answer) as source:
        told = await ask(source, "up", time="42.25")
    assert [found["value"][0] for found in told["data"]["result"]] == [42.25, 42.25]


async def test_an_unknown_query_is_an_error_and_names_the_query() -> None:
    async with MetricSource(lambda: 0.0, answer) as source:
        told = await ask(source, "down", status=400)
    assert told["errorType"] == "bad_data"
    assert told["error"].endswith(": down")
