"""The formats of vendors, by name, as data."""

from sentio_kedro.market.formats.registry.general import FORMATS

__all__ = ["FORMATS"]
