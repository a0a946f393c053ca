"""What a pod could find on a node where it, or one like it, has been: its images, its weights, its session."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Final

WEIGHTS: Final = "slicewise.dev/weights"
SESSION: Final = "slicewise.dev/session"
WEIGHTS_S: Final = "slicewise.dev/weights-seconds"
SESSION_S: Final = "slicewise.dev/session-seconds"
MOST_KEYS: Final = 8
MOST_CHARS: Final = 253  # of a key: as long as a Kubernetes name may be
MOST_S: Final = 3600.0

#: Tenant, annotation, text: what another tenant calls the same is another key.
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Reuse:
    """Names; of images the whole ones. `*_s`: what finding all of them saves, as the pod says; None: it does not."""

    images: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    weights_s: float | None = None
    session_s: float | None = None

    @classmethod
    def of(cls, pod: Mapping[str, object], faults: list[str]) -> "Reuse":
        """Of a Pod (its JSON). What is wrong is added to `faults`, and counts as not said."""
        annotations = _mapping(_mapping(pod.get("metadata")).get("annotations"))
        return cls(
            images=tuple(dict.fromkeys(_images(_mapping(pod.get("spec"))))),
            weights=_names(annotations, WEIGHTS, faults),
            session=_names(annotations, SESSION, faults),
            weights_s=_seconds(annotations, WEIGHTS_S, faults),
            session_s=_seconds(annotations, SESSION_S, faults),
        )

    def keys(self, tenant: str) -> tuple[Key, ...]:
        return (*((tenant, WEIGHTS, name) for name in self.weights), *((tenant, SESSION, s) for s in self.session))


NOTHING: Final = Reuse()


@lru_cache(maxsize=4096)
def canonical(image: str) -> str:
    """The whole name of an image: pods leave out what is usual, nodes list it. A digest goes before a tag.

    Source: distribution/reference, ParseNormalizedNamed and TagNameOnly.

    >>> canonical("vllm/vllm-openai"), canonical("registry.example:5000/vllm:v1")
    ('docker.io/vllm/vllm-openai:latest', 'registry.example:5000/vllm:v1')
    """
    name, _, digest = image.partition("@")
    host, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif host != "localhost" and not set(host) & set(".:"):
        name = f"docker.io/{name}"
    colon = name.rfind(":")
    tagged = colon > name.rfind("/")
    if digest:
        return f"{name[:colon] if tagged else name}@{digest}"
    return name if tagged else f"{name}:latest"


# ---- inside ----------------------------------------------------------------------------------------------------


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _images(spec: Mapping[str, object]) -> Iterator[str]:
    for field in ("initContainers", "containers"):
        listed = spec.get(field)
        for container in listed if isinstance(listed, list) else ():
            image = _mapping(container).get("image")
            if isinstance(image, str) and image:
                yield canonical(image)


def _names(annotations: Mapping[str, object], field: str, faults: list[str]) -> tuple[str, ...]:
    if field not in annotations:
        return ()
    text = str(annotations[field])
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if len(found) <= MOST_KEYS and all(0 < len(name) <= MOST_CHARS for name in found):
        return found
    faults.append(
        f"annotation {field}: want 1 to {MOST_KEYS} names of 1 to {MOST_CHARS} characters with commas between them, "
        f"got {text[:80]!r}"
    )
    return ()


def _seconds(annotations: Mapping[str, object], field: str, faults: list[str]) -> float | None:
    if field not in annotations:
        return None
    text = str(annotations[field])
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if isfinite(found) and 0 <= found <= MOST_S:
        return found
    faults.append(f"annotation {field}: want seconds from 0 to {MOST_S:g}, such as 45, got {text[:80]!r}")
    return None
