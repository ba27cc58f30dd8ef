"""How timestamps of vendors' files are written, told from one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from sentio_kedro.market.formats.records import DateOrder

NUMERAL: Final = re.compile(r"^\d+(?:\.\d*)?$")
_DATE = re.compile(
    r"^(?:(?P<year>\d{4})(?P<s>[-/.])\d{1,2}(?P=s)\d{1,2}"
    r"|\d{1,2}(?P<t>[-/.])\d{1,2}(?P=t)(?P<short>\d{4}|\d{2})(?!\d)"
    r"|\d{1,2}(?P<u>[-/ ])(?P<month>[A-Za-z]{3,9})(?P=u)(?P<named>\d{4}|\d{2})(?!\d)"
    r"|(?P<american>[A-Za-z]{3,9}) \d{1,2}, \d{4}"
    r"|(?P<compact>\d{8}))(?P<rest>.*)$"
)
_TIME = re.compile(
    r"^(?P<gap>T|[ ,;_]+)(?:(?P<clock>\d{1,2}:\d{2})(?P<seconds>:\d{2})?(?P<fraction>\.\d+)?"
    r"|(?P<hour>\d{1,2})(?P<dash>-)(?=[AP]M)|(?P<digits>\d{6}|\d{4}))(?P<half>\s?[AaPp][Mm])?(?P<zone>.*)$"
)
PLACE: Final = re.compile(r" [A-Za-z]+/[A-Za-z_/]+$")
_OFFSET = re.compile(r"^\s*(?:Z|UTC|GMT)?\s*(?:[+-]\d{2}:?\d{2}|[+-]\d{2})?$")


@dataclass(frozen=True)
class Shape:
    """How a timestamp is written.

    Attributes:
        kind: ``epoch``, ``compact``, ``iso``, ``day or month first``, ``month name``, ``typed`` or ``unknown``.
        form: Its ``strptime`` format, with ``A`` and ``B`` for day and month of unknown order.
        has_time: Whether it has a time of day.
        has_zone: Whether it names its zone.
    """

    kind: str
    form: str = ""
    has_time: bool = True
    has_zone: bool = False

    def ordered(self, order: DateOrder | None) -> str:
        """Return the ``strptime`` format with day and month in ``order``."""
        first, second = ("%d", "%m") if order != "mdy" else ("%m", "%d")
        return self.form.replace("{A}", first).replace("{B}", second)


def shape_of(cell: object) -> Shape:
    """Return how a timestamp is written."""
    if isinstance(cell, pd.Timestamp | np.datetime64):
        return Shape("typed", has_zone=getattr(cell, "tzinfo", None) is not None)
    text, named = PLACE.subn("", str(cell).strip())
    if form := _compact_form(text):
        return Shape("compact", form, has_time=len(text) > 8)  # noqa: PLR2004 - yyyymmdd
    if NUMERAL.match(text):
        return Shape("epoch", has_zone=True)
    date = _DATE.match(text)
    time = _TIME.match(date["rest"]) if date else None
    if date is None or (date["rest"].strip() and (time is None or not _OFFSET.match(time["zone"]))):
        return Shape("unknown")
    kind, form = _date_form(date)
    if time is None:
        return Shape(kind, form, has_time=False)
    return Shape(kind, form + _time_form(time), True, bool(time["zone"].strip()) or named > 0)


def _compact_form(text: str) -> str:
    """Return the format of digits such as 20240102 or 20240102093000; "" if they are none."""
    forms = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}
    form = forms.get(len(text), "") if text.isdigit() else ""
    plausible = "1900" <= text[:4] <= "2100" and "01" <= text[4:6] <= "12" and "01" <= text[6:8] <= "31"
    return form if form and plausible and text[8:10] < "24" else ""  # ten digits as seconds would lie after 2033


def _date_form(date: re.Match[str]) -> tuple[str, str]:
    if date["year"]:
        return "iso", f"%Y{date['s']}%m{date['s']}%d"
    if date["short"]:
        return "day or month first", f"{{A}}{date['t']}{{B}}{date['t']}{'%Y' if len(date['short']) > 2 else '%y'}"  # noqa: PLR2004
    month = "%B" if len(date["month"] or date["american"] or "") > 3 else "%b"  # noqa: PLR2004 - May is both
    if date["named"]:
        return "month name", f"%d{date['u']}{month}{date['u']}{'%Y' if len(date['named']) > 2 else '%y'}"  # noqa: PLR2004
    return ("month name", f"{month} %d, %Y") if date["american"] else ("compact", "%Y%m%d")


def _time_form(time: re.Match[str]) -> str:
    hours = "%I" if time["half"] else "%H"
    if time["clock"]:
        form = f"{hours}:%M" + (":%S" if time["seconds"] else "") + (".%f" if time["fraction"] else "")
    elif time["dash"]:
        form = f"{hours}-"
    else:
        form = "%H%M%S" if len(time["digits"]) == 6 else "%H%M"  # noqa: PLR2004 - digits
    half = f"{' ' if time['half'][0].isspace() else ''}%p" if time["half"] else ""
    return time["gap"] + form + half
