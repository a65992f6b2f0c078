"""Compute the top-k KL of a teacher and a student that share one frozen output head."""

from pdkernels.row_filter import RowFilterReport, report_row_filter
from pdkernels.topk import TopK
from pdkernels.topk_kl import teacher_topk, topk_kl
from pdkernels.vocab_shard import VocabShard

__all__ = [
    "RowFilterReport",
    "TopK",
    "VocabShard",
    "report_row_filter",
    "teacher_topk",
    "topk_kl",
]
