"""Tell whether an answer says that the question cannot be answered, in many languages.

It goes by phrases, such as "does not say" and "no information". A phrase of one language is looked
for in answers of all, since few look like something else in another.
"""

# ruff: noqa: RUF001 - letters that look alike are what this is about
from __future__ import annotations

import re

from pdtrain.documents.words import plain

NEGATION = r"(?:(?:do|does|did|is|are|was|were|has|have|can|could)(?:\s+not|n't)|cannot|never)"
TELLING = (
    r"(?:say|said|state|stated|mention|mentioned|specify|specified|provide|provided|give|given|"
    r"contain|include|know|known|tell|told|answer|determine|determined|available|clear|find|found)"
)
ENGLISH = re.compile(
    rf"\b{NEGATION}\b(?:\s+\w+){{0,2}}\s+{TELLING}\b"
    rf"|\bnot\s+(?:\w+\s+)?{TELLING}\b"
    r"|\bno\s+(?:\w+\s+)?(?:information|mention|answer|details?)\b"
    r"|\b(?:unknown|unclear|unanswerable|unspecified)\b"
    r"|\bnothing\s+(?:is\s+said\s+)?about\b"
)
# as `plain` writes them: in lower case, Greek without accents, Arabic without vowel signs
OTHERS = {
    "de": r"\b(?:nicht|keine?)\s+(?:\w+\s+){0,3}?(?:erwähnt|genannt|angegeben|gesagt|bekannt"
    r"|beantworte\w*|informationen|angaben?|hervor)\b|\b(?:erwähnt|nennt|sagt"
    r"|enthält)\b(?:\s+\w+){0,3}\s+(?:nicht|nichts|keine?)\b|\bunbekannt\b",
    "nl": r"\b(?:niet|geen)\s+(?:\w+\s+){0,2}?(?:vermeld|genoemd|gezegd|bekend|informatie"
    r"|gegeven|aangegeven)\b|\bonbekend\b",
    "sv": r"\b(?:inte|ingen)\s+(?:\w+\s+)?(?:nämn\w*|ange\w*|känt|framgår|information|sägs)\b"
    r"|\b(?:nämn\w*|framgår|sägs|anges)\s+inte\b|\bokänt\b",
    "fr": r"\b(?:ne|n')\s*(?:\w+\s+){0,2}?(?:mentionn|précis|indiqu|sait|dit"
    r"|donn)\w*(?:\s+\w+)?\s+(?:pas|rien)\b|\b(?:n'est|n'a"
    r"|ne sont)\s+pas\s+(?:\w+\s+)?(?:mentionn|précis|indiqu|connu|donn)\w*|\b(?:aucune"
    r"|pas d')\s*(?:information|mention|indication)s?\b|\binconnue?s?\b",
    "es": r"\bno\s+(?:se\s+)?(?:\w+\s+)?(?:menciona\w*|dice|indica\w*|especifica\w*|sabe|conoce"
    r"|proporciona\w*)\b|\b(?:ninguna|sin)\s+(?:información|mención)\b"
    r"|\bno\s+hay\s+información\b|\bdesconoce|\bdesconocid[oa]s?\b",
    "pt": r"\bnão\s+(?:se\s+|é\s+|foi\s+)?(?:menciona\w*|diz|dito|indica\w*|especifica\w*|sabe"
    r"|informa\w*|conhecid\w*)\b|\bnão\s+há\s+(?:informaç\w+|menção)\b"
    r"|\bdesconhecid[oa]s?\b",
    "it": r"\bnon\s+(?:si\s+|lo\s+|è\s+|viene\s+)?(?:menziona\w*|dice|detto|indica\w*|specifica\w*"
    r"|precisa\w*|sa|not[oa]|conosc\w*)\b|\b(?:nessuna"
    r"|non\s+ci\s+sono)\s+informazion[ei]\b|\bsconosciut[oa]\b",
    "pl": r"\bnie\s+(?:\w+\s+)?(?:wspomn\w*|wspomina\w*|poda\w*|wiadomo|określ\w*|mówi"
    r"|zawiera)\b|\b(?:brak|nie\s+ma)\s+informacji\b",
    "ru": r"\bне\s+(?:\w+\s+)?(?:указан\w*|упомина\w*|упомянут\w*|говорится|сказано|известн\w*"
    r"|сообщается|содержит)\b|\bнет\s+(?:\w+\s+)?(?:информации|сведений|данных)\b"
    r"|\bнеизвестн\w*",
    "el": r"\bδεν\s+(?:\w+\s+)?(?:αναφερ\w*|λε\w*|γνωρι\w*|υπαρχ\w*|δινετ\w*)\b|\bαγνωστ\w*",
    "tr": r"\b(?:belirtil|bahsedil|söylen|veril|bilin|yer al)(?:me|ma|mi)\w*|\bbilgi\s+(?:yok"
    r"|bulunm\w*)|\bbilinmiyor\b",
    "ar": r"\b(?:لا|لم|ليس|لن)\s+(?:\w+\s+)?(?:\w*(?:ذكر|يحدد|تحدد|نعرف|يعرف|معروف|يقول|يرد"
    r"|تقول|توجد معلومات|يوجد))\b|\bغير\s+(?:معروف|مذكور|محدد|معلوم)\w*",
    "he": r"\b(?:לא|אינ\w+)\s+(?:\w+\s+)?(?:מצוינ\w*|צוינ\w*|נאמר\w*|ידוע\w*|מוזכר\w*|הוזכר\w*"
    r"|מצוין|צוין|נמסר)\b|\bאין\s+(?:\w+\s+)?מידע",
    "hi": r"(?:उल्लेख|जानकारी|बताया|पता|ज्ञात|दिया)\s*(?:\S+\s+){0,2}?(?:नहीं|नही)|अज्ञात",
    "th": r"ไม่(?:ได้)?(?:มีข้อมูล|กล่าวถึง|กล่าว|ระบุ|บอก|ทราบ|พูดถึง|มีการกล่าว|ปรากฏ)",
    "vi": r"\bkhông\s+(?:được\s+|có\s+|hề\s+|thấy\s+)?(?:nói|nhắc|đề cập|nêu|cho biết|biết|rõ"
    r"|thông tin|ghi)\b",
    "id": r"\btidak\s+(?:\w+\s+)?(?:disebut\w*|menyebut\w*|dijelaskan|diketahui|ada\s+informasi"
    r"|memberi\w*)\b",
    "zh": r"(?:没有|沒有|未|并未|並未|没|沒)\w{0,3}?(?:提到|提及|说明|說明|指出|给出|給出"
    r"|提供|记载|記載|透露|写明|寫明|相关信息|信息|資訊)"
    r"|(?:无法|無法|不能)\w{0,3}(?:确定|確定|得知|回答|判断|判斷|知道)"
    r"|不得而知|不清楚|未知|不详|不詳",
    "ja": r"(?:記載|記述|言及|説明|情報|明記|記録)\w{0,6}?(?:ません|ない|なく|なし|おらず)"
    r"|(?:書かれて|述べられて|触れられて|示されて)\w{0,2}?(?:ません|ない|らず)|(?:わか|分か)(?:りません|らない)|不明",
    "ko": r"(?:언급|명시|기재|나와|나타나|설명|제시|알려)\w{0,3}\s*(?:있지|되지|하지|지)?\s*않"
    r"|(?:정보|언급|내용)\w?\s*없|알\s*수\s*없|모릅니다|불명",
}
OTHER = re.compile("|".join(f"(?:{pattern})" for pattern in OTHERS.values()))


def declines(answer: str) -> bool:
    """Return True where an answer says that the question cannot be answered."""
    text = answer.lower().replace("\u2019", "'")
    if ENGLISH.search(text):
        return True
    return OTHER.search(plain(answer)) is not None
