# ruff: noqa: RUF001
"""Borders of sentences in running prose."""

import time

import pytest

from pdtrain.documents.sentences.finding import sentence_spans

SENTENCES = [
    (["The pier is long.", "It is old."], "plain"),
    (["Dr. Ada Marsh met Mr. Bell at St. Osk.", "They spoke."], "abbreviations"),
    (["J. R. Bell built it.", "He was 40."], "initials"),
    (["It measures 3.5 metres.", "It weighs 2.25 kg."], "decimals"),
    (["“Is it old?” she asked.", "“Yes.”", "He left."], "quotes"),
    (["Is it old?", "Yes!", "Good…", "Very good."], "other ends"),
    (["He called (the pier was empty).", "Nobody came."], "brackets"),
    (["See e.g. Osk, i.e. The harbour.", "It is near."], "latin"),
    (["東京の港は古い。", "船は三隻ある。", "本当ですか？", "はい！"], "full width"),
    (["Старый порт.", "Он большой."], "cyrillic"),
    (["Visit osk.example.com today.", "It is online."], "addresses"),
    (["A line without an end", "Another line"], "lines"),
    (["Version 2.0.1 came out.", "3 bugs were fixed."], "numbers that open"),
]


@pytest.mark.parametrize("sentences", [s for s, _ in SENTENCES], ids=[n for _, n in SENTENCES])
def test_borders_of_sentences(sentences):
    separator = "" if sentences[0][0] == "東" else "\n" if "line" in sentences[0] else " "
    text = separator.join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


def test_a_text_without_words_has_no_sentence():
    assert sentence_spans("") == sentence_spans(" \n\n ") == []


LANGUAGES = [
    ["Am 3. Mai wurde das Schiff verkauft.", "Nach § 4 Abs. 1 gilt eine Frist von ca. 9 Tagen."],
    ["Il porto è vecchio.", "«Apre domani», disse il custode."],
    ["¿Cuándo sale el barco?", "¡Mañana!", "A las seis."],
    ["Ślad jest stary.", "Żaden statek nie wrócił."],
    ["الميناء قديم.", "متى يفتح؟", "غدا."],
    ["बंदरगाह पुराना है।", "नाव कल आएगी।"],
    ["항구는 오래되었다.", "배는 언제 오나요?"],
    ["彼女は「来たよ。」と言った。", "船は古い。"],
    # a quotation ends its sentence
    ["她问：“船呢？”", "没有人回答。", "港口很旧！"],
    ["The boat left in 1901.[2]", "It never came back."],
    ["the boat is old.", "it leaks.", "nobody minds."],
    ["डॉ. शर्मा 3.5 किमी दूर रहते हैं।", "वे श्री. वर्मा से मिले।", "क्या वे आएँगे?"],
    ["وُلد د. سالم في 3.5.1990 في الميناء.", "يعمل في شركة أ.ب.ج. منذ 2010.", "هل سافر؟"],
    ['ד"ר כהן גר במרחק 3.5 ק"מ מהנמל.', "הוא פגש את פרופ' לוי.", "הם דיברו."],
    ["김 선장은 3.5킬로미터를 걸었다.", "“배가 온다.”라고 그가 말했다.", "정말인가요?"],
    ["TS. Nguyễn Văn A. sống ở TP. Hồ Chí Minh.", "Tàu đến năm 1901."],
    ["Gemi 3.5 km ötede durur.", "Dr. Yılmaz onu 1901'de aldı.", "İki kaptanı vardı."],
    ["Το πλοίο χτίστηκε το 1901.", "Πόσοι ναύτες ζουν εκεί;", "Δύο, δίπλα στη λίμνη."],
    ["កប៉ាល់ត្រូវបានសាងសង់នៅឆ្នាំ ១៩០១។", "វាចាស់ហើយ។", "នាវិកពីររស់នៅទីនោះ។"],
    [
        "Судно построено в 1901 г. Анной Грей.",
        "Его длина 35,5 м.",
        "Возит рожь и т. д.",
        "Оно старое.",
    ],
    ["Statek zbudowano w 1901 r. przez Annę Gray.", "Ma 35,5 m długości."],
    ["A hajót 1901. május 3-án építették.", "Két matróz él rajta."],
    ["Laiva rakennettiin 3. toukokuuta 1901.", "Se kuljettaa ruista esim. kylälle."],
    ["کشتی را آنا گری در سال ۱۹۰۱ ساخت.", "آیا دو ملوان دارد؟", "بله."],
]


