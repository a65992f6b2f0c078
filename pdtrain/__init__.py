"""pdtrain: move the knowledge of a document collection into a LoRA adapter.

Prompt distillation (Kujanpää, Marttinen, Valpola, Ilin, arXiv 2412.14964): the frozen base that
reads a passage teaches the same base plus an adapter that does not. Every stage is
`pdtrain.<module>.<function>(config)`; `pdtrain.cli.STAGES` lists them in order.
"""

__version__ = "0.1.0"
