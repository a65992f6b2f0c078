"""Tell the language of a text."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SAMPLE = 2000  # characters that the language is told from


def detect_language(text: str, least_probability: float = 0.9) -> str:
    """Return the code of a text's language by ISO 639-1, or nothing where it cannot be told.

    Args:
        text: any text; its beginning is looked at.
        least_probability: a language that is less probable is no answer.
    """
    sample = text[:SAMPLE]
    if not any(character.isalpha() for character in sample):
        return ""
    code, probability = _identifier().classify(sample)
    return str(code) if probability >= least_probability else ""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
