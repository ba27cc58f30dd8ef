"""The agents of one fold as an MLflow model: raw bars and an account in, target positions and tail risk out.

MLflow runs this file to rebuild the model ("models from code"); the agents' folders are its artifact.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import ValidationError

from sentio_kedro.agent.bundle import load_agents
from sentio_kedro.config import IngestionParameters, SignalParameters
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.serving.accounts import ACCOUNT, Account
from sentio_kedro.serving.newest import decide_from
from sentio_kedro.serving.session import DecisionSession

ARTIFACT = "agents"
DEFAULTS: dict[str, Any] = {"account": "", "equity": SignalParameters().equity}


class SignalModel(PythonModel):
    """Decides at the newest bar of a history of raw bars whose timestamps are the **ends** of bars, in UTC.

    A feed with the starts of bars (see ``ingestion.bar_label``) must be moved by one bar first.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the agents from the model's artifact."""
        agents = load_agents(Path(context.artifacts[ARTIFACT]))
        self.session = DecisionSession(list(agents.values()), traced=False)
        self.busy = Lock()  # a server answers requests in parallel, a session in sequence

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row per symbol, see ``Signal.frame``.

        Args:
            context: MLflow's context, unused.
            model_input: Bars in the long format of the catalog's ``bars``, at least ``required_bars`` of each symbol.
                Timestamps without a zone are UTC.
            params: ``account``: JSON object with the fields of ``Account``; or empty, which is ``equity`` in cash at
                the newest close.

        Raises:
            MlflowException: If the account cannot be read, or bars are too few, of other symbols or invalid; a server
                answers with status 400 and the message.
        """
        try:
            return self._answer(model_input, DEFAULTS | (params or {}))
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answer(self, model_input: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        bars = align_bars(model_input, IngestionParameters(timezone="UTC"))
        with self.busy:
            text = params["account"]
            account = read_account(text) if text else Account(cash=float(params["equity"]))
            return decide_from(self.session, bars, account).frame()


def read_account(text: str) -> Account:
    """Read an account from JSON.

    Raises:
        ValueError: With every field that is wrong.
    """
    try:
        return ACCOUNT.validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'all of it'}: {problem['msg']}" for problem in error.errors()
        )
        raise ValueError(
            f'`account` must be a JSON object such as {{"cash": 50000, "shares": {{"BTC": 1.5}}}}; {problems}.'
        ) from error


set_model(SignalModel())
