"""The agents of one fold as an MLflow model: raw bars in, signals out. No pickle anywhere.

MLflow runs this file to rebuild the model ("models from code"); the agents' folders are its artifact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import IngestionParameters, SignalParameters
from sentio_kedro.market.bars import align_bars
from sentio_kedro.serving.decisions import newest_signals

ARTIFACT = "agents"


class SignalModel(PythonModel):
    """Decides at the newest bar of a history of raw bars whose stamps name bar ends in UTC."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the agents from the model's artifact."""
        folders = sorted(path.parent for path in Path(context.artifacts[ARTIFACT]).rglob("agent.json"))
        self.agents = [AgentBundle.load(folder) for folder in folders]

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one signal per symbol; see ``newest_signals``.

        Args:
            context: MLflow's context, unused.
            model_input: Bars in the long format of the catalog's ``bars``.
            params: ``equity`` to size the shares for, quote currency.
        """
        equity = float((params or {}).get("equity", SignalParameters().equity))
        bars = align_bars(model_input, IngestionParameters())
        return newest_signals(self.agents, bars, SignalParameters(equity=equity))


set_model(SignalModel())