@pytest.mark.parametrize("sentences", LANGUAGES, ids=[s[0][:12] for s in LANGUAGES])
def test_sentences_end_where_the_language_says(sentences):
    blank = "" if any("぀" <= c <= "鿿" for c in sentences[0]) else " "
    text = blank.join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


ABBREVIATED = {
    "bn": ["ড. রহমান এলেন।", "তিনি গেলেন।"],
    "mr": ["डॉ. पाटील इ. स. १८८३ मध्ये आले.", "ते गेले."],
    "no": ["Han kom kl. 12 på dagen.", "Han gikk."],
    "pl": ["Kościół św. Jana ma ok. 50 lat i zamyka o godz. 12 w nocy.", "Jest stary."],
    "ta": ["திரு. ராமன் வந்தார்.", "அவர் போனார்."],
    "de": ["Frl. Ott kam inkl. Gepäck.", "Sie blieb."],
    "el": ["Ο Παπάς, π.χ. αυτός, έζησε τον 5ο αι. π.Χ. στη σελ. 5 της Όσκης.", "Τέλος."],
    "en": ["See ch. 3 and Eq. 4 of the log, resp. the chart.", "Call tel. 555 of Osk."],
    "es": ["D. Juan llegó.", "Mide 5 m.", "Es viejo."],
    "fr": ["M. Roux vécut av. J.-C. à Osk.", "Il mesure 5 m.", "Il est vieux."],
    "id": ["Bpk. Budi tinggal di Jl. Merdeka.", "Ia tua."],
    "it": ["Vedi pag. 5 e n. 5 dell'art. 5 su S. Pietro.", "È vecchio."],
    "nl": ["De boot van mevr. de Vries is oud.", "Hij lekt."],
    "pt": ["Veja a pág. 3 sobre o séc. XIX na Av. Paulista.", "É velho."],
    "ro": ["Dl. Pop locuiește pe str. Lungă.", "E bătrân."],
    "ru": ["Порт им. Пушкина, т. е. старый, показан на рис. 3 книги.", "Он большой."],
    "sv": ["Båten kom t.ex. hit kl. 5 på dagen.", "Den är gammal."],
    "tr": ["Ali Bey vb. geldi ve Uzun Cad. 5 numarada kaldı.", "Yaşlıydı."],
    "ja": ["「はい」『本。』を読む。", "船は古い。"],
}


COUNTED = [
    ("zh", ["灯塔很旧。", "1883年建成。", "PDF文件很长。"]),
    ("ja", ["私は電話を買いました。", "iPhoneは高いです。", "3月に開店した。"]),
    ("de", ["Das Haus ist alt.", "1883 wurde es gebaut.", "3 Jahre später brannte es ab."]),
    ("cs", ["Dům je starý.", "1883 byl postaven."]),
    ("da", ["Huset er gammelt.", "1883 blev det bygget."]),
    ("fi", ["Talo on vanha.", "1883 se rakennettiin."]),
    # a number that goes on with its sentence
    ("de", ["Nach § 4 Abs. 1 und Kap. 3 gilt Friedrich III. 1740 als alt.", "So ist es."]),
    ("de", ["Sie kam ca. 1883 und am 3. 5. 1890.", "Er ging."]),
    ("de", ["In der Hauptstr. 5 dauert es 2 Std. 30 Min. oder mehr.", "Er ging."]),
    ("cs", ["Viz odst. 3 a obr. 5 knihy, popř. 6 na nám. 5. května.", "Tak je to."]),
    ("da", ["Der er f.eks. 3 både, dvs. 5 mand.", "Han gik."]),
    ("fi", ["Liput alk. 10 euroa ja maks. 20 euroa.", "Hän meni."]),
    ("de", ["Im 19. Jahrhundert kam die 3. Auflage am 4. Juli, einem Montag.", "Er war 19."]),
    ("de", ["Der Kapitän war 19.", "Dann kam er an Bord."]),
    ("da", ["Under 2. Verdenskrig kom han den 5. Maj.", "Han var 19.", "Han gik."]),
    ("zh", ["A\uff0e选项一很长。", "B\uff0e选项二很长。"]),
    ("zh", ["1\uff0e第一项很长。", "2\uff0e第二项很长。"]),
    ("gu", ["તેઓ ૩.૫ કિમી ગયા.", "ડૉ. પટેલ આવ્યા."]),
    ("th", ["เมื่อ พ. ศ. 2475 มี พ.ร.บ. นี้ และ ค.ศ. 1999 เรือเก่ามาก.", "เขาไปแล้ว"]),
]


