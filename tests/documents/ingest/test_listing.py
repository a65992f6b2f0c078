"""The files of a corpus: which are documents, under which names, and what is said of the others."""

import os

import pytest
from support import folders_inside_one_another

from pdtrain.config import CorpusConfig, load
from pdtrain.documents.ingest.listing import document_paths, left_out_line, list_files


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("The pier.")


def listed(documents, **settings):
    return list_files(CorpusConfig(documents=documents, **settings))


def names(documents, **settings):
    return [file.name for file in listed(documents, **settings).files]


def test_documents_are_found_below_the_folder_in_order(tmp_path):
    write(tmp_path, "b.txt", "a/z.MD", "a/b.html", ".hidden.txt", ".git/x.txt", "c.xyz", "core")
    (tmp_path / "core").write_bytes(b"\x7fELF\0\0")
    assert names(str(tmp_path)) == ["a/b.html", "a/z.MD", "b.txt"]
    line = left_out_line(listed(str(tmp_path)))
    assert line.endswith("left out 2 files that are not documents: .xyz core")


def test_files_are_known_by_their_names_and_those_without_a_suffix_by_what_is_in_them(tmp_path):
    known = ["Dockerfile", "LICENSE", "Makefile.am", "README.Debian", "notes", "run"]
    write(tmp_path, *known, "clip", "song.mp3", "README.xyz")
    (tmp_path / "clip").write_bytes(b"RIFF\x01\xff\x00")
    os.mkfifo(tmp_path / "pipe")
    found = listed(str(tmp_path))
    assert [file.name for file in found.files] == known
    assert {name: why for name, (_, why) in found.left_out.items()} == {
        "README.xyz": "a file of another kind",
        "clip": "a file of another kind",
        "pipe": "a device, socket or pipe",
        "song.mp3": "a file of another kind",
    }


def test_a_hidden_folder_above_the_corpus_hides_nothing(tmp_path):
    write(tmp_path, ".cache/corpus/a.txt")
    assert names(str(tmp_path / ".cache/corpus")) == ["a.txt"]


def test_folders_inside_one_another_without_end_are_left_out(tmp_path):
    write(tmp_path, "b.txt")
    with folders_inside_one_another(tmp_path):
        found = listed(str(tmp_path))
    assert [file.name for file in found.files] == ["b.txt"]
    assert any("inside more than 200 others" in detail for _, detail in found.left_out.values())


def test_one_file_is_a_corpus(tmp_path):
    write(tmp_path, "a.txt", "b.txt")
    config = CorpusConfig(documents=str(tmp_path / "a.txt"))
    assert document_paths(config) == [tmp_path / "a.txt"]
    assert names(str(tmp_path / "a.txt")) == ["a.txt"]


def test_a_list_names_files_below_the_folder_above_all_of_them(tmp_path):
    write(tmp_path, "a/x.txt", "b/x.txt", "b/y.txt", "c/z.txt")
    given = [str(tmp_path / "a"), str(tmp_path / "b/x.txt"), str(tmp_path / "b")]
    assert names(given) == ["a/x.txt", "b/x.txt", "b/y.txt"], "each file once"


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("**/*.md", ["a/deep/x.md", "b/y.md"]),
        ("a*/*.txt", ["a/1.txt"]),
        ("[b]", ["b/2.txt", "b/y.md"]),
        ("b/?.txt", ["2.txt"]),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    write(tmp_path, "a/1.txt", "a/deep/x.md", "b/2.txt", "b/y.md")
    assert names(str(tmp_path / pattern)) == expected


def test_signs_of_patterns_in_real_names_are_no_patterns(tmp_path):
    write(tmp_path, "rows[1]/a.txt", "rows1/b.txt")
    assert names(str(tmp_path / "rows[1]")) == ["a.txt"]


@pytest.mark.parametrize(
    "exclude, expected",
    [
        (["drafts"], ["a.txt", "b/old.bak.txt"]),
        (["drafts/"], ["a.txt", "b/old.bak.txt"]),
        (["*.bak.txt", "drafts"], ["a.txt"]),
        (["b/*"], ["a.txt", "drafts/x.txt"]),
    ],
)
def test_excluded_files_are_left_out_and_named(tmp_path, exclude, expected):
    write(tmp_path, "a.txt", "b/old.bak.txt", "drafts/x.txt")
    listing = listed(str(tmp_path), exclude=exclude)
    assert [file.name for file in listing.files] == expected
    assert {reason for reason, _ in listing.left_out.values()} == {"excluded"}


def test_links_inside_the_folder_are_followed_and_others_named(tmp_path):
    write(tmp_path, "docs/a.txt", "docs/sub/b.txt", "outside/c.txt")
    links = {
        "file.txt": "a.txt",
        "folder": "sub",
        "out.txt": "../outside/c.txt",
        "away": "../outside",
        "gone.txt": "nowhere.txt",
        "sub/up": "..",
    }
    for name, target in links.items():
        os.symlink(target, tmp_path / "docs" / name)
    listing = listed(str(tmp_path / "docs"))
    assert [f.name for f in listing.files] == ["a.txt", "file.txt", "folder/b.txt", "sub/b.txt"]
    reasons = {name: reason for name, (reason, _) in listing.left_out.items()}
    assert reasons == {
        "out.txt": "link",
        "away": "link",
        "gone.txt": "broken",
        "sub/up": "link",
        "folder/up": "link",
    }
    allowed = names(str(tmp_path / "docs"), links_outside=True)
    assert {"out.txt", "away/c.txt"} <= set(allowed)


