"""Print the reference of every knob: `python docs/knobs.py > docs/knobs.md`.

The names, types and defaults come from the config's dataclasses, the descriptions from the comments
beside and above their fields. To change the page, change pdtrain/schema/ and run the command.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import textwrap
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any

from pdtrain.config import RunConfig

HEADER = """# Knobs

<!-- Generated from pdtrain/schema/ by `python docs/knobs.py > docs/knobs.md`. -->

Every key of a config with its type, its default and what it does. In a YAML file a key stands under
its section; on the command line it is written in full, as `train.epochs=3`. The command line
overrides the file, and the file overrides the default. An unknown key is an error that names the
nearest known one. [own-documents.md](own-documents.md) says which of these keys to set first.

The column *redoes* names the stages that run again when the key changes; those that read their
output then run again as well. **Where it is empty, something may run again all the same.** Nothing
does for keys that say only how a stage is done, such as batch sizes, logging and engines. But some
keys decide what a stage does in a way that the column cannot show, because they count only in some
runs, or by what they come to:

* the model, and files and folders that a key names, count by what is in them;
* `train.answers_per_group` counts by the number that it comes to, which for 0 depends on
  `teacher.cache`;
* `questions.writer`, `questions.language`, `questions.prompts`, the four that begin with `model_`,
  and `questions.per_passage_unanswerable` count for questions, where their writer is at work;
* `questions.given`, `questions.given_and_generated`, `questions.given_answers`,
  `answers.unfinished`, `answers.agreement` and `answers.mark_known` count for questions or answers;
* `corpus.ocr`, `corpus.exclude` and `corpus.links_outside` count for passages;
* `evaluate.rag_passages` and `evaluate.dense` add systems to the evaluation, or take them away.
"""
TOP = "The run"

# parts of a stage that the schema names, and the stage that a user knows
STAGE_OF = {
    "forgetting": "evaluate",
    "judge": "evaluate",
    "predictions": "evaluate",
    "quiz": "rounds",
    "reading": "passages",
    "retrieval": "evaluate",
    "teacher": "train",
}


def main() -> None:
    """Print the page."""
    print(HEADER)
    print("\n\n".join(_sections(RunConfig())))


def _sections(config: Any) -> Iterator[str]:
    """Yield the run's own keys as one section, then one section for each nested dataclass."""
    own = [f for f in fields(config) if not is_dataclass(getattr(config, f.name))]
    yield _section(TOP, "", list(_rows(config, own)))
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            rows = _rows(value, fields(value), f"{f.name}.", f.metadata.get("decides", ()))
            yield _section(f"`{f.name}`", _description(type(value)), list(rows))


def _section(title: str, about: str, rows: list[tuple[str, ...]]) -> str:
    cells = [("key", "type", "default", "meaning", "redoes"), ("---",) * 5, *rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return "\n\n".join(part for part in (f"## {title}", about, table) if part)


def _rows(
    config: Any, knobs: Iterable[Field[Any]], prefix: str = "", inherited: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield a table row for each knob of a dataclass, and for the knobs of nested ones."""
    comments, types = _comments(type(config)), _types(type(config))
    for f in knobs:
        value, key = getattr(config, f.name), f"{prefix}{f.name}"
        stages = f.metadata.get("decides", inherited)
        if is_dataclass(value):
            yield from _rows(value, fields(value), f"{key}.", stages)
        else:
            default, said = json.dumps(value, ensure_ascii=False), comments.get(f.name, "")
            redone = dict.fromkeys(STAGE_OF.get(stage, stage) for stage in stages)
            yield f"`{key}`", types[f.name], _code(default), _escaped(said), ", ".join(redone)


def _description(schema: Any) -> str:
    """Return the class's own docstring; the one that dataclasses make up does not count."""
    text = inspect.cleandoc(schema.__doc__ or "")
    return "" if text.startswith(f"{schema.__name__}(") else text


def _declarations(schema: Any) -> tuple[str, list[ast.AnnAssign]]:
    """Return the source of a dataclass and its fields in the order in which they stand there."""
    source = textwrap.dedent(inspect.getsource(schema))
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    return source, [node for node in definition.body if isinstance(node, ast.AnnAssign)]


def _types(schema: Any) -> dict[str, str]:
    """Return each field's type as a reader of YAML understands it."""
    _, found = _declarations(schema)
    return {_name(node): _type(node.annotation) for node in found}


def _type(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        inner = annotation.slice
        choices = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        values = [ast.literal_eval(choice) for choice in choices]
        return ", ".join(f"`{v if isinstance(v, str) else json.dumps(v)}`" for v in values)
    names = {"str": "text", "int": "integer", "float": "number", "bool": "`true`, `false`"}
    parts = [part.strip() for part in ast.unparse(annotation).split("|")]
    plain = [names.get(part, "mapping" if part.startswith("dict") else part) for part in parts]
    return " or ".join("`null`" if part == "None" else part for part in plain)


def _comments(schema: Any) -> dict[str, str]:
    """Return the comments of each field: the lines directly above it, then those beside it."""
    source, found = _declarations(schema)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t for t in tokens if t.type == tokenize.COMMENT}
    alone = {line for line, token in comments.items() if token.line.lstrip().startswith("#")}
    texts = {}
    for node in found:
        first = node.lineno
        while first - 1 in alone:
            first -= 1
        lines = [n for n in range(first, (node.end_lineno or first) + 1) if n in comments]
        said = " ".join(comments[line].string.lstrip("# ").strip() for line in lines)
        texts[_name(node)] = said
    return texts


def _name(node: ast.AnnAssign) -> str:
    assert isinstance(node.target, ast.Name)
    return node.target.id


def _code(text: str) -> str:
    return f"`{_escaped(text)}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
