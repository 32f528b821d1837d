"""Progress bars on standard error. If it is no terminal, nothing is shown.

A bar with a known total shows the count, the rate and the remaining time. Other bars show the count and the rate.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import rich.progress

Item = TypeVar("Item")

# A terminal shows no more than this many changes in a second.
_REFRESHES = 10
# Only one bar at a time has the last line of the terminal. Inside of it, others are not shown.
_active = False


def on_terminal() -> bool:
    """Returns whether bars are shown."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def progress_bar(what: str, total: int | None = None, shown: bool | None = None) -> Iterator[Callable[[int], None]]:
    """Shows a bar inside of the context, and yields a function that adds finished items to it.

    Args:
        what: what is being done, such as "generating".
        total: the number of items, if it is known.
        shown: whether to show the bar. None shows it if standard error is a terminal.
    """
    global _active
    if _active or not (on_terminal() if shown is None else shown):
        yield lambda count: None
        return
    with terminal_bar(total is not None) as bar:
        task = bar.add_task(what, total=total, state="")
        _active = True
        try:
            yield lambda count: bar.advance(task, count)
        finally:
            _active = False


def tracked(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items, and shows a bar while they are read; see `progress_bar`."""
    if not on_terminal():
        yield from items
        return
    with progress_bar(what, total) as advance:
        yield from counted(items, advance)


def counted(items: Iterable[Item], advance: Callable[[int], None]) -> Iterator[Item]:
    """Yields the items, and adds them to the bar that `advance` is of while they are read."""
    since, shown_at = 0, time.monotonic()
    for item in items:
        yield item
        since += 1
        # A call of the bar for each line of a large file would take longer than to read the line.
        if not since % 64 and time.monotonic() - shown_at > 1 / _REFRESHES:
            advance(since)
            since, shown_at = 0, time.monotonic()
    advance(since)


def terminal_bar(known_total: bool = True, rate: bool = True, console: Any = None) -> rich.progress.Progress:
    """Returns a bar of rich. Its tasks need a field `state`, a text behind the count.

    Args:
        known_total: whether the bar shows the share that is done and the remaining time.
        rate: whether it shows the number of items in a second.
        console: what prints lines while the bar is shown; by default, a new one on standard error.
    """
    # `tfseq2seq --help` does without it.
    import rich.console
    import rich.progress
    import rich.text

    class Count(rich.progress.ProgressColumn):
        def render(self, task: Any) -> Any:
            done = f"{task.completed:,.0f}"
            return rich.text.Text(done if task.total is None else f"{done}/{task.total:,.0f}")

    class Rate(rich.progress.ProgressColumn):
        def render(self, task: Any) -> Any:
            speed = task.finished_speed or task.speed
            return rich.text.Text("" if not speed else f"{speed:,.1f}/s" if speed < 10 else f"{speed:,.0f}/s")

    columns: list[Any] = [rich.progress.TextColumn("{task.description}")]
    columns += [rich.progress.BarColumn()] if known_total else [rich.progress.SpinnerColumn()]
    columns += [Count(), rich.progress.TextColumn("{task.fields[state]}")]
    columns += [Rate()] if rate else []
    columns += [rich.progress.TimeElapsedColumn()]
    columns += [rich.progress.TimeRemainingColumn()] if known_total else []
    # Standard output has the results, which must not go to standard error.
    return rich.progress.Progress(
        *columns,
        console=console or rich.console.Console(stderr=True),
        redirect_stdout=False,
        refresh_per_second=_REFRESHES,
    )


def print_line(text: str) -> None:
    """Writes a line to standard error. Nothing in it is markup."""
    import rich.console

    rich.console.Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
