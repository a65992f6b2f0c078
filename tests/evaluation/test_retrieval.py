"""BM25 finds the passage a question is about."""

# ruff: noqa: RUF001 - letters that look alike are what some tests are about

import pytest

from pdtrain.evaluation.retrieval import BM25
from pdtrain.records import Passage

TEXTS = {
    "pier": "The pier of Osk is 260 metres long and made of larch wood.",
    "lamp": "The lamp of the lighthouse burns rape oil and turns once in nine seconds.",
    "barometer": "The barometer was invented by Signe Quell and holds a column of cider.",
    "ferry": "The ferry leaves in the morning and reaches the other side at noon.",
}


def passage(name, text, title="Osk"):
    return Passage(name, f"{name}.txt", title, text, 0, len(text), 10, ((0, len(text)),))


@pytest.fixture(scope="module")
def bm25():
    return BM25([passage(name, text) for name, text in TEXTS.items()])


@pytest.mark.parametrize(
    "question, name",
    [
        ("How many metres long is the pier?", "pier"),
        ("What does the lamp burn?", "lamp"),
        ("Who invented the barometer?", "barometer"),
        ("WHEN DOES THE FERRY REACH THE OTHER SIDE?", "ferry"),
    ],
)
def test_the_passage_that_shares_words_comes_first(bm25, question, name):
    assert bm25(question, 2)[0].id == name


def test_as_many_as_asked_for_or_there_are_and_none_twice(bm25):
    assert len(bm25("the pier and the lamp", 2)) == 2
    found = bm25("the pier and the lamp", 99)
    assert sorted(p.id for p in found) == sorted(TEXTS)


def test_a_title_is_searched_too():
    bm25 = BM25([passage("a", "It is old.", "Vell Point"), passage("b", "It is new.", "Harbour")])
    assert bm25("the harbour", 1)[0].id == "b"
    assert bm25("Vell", 1)[0].id == "a"


@pytest.mark.parametrize("question", ["Who is it?", "?", "", "xylophone"])
def test_a_question_without_a_known_word_still_finds_something(bm25, question):
    assert len(bm25(question, 1)) == 1


def test_one_passage_is_found():
    assert BM25([passage("a", "The pier.")])("pier", 3)[0].id == "a"


IN_SCRIPTS = {  # two passages, and a question about each
    "Chinese": (
        ["奥斯克磨坊由安娜·格雷于1801年建造。", "渡轮每天早上六点半离开港口。"],
        ["谁建造了奥斯克磨坊？", "渡轮什么时候离港？"],
    ),
    "Japanese": (
        ["オスクの水車小屋は1801年に建てられた。", "渡し船は毎朝六時半に港を出る。"],
        ["水車小屋はいつ建てられましたか？", "渡し船は何時に出ますか？"],
    ),
    "Korean": (
        ["오스크 방앗간은 안나 그레이가 지었다.", "나룻배는 매일 아침 항구를 떠난다."],
        ["방앗간을 지은 사람은?", "나룻배가 떠나는 때는?"],
    ),
    "Thai": (
        ["โรงสีแห่งออสก์สร้างโดยแอนนา เกรย์", "เรือข้ามฟากออกจากท่าทุกเช้า"],
        ["ใครสร้างโรงสี", "เรือข้ามฟากออกเมื่อไร"],
    ),
    "Hindi": (
        ["ओस्क की चक्की अन्ना ग्रे ने बनवाई थी।", "नाव हर सुबह बंदरगाह छोड़ती है।"],
        ["चक्की किसने बनवाई?", "नाव कब छोड़ती है?"],
    ),
    "Arabic": (
        ["بَنَتْ آنا غراي الطاحونة عام ١٨٠١.", "تغادر العبارة الميناء كل صباح."],
        ["متى بُنيت طاحونة أوسك، 1801؟", "أي ميناء تغادره عبارة؟"],
    ),
    "Turkish": (
        ["IŞIK değirmenini Anna Gray yaptı.", "Vapur her sabah LİMANI terk eder."],
        ["ışık değirmenini kim yaptı?", "Limanı ne zaman terk eder?"],
    ),
    "Greek": (
        ["Ο ΜΥΛΟΣ χτίστηκε από την Άννα Γκρέι.", "Το πλοίο φεύγει κάθε πρωί."],
        ["Πότε χτίστηκε ο μύλος;", "Πότε φεύγει το πλοίο;"],
    ),
}


@pytest.mark.parametrize("script", IN_SCRIPTS)
def test_a_passage_is_found_in_any_script(script):
    texts, asked = IN_SCRIPTS[script]
    both = [Passage(f"p{i}", "d", "", text, 0, len(text), 9, ()) for i, text in enumerate(texts)]
    find = BM25(both)
    assert [find(question, 1)[0].id for question in asked] == ["p0", "p1"]
