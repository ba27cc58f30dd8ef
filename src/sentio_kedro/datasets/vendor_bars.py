"""A vendor of bars as a dataset: loading opens the vendor, and the pipeline ``download`` fetches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from pydantic import SecretStr

from sentio_kedro.config.symbols import symbol_problems
from sentio_kedro.vendors.names import open_vendor, vendor_problem
from sentio_kedro.vendors.request import Request, moment

PER_MINUTE = 60.0


class VendorBars(AbstractDataset[None, Request]):
    """Bars of a vendor, by symbol. Nothing is imported or asked before it is loaded."""

    def __init__(
        self,
        *,
        vendor: str,
        symbols: Sequence[str],
        interval: str,
        start: Any,
        until: Any = None,
        credentials: Mapping[str, str] | None = None,
        url: str | None = None,
        rate: Mapping[str, float] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take what is asked, and of whom.

        Args:
            vendor: ``yfinance``, ``alpaca`` (feed ``iex``) or ``alpaca.sip``, ``ccxt`` (``binance``) or
                ``ccxt.<exchange>``, or ``stooq``.
            symbols: Symbols as the vendor writes them.
            interval: Length of a bar: ``1m``, ``5m``, ``15m``, ``30m``, ``1h`` or ``1d``.
            start: Date of the first bars.
            until: Date of the last bars; null is the time of the download.
            credentials: ``api_key`` and ``secret_key`` of alpaca: the name of an entry of credentials.yml.
            url: Another address than the vendor's; of stooq a file, a folder or a zip, too.
            rate: ``{per_minute: 60}``: the largest number of requests a minute.
            metadata: What Kedro's plugins read.

        Raises:
            DatasetError: If a value is none that can be used.
        """
        super().__init__()
        names = [symbols] if isinstance(symbols, str) else [str(symbol) for symbol in symbols]
        problems = [problem for problem in (vendor_problem(vendor, interval),) if problem]
        problems += symbol_problems("symbols", names) if names else ["`symbols` must name one or more; add some."]
        if len(set(names)) < len(names):
            problems.append("`symbols` must name each symbol once; drop the others.")
        pace = dict(rate or {"per_minute": PER_MINUTE})
        if set(pace) != {"per_minute"} or not isinstance(pace["per_minute"], int | float) or pace["per_minute"] <= 0:
            problems.append(f"`rate` must be {{per_minute: a number above 0}}, was {rate!r}; change it.")
        try:
            self._start = moment(start, "start")
            self._until = None if until is None else moment(until, "until", end_of_day=True)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise DatasetError("\n".join(problems))
        self._vendor, self._symbols, self._interval = vendor, tuple(names), interval
        self._keys = {name: SecretStr(str(value)) for name, value in (credentials or {}).items()}
        self._url, self._per_minute = url, float(pace["per_minute"])
        self.metadata = metadata

    def load(self) -> Request:
        """Open the vendor; nothing is fetched yet.

        Raises:
            VendorError: If its library or its credentials are missing; Kedro makes it a DatasetError.
        """
        keys = {name: secret.get_secret_value() for name, secret in self._keys.items()}
        vendor = open_vendor(self._vendor, self._interval, keys=keys, url=self._url, per_minute=self._per_minute)
        return Request(vendor, self._symbols, self._start, self._until)

    def save(self, data: None) -> None:
        """Refuse: a vendor is only read.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("A vendor is only read; save bars into a `sentio_kedro.datasets.BarStore`.")

    def _describe(self) -> dict[str, Any]:
        return {"vendor": self._vendor, "symbols": len(self._symbols), "interval": self._interval}
