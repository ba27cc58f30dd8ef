"""Refusals before a run: each says what, bound and remedy, and leaves the project as it was, byte for byte."""

import pytest
from tests.conftest import snapshot

GLOBALS = "conf/tiny/globals.yml"


def refusal(project, *pipelines, **params):
    """Return the text of the refusal of a run, which must change nothing."""
    before = snapshot(project.path)
    with pytest.raises(ValueError, match=r".") as refused:
        project.run(*pipelines, params=params)
    assert snapshot(project.path) == before
    return str(refused.value)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"trainnig": {"total_steps": 5}}, "`trainnig` is no section of the parameters; did you mean `training`?"),
        ({"artifacts": "data/other"}, "`artifacts` is no section of the parameters; known are "),
        ({"training": {"total_stepss": 5}}, "`training.total_stepss` is no parameter; did you mean `training.total_s"),
        ({"training": {"max_kl": 1}}, "`training.max_kl` is no parameter; did you mean `training.divergence.max_kl`?"),
        ({"signals": {"folds": 1}}, "`signals.folds` is no parameter; did you mean `signals.fold`?"),
        ({"training": {"seeds": 0}}, "`training.seeds` should be greater than or equal to 1, was 0; change it."),
    ],
)
def test_misspelt_parameters_are_refused_with_the_nearest_name(project, params, text):
    assert refusal(project, "ingestion", **params).startswith(text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("artifact: data/tiny\nexperiment: tiny\n", "`artifact` is no name of `conf/tiny/globals.yml`; did you mean"),
        ("experiment: tiny\n", "`conf/tiny/globals.yml` must name the folder of the environment's `artifacts`, or it"),
        ("artifacts: null\n", "`artifacts` of `conf/tiny/globals.yml` must be a text that is not empty, was None"),
        ("artifacts: 5\n", "`artifacts` of `conf/tiny/globals.yml` must be a text that is not empty, was 5"),
        ("artifacts: ' '\n", "`artifacts` of `conf/tiny/globals.yml` must be a text that is not empty, was ' '"),
        ("artifacts: data/01_raw\n", "`artifacts` of `conf/tiny/globals.yml` must lie outside the raw data in"),
        ("artifacts: data/x/../01_raw/mine\n", "`artifacts` of `conf/tiny/globals.yml` must lie outside the raw data"),
        ("artifacts: a\ntrials: data/01_raw\n", "`trials` of `conf/tiny/globals.yml` must lie outside the raw data"),
        ("artifacts: conf/base/catalog.yml/x\n", "`artifacts` of `conf/tiny/globals.yml` must be a folder, but `"),
    ],
)
def test_wrong_names_of_an_environment_are_refused(project, content, text):
    (project.path / GLOBALS).write_text(content)
    assert refusal(project, "ingestion").startswith(text)


def test_a_name_that_a_file_of_the_environment_refers_to_may_be_set(project):
    (project.path / GLOBALS).write_text("artifacts: data/tiny\nexperiment: tiny\nfeed: data/01_raw/bars.parquet\n")
    catalog = project.path / "conf/tiny/catalog.yml"
    catalog.write_text(catalog.read_text().replace("data/01_raw/bars.parquet", "${globals:feed}"))
    project.run("ingestion")
    assert project.artifact("02_intermediate/aligned_bars.parquet").exists()
