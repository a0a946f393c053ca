"""scalingModifiers and pauses: what kedacore/keda v2.21.0 and expr-lang/expr v1.17.8 do, case by case.

Sources stand with the code (sim/cluster/formula.py, compute.py, keda.py); cases that upstream's own tests have are
named as theirs: `pkg/scaling/modifiers/formula_test.go`, `tests/internals/scaling_modifiers`.
"""

from collections.abc import Mapping
from math import inf, isnan
from typing import Any

import pytest

from sim.cluster.autoscaler import Ask, Autoscaler
from sim.cluster.formula import Formula, FormulaError
from sim.cluster.hpa import Failed, Scale
from sim.cluster.keda import Answer
from sim.cluster.scaledobject import ScaledObject
from sim.strict import ConfigError, check, parse

NAMES = {"a": 3.0, "b": 4.5, "zero": 0.0}


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        pytest.param("a + b", 7.5, id="keda's own: trigger1 + trigger2"),
        pytest.param("count([a,b,zero],{#>1}) > 1 ? 5 : 0", 5, id="keda's own: how many are busy"),
        pytest.param("count([a > 1, b > 9])", 1, id="count without a predicate: of what holds"),
        pytest.param("(a + b)/2", 3.75, id="a mean by hand"),
        pytest.param("1/2", 0.5, id="/ is never a whole division"),
        pytest.param("7 % 4 + int(a) % 2", 4, id="% of whole numbers"),
        pytest.param("-7 % 4", -3, id="% has the sign of what is divided, as in Go"),
        pytest.param("2 ** 3 ** 2", 512, id="** from the right"),
        pytest.param("-2 ** 2", -4, id="- after **"),
        pytest.param("2 ^ 2", 4, id="^ is a power too"),
        pytest.param("2 + 3 * 4 - 1", 13, id="precedence"),
        pytest.param("1_000 + .5 + 1e2", 1100.5, id="numbers"),
        pytest.param("a > 2 && b < 5 ? 1 : 2", 1, id="and"),
        pytest.param("a > 5 or b > 4 ? 1 : 2", 1, id="or, in words"),
        pytest.param("not (a == 3) ? 1 : 2", 2, id="not"),
        pytest.param("1 < a < b ? 1 : 2", 1, id="comparisons in a chain"),
        pytest.param("1 < a <= 2 ? 1 : 2", 2, id="a chain that breaks"),
        pytest.param("a != b ? a : b", 3, id="!="),
        pytest.param("a > 5 ? 1 : b > 4 ? 2 : 3", 2, id="one choice after another"),
        pytest.param("max([a, b, 1])", 4.5, id="max of an array"),
        pytest.param("max(a, b)", 4.5, id="max of arguments"),
        pytest.param("min(a, [b, 1])", 1, id="min of both"),
        pytest.param("sum([a, b])", 7.5, id="sum"),
        pytest.param("sum([a, b], # * 2)", 15, id="sum of what a predicate makes"),
        pytest.param("mean(1, 2) + median([1, 2, 9])", 3.5, id="mean and median"),
        pytest.param("ceil(b) + floor(b) + round(b) + abs(-a)", 17, id="rounding: half away from zero"),
        pytest.param("round(-2.5) + round(-2.4)", -5, id="below zero as well"),
        pytest.param("float(int(b))", 4, id="int cuts off"),
        pytest.param("int(a / zero)", -(2.0**63), id="int of what is too large, on amd64"),
        pytest.param("len(filter([a, b], # > 4))", 1, id="filter"),
        pytest.param("sum(map([a, b], {# + 1}))", 9.5, id="map"),
        pytest.param(
            "all([a, b], # > 2) and any([a], # > 2) and none([a], # > 9) and one([a, b], # > 4) ? 1 : 0",
            1,
            id="all, any, none, one",
        ),
        pytest.param("let x = a * 2; x + x", 12, id="let"),
        pytest.param("+a - -b", 7.5, id="signs"),
        pytest.param("true ? 1 : 2", 1, id="true"),
        pytest.param("(nil ?? a) + 1", 4, id="?? takes the first that is there"),
        pytest.param("a / zero", inf, id="by zero: infinite"),
        pytest.param("(-a) / zero", -inf, id="by zero, below"),
        pytest.param("0.0 ** -1 > 1 and 1e300 ** 2 > 1 ? 1 : 0", 1, id="powers without bound"),
        pytest.param("ceil(a / zero)", inf, id="infinite stays infinite"),
    ],
)
def test_a_formula_gives_what_expr_lang_gives(formula: str, value: float) -> None:
    assert Formula.parse(formula, NAMES).value(NAMES) == pytest.approx(value)


def test_what_has_no_value_is_no_number() -> None:
    found = Formula.parse("zero / zero + (-8) ** 0.5", NAMES).value(NAMES)
    assert found is not None
    assert isnan(found)


