"""What site generators and note programs add to Markdown, and what only looks like markup."""

import pytest


def lines(document):
    return document.text.split("\n")


BOXES = {
    "GitHub": ("> [!NOTE]\n> Oil the wheel.\n\n> [!WARNING] Hot\n> Do not touch.",
               ["Oil the wheel.", "Hot", "Do not touch."]),
    "MkDocs": ('Text.\n\n!!! note "Mind"\n    Oil it.\n\n    Then wait.\n\n??? tip\n    Close.',
               ["Text.", "Mind", "Oil it.", "Then wait.", "Close."]),
    "nested boxes": ('!!! note\n\n    Oil it.\n\n    !!! tip "Why"\n        It squeaks.\n\nAfter.',
                             ["Oil it.", "Why", "It squeaks.", "After."]),
    "Docusaurus": (":::warning Careful: hot\nDo not touch.\n:::\n\n:::tip[Mind]\nOil it.\n:::",
                   ["Careful: hot", "Do not touch.", "Mind", "Oil it."]),
    "Pandoc": ('::: {.callout-note title="Why"}\nBecause.\n:::\n\n::: warning\nHot.\n:::',
               ["Why", "Because.", "Hot."]),
    "MyST": ("```{note}\n:class: wide\nOil it.\n```\n\n::::{grid}\n:::{card}\nIn.\n:::\n::::",
             ["Oil it.", "In."]),
    "a list of pages": ("```{toctree}\n:maxdepth: 2\nmill\npier\n```\n\nText.", ["Text."]),
}  # fmt: skip


@pytest.mark.parametrize("name", BOXES)
def test_a_box_keeps_its_text_and_loses_its_marks(read_one, name):
    text, wanted = BOXES[name]
    assert lines(read_one("a.md", text)) == wanted


def test_tabs_keep_their_code(read_one):
    code = "    ```sh\n    cd mill\n      make\n    ```"
    text = f'=== "Linux"\n\n    Run this:\n\n{code}\n\n=== "Windows"\n\n    Click.'
    found = lines(read_one("a.md", text))
    assert found == ["Linux", "Run this:", "cd mill", "  make", "Windows", "Click."]


INLINE = {
    "links between notes": ("See [[Mill House|the house]], [[Sluice#Gate]] and [[2024-05-01]].",
                            "See the house, Sluice and 2024-05-01."),
    "pictures between notes": ("Here: ![[mill.png]] it is.", "Here: it is."),
    "links in Chinese": ("请看[[页面|这里]]。", "请看这里。"),
    "attributes": ("The mill {.wide} grinds{: #x .y }.", "The mill grinds."),
    "shortcodes": ('{{< note "a" >}}Oil.{{< /note >}} {% raw %}Wait.{% endraw %}', "Oil. Wait."),
    "roles": ("{ref}`the sluice <sluice>` and {doc}`mill`.", "the sluice and mill."),
    "variables": ("Use {{ port }} here.", "Use {{ port }} here."),
    "code": ("`{{< a >}}`, `[[x]]` and `a{.b}` stay.", "{{< a >}}, [[x]] and a{.b} stay."),
    "arrays": ("a[[1, 2], [3]] and x[[i]] stay.", "a[[1, 2], [3]] and x[[i]] stay."),
    "bold in Chinese": ("这是**“重点”**内容。", "这是“重点”内容。"),
    "bold in Korean": ("**굵게(bold)**는 글자다.", "굵게(bold)는 글자다."),
    "powers": ("和2**3和4**5。", "和2**3和4**5。"),
    "products": ("2*3*4 = 24 and (a+b)*c*d is *it*.", "2*3*4 = 24 and (a+b)*c*d is it."),
    "formulas": (r"Inline \(x_1*y*z\) and \[a_1 = b\].", r"Inline \(x_1*y*z\) and \[a_1 = b\]."),
    "escaped brackets": (r"It is \[optional\] \(see below\).", "It is [optional] (see below)."),
    "escaped names": (r"\[C++11\], \[my\_var\], \(see y\_1\)", "[C++11], [my_var], (see y_1)"),
    "stars that close": ("*2*nd, *Note*1, (foo)*bar* and 2*3", "2nd, Note1, (foo)bar and 2*3"),
    "tests": ("[[ -f x ]] or {% if x %} or {.a, .b}", "[[ -f x ]] or {% if x %} or {.a, .b}"),
    "remarks": ("!!! WARNING this breaks the API", "!!! WARNING this breaks the API"),
    "small components": ('<callout type="a">Oil it.</callout>', "Oil it."),
    "place holders": ("git clone <repository> <your-name>", "git clone <repository> <your-name>"),
    "parameters of types": ("A List<String>; press <Enter>.", "A List<String>; press <Enter>."),
    "comparisons": ("Wenn a<b und c>d gilt, x<y and y>z.", "Wenn a<b und c>d gilt, x<y and y>z."),
    "control tokens": ("Use <pad>, <s>, </s>, <think>.", "Use <pad>, <s>, </s>, <think>."),
    "tags": ("It is <b>bold</b>, H<sub>2</sub>O and <s>gone</s>.", "It is bold, H2O and gone."),
    "components": ('<Note kind="a">Oil it.</Note> <my-icon/> <Tab>In.</Tab>', "Oil it. In."),
}  # fmt: skip


