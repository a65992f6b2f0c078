"""Compute the top-k KL of a teacher and a student that share one frozen output head."""

from pdkernels.loss_module import TopKKLLoss
from pdkernels.metrics import TopKMetrics
from pdkernels.operations import teacher_topk, topk_kl, topk_kl_and_metrics
from pdkernels.row_filter import RowFilterReport, report_row_filter
from pdkernels.sharded.vocab_shard import VocabShard
from pdkernels.topk import TopK

__version__ = "0.1.0"

__all__ = [
    "RowFilterReport",
    "TopK",
    "TopKKLLoss",
    "TopKMetrics",
    "VocabShard",
    "report_row_filter",
    "teacher_topk",
    "topk_kl",
    "topk_kl_and_metrics",
]