def test_nil_is_left_only_by_coalescing() -> None:
    formula = Formula.parse("a ?? b", NAMES)
    assert formula.value({"a": None, "b": 2.0}) == 2
    assert formula.value({"a": 1.0, "b": None}) == 1
    assert formula.value({"a": None, "b": None}) is None
    with pytest.raises(FormulaError, match=r"\+: want a number \(got nil\)"):
        Formula.parse("a + b", NAMES).value({"a": None, "b": 2.0})


@pytest.mark.parametrize(
    ("formula", "fault"),
    [
        pytest.param("a +", "column 4: want a number, a trigger's name, a function", id="ends too soon"),
        pytest.param("a b", "column 3: want end (got b)", id="two in a row"),
        pytest.param("(a", "column 3: want ) (got the end)", id="not closed"),
        pytest.param("[a b]", "column 4: want , (got b)", id="no comma"),
        pytest.param("a > 1 ? 2", "column 10: want : (got the end)", id="half a choice"),
        pytest.param("a + 'x'", "column 5: \"'x'\" is not modelled, or no expression", id="a text"),
        pytest.param("a | abs()", "column 3: '| abs()' is not modelled", id="a pipe"),
        pytest.param("sqrt(a)", "column 1: function sqrt is not modelled; there are abs, all, any", id="a function"),
        pytest.param("c + 1", "c is no trigger's name; there are a, b, zero", id="no such trigger"),
        pytest.param("a > 1 ? c : 1", "c is no trigger's name", id="also where it is not reached"),
        pytest.param("a < 1 or c > 1 ? 1 : 2", "c is no trigger's name", id="nor after or"),
        pytest.param("a > 1 and c > 1 ? 1 : 2", "c is no trigger's name", id="nor after and"),
        pytest.param("a ?? c", "c is no trigger's name", id="nor after ??"),
        pytest.param("a % 2", "%: want whole numbers, int(…) of a trigger's value", id="% of a float"),
        pytest.param("1 % 0", "%: division by zero", id="% by zero"),
        pytest.param("a > 1", "the result: want a number (got false)", id="a truth is no number"),
        pytest.param("a and b ? 1 : 2", "and: want true or false (got -1)", id="a number is no truth"),
        pytest.param("a ? 1 : 2", "?: want true or false (got -1)", id="nor in a choice"),
        pytest.param("a == true ? 1 : 2", "==: want two of a kind (got -1 and true)", id="different kinds"),
        pytest.param("[a] + 1", "+: want a number (got an array)", id="an array is no number"),
        pytest.param("len(a)", "len: want an array (got -1)", id="a number is no array"),
        pytest.param("len(1, 2)", "len: want one array (got 2)", id="too many"),
        pytest.param("abs()", "abs: want one number (got 0)", id="too few"),
        pytest.param("max([])", "max: want at least one number", id="of nothing"),
        pytest.param("let 1 = 2; 3", "column 5: want a name (got 1)", id="a number cannot be bound"),
        pytest.param("a ?? b + 1", "column 8: want parentheses around either", id="?? beside another"),
        pytest.param("nil", "the result: want a number (got nil)", id="nothing"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(formula: str, fault: str) -> None:
    with pytest.raises(FormulaError) as caught:
        Formula.parse(formula, NAMES)
    assert str(caught.value).startswith(fault)


def scaled_object(
    *, modifiers: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None, **spec: object
) -> ScaledObject:
    triggers = [{"type": "external", "name": name, "metadata": {"queuePerReplica": "4"}} for name in ("a", "b")]
    advanced = {"scalingModifiers": modifiers} if modifiers is not None else {}
    full = {f"autoscaling.keda.sh/{key}": value for key, value in (annotations or {}).items()}
    return ScaledObject.model_validate(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": "x", "annotations": full},
            "spec": {"scaleTargetRef": {"name": "x"}, "triggers": triggers, "advanced": advanced, **spec},
        }
    )


def scale(count: int) -> Scale:
    return Scale(spec=count, status=count, ready=count)


def answers(*values: float | None, active: bool = False) -> Ask:
    given = [Failed("UNAVAILABLE") if v is None else Answer(int(v * 1000), active) for v in values]
    return given.__getitem__


@pytest.mark.parametrize(
    ("modifiers", "values", "now", "polled", "synced"),
    [
        pytest.param({"formula": "a + b", "target": "2"}, (3, 4), 0, 1, None, id="above 0: activated"),
        pytest.param({"formula": "a - b", "target": "2"}, (4, 4), 0, None, None, id="not above 0: not active"),
        pytest.param({"formula": "a + b", "target": "2", "activationTarget": "7"}, (3, 4), 0, None, None,
                     id="not above the activation target"),
        pytest.param({"formula": "a + b", "target": "2", "activationTarget": "6.9"}, (3, 4), 0, 1, None,
                     id="above the activation target"),
        pytest.param({"formula": "a + b", "target": "2"}, (3, 4), 2, None, 4, id="the HPA has one metric: 7 / 2"),
        pytest.param({"formula": "a + b", "target": "2.5"}, (3, 4), 2, None, 3, id="a target with a fraction"),
        pytest.param({"formula": "a + b", "target": "3.5", "metricType": "Value"}, (3, 4), 2, None, 4,
                     id="Value: twice as many as are ready"),
        pytest.param({"formula": "a + b", "target": "2"}, (3, None), 2, None, 2, id="one failed: held"),
        pytest.param({"formula": "a / (b - 4)", "target": "2"}, (3, 4), 2, 0, 1,
                     id="infinite is the smallest number: Go on amd64"),
    ],
)  # fmt: skip
def test_the_composite_takes_the_place_of_the_triggers(
    modifiers: dict[str, str], values: tuple[float | None, ...], now: int, polled: int | None, synced: int | None
) -> None:
    """IsActive is not heard: all triggers say false, or true where nothing may happen."""
    behavior = {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "0", "stabilizationWindowSeconds": 0}}
    advanced = {"horizontalPodAutoscalerConfig": {"behavior": behavior}, "scalingModifiers": modifiers}
    made = scaled_object(advanced=advanced)
    ask = answers(*values, active=polled is None)
    autoscaler = Autoscaler(made)
    assert autoscaler.poll(ask, scale(now), 1000.0).request.replicas == polled
    found = autoscaler.sync(ask, scale(now), 1000.0)
    assert found.verdict.replicas == (now if synced is None else synced)
    assert set(found.usage_milli) <= {"composite-metric"}


FALLBACK = {"failureThreshold": 0, "replicas": 6}


@pytest.mark.parametrize(
    ("target", "fallback", "formula", "usage"),
    [
        pytest.param("2", FALLBACK, "a + b", 12_000, id="static: replicas x the composite's target"),
        pytest.param("2", FALLBACK | {"behavior": "currentReplicas"}, "a + b", 6000, id="current replicas"),
        pytest.param("0.7", FALLBACK, "a + b", "UNAVAILABLE", id="a target that is no whole number: none (ParseInt)"),
        pytest.param("2", FALLBACK | {"behavior": "scalingModifiers"}, "(b ?? 5.0) + a", 8000, id="the formula's own"),
        pytest.param("2", FALLBACK | {"behavior": "scalingModifiers"}, "b ?? nil", 12_000, id="nil: replicas x target"),
        pytest.param("2", FALLBACK | {"behavior": "scalingModifiers"}, "a + b", "no metrics returned: formula: +: want",
                     id="a formula that cannot do without"),
    ],
)  # fmt: skip
def test_a_trigger_that_fails_under_a_formula(
    target: str, fallback: dict[str, Any], formula: str, usage: int | str
) -> None:
    made = scaled_object(modifiers={"formula": formula, "target": target}, fallback=fallback)
    seen = Autoscaler(made).sync(answers(3, None), scale(3), 1000.0).usage_milli["composite-metric"]
    if isinstance(usage, int):
        assert seen == usage
    else:
        assert isinstance(seen, Failed)
        assert seen.why.startswith(usage)


def test_nil_without_a_fallback_is_no_metric() -> None:
    made = scaled_object(modifiers={"formula": "nil ?? nil", "target": "1"})
    seen = Autoscaler(made).sync(answers(3, 4), scale(3), 1000.0).usage_milli["composite-metric"]
    assert seen == Failed("no metrics returned: the formula gives nil, and there is no fallback")


def test_keda_polls_itself_where_there_are_modifiers() -> None:
    assert scaled_object(minReplicaCount=1).uses_hpa_observations()
    modified = scaled_object(modifiers={"formula": "a + b", "target": "1"}, minReplicaCount=1)
    assert not modified.uses_hpa_observations()


def test_empty_modifiers_are_none() -> None:
    assert scaled_object(modifiers={}).spec.advanced.scaling_modifiers is None


YAML = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: x
spec:
  scaleTargetRef:
    name: x
  advanced:
    scalingModifiers:
      formula: a + b
      target: "2"
  triggers:
  - {type: external, name: a, metadata: {queuePerReplica: "4"}}
  - {type: external, name: b, metadata: {queuePerReplica: "4"}}
"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param("a + b", "a + c", "so.yaml:8: spec.advanced: scalingModifiers.formula: c is no trigger's", id="c"),
        pytest.param("a + b", "a ~ b", "so.yaml:8: spec.advanced: scalingModifiers.formula: column 3", id="a sign"),
        pytest.param("name: b", "name: a", "so.yaml:8: spec.advanced: scalingModifiers.formula: every", id="one name"),
        pytest.param('"2"', '"0"', "so.yaml:11: spec.advanced.scalingModifiers.target: want a number", id="target 0"),
        pytest.param('"2"', "few", "so.yaml:11: spec.advanced.scalingModifiers.target: could not", id="no target"),
        pytest.param("      formula: a + b\n", "", "so.yaml:9: spec.advanced.scalingModifiers.formula: is", id="none"),
        pytest.param('"2"', '"2"\n      activationTarget: nan', "so.yaml:12: spec.advanced.scalingModifiers.act",
                     id="an activation target that is no number"),
    ],
)  # fmt: skip
def test_modifiers_are_refused_with_line_and_field(old: str, new: str, fault: str) -> None:
    (document,) = parse(YAML.replace(old, new, 1), "so.yaml")
    with pytest.raises(ConfigError) as caught:
        check(ScaledObject, document)
    assert str(caught.value).startswith(fault)


