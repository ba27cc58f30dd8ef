"""The page's table of vendors is that of the formats, and its options are those of the command."""

import re

import vendors_table
from sentio_kedro.cli import adopt, inspect


def test_the_page_has_a_row_per_format() -> None:
    page = vendors_table.PAGE.read_text()
    assert vendors_table.with_table(page) == page, "type `.venv/bin/python docs/vendors_table.py`"


def test_every_option_on_the_page_exists() -> None:
    known = {option for command in (adopt, inspect) for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(--[a-z][a-z-]+)", vendors_table.PAGE.read_text()))
    assert named - known <= {"--env", "--pipeline", "--pipelines", "--params"}
