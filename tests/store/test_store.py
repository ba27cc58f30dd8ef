import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from sentio_kedro.config import IngestionParameters
from sentio_kedro.damage import DamagedFileError
from sentio_kedro.market.ingestion.adjustment import adjusted
from sentio_kedro.market.ingestion.bars import align_bars
from sentio_kedro.market.ingestion.problems import BarsError
from sentio_kedro.store import Appended, StoredBars
from sentio_kedro.store.files import StoreFiles

Bars = Callable[..., pd.DataFrame]
Files = Callable[[Path], dict[str, bytes]]


class KilledError(BaseException):
    """Stands for a signal: no handler of errors sees it."""


@pytest.fixture
def local(tmp_path: Path) -> StoredBars:
    return StoredBars(str(tmp_path / "store"))


def test_reads_what_was_appended(store: StoredBars, bars: Bars) -> None:
    frame = bars("BA").sample(frac=1.0, random_state=0).assign(vix=np.arange(6.0))
    assert store.append(frame, "vendor", "2024-02-01") == Appended(6, 0, 0)
    expected = frame.sort_values(["symbol", "timestamp"], ignore_index=True).assign(dividend=0.0, split=1.0)
    expected["timestamp"] = expected["timestamp"].dt.as_unit("us")
    columns = ["timestamp", "symbol", "open", "high", "low", "close", "volume", "dividend", "split", "vix"]
    pd.testing.assert_frame_equal(store.read(), expected[columns])


def test_same_bars_write_nothing(local: StoredBars, bars: Bars, files: Files, tmp_path: Path) -> None:
    local.append(bars(), "vendor", "2024-02-01")
    before = files(tmp_path)
    assert local.append(bars(days=2), "vendor", "2024-02-02") == Appended(0, 0, 4)
    assert files(tmp_path) == before


def test_correction_leaves_earlier_views(store: StoredBars, bars: Bars) -> None:
    store.append(bars("A"), "vendor", "2024-02-01T12:00:00")
    store.append(bars("A", days=1, close=99.0), "vendor", "2024-02-02T12:00:00")
    store.append(bars("A", days=1, close=10.0), "vendor", "2024-02-03T12:00:00")
    closes = [store.read(as_of=day)["close"].tolist() for day in ("2024-02-01", "2024-02-02", "2024-02-03")]
    assert closes == [[10.0, 10.25, 10.5], [99.0, 10.25, 10.5], [10.0, 10.25, 10.5]]
    assert store.read(as_of="2024-02-01T11:59:59").empty
    assert store.read()["close"].tolist() == [10.0, 10.25, 10.5]
    mark = store.watermarks().iloc[0]
    assert (mark["bars"], mark["revisions"]) == (3, 2)
    assert mark["last"] == pd.Timestamp("2024-01-04 21:00Z")
    assert mark["known_at"] == pd.Timestamp("2024-02-03 12:00Z")


def test_rounding_of_a_vendor_is_no_revision(store: StoredBars, bars: Bars) -> None:
    store.append(bars("A"), "vendor", "2024-02-01")
    noisy = bars("A").assign(close=bars("A")["close"] * (1 + 1e-8))
    assert store.append(noisy, "vendor", "2024-02-02", rounding=1e-7) == Appended(0, 0, 3)
    assert store.append(noisy, "vendor", "2024-02-02") == Appended(0, 3, 0)


def test_withdrawn_bar_is_empty(store: StoredBars, bars: Bars) -> None:
    store.append(bars("A").assign(vix=20.0), "vendor", "2024-02-01")
    nothing = dict.fromkeys(("open", "high", "low", "close", "volume", "vix"), np.nan)
    withdrawn = bars("A", days=1).assign(**nothing)
    assert store.append(withdrawn, "vendor", "2024-02-02") == Appended(0, 1, 0)
    assert store.append(withdrawn.drop(columns="vix"), "vendor", "2024-02-03") == Appended(0, 0, 1)
    assert store.read()["close"].isna().tolist() == [True, False, False]