def test_a_fallback_by_a_formula_needs_one() -> None:
    with pytest.raises(ValueError, match="behavior scalingModifiers needs"):
        scaled_object(fallback=FALLBACK | {"behavior": "scalingModifiers"})


@pytest.mark.parametrize(
    ("annotations", "now", "begun", "polled", "synced"),
    [
        pytest.param({}, 3, None, None, 4, id="not paused"),
        pytest.param({"paused": "true"}, 3, None, None, 3, id="paused: stays as it is, no loop, no HPA"),
        pytest.param({"paused": "true"}, 0, None, None, 0, id="paused at zero: not activated"),
        pytest.param({"paused": "false"}, 3, None, None, 4, id="paused: false"),
        pytest.param({"paused": "F"}, 3, None, None, 4, id="as Go reads it"),
        pytest.param({"paused": "yes"}, 3, None, None, 3, id="whatever is no boolean is true"),
        pytest.param({"paused-replicas": "5"}, 3, 5, None, 3, id="scaled to the paused count at once"),
        pytest.param({"paused-replicas": "3"}, 3, None, None, 3, id="there already"),
        pytest.param({"paused": "false", "paused-replicas": "0"}, 3, 0, None, 3, id="the count pauses by itself"),
        pytest.param({"paused-scale-out": "true"}, 3, None, None, 3, id="out: the HPA's scaleUp is disabled"),
        pytest.param({"paused-scale-out": "true"}, 0, None, None, 0, id="out: and nothing is activated"),
        pytest.param({"paused-scale-in": "true"}, 3, None, None, 4, id="in: up goes on"),
        pytest.param({"paused-scale-in": "true"}, 9, None, None, 9, id="in: the HPA's scaleDown is disabled"),
        pytest.param({}, 0, None, 1, 0, id="activated"),
    ],
)
def test_pauses(annotations: dict[str, str], now: int, begun: int | None, polled: int | None, synced: int) -> None:
    behavior = {"scaleUp": {"tolerance": "0"}, "scaleDown": {"tolerance": "0", "stabilizationWindowSeconds": 0}}
    made = scaled_object(annotations=annotations, advanced={"horizontalPodAutoscalerConfig": {"behavior": behavior}})
    autoscaler, ask = Autoscaler(made), answers(4, 4, active=True)
    assert autoscaler.begin(scale(now)).replicas == begun
    assert autoscaler.poll(ask, scale(now), 1000.0).request.replicas == polled
    assert autoscaler.push(scale(now), 1000.0).replicas == polled
    assert autoscaler.sync(ask, scale(now), 1000.0).verdict.replicas == synced


@pytest.mark.parametrize(
    ("annotations", "active", "now", "to"),
    [
        pytest.param({}, False, 3, 0, id="nothing active: down to zero"),
        pytest.param({"paused-scale-in": "true"}, False, 3, None, id="in paused: not to zero"),
        pytest.param({"force-activation": "true"}, False, 3, None, id="forced: taken as active"),
        pytest.param({"force-activation": "true"}, False, 0, 1, id="forced from zero"),
    ],
)
def test_annotations_and_zero(annotations: dict[str, str], *, active: bool, now: int, to: int | None) -> None:
    made = Autoscaler(scaled_object(annotations=annotations))
    assert made.poll(answers(0, 0, active=active), scale(now), 1000.0).request.replicas == to


@pytest.mark.parametrize("paused", ["paused-scale-in", "paused-scale-out"])
def test_a_pause_makes_a_behavior_where_there_is_none(paused: str) -> None:
    behavior = scaled_object(annotations={paused: "true"}).hpa(lambda _: ("m", 1.0)).behavior
    assert behavior is not None
    chosen = (behavior.down, behavior.up) if paused.endswith("in") else (behavior.up, behavior.down)
    assert [rules.select for rules in chosen] == ["Disabled", "Max"]
