"""Tell whether an answer says that the question cannot be answered, in many languages.

It goes by phrases, such as "does not say" and "no information". A phrase of one language is looked
for in answers of all, since few look like something else in another.
"""

# ruff: noqa: RUF001 - letters that look alike are what this is about
from __future__ import annotations

import re

from pdtrain.documents.words import plain

NOT = (
    r"(?:(?:do|does|did|is|are|was|were|has|have|had|can|could|would)\s+not|cannot|never"
    r"|(?:do|does|did|is|are|was|were|has|have|had|ca|could|would|wo)n't)"
)
SAY = (
    r"(?:say|said|state|stated|mention|mentioned|specify|specified|know|known|tell|told|answer|"
    r"answered|determine|determined|confirm|clear)"
)
# what a person does not do as well, so that what follows, or who does not, must be a source
GIVE = r"(?:provide|provided|give|given|contain|include|included|find|found|available)"
SOURCE = (
    r"(?:texts?|passages?|documents?|documentation|contexts?|articles?|excerpts?|paragraphs?|"
    r"sentences?|sources?|notes?|story)"
)
KNOWLEDGE = r"(?:information|details?|data|context|knowledge|mention|reference|answers?|idea)"
FEW = r"(?:\s+(?!only\b)\w+)"
ENGLISH = re.compile(
    rf"\b{NOT}\b{FEW}{{0,2}}\s+{SAY}\b"
    rf"|\bnot\s+(?:(?!only\b)\w+\s+)?{SAY}\b"
    rf"|\b{SOURCE}\s+{NOT}\b{FEW}{{0,2}}\s+{GIVE}\b"
    rf"|\b(?:{NOT}|not)\b{FEW}{{0,2}}\s+{GIVE}\s+(?:(?:anywhere|here)\s+)?"
    rf"(?:in|by|within|from)\s+(?:\w+\s+){{1,2}}?{SOURCE}\b"
    rf"|\b(?:is|are|can|could)\s*(?:not|n't)\b{FEW}?\s+{GIVE}(?=\s*(?:[.,;:!?]|$))"
    rf"|\bcan't\s+be\s+found(?=\s*(?:[.,;:!?]|$))|^\W*not\s+{GIVE}\b"
    rf"|(?:\bnot|n't|\bnever)\s+(?:(?:have|had|hold|enough|sufficient|any|much|more|specific|{GIVE})\s+)"
    rf"{{1,3}}(?:\w+\s+)?{KNOWLEDGE}\b"
    r"|\bno\s+(?:(?!one\b)\w+\s+)?(?:information|mention|answer|details?)\b"
    rf"|\b(?:{SOURCE}\s+\w+|there\s+(?:is|are))\s+no\s+(?:reference|indication|data)\b"
    r"|^\W*no\s+(?:reference|indication|data|idea)\b|\bi\s+have\s+no\s+idea\b"
    rf"|\b{SOURCE}\s+lacks?\b|\binsufficient\s+(?:information|details?|data)\b"
    rf"|(?:^\W*|\bi(?:'m|\s+am)\s+|\b{SOURCE}\s+\w+\s+)unable\s+to\b"
    r"|(?:\bi(?:'m|\s+am)|^\W*)\s*not\s+(?:\w+\s+)?(?:sure|aware|certain|familiar)\b"
    # but not "an unknown baker", whom the answer tells of
    r"|(?<!\ban )(?<!\bthe )(?<!\bsome )\bunknown\b|\bunknown(?=\s*(?:[.,;!?]|$))"
    r"|\b(?:unclear|unanswerable|unspecified)\b"
    r"|\bnothing\s+(?:is\s+said\s+)?about\b"
    rf"|\b(?:nothing|none|neither|no\s+\w+)\s+(?:(?:in|of)\s+(?:\w+\s+)?)?{SOURCE}\s+(?:{SAY}|says?|mentions?"
    r"|states?|specifies|tells?)\b"
    rf"|\b(?:neither|no)\s+{SOURCE}\s+(?:says?|mentions?|states?|tells?)\b"
    rf"|(?:\bnot\s+(?:be\s+found|stated|answered)|\banswer\s+is\s+not)\s+in\s+(?:the|these|any|this)\s+{SOURCE}\b"
    rf"|(?:\bnot|n't)\s+covered\s+(?:in|by)\s+(?:the|these|any|this)\s+{SOURCE}\b"
    r"|\bi\s+(?:(?:did|do|could|can)(?:\s+not|n't)|cannot|can't)\s+find\s+(?:that|this|it|the\s+answer)\b"
    rf"|\b{SOURCE}\s+(?:is|are)\s+silent\s+(?:on|about)\b|(?:\bimpossible|\bnot\s+possible|n't\s+possible)\s+to\s+"
    r"(?:tell|say|determine|know|answer)\b(?!\s+(?:no|yes)\b)|^\W*n/a\W*$|^\W*not\s+applicable\W*$"
)
# as `plain` writes them: in lower case, Greek without accents, Arabic without vowel signs
OTHERS = {
    "de": r"\b(?:nicht|keine?)\s+(?:\w+\s+){0,3}?(?:erwähnt|genannt|angegeben|gesagt|bekannt"
    r"|beantworte\w*|informationen|angaben?|hervor)\b|\b(?:erwähn(?:t|en)"
    r"|nenn(?:t|en)|sag(?:t|en)|enthält|enthalten)\b(?:\s+\w+){0,3}\s+(?:nicht|nichts|keine?)\b(?!\s+viel\b)"
    r"|\bsteht\s+nicht\s+(?:im|in\s+de[mnr])\s+(?:text|dokument|unterlagen|quelle)\w*"
    r"|\bweiss\s+(?:es\s+|das\s+|ich\s+)*nicht\b|\bunbekannt\b"
    r"|\b(?:steht|stehen|ist)\s+(?:\w+\s+)?nichts\s+(?:(?:im|in\s+de[mnr])\s+(?:text|dokument|unterlagen|quelle)\w*|bekannt\b)"
    r"|\b(?:im\s+text|in\s+den\s+dokumenten)\s+steht\s+(?:\w+\s+)?nichts\b",
    "nl": r"\b(?:niet|geen)\s+(?:\w+\s+){0,2}?(?:vermeld|genoemd|gezegd|bekend|informatie"
    r"|gegeven|aangegeven)\b|\b(?:zegt|zeggen|vermeldt|vermelden|noemt|noemen)\b"
    r"(?:\s+\w+){0,3}\s+(?:niet|niets|geen)\b|\bweet\s+(?:het\s+|dat\s+)?niet\b|\bonbekend\b"
    r"|\bstaat\s+(?:er\s+)?niet\s+in\s+(?:de|het)\s+(?:tekst|document|artikel)\w*"
    r"|\bniets\s+over\s+(?:gezegd|vermeld)\b",
    "sv": r"\b(?:inte|ingen)\s+(?:\w+\s+)?(?:nämn\w*|ange\w*|känt|framgår|information|sägs)\b"
    r"|\b(?:nämn\w*|framgår|säg(?:s|er)|anger?s?|vet)\s+(?:det\s+|detta\s+)?(?:inte|inget|ej)\b"
    r"|\bstår\s+inte\s+i\s+(?:texten|dokument\w*)|\bokänt\b",
    "fr": r"\b(?:ne|n')\s*(?:\w+\s+){0,2}?(?:mentionn|précis|indiqu|sai[st]\b|savent"
    r"|di(?:t|s|sent)\b|donn)\w*(?:\s+\w+)?\s+(?:pas|rien)\b|\b(?:n'est|n'a"
    r"|ne sont)\s+pas\s+(?:\w+\s+)?(?:mentionn|précis|indiqu|connu|donn)\w*|\b(?:aucune"
    r"|pas d')\s*(?:information|mention|indication)s?\b|\binconnue?s?\b"
    r"|\b(?:n'en|ne\s+le)\s+parlent?\s+pas\b|^\W*je\s+l'ignore\b",
    "es": r"\bno\s+(?:se\s+)?(?:\w+\s+)?(?:menciona\w*|dicen?|indica(?:n|d[oa]s?|ba)?"
    r"|especifica\w*|sé|saben?|conocen?|proporciona\w*)\b|\b(?:ninguna|sin)\s+(?:información"
    r"|mención)\b"
    r"|\bno\s+hay\s+información\b|\bdesconoce|\bdesconocid[oa]s?\b"
    r"|\bno\s+(?:aparece|consta|figura)\s+en\s+(?:el|los|la)\s+(?:texto|documento|pasaje)s?\b"
    r"|\bno\s+teng\w+\s+(?:esa\s+)?información\b",
    "pt": r"\bnão\s+(?:se\s+|é\s+|foi\s+)?(?:menciona\w*|diz|dizem|dito|indica\w*|especifica\w*"
    r"|sei|sabem?|informa\w*|conhecid\w*)\b|\bnão\s+há\s+(?:informaç\w+|menção)\b"
    r"|\bdesconhecid[oa]s?\b"
    r"|\bnão\s+(?:está\s+(?:indicad|mencionad|especificad)[oa]|consta(?:m)?\s+n)|\bnão\s+tenho\s+(?:\w+\s+)?informaç",
    "it": r"\bnon\s+(?:si\s+|lo\s+|è\s+|viene\s+)?(?:menziona\w*|dice|dicono|detto|indica\w*"
    r"|specifica\w*|precisa\w*|s[ao]|sanno|not[oa]|conosc\w*)\b|\b(?:nessuna"
    r"|non\s+ci\s+sono)\s+informazion[ei]\b|\bsconosciut[oa]\b"
    r"|\bnon\s+se\s+ne\s+parla\b",
    "pl": r"\bnie\s+(?:\w+\s+)?(?:wspomn\w*|wspomina\w*|poda\w*|wiadomo|wiem|określ\w*"
    r"|mówią?|zawiera)\b|\b(?:brak|nie\s+ma)\s+informacji\b"
    r"|\bnie\s+ma\s+o\s+tym\s+mowy\b|\bnie\s+jest\s+to\s+podane\b",
    "ru": r"\bне\s+(?:\w+\s+)?(?:указан\w*|упомина\w*|упомянут\w*|говорится|сказано|известн\w*"
    r"|сообща(?:ется|ют)|говор(?:ит|ят)\s+об?|указыва\w*|знаю|содержит)\b"
    r"|\bнет\s+(?:\w+\s+)?(?:информации|сведений|данных)\b"
    r"|\b(?:документ|текст)\w*\s+об\s+этом\s+не\s+(?:говор|сообща|упомина)\w+"
    r"|\bнеизвестн\w*",
    "el": r"\bδεν\s+(?:\w+\s+)?(?:αναφερ\w*|λε(?:ει|νε|γεται|γονται)|γνωρι\w*|υπαρχ\w*"
    r"|δινετ\w*)\b|\bδεν\s+(?:το\s+)?ξερω\b|\bαγνωστ\w*",
    # "-mektedir" and "-miştir" say that something is so; "-memektedir" and "-memiştir" deny it
    "tr": r"\b(?:belirt(?:il)?|bahse(?:t|dil)|söylen?|veril|bilin?|yer al)"
    r"(?:m[ea](?:m|di|z|yen|yan)|miyor)\w*|\bbilgi\s+(?:yok|bulunm\w*)"
    r"|^\W*bilmiyorum\b",
    "ar": r"\b(?:لا|لم|ليس|لن)\s+(?:\w+\s+)?(?:\w*(?:ذكر|يحدد|تحدد|نعرف|اعرف|يعرف|معروف|يقول|يرد"
    r"|تقول|توجد معلومات|يوجد))\b|^\W*(?:انا\s+)?لا\s+اعلم\b|\bلا\s+تتوفر\s+\w*معلومات"
    r"|\bغير\s+(?:معروف|مذكور|محدد|معلوم)\w*",
    "he": r"\b(?:לא|אינ\w+)\s+(?:\w+\s+)?(?:מצוינ\w*|צוינ\w*|נאמר\w*|ידוע\w*|מוזכר\w*|הוזכר\w*"
    r"|מצוין|צוין|מציין|מציינ\w*|אומר\w*|נמסר)\b|\bאין\s+(?:\w+\s+){0,2}?מידע|^\W*(?:אני\s+)?לא\s+יודע",
    "hi": r"(?:उल्लेख|जानकारी|बताया|पता|ज्ञात|दिया)\s*(?:\S+\s+){0,2}?(?:नहीं|नही)|अज्ञात"
    r"|नहीं\s+(?:बताया|बताई|बताते|बताता|कहा|पता|मालूम)|में\s+(?:यह|इसे)\s+नहीं\s+दिया\s+गया",
    "th": r"ไม่(?:ได้)?(?:มีข้อมูล|กล่าวถึง|กล่าว|ระบุ|บอก|ทราบ|รู้|พูดถึง|มีการกล่าว|ปรากฏ|พบข้อมูล)",
    "vi": r"\bkhông\s+(?:được\s+|có\s+|hề\s+|thấy\s+)?(?:nói|nhắc|đề cập|nêu|cho biết|biết|rõ"
    r"|thông tin|ghi|cung cấp thông tin)\b",
    "id": r"\btidak\s+(?:\w+\s+)?(?:disebut\w*|menyebut\w*|(?:mengata|dikata|menyata"
    r"|dinyata)kan(?:nya)?|dijelaskan|(?:dike)?tahui?|ada\s+informasi"
    r"|memberi\w*)\b",
    "zh": r"(?:没有|沒有|未(?![来來])|没|沒)\w{0,3}?(?:提到|提及|说明|說明|指出|给出|給出"
    r"|提供|记载|記載|透露|写明|寫明|相关信息|信息|資訊)"
    r"|(?:无法|無法|不能)\w{0,3}(?:确定|確定|得知|回答|判断|判斷|知道)"
    r"|不得而知|不清楚|不知道|未知|不详|不詳"
    r"|(?:没|沒|没有|沒有|未)[说說](?![服谎謊话話])|(?:文件|文中|文章|資料|资料)\w{0,2}(?:没有|沒有|没|沒|未)[写寫]",
    "ja": r"(?:記載|記述|言及|説明|情報|明記|記録)(?:(?!少)\w){0,6}?"
    r"(?:ません|ない|なく|なし|おらず)"
    r"|(?:書かれて|述べられて|触れられて|示されて|知られて)\w{0,2}?(?:ません|ない|らず)"
    r"|(?:わか|分か)(?:りません|らない)"
    r"|知りません|知らない(?!\w)|不明",
    "ko": r"(?:언급|명시|기재|나와|나타나|설명|제시|알려|말)\w{0,3}\s*(?:있지|되지|하지|지)?\s*않"
    r"|(?:정보|언급|내용)\w?\s*없|알\s*수\s*없|확인할\s*수\s*없|모릅니다|모르겠|모른다|불명",
}
OTHER = re.compile("|".join(f"(?:{pattern})" for pattern in OTHERS.values()))


def declines(answer: str) -> bool:
    """Return True where an answer says that the question cannot be answered."""
    said = " ".join(answer.split())  # long gaps would take their square in time
    if ENGLISH.search(said.lower().replace("\u2019", "'")):
        return True
    return OTHER.search(plain(said)) is not None
