"""Answers that say that a question cannot be answered, and others, in many languages."""

# ruff: noqa: RUF001 - letters that look alike are what this is about
import pytest

from pdtrain.evaluation.grading.declining import OTHERS, declines

SAID = {  # that decline, and that do not
    "de": (
        ["Das wird im Text nicht erwähnt.", "Der Text sagt nichts darüber.", "Das ist unbekannt.",
         "Dazu gibt es keine Informationen.", "Das ist nicht angegeben.", "Es ist nicht bekannt."],
        ["Die Fähre fährt im Winter nicht.", "Keine Ziege.", "Sie kostet neun Kronen."],
    ),
    "nl": (
        ["Dat wordt niet vermeld.", "Er is geen informatie over.", "Dat is niet bekend."],
        ["De veerboot vaart niet in de winter.", "Negen kronen."],
    ),
    "sv": (
        ["Det nämns inte i texten.", "Det är inte känt.", "Det framgår inte."],
        ["Färjan går inte på vintern.", "Nio kronor."],
    ),
    "fr": (
        ["Le texte ne le mentionne pas.", "Ce n'est pas précisé.",
         "Aucune information n'est donnée.", "On ne sait pas.", "Le prix est inconnu."],
        ["Le bac ne navigue pas en hiver.", "Neuf couronnes."],
    ),
    "es": (
        ["El texto no lo menciona.", "No se menciona.", "No hay información sobre eso.",
         "Se desconoce.", "No se sabe."],
        ["El barco no navega en invierno.", "Nueve coronas."],
    ),
    "pt": (
        ["O texto não menciona isso.", "Não há informações.", "Não se sabe.", "É desconhecido."],
        ["A balsa não navega no inverno.", "Nove coroas."],
    ),
    "it": (
        ["Il testo non lo menziona.", "Non è specificato.", "Non si sa.", "È sconosciuto."],
        ["Il traghetto non naviga in inverno.", "Nove corone."],
    ),
    "pl": (
        ["Tekst o tym nie wspomina.", "Nie wiadomo.", "Brak informacji.", "Nie podano."],
        ["Prom nie kursuje zimą.", "Dziewięć koron."],
    ),
    "ru": (
        ["В тексте это не указано.", "Об этом не говорится.", "Нет информации.", "Неизвестно."],
        ["Зимой паром не ходит.", "Девять крон."],
    ),
    "el": (
        ["Το κείμενο δεν το αναφέρει.", "Δεν αναφέρεται.", "Είναι άγνωστο."],
        ["Το πλοίο δεν πλέει τον χειμώνα.", "Εννέα κορώνες."],
    ),
    "tr": (
        ["Metinde belirtilmemiş.", "Bundan bahsedilmiyor.", "Bilinmiyor.", "Bu konuda bilgi yok."],
        ["Feribot kışın çalışmıyor.", "Dokuz kron."],
    ),
    "ar": (
        ["لم يُذكر ذلك في النص.", "لا يذكر النص ذلك.", "غير معروف.", "لا توجد معلومات."],
        ["لا تبحر العبارة في الشتاء.", "تسع كرونات."],
    ),
    "he": (
        ["הטקסט לא מציין זאת, וזה לא ידוע.", "אין מידע על כך.", "זה לא נאמר בטקסט."],
        ["המעבורת לא מפליגה בחורף.", "תשעה כתרים."],
    ),
    "hi": (
        ["पाठ में इसका उल्लेख नहीं है।", "इसकी जानकारी नहीं है।", "यह अज्ञात है।"],
        ["नाव सर्दियों में नहीं चलती।", "नौ मुकुट।"],
    ),
    "th": (
        ["ข้อความไม่ได้กล่าวถึงเรื่องนี้", "ไม่ระบุ", "ไม่มีข้อมูล", "ไม่ทราบ"],
        ["เรือไม่แล่นในฤดูหนาว", "เก้าโครน"],
    ),
    "vi": (
        ["Văn bản không đề cập đến điều đó.", "Không có thông tin.", "Không rõ."],
        ["Phà không chạy vào mùa đông.", "Chín đồng."],
    ),
    "id": (
        ["Teks tidak menyebutkannya.", "Tidak diketahui.", "Tidak ada informasi."],
        ["Feri tidak berlayar di musim dingin.", "Sembilan mahkota."],
    ),
    "zh": (
        ["文中没有提到这一点。", "文章未说明。", "无法确定。", "不清楚。", "文本中沒有相關信息。",
         "价格未知。"],
        ["渡轮冬天不开。", "九克朗。", "磨坊没有窗户。"],
    ),
    "ja": (
        ["本文には記載がありません。", "書かれていない。", "わかりません。", "不明です。",
         "言及されていない。"],
        ["冬には船は出ない。", "九クローネ。"],
    ),
    "ko": (
        ["본문에 언급되어 있지 않습니다.", "알 수 없습니다.", "관련 정보가 없습니다."],
        ["겨울에는 배가 다니지 않습니다.", "아홉 크로네."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", SAID)
def test_declining_is_told_in_many_languages(language):
    declining, others = SAID[language]
    assert [text for text in declining if not declines(text)] == []
    assert [text for text in others if declines(text)] == []


def test_every_language_is_tried():
    assert SAID.keys() == OTHERS.keys()
