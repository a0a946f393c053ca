"""One evaluation: what production and the simulator both call. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from scaler.forecast.headroom import Learnt
from scaler.policy.base import Decision, Recommendation, Step, View
from scaler.policy.stabilization import NO_PAST, Past, damp
from scaler.signals.dependency import capped, growth_held, name_of
from scaler.signals.reading import Missing, Reading, ReadingName
from scaler.signals.signal import fresh
from scaler.trigger import Trigger

__all__ = ["NO_PAST", "Decision", "Past", "Step", "evaluate", "studied"]


def evaluate(trigger: Trigger, readings: Mapping[str, Reading], now_s: float, past: Past) -> tuple[Decision, Past]:
    """How many replicas, and why.

    `readings`: by reading name, at least `trigger.wanted()`; a name that is not there counts as missing. `now_s`:
    seconds on the same axis as the samples' `at_s`. `past`: what the previous evaluation of this trigger returned,
    `NO_PAST` for the first. Asking twice at one instant gives the same decision.
    """
    view = _view(trigger, readings, now_s, past.learnt)
    wish = _held(trigger.sizing.recommend(view), trigger, view)
    past = past if wish.learnt is None else replace(past, learnt=wish.learnt)
    if wish.replicas is None and trigger.on_missing == "fail":
        return _refused(view, wish, past), past
    answer, damping, past = damp(wish, trigger.windows, now_s=now_s, past=past, current=view.current)
    steps = (*wish.steps, *damping)
    if answer is None:
        return Decision(replicas=None, active=past.active, steps=(*steps, *_blind(view)), current=view.current), past
    replicas, limits = _within(answer, trigger)
    hpa, prediction = _hpa(replicas, view.current, trigger.hpa_tolerance)
    decision = Decision(
        replicas=replicas,
        active=replicas > 0,
        steps=(*steps, *limits, *prediction),
        current=view.current,
        hpa=hpa,
    )
    return decision, replace(past, active=decision.active)


def studied(trigger: Trigger, readings: Mapping[str, Reading], then_s: float, learnt: Learnt) -> Learnt:
    """`learnt` with what the readings of an instant after it teach; as `evaluate` learns, and decides nothing."""
    found = trigger.sizing.recommend(_view(trigger, readings, then_s, learnt)).learnt
    return learnt if found is None else found


def _view(trigger: Trigger, readings: Mapping[str, Reading], now_s: float, learnt: Learnt) -> View:
    return View(
        readings={
            name: fresh(readings.get(name, Missing("not read")), now_s=now_s, max_age_s=trigger.max_age_s)
            for name in trigger.wanted()
        },
        at_s=now_s,
        learnt=learnt,
    )


def _held(wish: Recommendation, trigger: Trigger, view: View) -> Recommendation:
    """`wish`, not above what runs while something that the pods depend on is under strain."""
    held = growth_held({name: view.readings[name_of(name)] for name in trigger.depends_on})
    if not held or wish.replicas is None or view.current is None:
        return wish
    cap = capped(wish.replicas, view.current)
    if cap == wish.replicas:
        return wish
    why = f"{'; '.join(held)}: more pods would only wait with the others"
    return replace(wish, replicas=cap, steps=(*wish.steps, Step("dependency", wish.replicas, cap, why)))


def _refused(view: View, wish: Recommendation, past: Past) -> Decision:
    step = Step("fail", None, None, "demand not known and onMissing is fail: KEDA's fallback is to act")
    return Decision(replicas=None, active=past.active, steps=(*wish.steps, step), current=view.current)


def _blind(view: View) -> tuple[Step, ...]:
    replicas = view.readings[ReadingName.REPLICAS]
    return (Step("replicas", None, None, replicas.why),) if isinstance(replicas, Missing) else ()


def _within(answer: int, trigger: Trigger) -> tuple[int, tuple[Step, ...]]:
    """`answer` between the trigger's minReplicas and maxReplicas, and a step where one of them acted."""
    if trigger.min_replicas is not None and answer < trigger.min_replicas:
        return trigger.min_replicas, (Step("min-replicas", answer, trigger.min_replicas, "minReplicas"),)
    if trigger.max_replicas is not None and answer > trigger.max_replicas:
        return trigger.max_replicas, (Step("max-replicas", answer, trigger.max_replicas, "maxReplicas"),)
    return answer, ()


def _hpa(replicas: int, current: int | None, tolerance: float) -> tuple[int, tuple[Step, ...]]:
    """What the HPA makes of `replicas`: it keeps what runs while wanted / running is within 1 ± tolerance.

    kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go, GetExternalPerPodMetricReplicas, target 1.
    """
    if not current or replicas == current or not 1 - tolerance <= replicas / current <= 1 + tolerance:
        return replicas, ()
    why = (
        f"{replicas} / {current} is within the HPA's tolerance of {tolerance:g}, so it will not move; see hpaTolerance"
    )
    return current, (Step("hpa-tolerance", replicas, current, why),)
