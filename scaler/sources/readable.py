"""A reading as one PromQL text: what a person would ask to see the same number. The source asks for the parts."""

from scaler.signals.recipes import (
    Expression,
    Known,
    Less,
    OrZero,
    Per,
    Quantile,
    Total,
    Wait,
    Within,
    quantities_of,
)
from scaler.sources.presets import Preset
from scaler.sources.promql import KEPT, PART, Scope, Writer


def text(preset: Preset, way: Expression, scope: Scope) -> str:
    """`way` for every workload of `scope`, by namespace and workload.

    Where pods have histograms of several kinds or names, a quantile has one series for each. A share within an SLO is
    told by its buckets: subjects that share a query have SLOs of their own.
    """
    return _Whole(preset, scope).text(way)


class _Whole:
    def __init__(self, preset: Preset, scope: Scope) -> None:
        self._preset = preset
        self._writer = Writer(preset, scope)

    def text(self, way: Expression) -> str:
        match way:
            case Known(parts):
                tagged = (f'label_replace({self.text(part)}, "{PART}", "{n}", "", "")' for n, part in enumerate(parts))
                text = f"sum by ({KEPT}) ({' or '.join(tagged)})"
            case Total(parts):
                text = f"clamp_min({' + '.join(self.text(part) for part in parts)}, 0)"
            case Less(whole, part):
                text = f"clamp_min({self.text(whole)} - {self._lessened(whole, part)}, 0)"
            case Per(over, under):
                text = f"{self.text(over)} / ({self.text(under)} > 0)"
            case Wait(line, pace):
                text = f"({self.text(line)} == 0 or {self.text(line)} / ({self.text(pace)} > 0))"
            case Quantile() | Within():
                text = self._of_buckets(way)
            case _:
                text = self._writer.part(way)
        return text

    def _lessened(self, whole: Expression, part: Expression) -> str:
        """What is taken from `whole`; 0 where that is not known and need not be."""
        if not isinstance(part, OrZero):
            return self.text(part)
        if not quantities_of(part.part) <= self._preset.quantities:
            return "0"
        return f"({self.text(part.part)} or 0 * {self.text(whole)})"

    def _of_buckets(self, part: Quantile | Within) -> str:
        texts = []
        for _, scale, buckets in self._writer.buckets(part.histogram):
            unit = "" if scale == 1 else f"{scale:g} * "
            texts.append(f"{unit}histogram_quantile({part.p:g}, {buckets})" if isinstance(part, Quantile) else buckets)
        return f"({' or '.join(texts)})"
