"""The table of vendors in your_own_bars.md, written from the formats: ``.venv/bin/python docs/vendors_table.py``."""

from __future__ import annotations

from pathlib import Path

from sentio_kedro.market.formats import vendor_table

PAGE = Path(__file__).parent / "your_own_bars.md"
BEGIN, END = "<!-- vendors -->", "<!-- /vendors -->"
OPTIONS = {"symbol": "--symbol AAPL", "zone": "--timezone America/New_York", "table or query": "--table bars"}


def command(named: str, typed: str) -> str:
    """Return the command of a row as it is typed, with the options that it may need in brackets."""
    needed = [option for word, option in OPTIONS.items() if any(part.startswith(word) for part in named.split("; "))]
    return " ".join([typed.replace("FILE...", "FILE"), *(f"[{option}]" for option in needed)])


def table() -> str:
    """Return the table, a row a format."""
    lines = ["| vendor | format | command |", "|---|---|---|"]
    for one in vendor_table():
        cell = f"`{command(one.named, one.command)}`" if one.command else one.named
        lines.append(f"| {one.vendor} | `{one.format}` | {cell} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """Return the page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
