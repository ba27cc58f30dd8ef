"""The agents of one fold as an MLflow model: raw bars and an account in, target positions and tail risk out.

MLflow runs this file to rebuild the model ("models from code"); the agents' folders are its artifact.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import Field, TypeAdapter

from sentio_kedro.agent.bundle import load_agents
from sentio_kedro.config import SignalParameters
from sentio_kedro.config.fields import NonNegative, parameters
from sentio_kedro.market.ingestion.problems import BarsError
from sentio_kedro.market.ingestion.timestamps import moment
from sentio_kedro.serving.accounts import ACCOUNT, Account, Worth
from sentio_kedro.serving.incoming_bars import read_history
from sentio_kedro.serving.newest import decide_from
from sentio_kedro.serving.newest_bar import require_newest
from sentio_kedro.serving.request_body import read_json, read_request, validated
from sentio_kedro.serving.session import DecisionSession

ARTIFACT = "agents"
SERVER_VARIABLE = "__pyfunc_model_path__"  # MLflow sets it in the processes of `mlflow models serve`


@parameters
class ModelParameters:
    """Parameters of a request.

    Attributes:
        account: JSON object with the fields of ``Account``, as text; empty opens one with ``equity``.
        equity: Cash of an account that is opened at the newest close, quote currency.
        max_age: Minutes since the newest bar ended, beyond which it is refused; 0 is any number.
    """

    account: str = ""
    equity: Annotated[Worth, Field(gt=0.0, strict=True)] = SignalParameters().equity
    max_age: Annotated[NonNegative, Field(strict=True)] = 0.0


DEFAULTS: dict[str, Any] = asdict(ModelParameters())
_PARAMETERS = TypeAdapter(ModelParameters)


class SignalModel(PythonModel):
    """Decides at the newest bar of a history of raw bars whose timestamps are the **ends** of bars, in UTC.

    A feed with the starts of bars (see ``ingestion.bar_label``) must be moved by one bar first.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the agents from the model's artifact."""
        agents = load_agents(Path(context.artifacts[ARTIFACT]))
        self.session = DecisionSession(list(agents.values()), traced=False)
        self.busy = Lock()  # a server answers requests in parallel, a session in sequence
        if SERVER_VARIABLE in os.environ:
            from sentio_kedro.serving.http import answer_by  # noqa: PLC0415 - pipelines load no web server

            answer_by(self.respond)

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
                Timestamps without a zone are UTC. Own columns that the agents read hold what was known at each bar's
                end.
            params: ``account``: JSON object with the fields of ``Account``; or empty, which is ``equity`` in cash at
                the newest close.

        Raises:
            MlflowException: If the account cannot be read, or bars are too few, of other symbols or invalid; a server
                answers with status 400 and the message.
        """
        try:
            return self._answer(model_input, params or {})
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def respond(self, body: bytes) -> str:
        """Turn the JSON of a request into that of its answer, in MLflow's formats; what is missing is null.

        Raises:
            ValueError: With the reason for what is refused.
        """
        try:
            frame = self._answer(*read_request(body, self.session.own))
        except BarsError as error:  # its first line is a count
            first = error.problems[0]
            raise ValueError(f"The bars are refused: {first.rule}; {first.cases[0]}.\n{error}") from error
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return json.dumps({"predictions": rows}, default=pd.Timestamp.isoformat, allow_nan=False)

    def _answer(self, model_input: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
        wanted = "`params` may hold `account`, a JSON object as text, `equity`, above 0, and `max_age`, minutes"
        given = validated(lambda: _PARAMETERS.validate_python(params), wanted)
        account = read_account(given.account) if given.account else Account(cash=given.equity)
        bars = read_history(model_input, self.session.own, timezone="UTC")
        require_newest(bars.timestamps, moment(datetime.now(UTC)), given.max_age or None)
        with self.busy:
            return decide_from(self.session, bars, account).frame()


def read_account(text: str) -> Account:
    """Read an account from JSON.

    Raises:
        ValueError: With every field that is wrong.
    """
    wanted = '`account` must be a JSON object such as {"cash": 50000, "shares": {"BTC": 1.5}}'
    read_json(text, "`account`")  # pydantic would take the last of two values of a key
    return validated(lambda: ACCOUNT.validate_json(text, strict=True), wanted)


set_model(SignalModel())
