"""Give the parts `corpus` (of a dry run) and `ranks` the small models and records of the tests."""

from __future__ import annotations

import sys

from gpu_hour.processes import ROOT

sys.path.append(str(ROOT / "tests" / "support"))

from support import tiny_model, tiny_records, write_records

__all__ = ["tiny_model", "tiny_records", "write_records"]