COUNTED += [
    # words and numbers that look like abbreviations, ordinals and dates of another language
    ("nl", ["Ik zag Jan.", "Hij was er op 31 dec. 2010.", "Het was oud."]),
    ("ko", ["정답은 3.", "다음 문제는 쉽다."]),
    ("hr", ["On nema para.", "Brana je stara."]),
    ("en", ["It fell by 4.5.", "2019 saw more."]),
    ("de", ["Es sind 10 min. Fußweg mit 200 g. Mehl.", "Das Wehr ist alt."]),
    # a unit ends a sentence, and an ordinal, a date or a number of an item ends none
    ("en", ["The dam is 42 m.", "Bell built it in 8 h.", "It is old."]),
    ("vi", ["Con đập cao 4,5 m.", "Đập rất cũ."]),
    ("ro", ["Barajul are cca. 42 m.", "Vezi art. 3 alin. 2 din lege."]),
    ("tr", ["1. Dünya Savaşı ve IV. Mehmed M.Ö. 300 yılından sonradır.", "Baraj eski."]),
    ("hu", ["A gátat IV. Béla építtette, kb. 300 éve.", "Régi."]),
    ("ko", ["둑은 1741. 4. 7. 완성되었다.", "지금은 낡았다."]),
    ("hr", ["Brana je otvorena 7. 4. 1741. u podne.", "Stara je."]),
    (
        "en",
        ["Article 4. Each boat pays.", "12.3.1. No boat waits.", "iv. Boats that lie idle pay."],
    ),
    # ends that are typed in other ways
    ("am", ["ግድቡ አሮጌ ነው፡፡", "በ1741 ተሠራ።", "ተዘግቷል፡፡"]),
    ("hi", ["बाँध बहुत पुराना है |", "इसे 1741 में बनाया गया |", "नाव | डंडा"]),
    ("bo", ["ཆུ་རགས་འདི་རྙིང་པ་ཡིན།", "དེ་ ༡༧༤༡ ལོར་བརྒྱབ་པ་རེད།"]),
    # who says it stands behind what is said
    ("zh", ["“水坝在哪里？”老人问。", "没有人回答。", "她说：“在那里。”", "他走了。"]),
    # titles
    ("sr", ["Инж. Марић и ул. Дуга су стари.", "Тако је."]),
    ("te", ["డా. రావు వచ్చారు.", "ఆయన వెళ్ళారు."]),
    ("kn", ["ಡಾ. ರಾವ್ ಬಂದರು.", "ಅವರು ಹೋದರು."]),
    ("sw", ["Bw. Juma alijenga ukuta.", "Ni wa zamani."]),
    ("id", ["Ir. Budi dan Sdr. Ali datang.", "Mereka pergi."]),
    ("pt", ["A casa fica na R. Longa em S. Pedro.", "É velha."]),
    # a language that is not known, whose sentences begin with capitals, or do not
    ("", ["Brana je otvorena 1741. godine i duga je.", "Dana 7. travnja 1800. prodana je."]),
    ("", ["it opened in 1741.", "nobody came.", "so it is."]),
]


@pytest.mark.parametrize(("language", "sentences"), COUNTED)
def test_a_number_begins_a_sentence_or_goes_on_with_one(language, sentences):
    text = ("" if language in ("ja", "zh") else " ").join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text, language)] == sentences


@pytest.mark.parametrize("language", ABBREVIATED)
def test_no_sentence_ends_at_an_abbreviation_or_begins_with_a_closing_bracket(language):
    sentences = ABBREVIATED[language]
    text = ("" if language == "ja" else " ").join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text, language)] == sentences


