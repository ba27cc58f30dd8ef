"""Written YAML reads as what was meant."""

import yaml

from sentio_kedro.adoption.yaml_text import yaml_text


def test_keys_that_yaml_would_read_otherwise_are_quoted():
    values = {"symbols": {"1": "AAA", "000660": "BBB", "NO": "CCC", "#O": "open"}, "list": [{"%H": 1}], "plain": None}
    assert yaml.safe_load(yaml_text(values, {}, "")) == values
