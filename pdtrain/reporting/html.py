"""Render a run's summary as one self-contained HTML page, without scripts or anything to load.

The text of the page stands in `templates/`, one file for each part, and what they show comes from
`sections`. Jinja2 escapes whatever a template prints; only what `svg` draws, the stylesheet and the
`<code>` of a note are markup already, which their type `Markup` says.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pdtrain import __version__
from pdtrain.progress import printable
from pdtrain.reporting import sections
from pdtrain.reporting.markdown import commands_in
from pdtrain.reporting.summary import COMPARED, Summary
from pdtrain.reporting.svg import interval_bar, strip

MOST_DOCUMENTS = 200  # a page with more is slow to open on a phone
MOST_SENTENCES = 50  # of those of one document that no question is about


def render(summary: Summary) -> str:
    """Return the whole page."""
    questions = sections.questions(summary)
    return (
        _environment()
        .get_template("page.html")
        .render(
            summary=summary,
            version=__version__,
            style=Markup(
                files("pdtrain.reporting").joinpath("templates/style.css").read_text("utf-8")
            ),
            compared=COMPARED,
            most_documents=MOST_DOCUMENTS,
            most_sentences=MOST_SENTENCES,
            headline=sections.headline(summary.scores),
            score_tables=sections.score_tables(summary.scores or {}),
            manner=sections.manner_table(summary.scores or {}, "answers"),
            reading=sections.manner_table(summary.scores or {}, "reading"),
            age_scores=sections.age_scores(summary),
            forgetting=sections.forgetting(summary.scores or {}),
            charts=sections.charts(summary),
            quizzed_passages=sections.quizzed_passages(summary.rounds),
            recall=summary.recall,
            coverage=sections.coverage(summary.coverage),
            questions_by_document=questions,
            filters=sections.filters(questions),
            sizes=sections.sizes(summary),
            settings=sections.settings(summary.config),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pdtrain.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        # a page may be read in a terminal too; what is Markup was made here
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "thousands": lambda number: f"{number:,}",
        "percent": lambda share: f"{100 * share:.0f}\u2009%",
        "decimals": lambda value, digits: f"{value:.{digits}f}".replace("-", "−"),
        "label": sections.label,
        "css": sections.css_classes,
        "code": _code,
    }
    environment.globals |= {
        "interval_bar": interval_bar,
        "recall_dots": sections.recall_dots,
        "strip": strip,
    }
    return environment


def _code(text: str) -> Markup:
    """Escape a text and set the commands of ours that it has in backquotes as code."""
    return Markup().join(
        Markup("<code>{}</code>").format(part) if is_command else escape(part)
        for part, is_command in commands_in(printable(text))
    )
