"""Count how often `row_filter` spared a row the dense part of its gradient."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from torch import Tensor


@dataclass(slots=True)
class RowFilterReport:
    """Hold what the filter did inside one `report_row_filter` block."""

    num_rows: int = 0
    skipped: list[Tensor] = field(default_factory=list)  # counts, on the rows' device

    @property
    def skipped_fraction(self) -> float:
        """Return the share of rows that were skipped, in [0, 1]; this waits for the device."""
        num_skipped = sum(int(count) for count in self.skipped)
        return num_skipped / self.num_rows if self.num_rows else 0.0


_reports: list[RowFilterReport] = []
_counting = Lock()  # blocks of rows are done by several threads


@contextmanager
def report_row_filter() -> Iterator[RowFilterReport]:
    """Count the rows that every `topk_kl` with a row_filter skips inside the block.

    A call counts in every open block, so only one thread at a time may use this.
    """
    report = RowFilterReport()
    _reports.append(report)
    try:
        yield report
    finally:
        _reports.remove(report)


def count_rows(keep_N: Tensor) -> None:
    """Tell the open reports which rows were kept."""
    skipped = (~keep_N).sum()
    with _counting:
        for report in _reports:
            report.num_rows += len(keep_N)
            report.skipped.append(skipped)
