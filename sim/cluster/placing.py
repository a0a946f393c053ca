"""The extender's settings in a scenario: what a warm place is worth there, and what room is kept.

As extender/settings.py has them, with its defaults: the same code decides in both.
"""

from math import inf

from pydantic import Field, field_validator

from extender.ledger import Ledger
from extender.placement.reserve import ReserveError, parse
from extender.placement.warmth import Savings
from sim.strict import Seconds, Strict

_USUAL = Savings()


class ExtenderYaml(Strict):
    warm_life: Seconds = Field(default=_USUAL.life_s, ge=0)  #: 0: warmth does not count
    warm_image_mib_per_s: float = Field(default=_USUAL.image_mib_per_s, ge=0, allow_inf_nan=False)
    warm_weights: Seconds = Field(default=_USUAL.weights_s, ge=0)
    warm_session: Seconds = Field(default=_USUAL.session_s, ge=0)
    warm_most: Seconds = Field(default=_USUAL.most_s, ge=0)
    warm_keep: Seconds = Field(default=_USUAL.keep_s, ge=0)
    reserve: str = ""

    @field_validator("reserve")
    @classmethod
    def _readable(cls, text: str) -> str:
        try:
            parse(text)
        except ReserveError as e:
            raise ValueError(str(e)) from e
        return text

    def ledger(self) -> Ledger:
        """An agent always says that it is there, so an inventory never grows stale."""
        savings = Savings(
            life_s=self.warm_life,
            image_mib_per_s=self.warm_image_mib_per_s,
            weights_s=self.warm_weights,
            session_s=self.warm_session,
            most_s=self.warm_most,
            keep_s=self.warm_keep,
        )
        return Ledger(stale_after_s=inf, savings=savings, reserves=parse(self.reserve))
