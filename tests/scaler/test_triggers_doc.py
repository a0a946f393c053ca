import re

import yaml

from scaler.trigger import Trigger
from tests.scaler.triggers_doc import PATH, render


def test_the_documentation_is_that_of_the_code() -> None:
    assert PATH.read_text() == render(), "docs/triggers.md differs; mend it with: python tests/scaler/triggers_doc.py"


def test_the_documented_examples_are_accepted() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PATH.read_text(), re.DOTALL)
    triggers = [trigger for example in examples for trigger in yaml.safe_load(example)["triggers"]]
    assert [Trigger.parse(trigger["metadata"]).policy for trigger in triggers] == ["composite", "ahead"]


def test_every_key_stands_in_the_table() -> None:
    keys = set(re.findall(r"^\| `(\w+)` \|", PATH.read_text(), re.MULTILINE))
    assert {field.alias or name for name, field in Trigger.model_fields.items()} <= keys
