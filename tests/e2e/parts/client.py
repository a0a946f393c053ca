"""A small client of the Kubernetes API for the tests: what kubectl would do, no more."""

import base64
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
import yaml

Json = dict[str, Any]  #: a Kubernetes object as it is on the wire
OWNER: Final = "slicewise-e2e"  #: field manager of everything that the tests apply


class ApiError(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an API server as somebody: the parts of a kubeconfig."""

    server: str
    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None
    token: str | None = None

    @classmethod
    def read(cls, kubeconfig: Path) -> Self:
        """The current context of a kubeconfig with embedded or named certificates or a token (no exec plugins)."""
        config = yaml.safe_load(kubeconfig.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        ca = _material(cluster, "certificate-authority", kubeconfig.parent)
        certificate = _material(user, "client-certificate", kubeconfig.parent)
        if ca is None or (certificate is None and "token" not in user):
            raise ValueError(
                f"{kubeconfig}: the tests need a cluster's CA and a user with a client certificate or a token"
            )
        key = _material(user, "client-key", kubeconfig.parent)
        return cls(server=cluster["server"], ca=ca, certificate=certificate, key=key, token=user.get("token"))

    def write(self, kubeconfig: Path) -> Path:
        def b64(material: bytes) -> str:
            return base64.b64encode(material).decode()

        user: dict[str, str] = {}
        if self.certificate is not None and self.key is not None:
            user = {"client-certificate-data": b64(self.certificate), "client-key-data": b64(self.key)}
        if self.token is not None:
            user["token"] = self.token
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "e2e", "cluster": {"server": self.server, "certificate-authority-data": b64(self.ca)}}
            ],
            "users": [{"name": "e2e", "user": user}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
            "current-context": "e2e",
        }
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(yaml.safe_dump(config))
        return kubeconfig


def _named(items: Sequence[Json], name: str) -> Json:
    return next(item for item in items if item["name"] == name)


def _material(section: Mapping[str, str], key: str, folder: Path) -> bytes | None:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return (folder / section[key]).read_bytes() if key in section else None


class Api:
    """Requests as one user; every object is plain JSON."""

    def __init__(self, access: Access) -> None:
        context = ssl.create_default_context(cadata=access.ca.decode())
        if access.certificate is not None and access.key is not None:
            with tempfile.NamedTemporaryFile() as pair:  # the ssl module reads certificates from files only
                pair.write(access.certificate + access.key)
                pair.flush()
                context.load_cert_chain(pair.name)
        headers = {} if access.token is None else {"Authorization": f"Bearer {access.token}"}
        self.access = access
        self._http = httpx.Client(base_url=access.server, verify=context, headers=headers, timeout=30.0)
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: str) -> Json:
        return self._ask("GET", path, query=query)

    def items(self, path: str, **query: str) -> list[Json]:
        found: list[Json] = self.get(path, **query)["items"]
        return found

    def watch(self, path: str, since: str, *, lasts_s: int) -> Iterator[Json]:
        """Every change of a list after the resource version `since`, as they come, for so many seconds."""
        query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(lasts_s)}
        with self._http.stream("GET", path, params=query, timeout=lasts_s + 30.0) as answer:
            if not answer.is_success:
                raise ApiError(answer.status_code, f"watch {path}")
            for line in answer.iter_lines():
                change: Json = json.loads(line)
                if change["type"] == "ERROR":
                    raise ApiError(
                        change["object"].get("code", 500), f"watch {path}: {change['object'].get('message')}"
                    )
                yield change

    def exists(self, path: str) -> bool:
        try:
            self.get(path)
        except ApiError as e:
            if e.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    def create(self, path: str, body: Json) -> Json:
        return self._ask("POST", path, body=body)

    def merge(self, path: str, body: Json) -> Json:
        return self._ask("PATCH", path, body=body, content_type="application/merge-patch+json")

    def apply(self, thing: Json) -> Json:
        """Server-side apply with strict field validation: a misspelt field is an error here."""
        query = {"fieldManager": OWNER, "force": "true", "fieldValidation": "Strict"}
        return self._ask(
            "PATCH", self.path(thing), query=query, body=thing, content_type="application/apply-patch+yaml"
        )

    def delete(self, path: str, *, grace_s: int | None = None) -> None:
        """Deletes one object or, by a collection's path, all of it; what is not there is fine."""
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            self._ask("DELETE", path, body=body)
        except ApiError as e:
            if e.status != httpx.codes.NOT_FOUND:
                raise

    def path(self, thing: Json) -> str:
        """Where an object lives, by the server's own discovery."""
        version, kind = thing["apiVersion"], thing["kind"]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if (version, kind) not in self._kinds:
            for resource in self.get(root)["resources"]:
                if "/" not in resource["name"]:
                    self._kinds[version, resource["kind"]] = (resource["name"], resource["namespaced"])
        if (version, kind) not in self._kinds:
            raise ApiError(httpx.codes.NOT_FOUND, f"the server does not know {version} {kind}")
        plural, namespaced = self._kinds[version, kind]
        metadata = thing["metadata"]
        scope = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{scope}/{plural}/{metadata['name']}"

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
    ) -> Json:
        answer = self._http.request(method, path, params=query, json=body, headers={"Content-Type": content_type})
        if not answer.is_success:
            text = answer.json().get("message", "") if "json" in answer.headers.get("content-type", "") else answer.text
            raise ApiError(answer.status_code, f"{method} {path}: {text}")
        parsed: Json = answer.json()
        return parsed
