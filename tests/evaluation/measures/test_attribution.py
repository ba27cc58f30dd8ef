"""Lines of the ledger add up to the result, whole and by regime."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from sentio_kedro.evaluation.measures.attribution import cost_share, ledger_net, ledger_sums
from sentio_kedro.evaluation.run_frames import LINES, RunFrames, account_table

MakeRun = Callable[..., RunFrames]


def test_costs_lower_the_result_and_profits_raise_it() -> None:
    row = pd.DataFrame({line: [2.0**place] for place, line in enumerate(LINES)})
    assert ledger_net(row).tolist() == [1 + 2 - 4 - 8 - 16 - 32 - 64 - 128 + 256]


def test_sums_of_the_lines_add_up_to_the_sum_of_the_returns(make_run: MakeRun) -> None:
    frames = make_run()
    tables = {name: account_table(frames, name) for name in ("return", *LINES)}
    for account in tables["return"]:
        sums = ledger_sums({line: tables[line][account] for line in LINES})
        assert sums["net"] == pytest.approx(tables["return"][account].sum(), abs=1e-12)
        assert sums["gross"] - sums["costs"] + sums["shortfall"] == pytest.approx(sums["net"], abs=1e-12)
        assert sums["commission"] == pytest.approx(tables["commission"][account].sum())


@pytest.mark.parametrize(("gross", "share"), [(0.4, 0.5), (-0.4, 0.5), (0.0, None)])
def test_costs_are_compared_with_what_prices_gave_or_took(gross: float, share: float | None) -> None:
    assert cost_share({"gross": gross, "costs": 0.2}) == share
