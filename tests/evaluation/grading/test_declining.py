"""Answers that say that a question cannot be answered, and others, in many languages."""

# ruff: noqa: RUF001 - letters that look alike are what this is about
import time

import pytest

from pdtrain.evaluation.grading.declining import OTHERS, declines

SAID = {  # that decline, and that do not
    "de": (
        ["Das wird im Text nicht erwähnt.", "Der Text sagt nichts darüber.", "Das ist unbekannt.",
         "Dazu gibt es keine Informationen.", "Das ist nicht angegeben.", "Es ist nicht bekannt.",
         "Die Dokumente sagen nicht, wie alt sie ist.", "Die Dokumente nennen ihr Alter nicht.",
         "Das steht nicht in den Dokumenten.", "Ich weiß es nicht.", "Das weiß ich nicht.",
         "Dazu steht nichts im Text."],
        ["Der Bäcker sagt nicht viel; er heißt Tom.", "Die Fähre fährt im Winter nicht.",
         "Keine Ziege.", "Sie kostet neun Kronen.",
         "Die Statue steht nicht am Markt.", "Heute ist nichts in der Kasse.",
         "Er gab keine Auskunft."],
    ),
    "nl": (
        ["Dat wordt niet vermeld.", "Er is geen informatie over.", "Dat is niet bekend.",
         "De documenten zeggen niet hoe oud ze is.", "Ik weet het niet.",
         "Dat staat niet in de tekst."],
        ["De veerboot vaart niet in de winter.", "Negen kronen."],
    ),
    "sv": (
        ["Det nämns inte i texten.", "Det är inte känt.", "Det framgår inte.",
         "Dokumenten säger inte hur gammal hon är.", "Jag vet inte.",
         "Det står inte i dokumenten.", "Texten nämner det inte."],
        ["Färjan går inte på vintern.", "Nio kronor."],
    ),
    "fr": (
        ["Le texte ne le mentionne pas.", "Ce n'est pas précisé.",
         "Aucune information n'est donnée.", "On ne sait pas.", "Le prix est inconnu.",
         "Les documents ne disent pas son âge.", "Je ne sais pas.",
         "Les documents n'en parlent pas."],
        ["Le bac ne navigue pas en hiver.", "Neuf couronnes."],
    ),
    "es": (
        ["El texto no lo menciona.", "No se menciona.", "No hay información sobre eso.",
         "Se desconoce.", "No se sabe.",
         "Los documentos no dicen su edad.", "No lo sé.", "No aparece en el texto."],
        ["El barco no navega en invierno.", "Nueve coronas.",
         "There is no indicator light on it."],
    ),
    "pt": (
        ["O texto não menciona isso.", "Não há informações.", "Não se sabe.", "É desconhecido.",
         "Os documentos não dizem a idade dela.", "Não sei.", "Isso não consta no documento."],
        ["A balsa não navega no inverno.", "Nove coroas."],
    ),
    "it": (
        ["Il testo non lo menziona.", "Non è specificato.", "Non si sa.", "È sconosciuto.",
         "I documenti non dicono quanti anni ha.", "Non lo so.", "Non se ne parla."],
        ["Il traghetto non naviga in inverno.", "Nove corone.",
         "La polizia non fornisce informazioni."],
    ),
    "pl": (
        ["Tekst o tym nie wspomina.", "Nie wiadomo.", "Brak informacji.", "Nie podano.",
         "Dokumenty nie mówią, ile ma lat.", "Nie wiem.", "W tekście nie ma o tym mowy."],
        ["Prom nie kursuje zimą.", "Dziewięć koron.",
         "Nie mówił po polsku."],
    ),
    "ru": (
        ["В тексте это не указано.", "Об этом не говорится.", "Нет информации.", "Неизвестно.",
         "Документы не говорят об этом.", "Документы об этом не говорят.", "Я не знаю."],
        ["Зимой паром не ходит.", "Девять крон.",
         "Они не говорят по-русски.", "Текст об этом не молчит.", "От неё нет ответа."],
    ),
    "el": (
        ["Το κείμενο δεν το αναφέρει.", "Δεν αναφέρεται.", "Είναι άγνωστο.",
         "Τα έγγραφα δεν λένε πόσων ετών είναι.", "Δεν ξέρω."],
        ["Το πλοίο δεν πλέει τον χειμώνα.", "Εννέα κορώνες.",
         "Δεν λειτουργεί από το 1990."],
    ),
    "tr": (
        ["Metinde belirtilmemiş.", "Bundan bahsedilmiyor.", "Bilinmiyor.", "Bu konuda bilgi yok.",
         "Belgelerde yer almamaktadır.", "Yaşı bilinmemektedir.", "Belgeler bunu söylemiyor.",
         "Metinde yer almıyor.", "Bilmiyorum."],
        ["Feribot kışın çalışmıyor.", "Dokuz kron.",
         "Ödül Ayşe'ye verilmiştir.", "Köprü şehrin merkezinde yer almaktadır.",
         "Kasaba peyniriyle bilinmektedir.", "Yılı 1890 olarak belirtilmiştir.",
         "Bundan söz edilmiştir."],
    ),
    "ar": (
        ["لم يُذكر ذلك في النص.", "لا يذكر النص ذلك.", "غير معروف.", "لا توجد معلومات.",
         "لا تذكر الوثائق عمرها.", "لا أعرف.", "لا أعلم."],
        ["لا تبحر العبارة في الشتاء.", "تسع كرونات."],
    ),
    "he": (
        ["הטקסט לא מציין זאת, וזה לא ידוע.", "אין מידע על כך.", "זה לא נאמר בטקסט.",
         "המסמכים אינם מציינים בת כמה היא.", "המסמכים לא אומרים.",
         "אני לא יודע.", "אין על כך מידע."],
        ["המעבורת לא מפליגה בחורף.", "תשעה כתרים."],
    ),
    "hi": (
        ["पाठ में इसका उल्लेख नहीं है।", "इसकी जानकारी नहीं है।", "यह अज्ञात है।",
         "दस्तावेज़ में यह नहीं बताया गया है।", "दस्तावेज़ में यह नहीं दिया गया है।"],
        ["नाव सर्दियों में नहीं चलती।", "नौ मुकुट।", "उसे वेतन नहीं दिया गया।"],
    ),
    "th": (
        ["ข้อความไม่ได้กล่าวถึงเรื่องนี้", "ไม่ระบุ", "ไม่มีข้อมูล", "ไม่ทราบ",
         "เอกสารไม่ได้บอกว่าเธออายุเท่าไร", "ไม่รู้",
         "ไม่พบข้อมูล"],
        ["เรือไม่แล่นในฤดูหนาว", "เก้าโครน"],
    ),
    "vi": (
        ["Văn bản không đề cập đến điều đó.", "Không có thông tin.", "Không rõ.",
         "Văn bản không cung cấp thông tin này."],
        ["Phà không chạy vào mùa đông.", "Chín đồng.", "Họ không cung cấp điện."],
    ),
    "id": (
        ["Teks tidak menyebutkannya.", "Tidak diketahui.", "Tidak ada informasi.",
         "Dokumen tidak mengatakan berapa umurnya.", "Saya tidak tahu.",
         "Dokumen tidak mengatakannya."],
        ["Feri tidak berlayar di musim dingin.", "Sembilan mahkota."],
    ),
    "zh": (
        ["文中没有提到这一点。", "文章未说明。", "无法确定。", "不清楚。", "文本中沒有相關信息。",
         "价格未知。",
         "文件没有说她几岁。", "資料中沒有說。", "我不知道。", "文件中没有写。"],
        ["渡轮冬天不开。", "九克朗。", "磨坊没有窗户。", "他没有写信。",
         "未来的信息中心。", "他没有说谎。"],
    ),
    "ja": (
        ["本文には記載がありません。", "書かれていない。", "わかりません。", "不明です。",
         "言及されていない。",
         "その日付は知られていません。", "知りません。"],
        ["冬には船は出ない。", "九クローネ。",
         "情報は少なくない。"],
    ),
    "ko": (
        ["본문에 언급되어 있지 않습니다.", "알 수 없습니다.", "관련 정보가 없습니다.",
         "문서에서는 말하지 않습니다.", "모르겠습니다.",
         "본문에서 확인할 수 없습니다."],
        ["겨울에는 배가 다니지 않습니다.", "아홉 크로네.",
         "그는 말을 타지 않는다."],
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", SAID)
def test_declining_is_told_in_many_languages(language):
    declining, others = SAID[language]
    assert [text for text in declining if not declines(text)] == []
    assert [text for text in others if declines(text)] == []


@pytest.mark.parametrize(
    "text",
    """
    I can't answer that question.
    The answer can't be found in the documents.
    I can’t determine that.
    I cannot say.
    I'm unable to answer.
    There isn't enough information.
    There is not enough information to answer.
    I don't have information about that.
    I do not have any specific information on that.
    I'm not sure.
    Not sure.
    I have no idea.
    The passage makes no reference to it.
    No data is available on this.
    The documents do not say how old Clara Hopper is.
    The text does not give a date.
    The passage doesn't provide his name.
    It is not provided in the passage.
    The price is not given.
    It does not contain any information about this.
    That wasn't mentioned.
    The color is not specified.
    It is not clear who built it.
    Her age is not known.
    Not given in the text.
    The name could not be found.
    The document does not include a price.
    The passage lacks details about the price.
    The mayor's name is unknown.
    Nothing in the documents says so.
    None of the documents mention it.
    Neither document says who built it.
    The answer is not in the documents.
    That isn't covered in the documents.
    I couldn't find that in the documents.
    The documents are silent on this.
    It is impossible to tell from the text.
    N/A
    """.strip().splitlines(),
)
def test_an_answer_that_says_in_english_that_there_is_none_declines(text):
    assert declines(text.strip())


@pytest.mark.parametrize(
    "text",
    """
    The mill was not found until 1905, by Anna Gray.
    He has not given up: he works as a baker.
    It could not provide power to the whole town, only 40 houses.
    The cake does not contain eggs, but honey.
    The crown was not found in the river but in a barn.
    The fee does not include breakfast.
    The sign was written by an unknown baker.
    He was not only known as a baker but as a singer.
    No one gave him an answer but Tom Ash.
    There is no bell in the tower, but a horn.
    She was not sure of the way and asked Tom Ash.
    The boat did not have a mast.
    He was unable to identify the body.
    They had no idea of the size.
    The city lacks data centers.
    There was no indication of fire before 1900.
    The treaty makes no reference to trade.
    The roof was not covered with straw but with reed.
    She could not find the key in the boat.
    None of the boats was built in Osk.
    The hall is silent on Sundays.
    The story is silent.
    The costs are not covered by insurance.
    Dental care is not covered.
    She didn't find it.
    Tom was not in the story that she wrote.
    The law is not in the documents but in the code.
    It is impossible to say no to her.
    """.strip().splitlines(),
)
def test_an_answer_that_denies_something_else_in_english_does_not_decline(text):
    assert not declines(text.strip())


def test_every_language_is_tried():
    assert SAID.keys() == OTHERS.keys()


def test_long_gaps_take_no_longer_for_each_blank():
    start = time.process_time()
    assert not declines("Tom" + " " * 40000 + "Ash")
    assert time.process_time() - start < 5, "a quarter of a minute where it grows by the square"
    assert declines("The documents do" + " \n" * 40000 + "not say.")
