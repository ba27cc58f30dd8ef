"""Runs the project as a package: ``python -m sentio_kedro`` takes the options of ``kedro run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project

from sentio_kedro.cli import Refusal


def main(*args: Any, **kwargs: Any) -> Any:
    """Run the project from the command line or, in a notebook, as a function."""
    configure_project(Path(__file__).parent.name)
    interactive = hasattr(sys, "ps1")
    run = find_run_command(Path(__file__).parent.name)
    try:
        return run(*args, **{"standalone_mode": not interactive, **kwargs})
    except Refusal as refusal:  # as a function it raises what was raised
        raise (refusal.__cause__ or refusal) from None


if __name__ == "__main__":
    main()
