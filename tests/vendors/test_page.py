"""The examples of the page."""

import re
from pathlib import Path

import pytest
import yaml

from sentio_kedro.datasets import VendorBars

PAGE = Path(__file__).parents[2] / "docs" / "download.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("vendor_bars: {")]


@pytest.mark.parametrize("text", [BLOCKS[0], *LINES])
def test_an_entry_of_the_page_can_be_copied(text):
    entry = yaml.safe_load(text)["vendor_bars"]
    assert entry.pop("type") == "sentio_kedro.datasets.VendorBars"
    keys = yaml.safe_load(BLOCKS[2])
    VendorBars(**{**entry, "credentials": keys.get(entry.get("credentials"))})


def test_every_vendor_has_an_example():
    vendors = {yaml.safe_load(line)["vendor_bars"]["vendor"].partition(".")[0] for line in LINES}
    assert vendors == {"yfinance", "alpaca", "ccxt", "stooq"}