def test_split_and_dividend_change_no_old_byte(local: StoredBars, bars: Bars, files: Files, tmp_path: Path) -> None:
    traded = bars("AB", days=120, first="2023-11-01")
    traded.loc[(traded["symbol"] == "A") & (traded["timestamp"] > "2024-01-20"), ["open", "high", "low", "close"]] /= 4
    traded["split"] = np.where(
        (traded["symbol"] == "A") & (traded["timestamp"].dt.date.astype(str) == "2024-01-20"), 4, 1
    )
    traded["dividend"] = np.where((traded["symbol"] == "B") & (traded["timestamp"].dt.day == 25), 0.4, 0.0)
    known = pd.date_range("2023-12-31", periods=3, freq="30D", tz="UTC")
    parts: dict[str, bytes] = {}
    for time in known:
        local.append(traded[traded["timestamp"] < time], "vendor", time)
        now = {name: content for name, content in files(tmp_path).items() if name.endswith(".parquet")}
        assert parts.items() <= now.items()
        assert len(now) > len(parts)
        parts = now
    seen = traded[traded["timestamp"] < known[-1]]
    ours = adjusted(align_bars(local.read(), IngestionParameters(missing="halt")))
    for column, symbol in enumerate(ours.symbols):
        ratio = ours.close[:, column] / _back_adjusted(seen[seen["symbol"] == symbol])
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def _back_adjusted(bars: pd.DataFrame) -> np.ndarray:
    """Closes [n] as vendors adjust them: all earlier ones over each split, and less each dividend's share."""
    closes, splits, dividends = (bars[name].to_numpy(dtype=float) for name in ("close", "split", "dividend"))
    result = closes.copy()
    for day in range(1, len(closes)):
        price = closes[day - 1] / splits[day]
        result[:day] *= (1 - dividends[day] / price) / splits[day]
    return result


