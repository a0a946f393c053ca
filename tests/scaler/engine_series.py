"""Series of engines for promtool's tests: two pods of `chat`, and others whose numbers must stay out of theirs."""

from tests.scaler.promtool import Series, flat, rate

A = 'namespace="agents",pod="chat-7d9f8b6c4d-aaaaa",engine="0"'
B = 'namespace="agents",pod="chat-7d9f8b6c4d-bbbbb",engine="0"'
PLANNER = 'namespace="agents",pod="planner-1",engine="0"'
NAMESAKE = 'namespace="research",pod="chat-7d9f8b6c4d-aaaaa",engine="0"'
FOREIGN = 'namespace="finance",pod="chat-7d9f8b6c4d-aaaaa",engine="0"'
GATEWAY = 'namespace="agents",pod="gateway-5c7d9-ccccc",workload="chat"'
CHAT, OF_PLANNER, OF_NAMESAKE = ("agents", "chat"), ("agents", "planner"), ("research", "chat")


def gauge(name: str, a: str, b: str) -> Series:
    """A gauge of two pods of `chat`; one of them is scraped by two jobs. Others, here and elsewhere, have it too."""
    ours = {f"{name}{{{A}}}": a, f'{name}{{{A},job="twice"}}': a, f"{name}{{{B}}}": b}
    others = {PLANNER: flat(20), NAMESAKE: flat(30), FOREIGN: flat(1000)}
    return ours | {f"{name}{{{labels}}}": value for labels, value in others.items()}


def counter(name: str, a: str, b: str, labels: str = "") -> Series:
    return {f"{name}{{{A}{labels}}}": a, f'{name}{{{A}{labels},job="twice"}}': a, f"{name}{{{B}{labels}}}": b}


def classic(family: str, labels: str, *, one: str = "1.0", per_s: float = 1.0) -> Series:
    """Requests end at `per_s`, half of them within 1 s, all within 2 s."""
    shares = ((one, 0.5), ("2.0", 1.0), ("+Inf", 1.0))
    buckets = {f'{family}_bucket{{{labels},le="{le}"}}': rate(share * per_s) for le, share in shares}
    return buckets | {f"{family}_count{{{labels}}}": rate(per_s)}


WAITING = gauge("vllm:num_requests_waiting", flat(3), flat(4))
RUNNING = gauge("vllm:num_requests_running", flat(6), flat(2))
E2E = "vllm:e2e_request_latency_seconds"
