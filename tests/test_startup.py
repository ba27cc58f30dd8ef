"""A command imports what its pipeline needs before its first node, and no more."""

import subprocess
import sys

import pytest

LEARNING = ("torch", "sklearn", "hmmlearn", "optuna", "skfolio", "talib", "sentio_kedro.agent.bundle")
SLOW = ("arch", "statsmodels", "matplotlib", "IPython", "scipy.stats", "empyrical", "cvxpy", "sklearn", "hmmlearn")
RUN = """
import sys
from kedro.framework.session import KedroSession
from kedro.framework.project import configure_project
from kedro.runner import SequentialRunner

class Prepared(SequentialRunner):
    def run(self, *arguments, **options):
        print(*sys.modules)
        return {}

configure_project("sentio_kedro")
with KedroSession.create(project_path=sys.argv[1], env=sys.argv[2]) as session:
    session.run(pipeline_names=sys.argv[3:], runner=Prepared())
"""
IMPORT = """
import sys
import sentio_kedro.datasets, sentio_kedro.settings
from sentio_kedro.pipeline_registry import register_pipelines

register_pipelines()[sys.argv[1]]
print(*sys.modules)
"""


def imported(code: str, *arguments: str) -> set[str]:
    """Modules that a process of its own has imported."""
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own command
    return set(output.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("pipelines", "absent"),
    [
        (("ingestion",), (*LEARNING, "sentio_kedro.agent.spans", *SLOW)),
        (("ingestion", "features", "cross_validation", "regimes"), ("torch", *SLOW)),
    ],
)
def test_a_run_is_checked_without_what_only_later_pipelines_compute_with(project, pipelines, absent):
    assert not imported(RUN, str(project.path), project.env, *pipelines).intersection(absent)


@pytest.mark.parametrize(
    ("pipeline", "absent"),
    [("promotion", SLOW), ("__default__", SLOW)],
)
def test_a_pipeline_is_made_without_what_it_does_not_need_yet(pipeline, absent):
    assert not imported(IMPORT, pipeline).intersection(absent)
