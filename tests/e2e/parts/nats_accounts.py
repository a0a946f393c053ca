"""An operator, its accounts and a user of NATS, as JWTs and NKeys: what `nsc` would make."""

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nkeys

UNBOUNDED: Final = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
STORAGE: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
ISSUED_S: Final = 1_600_000_000  # any time in the past


@dataclass(frozen=True, slots=True)
class Identity:
    seed: bytes
    public: str

    @classmethod
    def new(cls, prefix: int) -> "Identity":
        seed = nkeys.encode_seed(secrets.token_bytes(32), prefix=prefix)
        return cls(seed, nkeys.from_seed(bytearray(seed)).public_key.decode())

    def sign(self, subject: str, name: str, claims: dict[str, Any]) -> str:
        """A JWT in which we say `claims` of `subject` (nats-io/jwt v2)."""
        payload = {"iat": ISSUED_S, "iss": self.public, "sub": subject, "name": name, "nats": {**claims, "version": 2}}
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        text = ".".join(_written(json.dumps(part).encode()) for part in (header, payload))
        return f"{text}.{_written(nkeys.from_seed(bytearray(self.seed)).sign(text.encode()))}"


def _written(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def account_with_user(credentials: Path) -> str:
    """The server's settings for one account with JetStream; a user of it is written to `credentials`."""
    operator, system, account, user = (
        Identity.new(prefix)
        for prefix in (
            nkeys.PREFIX_BYTE_OPERATOR,
            nkeys.PREFIX_BYTE_ACCOUNT,
            nkeys.PREFIX_BYTE_ACCOUNT,
            nkeys.PREFIX_BYTE_USER,
        )
    )
    limits = {"type": "account", "limits": {**UNBOUNDED, "wildcards": True}}
    with_storage = {"type": "account", "limits": {**UNBOUNDED, **STORAGE, "wildcards": True}}
    bounds = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{account.sign(user.public, 'slicewise', bounds)}\n"
        "------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return f"""
operator: {operator.sign(operator.public, "test", {"type": "operator"})}
system_account: {system.public}
resolver: MEMORY
resolver_preload: {{
  {system.public}: {operator.sign(system.public, "system", limits)}
  {account.public}: {operator.sign(account.public, "agents", with_storage)}
}}
"""
