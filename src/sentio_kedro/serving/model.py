"""The agents of one fold as an MLflow model: raw bars and an account in, target positions and risk figures out.

MLflow runs this file to rebuild the model ("models from code"); the agents' folders are its artifact. Nothing is
pickled.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import TypeAdapter, ValidationError

from sentio_kedro.agent.bundle import AgentBundle
from sentio_kedro.config import IngestionParameters, SignalParameters
from sentio_kedro.market.bars import align_bars
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.newest import signals_of
from sentio_kedro.serving.session import DecisionSession

ARTIFACT = "agents"
ACCOUNT = TypeAdapter(Account)
DEFAULTS: dict[str, Any] = {
    "account": "",
    "equity": SignalParameters().equity,
    "replay_bars": SignalParameters().replay_bars,
}


class SignalModel(PythonModel):
    """Decides at the newest bar of a history of raw bars whose stamps name the **ends** of bars, in UTC.

    A feed that names the start of a bar (as the catalog's shipped file does, see ``ingestion.bar_label``) must be moved
    by one bar first, or time of day, sessions and the stamp of the answer are a bar off.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the agents from the model's artifact."""
        folders = sorted(path.parent for path in Path(context.artifacts[ARTIFACT]).rglob("agent.json"))
        self.session = DecisionSession([AgentBundle.load(folder) for folder in folders], traced=False)
        self.busy = Lock()  # a server answers requests side by side, a session one after the other

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return one row per symbol, see ``Verdict.frame``.

        Args:
            context: MLflow's context, unused.
            model_input: Bars in the long format of the catalog's ``bars``, at least ``required_bars`` of each symbol.
                Stamps without a zone are UTC.
            params: ``account``: JSON object with the fields of ``Account``, what is held at the newest close; or empty,
                which lets each agent first trade the last ``replay_bars`` bars from ``equity`` in cash.

        Raises:
            MlflowException: If the account cannot be read, or bars are too few, of other symbols or make no sense; a
                server answers with status 400 and the message.
        """
        given = DEFAULTS | (params or {})
        try:
            return self._answer(model_input, given)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answer(self, model_input: pd.DataFrame, given: dict[str, Any]) -> pd.DataFrame:
        bars = align_bars(model_input, IngestionParameters(timezone="UTC"))
        with self.busy:
            if given["account"]:
                return self.session.start(bars, read_account(given["account"])).frame()
            signal = SignalParameters(equity=float(given["equity"]), replay_bars=int(given["replay_bars"]))
            return signals_of(self.session, bars, signal)


def read_account(text: str) -> Account:
    """Read an account from JSON.

    Raises:
        ValueError: With every field that is wrong.
    """
    try:
        return ACCOUNT.validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'all of it'}: {problem['msg']}" for problem in error.errors()
        )
        raise ValueError(
            f'`account` must be a JSON object such as {{"cash": 50000, "shares": {{"BTC": 1.5}}}}; {wrong}.'
        ) from error


set_model(SignalModel())
