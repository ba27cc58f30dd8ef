"""Looks at what a browser makes of the report and of the kedro-viz site."""

import functools
import json
import re
import shutil
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import plotly.io
import pytest

from sentio_kedro.evaluation.plots.draw import CAPTIONS
from sentio_kedro.evaluation.report.report import render_report
from sentio_kedro.manifests import STAGES

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1400,1000"),
    *("--enable-logging=stderr", "--v=0"),
)
SAME_ORIGIN = "--allow-file-access-from-files"  # a page may look into a frame that holds another file
PATIENCE = 90  # seconds after which a browser that hangs is stopped
BOX = 'class="pipeline-node pipeline-node--modularPipeline"'

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Needs Chromium: install the package `chromium` to run this test."),
]


def rendered(address, folder, milliseconds, *flags):
    """Return the page as the browser has it after some virtual time, and what it printed to the console."""
    looked = subprocess.run(  # noqa: S603 - our own command
        [
            CHROMIUM,
            *FLAGS,
            *flags,
            f"--user-data-dir={folder}",
            f"--virtual-time-budget={milliseconds}",
            *(() if any(flag.startswith("--print-to-pdf") for flag in flags) else ("--dump-dom",)),
            address,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return looked.stdout, [line for line in looked.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def site(finished, tmp_path_factory):
    """The site of `kedro viz build`, its address and its folder."""
    project = finished.copy(tmp_path_factory.mktemp("site"))
    built = project.kedro("viz", "build", "--include-previews", KEDRO_ENV="smoke")
    assert built.returncode == 0, built.stdout + built.stderr
    folder = project.path / "build"

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_every_figure_is_drawn_without_an_error_though_a_symbol_looks_like_html(finished, tmp_path):
    def read(name):
        return finished.artifact(name).read_text().replace("AAPL", "<!--<script>")

    figures = {name: plotly.io.from_json(read(f"08_reporting/{name}.json")) for name in CAPTIONS}
    quality = json.loads(read("02_intermediate/data_quality.json"))
    report = render_report(json.loads(read("08_reporting/metrics.json")), figures, data_quality=quality)
    (tmp_path / "report.html").write_text(report, encoding="utf-8")
    page, console = rendered((tmp_path / "report.html").as_uri(), tmp_path / "profile", 15_000)
    assert console == []
    figures = page.count('id="data-')
    assert figures >= 8
    assert page.count('class="plot js-plotly-plot"') == figures  # Plotly's class comes with the drawing


FRAME = """<!doctype html><body style="margin:0"><iframe id="page" src="{page}" width="390" height="844"></iframe>
<script>
const frame = document.getElementById("page");
frame.addEventListener("load", function () {{
  setTimeout(function () {{
    const inside = frame.contentDocument.documentElement;
    document.title = "widths " + inside.scrollWidth + " " + inside.clientWidth;
    document.body.dataset.plots = inside.querySelectorAll(".js-plotly-plot").length;
  }}, 12000);
}});
</script></body>"""


def test_the_report_is_small_and_a_phone_need_not_scroll_it_sideways(finished, tmp_path):
    report = finished.artifact("08_reporting/report.html")
    assert report.stat().st_size < 5_000_000
    (tmp_path / "phone.html").write_text(FRAME.format(page=report.as_uri()))
    page, console = rendered(f"file://{tmp_path / 'phone.html'}", tmp_path / "profile", 20_000, SAME_ORIGIN)
    assert console == []
    scrolled, width = map(int, re.search(r"<title>widths (\d+) (\d+)</title>", page).groups())
    assert scrolled == width <= 390
    assert int(re.search(r'data-plots="(\d+)"', page).group(1)) >= 8


def test_the_report_prints_all_its_pages_in_light_colours(finished, tmp_path):
    paper = tmp_path / "report.pdf"
    address = finished.artifact("08_reporting/report.html").as_uri()
    flags = ("--force-dark-mode", "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    _, console = rendered(address, tmp_path / "profile", 15_000, *flags)
    assert console == []
    printed = paper.read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 5


def test_the_site_opens_to_one_box_a_stage(site, tmp_path):
    address, _ = site
    page, _ = rendered(f"{address}/?types=nodes", tmp_path, 8_000)  # the address that `make viz` prints
    assert page.count(BOX) == page.count('class="pipeline-node ') == len(STAGES)
    assert [stage for stage in STAGES if f">{stage}<" not in page] == []


def test_the_site_shows_figures_and_metrics(site):
    _, folder = site
    nodes = [json.loads(path.read_text()) for path in (folder / "api" / "nodes").iterdir()]
    files = {node["filepath"]: node for node in nodes if node.get("filepath")}
    shown = {path.rpartition("/")[2]: node for path, node in files.items() if "external_test" not in path}
    equity = shown["equity.json"]
    assert equity["preview_type"] == "PlotlyPreview"
    assert {"data", "layout"} <= set(equity["preview"])
    assert shown["drawdown.json"]["preview_type"] == "PlotlyPreview"
    drawn = {node["filepath"] for node in nodes if node.get("preview_type") == "PlotlyPreview"}
    assert {name for name in CAPTIONS if not any(path.endswith(f"08_reporting/{name}.json") for path in drawn)} == set()
    assert shown["metrics.json"]["preview_type"] == "JSONPreview"
    assert "sharpe" in json.loads(shown["metrics.json"]["preview"])["agent"]
    assert shown["positions.parquet"]["preview_type"] == "TablePreview"


def test_the_site_previews_the_metrics_beside_the_graph(site, tmp_path):
    address, folder = site
    nodes = (folder / "api" / "nodes").iterdir()
    (node,) = [path.name for path in nodes if "08_reporting/metrics.json" in path.read_text()]
    page, _ = rendered(f"{address}/?pid=__default__&sid={node}", tmp_path, 8_000)
    assert "metrics.json" in page
    assert "max_drawdown" in page
