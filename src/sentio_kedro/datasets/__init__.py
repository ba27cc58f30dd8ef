"""Kedro datasets of this project: files and folders that appear whole or not at all."""

from sentio_kedro.datasets.agents import AgentBundles, ForecastRules
from sentio_kedro.datasets.bar_files import BarFiles
from sentio_kedro.datasets.bar_store import BarStore
from sentio_kedro.datasets.checkpoints import CheckpointStore, CheckpointStoreDataset
from sentio_kedro.datasets.files import CSVDataset, JSONDataset, ParquetDataset, PlotlyDataset, TextDataset
from sentio_kedro.datasets.folds import AccountStatesDataset, FoldsDataset, RegimeModelsDataset
from sentio_kedro.datasets.journal import JournalDataset
from sentio_kedro.datasets.json_lines import LedgerDataset
from sentio_kedro.datasets.market import AlignedBarsDataset, FeaturesDataset
from sentio_kedro.datasets.trials import TrialLedger, TrialLedgerDataset
from sentio_kedro.datasets.vendor_bars import VendorBars

__all__ = [
    "AccountStatesDataset",
    "AgentBundles",
    "AlignedBarsDataset",
    "BarFiles",
    "BarStore",
    "CSVDataset",
    "CheckpointStore",
    "CheckpointStoreDataset",
    "FeaturesDataset",
    "FoldsDataset",
    "ForecastRules",
    "JSONDataset",
    "JournalDataset",
    "LedgerDataset",
    "ParquetDataset",
    "PlotlyDataset",
    "RegimeModelsDataset",
    "TextDataset",
    "TrialLedger",
    "TrialLedgerDataset",
    "VendorBars",
]