def test_speech_without_punctuation_is_cut_into_parts():
    text = "so the boat came in and the men went home because the fish was gone " * 20
    spans = sentence_spans(text.strip())
    parts = [text[a:b] for a, b in spans]
    assert " ".join(parts) == text.strip()
    assert all(len(part) <= 240 for part in parts)
    assert all(part.startswith(("so ", "and ", "because ")) for part in parts)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("th", "เรือเก่ามากและไม่มีใครกลับมาที่ท่าเรือนี้อีกเลยในวันเสาร์ "),
        ("hi", "नाव बहुत पुरानी है और कोई नहीं आया "),
        ("ta", "படகு மிகவும் பழையது யாரும் வரவில்லை "),
    ],
)
def test_speech_that_ends_in_a_vowel_or_a_mark_is_cut_as_well(language, said):
    text = (said * 20).strip()
    parts = [text[a:b] for a, b in sentence_spans(text, language)]
    assert " ".join(parts) == text and all(len(part) <= 240 for part in parts)


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["By Prop. 5 and Cor. 2 it has a root.", "It needs a prop.", "See Rec. 47 of it."]),
        ("en", ["Add 5 mL of conc. HCl to 2 mL of aq. NaOH.", "Stir it."]),
        ("en", ["The mills.", "J. Hist. Eng., 12(3), 45–67."]),
        ("en", ["Hill, J. (Ed.). (2020).", "The pier."]),
        ("hi", ["इसकी ऊँचाई 3.5 मी. है।", "वह गया।"]),
        ("ja", ["Mr. Smithが来た。", "彼は帰った。"]),
        ("vi", ["GS.TS. Nguyễn Văn A nói.", "Rồi ông đi."]),
        ("fr", ["Selon l'art. 1382 al. 2 du code, la faute est requise.", "Il aime l'art."]),
    ],
)
def test_abbreviations_of_references_end_no_sentence(language, sentences):
    text = " ".join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text, language)] == sentences


def test_thai_is_cut_where_a_sentence_may_begin_and_beside_no_number():
    said = "เรือเก่ามากและไม่มีใครกลับมาอีกเลย เวลา 9.00 น. ถึง 17.00 น. ค่าเข้าชม 50 บาท เล็ก ๆ "
    text = (said * 3 + "นอกจากนี้ ยังมีเรือใหม่ " + said * 3).strip()
    parts = [text[a:b] for a, b in sentence_spans(text, "th")]
    assert " ".join(parts) == text
    assert any(part.startswith("นอกจากนี้") for part in parts)
    ends = {part.split()[-1] for part in parts[:-1]} | {part.split()[0] for part in parts[1:]}
    assert not ends & {"9.00", "17.00", "50", "น."}
    polite = ["สวัสดีครับ", "ดิฉันชื่อมาลีค่ะ", "เรือเก่ามาก"]
    text = " ".join(polite)
    assert [text[a:b] for a, b in sentence_spans(text, "th")] == polite


