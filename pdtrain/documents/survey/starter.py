"""Write a commented config for a folder of documents: the command `pdtrain init`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pdtrain.config import CorpusConfig, RunConfig, load
from pdtrain.documents.ingest.remote import is_address, shown_address
from pdtrain.documents.survey.look import ADVICE, Survey, look
from pdtrain.progress import say
from pdtrain.schema.checks import require_name
from pdtrain.storage import write_atomically

NAMES_SHOWN = 5
LONGEST_STEM = 60  # characters of a folder's name that a config is called after
KNOWN = ("model.name", "name")
LARGER_RATE = "1.0e-4"  # as YAML takes it for a number; not measured


def init(folder: str, given: Sequence[str]) -> Path:
    """Look at a folder, and write a config for it into the working folder.

    Args:
        folder: of the documents, or one file.
        given: overrides such as "model.name=Qwen/Qwen3-8B" and "name=handbook".

    Returns:
        The path of the config.

    Raises:
        ValueError: there is no document in the folder, or the config is there already.
    """
    if is_address(folder):
        raise ValueError(
            f"init looks at folders of this machine, got {shown_address(folder)}; write the config "
            "yourself: corpus.documents takes addresses"
        )
    values = _values(given)
    name = values.get("name") or _name_of(folder)
    require_name(name, "name")
    path = Path(f"{name}.yaml")
    if path.exists():
        raise ValueError(
            f"{path} is there already and is left as it is; rename it, or give another name: "
            f"pdtrain init {folder} name={name}-2"
        )
    survey = look(folder, CorpusConfig().max_passage_tokens)
    text = starter(survey, name, values.get("model.name", RunConfig().model.name))
    write_atomically(path, text)
    load(path)  # what is written must be a config
    for line in summary(survey):
        say(line)
    say(f"{path} is written; read it, then:")
    say(f"pdtrain inspect {path}    # the passages as the teacher will read them")
    say(f"pdtrain plan {path}       # memory, time and cost of training")
    say(f"pdtrain run {path}")
    return path


def _values(given: Sequence[str]) -> dict[str, str]:
    values = dict(one.split("=", 1) for one in given if "=" in one)
    wrong = [one for one in given if one.split("=", 1)[0] not in KNOWN or "=" not in one]
    if wrong:
        raise ValueError(
            f"init takes {' and '.join(f'{key}=…' for key in KNOWN)}, got {wrong[0]!r}; everything "
            "else is set in the file that it writes"
        )
    return values


def _name_of(folder: str) -> str:
    path = Path(folder).expanduser().resolve()
    stem = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.-]+", "-", stem)[:LONGEST_STEM].strip("-.") or "documents"


def summary(survey: Survey) -> Iterator[str]:
    """Yield lines that say what was found."""
    files = len(survey.listing.files)
    read = sum(kind.files_read for kind in survey.kinds.values())
    sampled = "all of them" if read == files else f"{read} of them"
    yield f"{files:,} files in {survey.folder}; read: {sampled}"
    yield "files  kind        MB      documents  characters"
    for kind, found in sorted(survey.kinds.items(), key=lambda pair: -pair[1].bytes):
        yield (
            f"{found.files:<6,} {kind or 'no suffix':<11} {found.bytes / 1e6:<7.1f} "
            f"{found.of_all(found.documents):<10,} {found.of_all(found.characters):,}"
        )
    about = "" if read == files else "about "
    yield (
        f"{about}{survey.total('tokens'):,} tokens (estimated from the scripts), "
        f"{survey.total('passages'):,} passages"
    )
    if languages := survey.languages:
        total = languages.total()
        shares = (f"{name or 'not clear'} {n / total:.0%}" for name, n in languages.most_common(6))
        yield f"languages: {', '.join(shares)}"
    yield f"reading takes about {_duration(survey.seconds)} on one core"
    for reason, names in sorted(survey.faults.items()):
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        advice = f"; {ADVICE[reason]}" if reason in ADVICE else ""
        yield f"{reason}: {', '.join(names[:NAMES_SHOWN])}{more}{advice}"
    others = sorted(n for n, (why, _) in survey.listing.left_out.items() if why == "no reader")
    if others:
        suffixes = sorted({Path(name).suffix or Path(name).name for name in others})
        yield f"left out, without a reader: {len(others):,} files ({' '.join(suffixes[:12])})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def starter(survey: Survey, name: str, model: str) -> str:
    """Return the text of a config, with comments that say what was found and what to decide."""
    lines = [f"# {line}" for line in ["Written by `pdtrain init`.", *summary(survey)]]
    lines += [
        "",
        f"name: {_text(name)}  # the run is written to runs/{name}",
        "model:",
        "  # a Hugging Face causal LM with a chat template, by name or folder, such as",
        "  # Qwen/Qwen3-8B; `embedded` is a small one for trying out, which knows English alone",
        f"  name: {_text(model)}",
        *_about_training(model),
        "corpus:",
        f"  documents: {_text(_path(survey.folder))}",
        *_about_records(survey),
        *_about_choices(survey),
        *_about_questions(survey),
        "retain:",
        "  # holds the adapter to its base, and to reading what stands before a question; steps",
        "  # then take longer. docs/evaluation.md says what it does; 0 leaves it out",
        "  weight: 0.25",
        "  reading: 0.5",
        "evaluate:",
        "  # held-out questions: a line of JSON each, never trained on. Without them nothing is",
        '  # scored: {"question": "…", "answers": ["…"], "document": "…"}',
        '  questions: ""',
        "plan:  # what `pdtrain plan` counts with",
        f"  passages: {max(1, survey.total('passages'))}",
    ]
    return "\n".join(_one_line(line) for line in lines) + "\n"


def _about_training(model: str) -> Iterator[str]:
    """Yield the learning rate of a model that is larger than the one that the default suits."""
    rate = f"learning_rate: {LARGER_RATE}"
    if model == RunConfig().model.name:
        yield f"# train: {{{rate}}}  # with a model of about 8B; the default suits `embedded`"
        return
    yield "train:"
    yield "  # a usual start for LoRA at about 8B; the default of 1e-3 suits the embedded model."
    yield "  # Compare it with 3e-5 and 3e-4 on questions of your own"
    yield f"  {rate}"


def _about_records(survey: Survey) -> Iterator[str]:
    """Yield where the text of records stands, if the defaults do not find it."""
    told = False
    for name, columns in survey.columns.items():
        if columns.fits_defaults or not columns.text:
            continue
        lead = "  # " if told else "  "
        title = columns.title or "title"
        yield f"  # the columns of {name}: {', '.join(columns.names)}"
        yield f"{lead}text_field: {_text(columns.text)}"
        if columns.title:
            yield f"{lead}title_field: {_text(columns.title)}"
        both = f"{{{title}}}\\n\\n{{{columns.text}}}"
        yield f'  # text: "{both}"  # or a template of several columns'
        told = True


def _about_choices(survey: Survey) -> Iterator[str]:
    if _path(survey.folder) == ".":  # this file and its runs stand among the documents
        yield '  exclude: [runs, "*.yaml"]'
    yield '  # exclude: [drafts, "*.bak"]  # patterns of names to leave out'
    named = [name for name, _ in survey.languages.most_common() if name]
    if len(named) > 1:
        yield f"  # languages: [{', '.join(named[:4])}]  # leave out documents in others"
    yield "  # duplicates: near  # leave out near copies, too; needs the extra filters"
    if survey.faults:
        yield "  # on_error: stop  # end the run where a file cannot be read, instead of naming it"


def _about_questions(survey: Survey) -> Iterator[str]:
    for name, columns in survey.columns.items():
        if columns.holds_questions:
            root = Path(_path(survey.folder))
            path = root / name if Path(survey.folder).is_dir() else root
            yield "questions:"
            yield f"  # {name} holds questions, which are asked instead of generated ones"
            yield f"  given: {_text(str(path))}"
            return


def _path(folder: str) -> str:
    """Return the path as it is written: relative where it lies below the working folder."""
    path = os.path.abspath(os.path.expanduser(folder))
    here = os.getcwd()
    inside = os.path.commonpath([path, here]) == here
    return os.path.relpath(path, here) if inside else path


def _text(value: str) -> str:
    """Return a text as YAML that is taken as it stands."""
    return json.dumps(value.replace("${", "\\${"), ensure_ascii=False)


def _one_line(line: str) -> str:
    """Return the line without control characters: a file's name must not end a comment."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)
