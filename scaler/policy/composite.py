"""Several policies at once: up if any says so, down only if all agree."""

from dataclasses import dataclass
from typing import ClassVar

from scaler.policy.base import Policy, Recommendation, Step, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """The highest recommendation. One that is not known is a doubt: the others may still raise, none may lower."""

    rule: ClassVar[str] = "composite"
    parts: tuple[Policy, ...]

    @property
    def reads(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.reads for part in self.parts))

    def recommend(self, view: View) -> Recommendation:
        wishes = [(part.rule, part.recommend(view)) for part in self.parts]
        known = [wish.replicas for _, wish in wishes if wish.replicas is not None]
        highest = max(known, default=None)
        votes = ", ".join(f"{rule} {'not known' if wish.replicas is None else wish.replicas}" for rule, wish in wishes)
        verdict = Step(self.rule, view.current, highest, f"any up, all down: {votes}")
        return Recommendation(
            replicas=highest,
            steps=(*(step for _, wish in wishes for step in wish.steps), verdict),
            doubts=tuple(dict.fromkeys(doubt for _, wish in wishes for doubt in wish.doubts)),
            learnt=next((wish.learnt for _, wish in wishes if wish.learnt is not None), None),
        )
