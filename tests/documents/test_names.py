"""Files that are known by their names, and what must not become a path."""

import pytest
from archive_files import tar_of, zip_of

from pdtrain.config import CorpusConfig, load
from pdtrain.documents.document import Unreadable
from pdtrain.documents.library import read_documents
from pdtrain.documents.naming.subjects import bare, subject_of
from pdtrain.documents.survey.starter import init

MAKE = "all: osk\n\tcc -o osk osk.c\n\nclean:\n\trm -f osk\n"


@pytest.mark.parametrize(
    "name", ["Makefile", "GNUmakefile", "Makefile.am", "rules.mk", "CMakeLists.txt", "Dockerfile"]
)
def test_code_without_a_usual_suffix_keeps_its_lines(read_one, name):
    document = read_one(name, MAKE)
    assert document.title == name and {block.kind for block in document.blocks} == {"code"}
    assert [line for line in document.text.split("\n") if line] == [
        x for x in MAKE.split("\n") if x
    ]


@pytest.mark.parametrize("name", ["README", "LICENSE", "README.Debian", "COPYING", "notes"])
def test_text_without_a_usual_suffix_is_text(read_one, name):
    text = "The pier of Osk that was built long ago is made of larch wood, and it\nis old."
    document = read_one(name, text)
    assert document.text == text.replace("\n", " ")


def test_a_file_without_a_suffix_is_what_its_first_bytes_say(read, read_one):
    assert read_one("run", "#!/bin/sh\nfor x in a b\ndo\n  ls $x\ndone\n").blocks[0].kind == "code"
    assert read_one("page", "<!DOCTYPE html><h1>Osk</h1><p>It is old.").text == "It is old."
    with pytest.raises(ValueError, match="core is a file of another kind"):
        read("core", b"\x7fELF\0\0")
    with pytest.raises(Unreadable, match="binary"):
        read("LICENSE", b"\x7fELF\0\0")


ELSEWHERE = {"a.txt": b"It is old.", "../out.txt": b"x", "/etc/out.txt": b"x", "b.zip": b"x"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_lead_elsewhere_are_named_and_left_out(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    pack = {"zip": zip_of, "tar": tar_of}[kind]
    path.write_bytes(pack(ELSEWHERE, link="/etc/passwd"))
    told = {}
    config = CorpusConfig(documents=str(tmp_path))
    found = read_documents(path, config, lambda name, why, detail: told.update({name: why}))
    assert [document.text for document in found] == ["It is old."]
    where = f"a.{kind}"
    assert told == {
        f"{where}/../out.txt": "link",
        f"{where}//etc/out.txt": "link",
        f"{where}/link.txt": "link",
        f"{where}/b.zip": "no reader",
    }


def test_an_archive_that_holds_far_more_than_its_size_is_refused(tmp_path, read, monkeypatch):
    monkeypatch.setattr("pdtrain.documents.archives.FREE_BYTES", 1000)
    members = {f"{number}.txt": "a" * 100_000 for number in range(20)}
    with pytest.raises(Unreadable) as error:
        read("a.zip", zip_of(members))
    assert error.value.reason == "too large"


@pytest.mark.parametrize(
    "name, what",
    [
        ("../out", "holds a path separator"),
        ("a/b", "holds a path separator"),
        ("a\\b", "holds a path separator"),
        ("..", "begins with a dot"),
        (".hidden", "begins with a dot"),
        ("a\nb", "holds control characters"),
        ("a\x1b[31mb", "holds control characters"),
        ("x" * 201, "has more than 200 bytes"),
        ("ä" * 101, "has more than 200 bytes"),
        ("", "is empty"),
        (" a", "begins or ends with a blank"),
    ],
)
def test_a_name_is_that_of_one_folder(tmp_path, monkeypatch, name, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "osk.yaml").write_text("name: osk\n")
    quoted = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\x1b", "\\e")
    (tmp_path / "bad.yaml").write_text(f'name: "{quoted}"\n')
    with pytest.raises(ValueError, match=f"name='.* {what}"):
        load("bad.yaml")
    assert load("osk.yaml").folder.as_posix() == "runs/osk"


def test_init_writes_into_the_working_folder_alone(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("It is old.")
    with pytest.raises(ValueError, match="holds a path separator"):
        init(str(tmp_path / "docs"), ["name=../out"])
    assert not list(tmp_path.glob("*.yaml"))


def test_topics_that_differ_in_the_marks_of_a_script_are_not_alike():
    assert bare("किला") != bare("कोला")
    assert bare("ท่าเรือ") != bare("ทาเรือ")
    assert bare("The Pier!") == bare("pier")


def test_a_title_that_stands_in_a_text_without_blanks_is_its_subject():
    assert subject_of("港口手册", "港口手册介绍 Windows NT 系统。") == "港口手册"
    assert subject_of("คู่มือท่าเรือ", "ในคู่มือท่าเรือนี้มี Windows NT ด้วย") == "คู่มือท่าเรือ"
