"""Looks at the status page in a browser: 1,280 and 390 pixels, light and dark, without an error."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from journals import Author

from sentio_kedro.trader import events
from sentio_kedro.trader.orders import Order
from sentio_kedro.trader.watch.band import band_of
from sentio_kedro.trader.watch.served.chart import charts_of
from sentio_kedro.trader.watch.served.page import coded, render
from sentio_kedro.trader.watch.served.server import Shown, WatchServer
from sentio_kedro.trader.watch.view import POINTS, View
from sentio_kedro.trader.watch.watching import Seen

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--enable-logging=stderr", "--v=0", "--allow-file-access-from-files"),
)
FRAMES = """<!doctype html><body style="margin:0">
<iframe src="{page}" width="390" height="844"></iframe><iframe src="{page}" width="1280" height="844"></iframe>
<script>
window.addEventListener("load", function () {{
  document.title = "widths " + Array.from(document.querySelectorAll("iframe"), function (frame) {{
    const inside = frame.contentDocument.documentElement;
    const style = frame.contentWindow.getComputedStyle(inside.querySelector("body"));
    return [inside.scrollWidth, inside.clientWidth, style.backgroundColor].join(" ");
  }}).join(";");
}});
</script></body>"""
DARK = "rgb(20, 23, 27)"


@pytest.fixture
def busy(scene):
    """A halted trader with everything on the page: alarms, orders, fills, differences, a band."""
    band = band_of(np.random.default_rng(0).normal(0.0, 4e-5, 400), mean_block=5.0)
    one = scene(author=Author(symbols=("BTC", "ETH", "A-SYMBOL-WITH-A-LONG-NAME.PERPETUAL"), trades=0.4))
    one.around = replace(one.around, band=band)
    one.restart()
    one.write(*one.author.start(), *(event for _ in range(150) for event in one.author.bar()))
    at = one.author.end + 2.0
    order = Order("a" * 32, "2026-03-02T00:30:00Z", "BTC", 1.0, 100.0)
    rows = [{"what": "order", "subject": "a" * 32, "journal": "none", "venue": "BTC +1", "halts": True}]
    one.write(
        events.intended(order, at), events.sent(order.id, 1, at), events.unknown(order.id, 1, "504 " * 60, at),
        events.reconciled("r1", rows, at), events.turned("halted", "1", "venue and journal differ: " + "x" * 90, at),
    )  # fmt: skip
    one.look(at)
    one.look(at + 70.0)
    return one


def looked(address, folder, *flags):
    """Return the page as the browser has it, and what it printed to the console."""
    command = [
        CHROMIUM,
        *FLAGS,
        *flags,
        f"--user-data-dir={folder}",
        "--virtual-time-budget=3000",
        "--dump-dom",
        address,
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)  # noqa: S603 - our own command
    return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Needs Chromium: install the package `chromium` to run this test.")
def test_a_browser_shows_the_page_without_an_error_and_a_phone_need_not_scroll_it_sideways(busy, tmp_path):
    server = WatchServer("127.0.0.1", 0, Shown(lambda: busy.watch.seen, busy.clock.now, "paper"))
    page, console = looked(f"http://127.0.0.1:{server.port}/", tmp_path / "profile", "--window-size=1280,1000")
    server.close()
    assert console == []
    assert ">Halted</h2>" in page
    assert page.count('class="alarm critical"') == 3
    (tmp_path / "page.html").write_text(render(busy.watch.seen, busy.clock.now(), "paper"))
    (tmp_path / "frames.html").write_text(FRAMES.format(page=(tmp_path / "page.html").as_uri()))
    flags = ("--window-size=1700,1000", "--blink-settings=preferredColorScheme=0")
    page, console = looked((tmp_path / "frames.html").as_uri(), tmp_path / "profile", *flags)
    assert console == []
    assert re.search("<title>widths (.*)</title>", page)[1] == f"390 390 {DARK};1280 1280 {DARK}"


def test_the_page_is_small_needs_nothing_else_and_says_what_to_type(busy):
    page = render(busy.watch.seen, busy.clock.now(), "paper")
    assert len(page.encode()) < 300_000
    assert re.findall(r'(?:src|href)="(?!data:|/)', page) == []
    assert "kedro trader reconcile --env=paper" in page
    assert "No order is sent, not even one that closes a position." in page
    for text in ("UnknownOrders", "ReconcileMismatch", "Limits used", "Newest fills", "Venue and journal differ"):
        assert text in page


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("active", "kedro trader halt --env=paper --reason"),
        ("reducing", "Only orders that shrink a position are sent."),
        ("halted", "kedro trader resume --env=paper --reason"),
    ],
)
def test_each_state_says_what_it_means(busy, mode, text):
    seen = replace(busy.watch.seen, view=replace(busy.watch.seen.view, mode=mode))
    page = render(seen, busy.clock.now(), "paper")
    assert text in page
    assert "No real money is traded." in page
    assert "No real money" not in render(replace(seen, view=replace(seen.view, trading="live")), busy.clock.now())


def test_a_dead_trader_is_called_down_whatever_its_mode(busy):
    page = render(busy.watch.seen, busy.clock.now() + 600.0, "paper")
    assert "<title>paper: down</title>" in page
    assert ">Down</h2>" in page
    assert "kedro trader run --env=paper" in page


def test_a_page_without_a_journal_says_how_to_make_one(scene):
    one = scene()
    page = render(Seen(View(), one.around, problem="There is no journal yet."), 0.0)
    assert "There is no journal yet." in page
    assert "<title>paper: not started</title>" in page


def test_the_curve_keeps_its_ends_in_few_points(scene):
    one = scene(author=Author(trades=0.0))
    one.write(*one.author.start(), *(event for _ in range(2 * POINTS + 30) for event in one.author.bar()))
    one.look(one.author.end)
    view = one.watch.seen.view
    assert POINTS / 4 <= len(view.curve) <= POINTS
    (wide, phone), last = charts_of(view, None), view.decisions - 1
    assert wide.line.count(",") == phone.line.count(",") == len(view.curve) + (view.curve[-1][0] != last)
    assert wide.line.split()[-1].startswith(f"{wide.width:.1f},")
    assert wide.last == view.decided[:16].replace("T", " ")
    assert len({tick.text for tick in wide.ticks}) == len(wide.ticks)


def test_what_stands_in_backticks_is_code_and_escaped():
    assert coded("type `a < b` & go") == "type <code>a &lt; b</code> &amp; go"
