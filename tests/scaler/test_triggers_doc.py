import re

import yaml

from scaler.trigger import Trigger
from tests.scaler.triggers_doc import PATH, render


def test_the_documentation_is_that_of_the_code() -> None:
    assert PATH.read_text() == render(), "docs/triggers.md differs; mend it with: python tests/scaler/triggers_doc.py"


def test_the_documented_example_is_accepted() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PATH.read_text(), re.DOTALL)
    (trigger,) = yaml.safe_load(example)["triggers"]
    assert Trigger.parse(trigger["metadata"]).stabilization_down_s == 300


def test_every_key_stands_in_the_table() -> None:
    keys = set(re.findall(r"^\| `(\w+)` \|", PATH.read_text(), re.MULTILINE))
    assert {field.alias or name for name, field in Trigger.model_fields.items()} <= keys
