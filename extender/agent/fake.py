"""GPUs that are not there, from the catalog: for nodes of tests, demos and clusters under KWOK."""

from collections.abc import Sequence
from typing import Self
from uuid import NAMESPACE_URL, uuid5

from extender.agent.reading import GpuReading, NvmlError
from extender.placement import catalog
from extender.placement.links import NO_LINKS, Links


class FakeNvml:
    """Healthy, empty GPUs of one NUMA node, joined by an NVSwitch where the maker's boards have one.

    Those of MIG-capable models are in MIG mode unless they were named with `:mig-off`.
    """

    def __init__(self, readings: Sequence[GpuReading]) -> None:
        self._readings = tuple(readings)

    @classmethod
    def parse(cls, text: str, node: str) -> Self:
        """`a100-80:2,l40s:1`: model and number, with `:mig-off` where a GPU shall not be cut. Raises NvmlError.

        UUIDs follow from `node`, so that a restarted agent publishes the same ones.
        """
        models = catalog.load()
        readings: list[GpuReading] = []
        for item in text.split(","):
            name, _, rest = item.strip().partition(":")
            number, _, option = rest.partition(":")
            if name not in models:
                raise NvmlError(f"--fake {item!r}: no GPU model {name!r}; known are {', '.join(models)}")
            if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 16:
                raise NvmlError(f"--fake {item!r}: want MODEL:COUNT with a count from 1 to 16, such as {name}:2")
            if option not in {"", "mig-off"}:
                raise NvmlError(f"--fake {item!r}: {option!r} is no option; mig-off is")
            mig = bool(models[name].profiles) and not option
            readings += [_reading(node, len(readings) + i, name, mig=mig) for i in range(int(number))]
        return cls(readings)

    def gpus(self) -> Sequence[GpuReading]:
        return self._readings

    def close(self) -> None: ...


def _reading(node: str, index: int, name: str, *, mig: bool) -> GpuReading:
    model = catalog.load()[name]
    return GpuReading(
        uuid=f"GPU-{uuid5(NAMESPACE_URL, f'{node}/{index}')}",
        index=index,
        product=name,
        device_id="",
        memory_mib=model.memory_mib,
        mig=mig,
        profiles=model.profiles or None,
        numa=0,
        links=NO_LINKS if mig else Links(nvswitch=model.nvswitch),
    )
