"""How readings become replicas: one file a policy, and what they share."""

from typing import Final

from scaler.policy.base import Policy
from scaler.policy.composite import Composite
from scaler.policy.kv import KvCache
from scaler.policy.latency import Latency
from scaler.policy.queue import QueueItems, QueueSeconds
from scaler.policy.sessions import Sessions
from scaler.policy.tokens import Tokens
from scaler.policy.tokens_ahead import TokensAhead

POLICIES: Final[dict[str, tuple[type[Policy], ...]]] = {
    "queue": (QueueItems, QueueSeconds),
    "sessions": (Sessions,),
    "tokens": (Tokens,),
    "latency": (Latency,),
    "kv": (KvCache,),
    "ahead": (TokensAhead,),
    "composite": (Composite,),
}
"""Name in a trigger's `policy` -> the classes that implement it."""
