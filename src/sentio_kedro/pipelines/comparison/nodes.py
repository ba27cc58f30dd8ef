"""Compare finished runs."""

from __future__ import annotations

import hashlib
import logging

import pandas as pd
import plotly.graph_objects as go

from sentio_kedro.config import ComparisonParameters
from sentio_kedro.evaluation.comparison.compare import compare_runs
from sentio_kedro.evaluation.comparison.page import comparison_figure, comparison_sentences, comparison_text
from sentio_kedro.tracking import client as tracking
from sentio_kedro.tracking.runs import find_tested_runs

COMPARED_TAG = "sentio.compared"
"""Tag of the run that holds a comparison: digest of the runs that it compares."""

logger = logging.getLogger(__name__)


def compare(parameters: ComparisonParameters) -> pd.DataFrame:
    """Read runs from MLflow and compare them with the first one; see ``compare_runs``."""
    runs = find_tested_runs(parameters.experiment, parameters.wanted, parameters.newest)
    return compare_runs(runs, parameters)


def draw(table: pd.DataFrame) -> go.Figure:
    """Draw the comparison."""
    return comparison_figure(table)


def write(table: pd.DataFrame, parameters: ComparisonParameters) -> str:
    """Write the comparison as Markdown."""
    for sentence in comparison_sentences(table, parameters.confidence):
        logger.info("%s", sentence)
    return comparison_text(table, parameters.metrics, parameters.confidence)


def track(table: pd.DataFrame, figure: go.Figure, text: str, parameters: ComparisonParameters) -> None:
    """Log table, figure and text to an MLflow run of their own; the same comparison continues it."""
    digest = hashlib.sha256(" ".join(table["run"]).encode()).hexdigest()
    with tracking.own_run(parameters.experiment, "comparison", {COMPARED_TAG: digest}):
        tracking.log_frame(table, "comparison.csv")
        tracking.log_figures({"comparison": figure}, folder="figures")
        tracking.log_text(text, "comparison.md")