@pytest.mark.parametrize("name", INLINE)
def test_marks_go_and_what_only_looks_like_them_stays(read_one, name):
    text, wanted = INLINE[name]
    assert read_one("a.md", text).text == wanted


@pytest.mark.parametrize("line", ["[TOC]", "[[_TOC_]]", "\\newpage", "{: .note}", "(label)="])
def test_a_line_that_says_nothing_goes(read_one, line):
    assert read_one("a.md", f"One.\n\n{line}\n\nTwo.").text == "One.\nTwo."


def test_a_heading_has_no_attributes(read_one):
    assert read_one("a.md", "# The mill {#mill .wide}\n\nIt grinds.").title == "The mill"


def test_code_is_left_as_it_is(read_one):
    code = ":::tip\n[[x]] {{< a >}} <name>\n!!! note\n    2*3*4"
    assert code in read_one("a.md", f"Run:\n\n```\n{code}\n```\n\nDone.").text
    assert code in read_one("a.md", f"- Run:\n\n~~~sh\n{code}\n~~~\n\nDone.").text
    indented = "".join(f"    {line}\n" for line in code.split("\n"))
    assert "[[x]] {{< a >}} <name>" in read_one("a.md", f"Run:\n\n{indented}\nDone.").text


def test_a_thought_in_a_paragraph_of_its_own_stays(read_one):
    text = "<think>\nIs it old?\n</think>\n\nIt is old."
    assert lines(read_one("a.md", text)) == ["<think> Is it old? </think>", "It is old."]


NUMBERS = {
    "a date": ("3. Mai 1990: Die Mühle wird eröffnet.", ["3. Mai 1990: Die Mühle wird eröffnet."]),
    "dates": ("12. Juni kam Anna\n13. Mai ging sie", ["12. Juni kam Anna", "13. Mai ging sie"]),
    "a year": ("1986. A great year", ["1986. A great year"]),
    "some clauses": ("4) The fee is due.\n7) It is not paid back.",
                     ["4) The fee is due.", "7) It is not paid back."]),
    "steps": ("1. Open.\n2. Close.\n\nWait.\n\n3. Go.", ["Open.", "Close.", "Wait.", "Go."]),
    "steps that count themselves": ("1. Open.\n1. Close.", ["Open.", "Close."]),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_does_not_just_count_stays(read_one, name):
    text, wanted = NUMBERS[name]
    assert lines(read_one("a.md", text)) == wanted


def test_two_rules_at_the_beginning_enclose_a_slide(read_one):
    found = read_one(
        "a.md", "---\n\n# Slide one\n\nText: it grinds.\n\n---\n\n# Slide two\n\nMore."
    )
    assert found.title == "Slide one" and "Text: it grinds." in found.text


@pytest.mark.parametrize(
    "header",
    [
        "title: The mill\n",
        "\ntitle: The mill\n@type: x\ntags:\n-\n",
        "# by hand\ntitle: The mill\n\ntags:\n- a\nx: {\n  a: b\n}\n",
    ],
)
@pytest.mark.parametrize("rest", ["", "\nIt grinds."])
def test_a_header_in_yaml_is_no_slide(read_one, header, rest):
    found = read_one(
        "a.md", f"---\n{header}---{rest}" if rest else f"---\n{header}---\n\nIt grinds."
    )
    assert (found.title, found.text) == ("The mill", "It grinds.")


def test_mdx_has_statements_and_comments_besides(read_one):
    text = """import Tabs from '@theme/Tabs';
import {
  A, B
} from './x'

export const year = 2024

# The mill

<Tabs groupId="os">
  <TabItem value="mac">

Open the *sluice*. {/* a comment
on two lines */}

  </TabItem>
</Tabs>

import duties were paid in 1802.

```js
import mill from 'mill'

export default mill
```
"""
    found = read_one("a.mdx", text)
    assert found.title == "The mill"
    assert lines(found)[:2] == ["Open the sluice.", "import duties were paid in 1802."]
    assert "import mill from 'mill'\n\nexport default mill" in found.text


@pytest.mark.parametrize("suffix", [".mdown", ".mkd", ".qmd", ".Rmd", ".text", ".log"])
def test_other_suffixes_of_text_are_read(read_one, suffix):
    assert read_one(f"a{suffix}", "It grinds.").text == "It grinds."


def test_a_definition_loses_its_mark(read_one):
    text = "Quern\n: Two *stones*.\n: A mill.\n\nSluice\n\n:   A gate.\n\n```\n: code\n```\n"
    wanted = ["Quern", "Two stones.", "A mill.", "Sluice", "A gate.", ": code"]
    assert lines(read_one("a.md", text)) == wanted