@pytest.mark.parametrize("torn", [False, True])
def test_killed_append_and_the_same_again_give_the_same_bytes(
    bars: Bars, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    first, second = bars("AB", days=40, first="2023-12-01"), bars("AB", days=75, first="2023-12-01", close=11.0)
    whole, writes = StoredBars(str(tmp_path / "whole")), _count_writes(monkeypatch)
    whole.append(first, "vendor", "2024-03-01")
    already = len(writes)
    whole.append(second, "vendor", "2024-03-02")
    expected = files(tmp_path / "whole")
    total = len(writes) - already
    assert total == 6  # the names of four parts, the parts, the manifest
    for kill in range(total):
        root = tmp_path / f"killed_{kill}"
        store = StoredBars(str(root))
        store.append(first, "vendor", "2024-03-01")
        seen = store.read()
        with monkeypatch.context() as patch:
            _kill_at(patch, kill, torn)
            with pytest.raises(KilledError):
                store.append(second, "vendor", "2024-03-02")
        pd.testing.assert_frame_equal(store.read(), seen)
        store.append(second, "vendor", "2024-03-02")
        assert files(root) == expected


def test_what_a_killed_append_left_is_deleted_by_another(
    bars: Bars, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _kill_at(patch, 3, torn=True)
        with pytest.raises(KilledError):
            StoredBars(str(tmp_path / "killed")).append(bars(days=40, first="2023-12-01"), "vendor", "2024-02-01")
    for name in ("killed", "whole"):
        StoredBars(str(tmp_path / name)).append(bars(days=2), "vendor", "2024-02-02")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def _count_writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    written: list[str] = []
    write = StoreFiles.write

    def counted(self: StoreFiles, name: str, content: bytes) -> None:
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(StoreFiles, "write", counted)
    return written


def _kill_at(monkeypatch: pytest.MonkeyPatch, number: int, torn: bool) -> None:
    """Stop at a write, before it or half way, and let no later one through."""
    write, done = StoreFiles.write, iter(range(1_000))

    def killed(self: StoreFiles, name: str, content: bytes) -> None:
        if next(done) < number:
            write(self, name, content)
            return
        if torn:
            path = Path(self.path(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".partial.{path.name}").write_bytes(content[: len(content) // 2])
        raise KilledError

    monkeypatch.setattr(StoreFiles, "write", killed)


def test_a_day_of_many_symbols_is_one_file(local: StoredBars, bars: Bars, files: Files, tmp_path: Path) -> None:
    local.append(bars("ABC", days=400, first="2023-01-02"), "vendor", "2024-03-01")
    before = files(tmp_path)
    folders = sorted({name.rpartition("/")[0] for name in before if name.endswith(".parquet")})
    assert folders == [f"store/vendor/{symbol}/{year}" for symbol in "ABC" for year in (2023, 2024)]
    local.append(bars("ABC", days=2, first="2024-02-05"), "vendor", "2024-03-02")
    (new,) = files(tmp_path).keys() - before.keys()
    assert new.startswith("store/vendor/_recent/2024/part-")


def test_names_of_symbols_become_safe_folders(local: StoredBars, bars: Bars, files: Files, tmp_path: Path) -> None:
    names = ("BTC/USD", "..", "_recent", "BRK.B", "^GSPC", "A'B", "Ö")
    long = bars("A", days=40)
    local.append(pd.concat([long.assign(symbol=name) for name in names]), "a/b", "2024-03-01")
    folders = {name.split("/")[2] for name in files(tmp_path) if name.endswith(".parquet")}
    assert folders == {"BTC%2FUSD", "%2E.", "%5Frecent", "BRK.B", "%5EGSPC", "A%27B", "%C3%96"}
    assert {name.split("/")[1] for name in files(tmp_path)} == {"a%2Fb"}
    assert local.read(["..", "_recent"])["symbol"].unique().tolist() == ["..", "_recent"]
    assert local.watermarks(["a/b"])["symbol"].tolist() == sorted(names)


def test_days_without_a_time_are_whole(store: StoredBars, bars: Bars) -> None:
    store.append(bars("A", days=5), "vendor", "2024-02-01")
    days = store.read(["A"], "2024-01-03", "2024-01-04", columns=["timestamp"])["timestamp"].dt.day
    assert days.tolist() == [3, 4]
    assert len(store.read(end="2024-01-04T20:59:59")) == 2
    assert len(store.read(start="2024-01-03T16:00-05:00")) == 4


def test_labels_are_columns_on_request(store: StoredBars, bars: Bars) -> None:
    store.append(bars("A", days=1), "vendor", "2024-02-01")
    row = store.read(columns=["symbol", "source", "known_at"]).iloc[0]
    assert row.tolist() == ["A", "vendor", pd.Timestamp("2024-02-01", tz="UTC")]


def test_symbol_of_two_sources_needs_a_choice(store: StoredBars, bars: Bars) -> None:
    store.append(bars("AB"), "one", "2024-02-01")
    store.append(bars("BC", close=50.0), "two", "2024-02-02")
    with pytest.raises(ValueError, match=r"1 symbol.*B is held from \['one', 'two'\]; set `sources`"):
        store.read()
    assert store.read(as_of="2024-02-01")["close"].max() < 50.0
    assert store.read(sources=["two"])["symbol"].unique().tolist() == ["B", "C"]
    assert store.read(["A", "C"])["symbol"].unique().tolist() == ["A", "C"]


def test_what_is_not_held_is_refused(store: StoredBars, bars: Bars) -> None:
    assert not store.exists()
    store.append(bars("A"), "vendor", "2024-02-01")
    assert store.exists()
    with pytest.raises(ValueError, match=r"`symbols` \['B', 'a'\] \(perhaps 'A' is meant by 'a'\) are not held"):
        store.read(["A", "B", "a"])
    with pytest.raises(ValueError, match="`symbols` \\['A'\\] are not held at `as_of`"):
        store.read(["A"], as_of="2024-01-31")
    with pytest.raises(ValueError, match="`sources` \\['other'\\] are not held"):
        store.read(sources=["other"])
    with pytest.raises(ValueError, match="`columns` \\['vix'\\] are not held"):
        store.read(columns=["vix"])
    with pytest.raises(ValueError, match="`start` must be a date or a time, is 20240101"):
        store.read(start=20240101)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"timestamp": pd.to_datetime(["2024-01-02 21:00"])}, "a time with a zone.*2024-01-02 21:00:00 in row 0"),
        ({"timestamp": ["2024-02-01T00:00:01Z"]}, "must have ended when they became known.*'A' '2024-02-01T00:00:01Z'"),
        ({"timestamp": ["2024-01-02T21:00:00.0000001Z"]}, "whole microseconds"),
        ({"symbol": [7]}, "symbol must be printable text"),
        ({"close": ["12,5"]}, "values must be numbers or empty.*column `close`"),
        ({"note": ["halted"]}, "values must be numbers or empty.*column `note`"),
    ],
)
def test_bars_that_cannot_be_held_are_refused(
    store: StoredBars, bars: Bars, change: dict[str, object], problem: str
) -> None:
    with pytest.raises(BarsError, match=f"(?s){problem}"):
        store.append(bars("A", days=1).assign(**change), "vendor", "2024-02-01")
    assert not store.exists()


def test_columns_are_named_that_lack(store: StoredBars, bars: Bars) -> None:
    with pytest.raises(BarsError, match=r"(?s)columns are missing.*volume"):
        store.append(bars().drop(columns="volume"), "vendor", "2024-02-01")


def test_bar_told_twice(store: StoredBars, bars: Bars) -> None:
    twice = pd.concat([bars("A"), bars("A", days=1)])
    assert store.append(twice, "vendor", "2024-02-01") == Appended(3, 0, 0)
    with pytest.raises(BarsError, match=r"(?s)delivered once.*A 2024-01-02T21:00:00"):
        store.append(pd.concat([bars("A"), bars("A", days=1, close=11.0)]), "vendor", "2024-02-02")


def test_the_past_does_not_change(store: StoredBars, bars: Bars) -> None:
    store.append(bars("A"), "vendor", "2024-02-02")
    with pytest.raises(ValueError, match=r"`known_at` must not be before 2024-02-02.*of `vendor`"):
        store.append(bars("B"), "vendor", "2024-02-01")
    with pytest.raises(BarsError, match=r"(?s)cannot be revised at the same time.*A 2024-01-02T21"):
        store.append(bars("A", close=11.0), "vendor", "2024-02-02")
    assert store.append(bars("B"), "vendor", "2024-02-02") == Appended(3, 0, 0)


def test_damage_is_told_with_the_file(local: StoredBars, bars: Bars, tmp_path: Path) -> None:
    local.append(bars("A"), "vendor", "2024-02-01")
    (part,) = tmp_path.rglob("part-*.parquet")
    content = part.read_bytes()
    part.write_bytes(content[:-9] + b"x" + content[-8:])
    with pytest.raises(DamagedFileError, match=rf"{part.name}` differs.*restore it from a copy"):
        local.read()
    part.unlink()
    with pytest.raises(DamagedFileError, match=rf"{part.name}` is missing; restore"):
        local.append(bars("A", close=11.0), "vendor", "2024-02-02")
    part.write_bytes(content)
    assert len(local.read()) == 3
    manifest = tmp_path / "store/vendor/manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match=r"manifest.json` .*restore it from a copy"):
        local.read()


def test_part_without_a_name_does_not_exist(local: StoredBars, bars: Bars, tmp_path: Path) -> None:
    local.append(bars("A"), "vendor", "2024-02-01")
    (part,) = tmp_path.rglob("part-*.parquet")
    part.with_name("part-0.parquet").write_bytes(b"half a par")
    assert len(local.read()) == 3


def test_one_writer_a_source(local: StoredBars, bars: Bars, tmp_path: Path) -> None:
    local.append(bars("A"), "vendor", "2024-02-01")
    with FileLock(tmp_path / "store" / ".vendor.lock"):
        with pytest.raises(ValueError, match=r"`vendor`.*one writer at a time.*wait until it has ended"):
            local.append(bars("B"), "vendor", "2024-02-01")
        assert local.append(bars("B"), "other", "2024-02-01") == Appended(3, 0, 0)


def test_second_writer_of_a_bucket_is_found(
    bars: Bars, monkeypatch: pytest.MonkeyPatch, store: StoredBars, request: pytest.FixtureRequest
) -> None:
    if "local" in request.node.name:
        return  # locked
    store.append(bars("A"), "vendor", "2024-02-01")
    write, other = StoreFiles.write, iter([True])

    def between(self: StoreFiles, name: str, content: bytes) -> None:
        if next(other, False):
            store.append(bars("C"), "vendor", "2024-02-02")
        write(self, name, content)

    monkeypatch.setattr(StoreFiles, "write", between)
    with pytest.raises(ValueError, match="another process has appended to it; run the same command again"):
        store.append(bars("B"), "vendor", "2024-02-02")
    assert store.append(bars("B"), "vendor", "2024-02-02") == Appended(3, 0, 0)
    assert store.read()["symbol"].unique().tolist() == ["A", "B", "C"]


def test_manifest_says_what_is_held(local: StoredBars, bars: Bars, tmp_path: Path) -> None:
    local.append(bars("A", days=40), "vendor", "2024-03-01")
    manifest = json.loads((tmp_path / "store/vendor/manifest.json").read_bytes())
    (part,) = manifest["parts"]
    assert (part["symbol"], part["rows"], part["first"]) == ("A", 40, "2024-01-02T21:00:00.000000Z")
    assert manifest["bar_label"] == "end"
    assert manifest["symbols"]["A"]["bars"] == 40
