"""Agents that read own columns and sessions: served bar by bar they see what features of all bars show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.serving.conftest import COLUMNS

from sentio_kedro.agent.bundle import SPEC, AgentBundle, save_agents
from sentio_kedro.config import FeatureColumn, IngestionParameters, OwnColumn, SignalParameters
from sentio_kedro.market.ingestion.aligned_bars import AlignedBars
from sentio_kedro.market.ingestion.bars import align_bars, aligned_to_frame
from sentio_kedro.market.ingestion.problems import BarsError
from sentio_kedro.serving.accounts import Account
from sentio_kedro.serving.model import SignalModel
from sentio_kedro.serving.newest import newest_signals
from sentio_kedro.serving.request_body import read_request
from sentio_kedro.serving.session import DecisionSession
from sentio_kedro.tracking.model import model_signature

FIRST, STOP = 1_280, 1_310  # four sessions; two assets are halted, one of them at first
OWN_FEATURES = [
    FeatureColumn(name="funding", indicator="own_column", column="funding"),
    FeatureColumn(name="vix_change", indicator="own_column_change", bars=5, column="vix"),
    FeatureColumn(name="vix_score", indicator="own_column_zscore", bars=20, column="vix"),
    FeatureColumn(name="gap", indicator="overnight_gap", bars=14),
    FeatureColumn(name="prior", indicator="prior_close_gap", bars=27),
    FeatureColumn(name="vwap", indicator="session_vwap_gap", bars=27),
    FeatureColumn(name="profile", indicator="minute_profile", bars=66),
    FeatureColumn(name="hour", indicator="exchange_time_sine"),
]
AS_KNOWN = IngestionParameters(columns={"vix": OwnColumn(known_at="bar_end")})


@pytest.fixture(scope="module", name="reader")
def reader_fixture(session_agent: AgentBundle) -> AgentBundle:
    assert len(OWN_FEATURES) == len(COLUMNS)
    return AgentBundle(replace(session_agent.spec, features=OWN_FEATURES), session_agent.weights)


@pytest.fixture(scope="module", name="feed")
def feed_fixture(session_bars: AlignedBars) -> pd.DataFrame:
    """Raw bars with an own column that tells something new in half of the bars."""
    frame = aligned_to_frame(session_bars)
    rng = np.random.default_rng(0)
    vix = 20.0 + np.cumsum(rng.standard_normal(len(frame)))
    return frame.assign(vix=np.where(rng.random(len(frame)) < 0.5, vix, np.nan))


def between(feed: pd.DataFrame, bars: AlignedBars, first: int, last: int) -> pd.DataFrame:
    ends = bars.timestamps[[first, last]]
    stamps = feed["timestamp"].dt.tz_localize(None).to_numpy()
    return feed[(stamps >= ends[0]) & (stamps <= ends[1])]


def test_bars_served_one_by_one_show_the_features_of_all_bars(
    reader: AgentBundle, feed: pd.DataFrame, session_bars: AlignedBars
) -> None:
    features = reader.inputs(align_bars(feed, AS_KNOWN))
    first = FIRST - reader.spec.required_bars - 150
    session = DecisionSession(reader, traced=False)
    signals = [session.start(between(feed, session_bars, first, FIRST))]
    seen = [session.market.features[-1]]
    for row in range(FIRST + 1, STOP):
        signals.append(session.decide(between(feed, session_bars, row, row)))
        seen.append(session.market.features[-1])
    np.testing.assert_allclose(np.stack(seen), features[FIRST:STOP], rtol=0, atol=1e-6)
    assert np.isfinite(seen[-1]).all()
    assert len(np.unique(np.stack(seen)[:, 1, 3])) == 4  # the gaps of four sessions
    aligned = align_bars(between(feed, session_bars, first, FIRST), AS_KNOWN)
    again = newest_signals([reader], aligned, SignalParameters(refuse_disagreement=False))
    np.testing.assert_array_equal(again["target"], signals[0].target)


def test_bars_without_the_column_or_with_values_that_are_no_numbers_are_refused(
    reader: AgentBundle, feed: pd.DataFrame, session_bars: AlignedBars
) -> None:
    history = between(feed, session_bars, FIRST - reader.spec.required_bars - 150, FIRST)
    new = between(feed, session_bars, FIRST + 1, FIRST + 1)
    session = DecisionSession(reader, traced=False)
    with pytest.raises(ValueError, match=r"own columns \['funding', 'vix'\], the bars lack \['vix'\]; give each"):
        session.start(history.drop(columns="vix"))
    with pytest.raises(ValueError, match=r"the bars lack \['funding'\]; give each"):
        session.start(history.drop(columns="funding"))
    with pytest.raises(ValueError, match=r"`vix` of \['BBB'\] has too few known values for the feature `vix_change`"):
        session.start(history.assign(vix=np.nan))
    session.start(history)
    with pytest.raises(ValueError, match=r"the bars lack \['vix'\]"):
        session.decide(new.drop(columns="vix"))
    with pytest.raises(BarsError, match="vix=inf"):
        session.decide(new.assign(vix=np.inf))
    with pytest.raises(BarsError, match="vix='high'"):
        session.decide(new.assign(vix="high"))
    assert session.market.bars.grid.timestamps[-1] == session_bars.timestamps[FIRST]


def test_the_served_model_decides_as_the_session(
    reader: AgentBundle, feed: pd.DataFrame, session_bars: AlignedBars, tmp_path: Path
) -> None:
    save_agents({reader.name: reader}, tmp_path)
    model = SignalModel()
    model.load_context(SimpleNamespace(artifacts={"agents": str(tmp_path)}))  # type: ignore[arg-type]
    history = between(feed, session_bars, FIRST - reader.spec.required_bars - 150, FIRST)
    text = history.assign(timestamp=history["timestamp"].map(pd.Timestamp.isoformat)).to_json(orient="split")
    body = json.dumps({"dataframe_split": json.loads(text), "params": {"equity": 1e5}}).encode()
    served = [row["target"] for row in json.loads(model.respond(body))["predictions"]]
    signal = DecisionSession(reader, traced=False).start(history, Account(cash=1e5))
    np.testing.assert_allclose(served, signal.target, rtol=1e-6)
    with pytest.raises(ValueError, match=r"the bars lack \['vix'\]"):
        model.respond(body.replace(b'"vix"', b'"vox"'))


def test_requests_carry_the_column_and_descriptions_of_other_agents_do_not_name_it(
    agent: AgentBundle, reader: AgentBundle
) -> None:
    row = {"timestamp": "2024-01-02T10:00Z", "symbol": "A", "close": 1, "vix": None, "note": 3}
    body = json.dumps({"dataframe_records": [row, {**row, "vix": 12}]}).encode()
    frame, _ = read_request(body, ["vix"])
    assert list(frame.columns) == ["timestamp", "symbol", "close", "vix"]
    assert frame["vix"].tolist()[1] == 12.0
    assert "vix" not in read_request(body)[0]
    names = model_signature(pd.DataFrame({"target": [0.1]}), ["vix"]).inputs.input_names()
    assert "vix" in names
    assert b'"column"' not in SPEC.dump_json(agent.spec)
    description = SPEC.dump_python(reader.spec, mode="json")
    assert SPEC.validate_python(description).features == OWN_FEATURES
