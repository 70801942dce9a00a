"""How far long work has come: on stderr, and only if a person is watching."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from muniment.cli.render import messages
from muniment.visible import visible


class Progress:
    """A line that counts, with a bar; nothing at all off a terminal.

    Nor is it shown while stdout goes to the same terminal, where it would be in the way, unless
    `beside_output` says that nothing is printed meanwhile.
    """

    def __init__(self, title: str, *, unit: str, beside_output: bool = False) -> None:
        shown = sys.stderr.isatty() and (beside_output or not sys.stdout.isatty())
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn(f"{{task.fields[count]:,}} {unit}"),
            TimeElapsedColumn(),
            console=messages(),
            transient=True,
            disable=not shown,
        )
        self._count = 0
        self._task = self._bars.add_task(visible(title), total=None, count=0)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def advance(self, count: int, *, done: float | None = None, total: float | None = None) -> None:
        """Count `count` more; `done` of `total` is behind us, if anybody knows the total."""
        self._count += count
        self._bars.update(self._task, completed=done, total=total, count=self._count)
