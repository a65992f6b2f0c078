"""Fused top-k KL between a teacher and a student that share one frozen output head."""

from pdkernels.topk import TopK
from pdkernels.topk_kl import teacher_topk, topk_kl
from pdkernels.topk_kl_chunked import RowFilterReport, report_row_filter

__all__ = ["RowFilterReport", "TopK", "report_row_filter", "teacher_topk", "topk_kl"]