@pytest.mark.parametrize("language, mark", [("bo", "།"), ("zh", "。")])
def test_a_row_of_marks_takes_linear_time(language, mark):
    begun = time.process_time()
    sentence_spans(mark * 20_000, language)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "language, sentences",
    [
        # the mark of a note stays with the sentence that it belongs to
        ("en", ["The mill is old.¹", "It is of oak.²³", "Nobody grinds.*", "Fin."]),
        ("en", ["The mill is old.[^1]", "It is of oak.[^oak]", "Nobody grinds.[note 3]", "Fin."]),
        ("ja", ["水車は古い。¹", "樫でできている。"]),
        ("en", ["Nobody grinds.[3]", "Use list.", "[Index of names] comes next.", "It ends."]),
        ("ja", ["水車は古い。", "**樫**でできている。", "[目次]を見る。"]),
        ("zh", ["她走了。", "“水车很旧。”他笑了。", "“好！”他说。"]),
        ("de", ["»Er rief: ›Nein!‹«", "‚Hans’ Haus ist’s. Ja!‘", "Er ging."]),
        # sentences in brackets
        ("en", ["(The miller laughed.)", "Then he left.", "[Laughter.]", "“Well!”"]),
        ("en", ["Reed, J. (Ed.) The Mills.", "It is old (see the map).", "It is.)"]),
        ("zh", ["\uff08他笑了。\uff09", "她走了。", "\uff08见地图\uff09船很旧。"]),
        # quotes inside others and by points
        ("de", ["Er kam.", "‚Gut.‘", "‚Was?‘, fragte sie.", "„Er rief: ‚Halt!‘“", "So war es."]),
        ("de", ["Er kam.", "›Gut.‹", "›Was?‹, fragte sie.", "Sie ging."]),
        ("fr", ["‹Bon.›", "Il partit."]),
        ("en", ["He said ‘no’.", "They’re here.", "It costs 5‚000.", "‘Why?’ he asked."]),
        # who says it stands behind a dash or, in Korean, behind a blank
        ("ru", ["«Кто там?» — спросил он.", "— Я! — сказала она.", "— Иди."]),
        ("es", ["—¿Vienes? —preguntó Ana.", "—No.", "—Ven."]),
        ("pl", ["– Kto to? – zapytał.", "– Ja."]),
        ("ko", ["‘왜?’ 하고 물었다.", "“가자.” 라고 말했다.", "그는 갔다."]),
        # "and so on" may end a sentence
        ("de", ["Sie hat Tau, Teer usw.", "Dann kam er mit Öl usw. an."]),
        ("pl", ["Mam liny, oleje itd.", "Potem wyszedł."]),
        ("it", ["Ho corde, olio ecc.", "Poi esco."]),
        ("uk", ["Він має мотузки і т. д.", "Потім пішов."]),
        # what a label or a number opens
        ("en", ["Q1. What is it?", "A1. A mill.", "Figure 3. The mill.", "SCENE I. The harbour."]),
        ("en", ["ASP.NET is old.", "It is.", "The end."]),
        ("fr", ["J.-P. Roux vient.", "Il vit à St. Malo.", "Né en 50 av. J.-C.", "Il est mort."]),
        ("en", ["It is long.", "Cut the figs.", "Then eat."]),
        ("fr", ["Il aime son prof.", "Il part."]),
        ("ru", ["Всё ок.", "Иду домой.", "Это было ок. 1500 года."]),
        ("hi", ["वह 3.5 कि.मी. दूर है।", "वह गया।"]),
        ("ar", ["جاء د. أحمد وأ. سالم.", "ثم ذهب."]),
    ],
)
def test_what_stands_around_sentences_belongs_to_one(language, sentences):
    text = ("" if language in ("ja", "zh") else " ").join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text, language)] == sentences


@pytest.mark.parametrize(
    "language, sentences",
    [("en", ["It ended.", "DNA is long."]), ("hi", ["यह है.", "वह आया.", "राम गया।"])],
)
def test_a_sentence_whose_blank_is_missing_is_one(language, sentences):
    text = "".join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text, language)] == sentences


NUMBERED = {
    "en": [
        "The boats met off Ft. Worth.",
        "See Figs. 3 and 4 and Chap. 5.",
        "It is a nice tab.",
        "5.",
    ],
    "de": ["Die Fa. Bell und Hrn. Ott kennt Dipl.-Ing. Marsch.", "Es ist alt."],
    "es": ["La Profa. Ruiz y Dña. Ana viven aquí.", "Mide aprox. 5 m."],
    "fr": ["Le Prof. Roux et Mgr. Petit lisent le t. 3 du livre.", "Fin."],
    "nl": ["Bij mw. Bakker is het d.w.z. oud.", "Zie afb. 5 en par. 3."],
    "pl": ["Art. 5 ust. 2 pkt. 3 i s. 7 o al. Jana Pawła oraz tj. Wisła.", "Zob. rys. 3."],
    "pt": ["A Profa. Ana mora na Sta. Cruz e leu o cap. 3 e a p. 5.", "Fim."],
    "ru": ["Инж. Белл видел гл. 3 и табл. 5, ок. 7 м.", "Конец."],
    "sv": ["Se sid. 5 och kap. 3, jfr. 7.", "Slut."],
    "tr": ["Av. Kaya ve Doç. Ak geldi (bkz. 5).", "Gittiler."],
}


@pytest.mark.parametrize("language", NUMBERED)
def test_titles_and_parts_of_books_end_no_sentence(language):
    text = " ".join(NUMBERED[language])
    assert [text[a:b] for a, b in sentence_spans(text, language)] == NUMBERED[language]
