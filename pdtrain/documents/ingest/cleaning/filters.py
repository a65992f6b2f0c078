"""Judge documents and passages by themselves: their language, their quality, personal data."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regex

from pdtrain.config import CorpusConfig
from pdtrain.documents.document import Document
from pdtrain.documents.language import detect_language
from pdtrain.errors import how_to_install

CHARACTERS_JUDGED = 2000  # of a document, to find its language
LETTERS_NEEDED = 20  # fewer say nothing about a language
SURE = 0.5  # a language that is less probable than this leaves the document in
# letters of any script may stand on both sides: many put no blank between an address and their
# words; what stands before the @ is no longer, since without a limit, a long word would be searched
# from every letter on
E_MAIL = regex.compile(
    r"[\w+-][\w.+-]{0,63}@[\w-]+(?:\.[\w-]+)*\.\p{L}[\p{L}\p{M}]+(?![A-Za-z0-9_])"
)
# the detectors of detect-secrets that look for a form, not for words or for entropy, which prose
# and hashes set off
SECRETS = (
    "ArtifactoryDetector AWSKeyDetector AzureStorageKeyDetector BasicAuthDetector "
    "CloudantDetector DiscordBotTokenDetector GitHubTokenDetector GitLabTokenDetector "
    "IbmCloudIamDetector IbmCosHmacDetector JwtTokenDetector MailchimpDetector NpmDetector "
    "OpenAIDetector PrivateKeyDetector PypiTokenDetector SendGridDetector SlackDetector "
    "SoftlayerDetector SquareOAuthDetector StripeDetector TelegramBotTokenDetector "
    "TwilioKeyDetector"
).split()


@dataclass(frozen=True)
class Judgement:
    """Say why a document is left out; an empty reason keeps it."""

    reason: str = ""
    detail: str = ""


class DocumentFilter:
    """Apply the filters of the config that look at one document or one passage alone.

    Raises:
        ValueError: a filter needs a package that is not installed.
    """

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config
        self._plugins = _secret_plugins() if config.personal_data != "keep" else []

    def judge(self, document: Document) -> Judgement:
        """Return whether a document is kept."""
        wanted = self._config.languages
        if wanted and (language := language_of(document.text)) and language not in wanted:
            return Judgement("another language", language)
        if self._config.quality and (fault := fault_of(document.text)):
            return Judgement("quality", fault)
        return Judgement()

    def personal_in(self, text: str, found: Counter[str]) -> str:
        """Count the personal data in a passage, and return its kinds if the passage is left out."""
        if self._config.personal_data == "keep":
            return ""
        here = personal_data(text, self._plugins)
        found.update(here)
        return ", ".join(sorted(here)) if self._config.personal_data == "drop" else ""


def language_of(text: str) -> str:
    """Return the ISO 639 code of a text's language; empty where that is not clear."""
    if sum(map(str.isalpha, text[:CHARACTERS_JUDGED])) < LETTERS_NEEDED:
        return ""
    return detect_language(text[:CHARACTERS_JUDGED], SURE)


def fault_of(text: str) -> str:
    """Return what makes a document hardly worth learning; empty where nothing does.

    The rules hold for every script: hardly any letters or digits, lines that mostly repeat, and
    words of hundreds of characters, as encoded files and broken extractions have them.
    """
    dense = "".join(text.split())
    if not dense:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if sum(map(str.isalnum, dense)) < 0.5 * len(dense):
        return "fewer than half of its characters are letters or digits"
    if len(lines) >= 10 and len(set(lines)) < 0.5 * len(lines):
        return "more than half of its lines repeat another one"
    ascii_words = re.findall(r"[!-~]+", text)
    if sum(len(word) for word in ascii_words if len(word) > 200) > 0.5 * len(dense):
        return "most of it is words of more than 200 characters"
    return ""


def personal_data(text: str, plugins: Sequence[Any]) -> Counter[str]:
    """Return how many e-mail addresses, telephone numbers, keys and tokens a text holds, by kind.

    Telephone numbers count where they begin with + and their country's plan allows them.
    """
    from phonenumbers import PhoneNumberMatcher

    found: Counter[str] = Counter()
    narrow = text if text.isascii() else unicodedata.normalize("NFKC", text)  # of full width too
    found["e-mail address"] = len(E_MAIL.findall(narrow))
    if "+" in narrow:
        found["telephone number"] = sum(1 for _ in PhoneNumberMatcher(narrow, None))
    found["key or token"] = len(
        {value for plugin in plugins for value in plugin.analyze_string(text)}
    )
    return +found


def _secret_plugins() -> list[Any]:
    try:
        import phonenumbers  # noqa: F401
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    except ImportError:
        raise ValueError(
            f"corpus.personal_data needs an extra: {how_to_install('filters')}"
        ) from None
    classes: Any = get_mapping_from_secret_type_to_class().values()
    return [one() for one in classes if one.__name__ in SECRETS]
