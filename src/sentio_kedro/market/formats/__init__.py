"""Files of bars as vendors export them: what they are, and reading them as our long columns."""

from sentio_kedro.market.formats.detection import detect
from sentio_kedro.market.formats.reading import Bars, read_bars, read_files
from sentio_kedro.market.formats.records import BarFileError, BarFormat, Choice, Detection, Reading
from sentio_kedro.market.formats.registry import FORMATS
from sentio_kedro.market.formats.registry.table import vendor_table

__all__ = [
    "FORMATS",
    "BarFileError",
    "BarFormat",
    "Bars",
    "Choice",
    "Detection",
    "Reading",
    "detect",
    "read_bars",
    "read_files",
    "vendor_table",
]
