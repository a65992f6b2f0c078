"""Finding the passage a question is about: BM25, for the RAG rows of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s

from pdtrain.records import Passage


class BM25:
    """Okapi BM25 over titles and texts of passages (bm25s, Lucene's variant, its defaults)."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        self.index = bm25s.BM25()
        texts = _tokens([f"{p.title}\n{p.text}" for p in passages])
        if not any(texts):
            raise ValueError(
                "no passage holds a word that BM25 could find it by; is corpus.documents the "
                "right folder?"
            )
        self.index.index(texts, show_progress=False)

    def __call__(self, question: str, k: int) -> list[Passage]:
        """The k best passages, best first; fewer when there are fewer."""
        tokens = _tokens([question])
        found, _ = self.index.retrieve(
            tokens, k=min(k, len(self.passages)), show_progress=False, n_threads=1
        )
        return [self.passages[i] for i in found[0]]


def _tokens(texts: list[str]) -> list[list[str]]:
    return bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
