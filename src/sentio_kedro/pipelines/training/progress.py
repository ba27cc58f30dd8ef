"""Progress of a training: a bar per fold on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sentio_kedro.agent.training.member import MemberKey

LINES_PER_FOLD = 4

logger = logging.getLogger(__name__)


class TrainingProgress:
    """Shows steps per second, reward, entropy, KL and time left of every fold."""

    def __init__(self, folds: int, updates: int, console: Console | None = None) -> None:
        """Expect ``folds`` folds of ``updates`` updates each, all seeds and members counted."""
        self.folds, self.updates = folds, updates
        self.console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
        )
        self.display = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.tasks: dict[int, TaskID] = {}
        self.done: dict[MemberKey, int] = {}
        self.began = 0.0
        self.stopped = False

    def __enter__(self) -> TrainingProgress:
        """Start the display."""
        self.began = time.monotonic()
        self.display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the display."""
        self.display.stop()

    def update(self, key: MemberKey, update: int, updates: int, metrics: Mapping[str, float]) -> None:
        """Show one finished update.

        Raises:
            InterruptedError: After ``stop``.
        """
        if self.stopped:
            raise InterruptedError(f"Training of {key} stopped: another agent's failed. Its last checkpoint is kept.")
        status = (
            f"{metrics['steps_per_second']:>9,.0f} steps/s  reward {metrics['reward']:+.4f}  "
            f"entropy {metrics['entropy']:.3f}  KL {metrics['kl']:.4f}"
        )
        if key.fold not in self.tasks:
            self.tasks[key.fold] = self.display.add_task(f"fold {key.fold}", total=self.updates, status="")
        self.done[key] = update
        finished = sum(count for done, count in self.done.items() if done.fold == key.fold)
        self.display.update(self.tasks[key.fold], completed=finished, status=status)
        if not self.console.is_terminal and finished % max(1, self.updates // LINES_PER_FOLD) == 0:
            logger.info("fold %d: update %d of %d, %s, %s left", key.fold, finished, self.updates, status, self._left())

    def stop(self) -> None:
        """Stop every member at its next update."""
        self.stopped = True

    def _left(self) -> str:
        done = sum(self.done.values())
        seconds = (time.monotonic() - self.began) / done * (self.folds * self.updates - done)
        return f"{seconds:.0f} s"