@pytest.mark.parametrize("pattern", ["docs/*.txt", "docs/**/*.txt", "docs/*/c.txt"])
def test_a_pattern_follows_no_link_out_of_its_folder(tmp_path, pattern):
    write(tmp_path, "docs/a.txt", "outside/c.txt", "outside/secret.txt")
    os.symlink("../outside", tmp_path / "docs" / "away")
    os.symlink("../outside/secret.txt", tmp_path / "docs" / "secret.txt")
    entry = str(tmp_path / pattern)
    listing = listed(entry)
    assert {file.name for file in listing.files} <= {"a.txt"}
    assert {reason for reason, _ in listing.left_out.values()} == {"link"}
    assert len(names(entry, links_outside=True)) > len(listing.files)


def test_a_corpus_that_is_a_link_is_read(tmp_path):
    write(tmp_path, "real/a.txt")
    os.symlink("real", tmp_path / "docs")
    assert names(str(tmp_path / "docs")) == ["a.txt"]


def test_a_name_that_is_no_text_is_read(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "w") as stream:
        stream.write("The pier.")
    (file,) = listed(str(tmp_path)).files
    assert file.name == "caf\ufffd.txt" and os.path.exists(file.path)


@pytest.mark.parametrize(
    "name, message",
    [
        ("absent", r"absent' does not exist; expected a folder with .txt .md"),
        ("empty", r"empty' holds no document; expected files ending in .txt"),
        ("other", r"other' holds no document.*; data.xyz: a file of another kind"),
        ("other/*.md", r"\.md' does not exist"),
    ],
)
def test_a_folder_without_documents_says_what_is_expected(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    write(tmp_path, "other/data.xyz", "other/.hidden.txt")
    with pytest.raises(ValueError, match=message):
        document_paths(CorpusConfig(documents=str(tmp_path / name)))


def test_a_corpus_that_is_not_set_is_asked_for():
    with pytest.raises(ValueError, match=r"corpus\.documents is not set"):
        list_files(CorpusConfig())


def test_a_config_file_may_list_paths_relative_to_itself(tmp_path):
    write(tmp_path, "docs/a.txt", "more/b.txt")
    (tmp_path / "c.yaml").write_text("corpus: {documents: [docs, 'more/*.txt', 's3://there/x']}")
    given = load(tmp_path / "c.yaml").corpus.documents
    assert given == [str(tmp_path / "docs"), str(tmp_path / "more/*.txt"), "s3://there/x"]
    (tmp_path / "c.yaml").write_text("corpus: {documents: {a: docs}}")
    with pytest.raises(ValueError, match=r"corpus\.documents must be a folder"):
        load(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("corpus: {documents: 3}")
    assert load(tmp_path / "c.yaml").corpus.documents == str(tmp_path / "3")
    assert load(tmp_path / "c.yaml", ["corpus.documents=3"]).corpus.documents == "3"


RUN = "name: osk\nout_dir: runs/osk\ncorpus:\n  documents: .\nanswers:\n  checks: 2\n"


@pytest.mark.parametrize("entry", ["", "*.txt", "**/*", "**/*.yaml", "runs/osk/"])
def test_what_a_run_wrote_among_its_documents_is_no_document(tmp_path, entry):
    write(tmp_path, "a.txt", "site/config.yaml", "runs/osk/report.md", "runs/osk/passages/0.jsonl")
    (tmp_path / "runs/osk/config.yaml").write_text(RUN)
    if entry == "runs/osk/":
        with pytest.raises(ValueError, match=r"runs/osk' is a run folder by its config.yaml"):
            listed(str(tmp_path / entry))
        return
    found = listed(str(tmp_path / entry))
    wanted = {"": ["a.txt", "site/config.yaml"], "*.txt": ["a.txt"], "**/*.yaml": ["config.yaml"]}
    assert [one.path.split("/")[-1] for one in found.files] == [
        name.split("/")[-1] for name in wanted.get(entry, wanted[""])
    ]
    if entry != "*.txt":
        assert ("excluded", "the folder of a run") in found.left_out.values()


def test_the_passages_of_another_run_may_be_documents(tmp_path):
    write(tmp_path, "passages/0.jsonl")
    (tmp_path / "config.yaml").write_text(RUN)
    assert names(str(tmp_path / "passages")) == names(str(tmp_path / "passages/*")) == ["0.jsonl"]


def test_the_config_and_the_held_out_questions_of_a_run_are_no_documents(tmp_path):
    write(tmp_path, "a.txt", "held-out.jsonl", "osk.yaml")
    (tmp_path / "osk.yaml").write_text(
        "corpus: {documents: .}\nevaluate: {questions: held-out.jsonl}\n"
    )
    config = load(tmp_path / "osk.yaml")
    found = list_files(config.corpus, config.own_inputs)
    assert [file.name for file in found.files] == ["a.txt"]
    assert found.left_out.keys() == {"held-out.jsonl", "osk.yaml"}
