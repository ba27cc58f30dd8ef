"""Misspelt sections, keys and names, and folders that runs must not write into."""

import pytest
from tests.conftest import ROOT

from sentio_kedro.preflight.settings import KINDS, global_problems, own_names, referred_globals, section_problems

FEATURES = {"features": {"columns": [{"name": "return_1", "indicator": "log_return"}]}}


def no_more():
    return ()


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"trainnig": {}}, "`trainnig` is no section of the parameters; did you mean `training`?"),
        ({"training": {"total_stepss": 5}}, "`training.total_stepss` is no parameter; did you mean `training.total_st"),
        ({"training": {"max_kl": 1}}, "`training.max_kl` is no parameter; did you mean `training.divergence.max_kl`?"),
        ({"training": {"tail": {"alfa": 1}}}, "`training.tail.alfa` is no parameter; did you mean `training.tail.alph"),
        ({"signals": {"folds": 1}}, "`signals.folds` is no parameter; did you mean `signals.fold`?"),
        (
            {"features": {"columns": [{"nam": "r", "name": "r", "indicator": "log_return"}]}},
            "`features.columns.0.nam` is no parameter; did you mean `features.columns.name`?",
        ),
        ({"training": {"seeds": 0}}, "`training.seeds` should be greater than or equal to 1, was 0; change it."),
        ({"training": {"seeds": 10**6}}, "`training.seeds` should be less than or equal to 10000, was 1000000; change"),
        ({"reporting": {"bootstrap_samples": 10**9}}, "`reporting.bootstrap_samples` should be less than or equal to"),
        ({"trading": {"drawdown_sessions": 10**9}}, "`trading.drawdown_sessions` should be less than or equal to"),
        ({"cross_validation": {"folds": 10**9}}, "`cross_validation` must make at most 2,000 folds, each of which is"),
        (
            {"cross_validation": {"scheme": "combinatorial", "groups": 10**9, "test_groups": 10**8}},
            "`cross_validation` must make at most 2,000 folds, each of which is trained on its own, had `groups` = 100",
        ),
        ({"training": {"learning_rate": float("inf")}}, "`training.learning_rate` should be a finite number, was inf;"),
        (
            {"signals": {"fold": "x"}},
            "`signals.fold` should be a valid integer, unable to parse string as an integer, w",
        ),
        ({"features": {}}, "`features.columns` is missing; give it a value."),
        ({"training": None}, "`training` should be a dictionary or an instance of TrainingParameters, was None; chan"),
    ],
)
def test_one_problem_is_told_with_its_remedy(sections, problem):
    (found,) = section_problems(sections, no_more)
    assert found.startswith(problem)


def test_a_section_that_a_pipeline_of_the_users_reads_is_accepted():
    assert section_problems({**FEATURES, "mine": {"anything": 1}}, lambda: {"mine"}) == []
    assert section_problems({"mime": {}}, lambda: {"mine"}) == [
        "`mime` is no section of the parameters; did you mean `mine`?"
    ]


def test_pipelines_are_not_loaded_where_all_sections_are_known():
    def never():
        raise AssertionError

    assert section_problems({name: {} for name in KINDS if name not in ("features", "comparison")}, never) == []


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ({"artifact": "x", "artifacts": "x"}, "`artifact` is no name of `conf/mine/globals.yml`; did you mean `artifa"),
        ({}, "`conf/mine/globals.yml` must name the folder of the environment's `artifacts`, or it would write over"),
        ({"artifacts": None}, "`artifacts` of `conf/mine/globals.yml` must be a text that is not empty, was None; na"),
        ({"artifacts": 5}, "`artifacts` of `conf/mine/globals.yml` must be a text that is not empty, was 5; name one."),
        ({"artifacts": " "}, "`artifacts` of `conf/mine/globals.yml` must be a text that is not empty, was ' '; name"),
        *(
            ({"artifacts": "x", name: value}, f"`{name}` of `conf/mine/globals.yml` must lie outside `data/01_raw`, ")
            for name in ("artifacts", "trials", "registry")
            for value in (".", "..", "data/..", "data/01_raw", "data/x/../01_raw/x", "conf", "conf/mine/x", "src/x")
        ),
        *(
            ({"artifacts": "x", "trials": "x", name: value}, f"`{name}` of `conf/mine/globals.yml` must be the path of")
            for name in ("artifacts", "trials")
            for value in ("\0", "x" * 256, "é" * 128, " x", "~/x", "{x}", "x\ny")
        ),
        ({"artifacts": "x", "trials": "s3://x/y"}, "`trials` of `conf/mine/globals.yml` must be the path of a folder"),
        ({"artifacts": "file/x"}, "`artifacts` of `conf/mine/globals.yml` must be a folder, but `"),
        ({"artifacts": "x", "experiment": None}, "`experiment` of `conf/mine/globals.yml` must be a text that is not"),
    ],
)
def test_wrong_names_are_refused(tmp_path, own, text):
    (tmp_path / "file").touch()
    base = {"artifacts": "data", "experiment": "sentio", "trials": "data/registry", "registry": "data/registry"}
    (found,) = global_problems({**base, **own}, own, base, "mine", tmp_path)
    assert found.startswith(text)


@pytest.mark.parametrize("environment", ["base", "local"])
def test_the_shared_environments_may_leave_out_artifacts(tmp_path, environment):
    base = {"artifacts": "data", "experiment": "sentio", "trials": "data/registry", "registry": "data/registry"}
    assert global_problems(base, (), base, environment, tmp_path) == []


def test_the_shipped_environments_are_accepted():
    base = ROOT / "conf" / "base"
    assert own_names(base) == {"artifacts", "experiment", "trials", "registry", "trader"} == referred_globals(base)
    for environment in (folder for folder in (ROOT / "conf").iterdir() if folder.is_dir()):
        assert own_names(environment) <= referred_globals(base)


def test_a_symbol_that_yaml_read_as_true_is_to_be_quoted():
    (text,) = section_problems({"trading": {"masks": {"no_short": [True]}}}, set)
    assert text.endswith("was True; quote it, since YAML reads ON, NO and Y without quotes as true or false.")
