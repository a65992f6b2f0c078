"""E-mail: the text of messages, whatever they are encoded as, and the names of attachments."""

from email.message import EmailMessage

import pytest

from pdtrain.documents.document import Unreadable


def message(text="", html="", attachment=b"", charset="utf-8", subject="Re: AW: Die Fähre"):
    found = EmailMessage()
    found["Subject"], found["From"] = subject, "Clara Finch <clara@osk.example>"
    found["Date"] = "Mon, 3 May 2021 09:14:00 +0200"
    if text:
        found.set_content(text, charset=charset)
    if html:
        found.add_alternative(html, subtype="html")
    if attachment:
        found.add_attachment(attachment, maintype="image", subtype="png", filename="pier.png")
    return found.as_bytes()


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252"])
def test_a_message_is_its_text_under_its_subject(read_one, charset):
    document = read_one("a.eml", message("Die Fähre fährt.\n\nClara\n", charset=charset))
    assert (document.title, document.text) == ("Die Fähre", "Die Fähre fährt.\nClara")
    assert document.metadata["from"] == "Clara Finch <clara@osk.example>"
    assert document.warnings == ()


def test_the_plain_text_is_preferred_to_the_page_and_attachments_are_named(read_one):
    both = message("It is late.", "<p>It is <b>late</b>. hidden</p>", b"\x89PNG")
    document = read_one("a.eml", both)
    assert document.text == "It is late."
    assert document.warnings == ("attachments left out: pier.png",)
    page = message(html="<h1>News</h1><p>It is <b>late</b>.</p>")
    document = read_one("b.eml", page)
    assert (document.title, document.text) == ("Die Fähre", "News\nIt is late.")


def test_a_text_that_goes_on_behind_a_picture_is_read_whole(read_one):
    found = EmailMessage()
    found["Subject"] = "Report.docx"  # the name of a file is no title
    found.set_content("It is late.")
    found.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="pier.png")
    found.add_attachment("It is dark.", disposition="inline")
    found.add_attachment("hidden", filename="notes.txt")
    document = read_one("the_night.eml", found.as_bytes())
    assert (document.title, document.text) == ("The Night", "It is late.\nIt is dark.")
    assert document.warnings == ("attachments left out: notes.txt, pier.png",)


def test_a_mailbox_is_a_document_a_message(read):
    letters = [
        message(f"Letter {n}.\n\n>From here on it is quoted.\n", subject=f"S{n}") for n in (1, 2)
    ]
    box = b"".join(
        b"From clara@osk.example Mon May  3 09:14:00 2021\n" + m + b"\n" for m in letters
    )
    found = read("a.mbox", box)
    assert [d.id for d in found] == ["a.mbox:1", "a.mbox:2"]
    assert [d.title for d in found] == ["S1", "S2"]
    assert found[1].text == "Letter 2.\nFrom here on it is quoted."


def test_what_is_no_mailbox_is_named(read):
    with pytest.raises(Unreadable) as error:
        read("a.mbox", b"<html>404</html>")
    assert error.value.reason == "broken"


@pytest.mark.parametrize("plain", ["", " \r\n\r\n"])
def test_a_page_is_read_where_the_plain_text_is_empty(read_one, plain):
    both = message("x", "<p>The ferry is late.</p>").replace(b"\n\nx\n", f"\n\n{plain}\n".encode())
    assert read_one("a.eml", both).text == "The ferry is late."


def of_parts(kind, *parts):
    """Return a message of texts, each with its kind, or of such messages."""
    body = "".join(
        f"--x{kind}\n"
        + (part if isinstance(part, str) else f"Content-Type: text/{part[0]}\n\n{part[1]}\n")
        for part in parts
    )
    return f"Content-Type: multipart/{kind}; boundary=x{kind}\n\n{body}--x{kind}--\n"


PLAIN, PAGE = ("plain", "It is late."), ("html", "<p>It is dark.</p>")


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (of_parts("mixed", PAGE, PLAIN), "It is dark.\nIt is late."),
        (of_parts("mixed", PLAIN, PAGE), "It is late.\nIt is dark."),
        (of_parts("mixed", PAGE, ("html", "<p>Bye.</p>")), "It is dark.\nBye."),
        (of_parts("related", PAGE, PLAIN), "It is dark.\nIt is late."),
        (of_parts("alternative", PLAIN, PAGE), "It is late."),
        (of_parts("mixed", of_parts("alternative", PLAIN, PAGE), PAGE), "It is late.\nIt is dark."),
        (of_parts("alternative", ("plain", " "), of_parts("related", PAGE)), "It is dark."),
    ],
)
def test_every_text_of_a_message_is_read_in_order_but_one_of_alternatives(read_one, parts, text):
    document = read_one("a.eml", f"Subject: Pier\nMIME-Version: 1.0\n{parts}")
    assert (document.text, document.warnings) == (text, ())


@pytest.mark.parametrize(
    "separator",
    [
        "From clara@osk.example Mon May  3 09:14:00 2021",
        "From MAILER-DAEMON Mon May 03 09:14:00 2021",
        "From clara at osk.example Mon May  3 09:14:00 2021 +0200",
        "From - Mon May  3 09:14:00 2021",
    ],
)
def test_a_line_of_text_that_begins_with_from_splits_no_message(read, separator):
    letter = "Subject: Pier\n\nIt is late.\n\nFrom Osk it takes an hour.\n\n"
    found = read("a.mbox", f"{separator}\n{letter}{separator}\n{letter}")
    assert [d.text for d in found] == ["It is late.\nFrom Osk it takes an hour."] * 2


def test_a_message_that_is_one_text_with_a_name_is_read(read_one):
    head = 'Subject: Pier\nContent-Type: text/plain; name="pier.txt"\n\n'
    assert read_one("a.eml", f"{head}It is late.\n").text == "It is late."
