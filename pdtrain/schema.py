"""Define every knob, section by section: frozen dataclasses with their defaults and checks.

`RunConfig` puts the sections together, and checks what concerns several of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date
from math import inf
from pathlib import Path
from typing import Any, Literal

from pdtrain.run_folder import RunFolder
from pdtrain.storage import hash_json


def require(condition: bool, message: str) -> None:
    """Raise ValueError with the message where the condition does not hold."""
    if not condition:
        raise ValueError(message)


def decides(*stages: str) -> dict[str, tuple[str, ...]]:
    """Return the metadata of a knob that changes what these stages put out; of none if empty.

    A knob without such metadata decides what its section does, as `config.RunConfig` says it.
    `RunConfig.hash_for` hashes the values of all knobs that decide a stage, so that the stage runs
    again when one of them changes.
    """
    return {"decides": stages}


# the stages that put a chat before the model
ASKS_MODEL = (
    "questions",
    "answers",
    "retain",
    "teacher",
    "train",
    "predictions",
    "forgetting",
    "quiz",
)


@dataclass(frozen=True)
class ModelConfig:
    """Choose the base model, which is teacher and student alike."""

    # `embedded`, the path of a model folder, or a name on the Hugging Face hub
    name: str = "embedded"
    revision: str | None = None  # branch, tag or commit of a hub model; null is its default
    # dtype of the base; auto is bfloat16 on a GPU and float32 on a CPU
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    # how the base's linear layers hold their weights; the head stays whole. nf4: 4 bits, by
    # bitsandbytes, for one process or many. int8, fp8: 8 bits, by torchao, for one process. The
    # base is then another, slightly worse one, as teacher and as student
    quantization: Literal["none", "nf4", "int8", "fp8"] = field(default="none", metadata=decides())
    device: str = "auto"  # auto is cuda if there is one, and cpu otherwise
    # how answers become batches. packed: without padding, a passage read once for all its answers;
    # for architectures whose attention is known. padded: a row for every answer, through the
    # model's own layers, whatever they do. auto is packed where that is possible
    batching: Literal["auto", "packed", "padded"] = field(default="auto", metadata=decides())
    # runs code that comes with the model; only for code that you have read
    trust_remote_code: bool = False
    # whether the base thinks before it answers. auto: it does not; the chat template's own switch
    # is turned off, and where it has none the prompt ends with an empty thought, or opens the
    # channel of the answer. off: both at once. on, and the levels that some templates know: it
    # thinks while it writes questions and answers, and the thoughts are cut off. template: the
    # template is left as it is
    thinking: Literal["auto", "off", "on", "low", "medium", "high", "template"] = field(
        default="auto", metadata=decides(*ASKS_MODEL)
    )
    # a thought has at most this many tokens, and is ended there; with thinking=on and its levels
    thinking_budget: int = field(
        default=1024, metadata=decides("questions", "answers", "retain", "quiz")
    )
    # further variables of the chat template, for every prompt
    chat_template_kwargs: dict[str, Any] = field(
        default_factory=dict, metadata=decides(*ASKS_MODEL)
    )

    def __post_init__(self) -> None:
        require(
            self.thinking_budget > 0,
            f"model.thinking_budget must be > 0 tokens, got {self.thinking_budget}; "
            "model.thinking=off turns thoughts off",
        )
        taken = {"messages", "add_generation_prompt", "tokenize"} & self.chat_template_kwargs.keys()
        require(
            not taken,
            f"model.chat_template_kwargs must not hold {', '.join(sorted(taken))}, which pdtrain "
            "sets itself",
        )

    @property
    def thought_tokens(self) -> int:
        """Return how many tokens a thought may take before an answer; 0 without thinking."""
        return 0 if self.thinking in ("auto", "off", "template") else self.thinking_budget


@dataclass(frozen=True)
class CorpusConfig:
    """Say where the documents are and how they are cut into passages."""

    # folder of documents, a single one, a pattern such as docs/**/*.md, an address such as
    # s3://bucket/docs, a data set such as datasets://owner/name?split=train, or a list of these;
    # docs/own-documents.md lists the formats
    documents: Any = field(default="", metadata=decides())
    # patterns of names below the folder that are left out, such as drafts or *.bak
    exclude: list[str] = field(default_factory=list, metadata=decides())
    # follow links that lead out of the folder; those that stay inside are always followed
    links_outside: bool = field(default=False, metadata=decides())
    # what a file that cannot be read does: `skip` names it and goes on, `stop` names all of them
    # and ends the run
    on_error: Literal["skip", "stop"] = field(default="skip", metadata=decides())
    # processes that read files; 0 is as many as there are cores and work for
    workers: int = field(default=0, metadata=decides())
    text_field: str = "text"  # key of the text in the records of .jsonl, .parquet and .arrow files
    title_field: str = "title"  # key of the title in such records
    # what the text of a record is made of, such as "{title}\\n\\n{body}"; {meta.year} looks into a
    # column, and {{ stands for a brace. Empty takes text_field
    text: str = ""
    title: str = ""  # the same for its title; empty takes title_field
    max_passage_tokens: int = 512  # a passage has at most this many tokens
    # a passage begins with the last sentences of the one before, up to so many tokens; 0 is off
    overlap_tokens: int = 0
    # documents that are left out for others before them: `exact` those with equal text, `near`
    # also those that are similar; `off` none
    duplicates: Literal["off", "exact", "near"] = field(
        default="exact", metadata=decides("passages")
    )
    # the same for passages; equal ones are left out where their titles are equal, too
    passage_duplicates: Literal["off", "exact", "near"] = field(
        default="off", metadata=decides("passages")
    )
    # share of common word runs (Jaccard similarity of shingles of 5 words) from which texts count
    # as similar
    near_duplicate: float = field(default=0.8, metadata=decides("passages"))
    # a line or sentence that stands in at least this many documents is boilerplate and leaves the
    # passages; 0 is off
    repeated_lines: int = field(default=0, metadata=decides("passages"))
    # ISO 639 codes such as [en, de]; documents in other languages are left out; empty is off
    languages: list[str] = field(default_factory=list)
    # leave out documents that hardly hold text: signs instead of letters, lines that repeat one
    # another, encoded data
    quality: bool = False
    # what is done about e-mail addresses, telephone numbers, keys and tokens: `count` says how many
    # there are, `drop` also leaves out the passages that hold one
    personal_data: Literal["keep", "count", "drop"] = "keep"
    # languages of scanned pages, by Tesseract's names joined with +, such as deu+eng; their text is
    # then recognised. Empty is off: a scan is named and left out
    ocr: str = field(default="", metadata=decides())  # the stage counts it where it is set

    def __post_init__(self) -> None:
        is_list = isinstance(self.documents, list | tuple)
        entries = self.documents if is_list else [self.documents]
        require(
            all(isinstance(entry, str) for entry in entries),
            "corpus.documents must be a folder, a file, a pattern or a list of these, got "
            f"{self.documents!r}",
        )
        for name in ("text", "title"):
            value = getattr(self, name)
            require(
                not value or bool(re.search(r"\{[^{}]+\}", value)),
                f"corpus.{name} must name a column in braces, such as '{{title}}', got {value!r}; "
                f"corpus.{name}_field takes the name of one column",
            )
        require(
            not self.ocr or re.fullmatch(r"\w+(\+\w+)*", self.ocr) is not None,
            "corpus.ocr must be names of Tesseract's languages joined with +, such as deu+eng, got "
            f"{self.ocr!r}",
        )
        require(self.workers >= 0, f"corpus.workers must be >= 0 (0 is auto), got {self.workers}")
        require(
            self.repeated_lines == 0 or self.repeated_lines >= 2,
            f"corpus.repeated_lines must be 0 or at least 2, got {self.repeated_lines}",
        )
        require(
            0.5 <= self.near_duplicate <= 1,
            f"corpus.near_duplicate must be in [0.5, 1], got {self.near_duplicate}",
        )
        require(
            self.max_passage_tokens >= 16,
            f"corpus.max_passage_tokens must be at least 16, got {self.max_passage_tokens}",
        )
        require(
            0 <= self.overlap_tokens <= self.max_passage_tokens // 2,
            f"corpus.overlap_tokens must be from 0 to {self.max_passage_tokens // 2}, half of "
            f"corpus.max_passage_tokens, got {self.overlap_tokens}",
        )


@dataclass(frozen=True)
class SamplingConfig:
    """Say how completions are sampled."""

    temperature: float = 1.0  # 0 is greedy
    top_k: int = 50  # sample from this many most probable tokens; 0 is all of them
    top_p: float = 1.0  # sample from the most probable tokens that together have this probability
    max_new_tokens: int = 64  # a completion has at most this many tokens

    def __post_init__(self) -> None:
        require(self.temperature >= 0, f"temperature must be >= 0, got {self.temperature}")
        require(self.top_k >= 0, f"top_k must be >= 0 (0 is off), got {self.top_k}")
        require(0 < self.top_p <= 1, f"top_p must be in (0, 1], got {self.top_p}")
        require(self.max_new_tokens > 0, f"max_new_tokens must be > 0, got {self.max_new_tokens}")


@dataclass(frozen=True)
class ServerConfig:
    """Name a server with OpenAI's completions that serves the base, and say how it is asked.

    A request holds the prompt as the chat template makes it here, so that the server's own template
    has no part in it.
    """

    url: str = ""  # for example http://localhost:8000/v1
    # the base's name on the server; empty: the only one that the server lists
    model: str = ""
    # environment variable that holds the server's key, if it needs one
    key_variable: str = "OPENAI_API_KEY"
    concurrent: int = 32  # requests at the same time, of each process
    # requests that are begun in a minute, at most, by each process; 0 is no limit
    requests_per_minute: int = 0
    # attempts at a request that the server fails or answers with something that cannot be read
    attempts: int = 6
    timeout_seconds: float = 300.0  # how long one attempt may take
    # how long a request waits for a server that cannot be reached or asks to wait, as after a crash
    patience_seconds: float = 900.0

    def __post_init__(self) -> None:
        require(
            not self.url or re.match(r"https?://[^@\s]+$", self.url) is not None,
            "generation.server.url must be http(s)://host/v1 without a user or password in it",
        )
        require(
            re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable) is not None,
            "generation.server.key_variable must be the name of an environment variable in "
            "capitals, such as OPENAI_API_KEY, and not the key itself, which would be written to "
            "the run's files",
        )
        for name in ("concurrent", "attempts", "timeout_seconds", "patience_seconds"):
            value = getattr(self, name)
            require(value > 0, f"generation.server.{name} must be > 0, got {value}")
        require(
            self.requests_per_minute >= 0,
            "generation.server.requests_per_minute must be >= 0 (0 is no limit), got "
            f"{self.requests_per_minute}",
        )


@dataclass(frozen=True)
class VllmConfig:
    """Say how vLLM's engine holds the base. It has not been run on a GPU."""

    # GPUs that hold the base together; 0: all visible ones, or under a launcher one a rank where
    # one holds the base, else all of a machine
    tensor_parallel: int = 0
    memory_share: float = 0.9  # share of a GPU's memory that the engine takes
    window: int = 0  # tokens that a prompt and its completion may have; 0 is the model's own limit

    def __post_init__(self) -> None:
        require(
            self.tensor_parallel >= 0,
            f"generation.vllm.tensor_parallel must be >= 0 (0 is auto), got {self.tensor_parallel}",
        )
        require(
            0 < self.memory_share <= 1,
            f"generation.vllm.memory_share must be in (0, 1], got {self.memory_share}",
        )
        require(
            self.window >= 0,
            f"generation.vllm.window must be >= 0 (0 is the model's), got {self.window}",
        )


@dataclass(frozen=True)
class RayConfig:
    """Say where `generation.executor=ray` starts its workers, and what each of them takes."""

    address: str = ""  # of the cluster, such as auto; empty starts one on this machine
    workers: int = 0  # at the same time; 0 is as many as the cluster holds, which may change
    gpus: float = 1.0  # of a worker; none behind a server, and with model.device=cpu
    cpus: float = 1.0  # of a worker

    def __post_init__(self) -> None:
        require(
            self.workers >= 0 and self.gpus >= 0 and self.cpus >= 0,
            "generation.ray.workers, .gpus and .cpus must be >= 0, got "
            f"{self.workers}, {self.gpus} and {self.cpus}",
        )
        require(
            self.gpus + self.cpus > 0,
            "generation.ray.gpus and generation.ray.cpus are both 0: a worker must take something, "
            "for they tell how many a cluster holds",
        )


@dataclass(frozen=True)
class GenerationConfig:
    """Say what generates questions, answers and what holds the adapter to its base.

    None of it makes a finished stage run again: another engine goes on where the last one stopped.
    """

    # huggingface: transformers, in this process. vllm: vLLM's engine, in this process. server: any
    # server with OpenAI's completions. auto: vllm where it is installed and there is a GPU, else
    # huggingface
    backend: Literal["huggingface", "vllm", "server", "auto"] = "huggingface"
    server: ServerConfig = field(default_factory=ServerConfig)
    vllm: VllmConfig = field(default_factory=VllmConfig)
    # local: this process, or the ranks of a launcher. ray: the workers of a Ray cluster
    executor: Literal["local", "ray"] = "local"
    ray: RayConfig = field(default_factory=RayConfig)
    # where a capable model writes the questions, hold its replies to JSON if the engine can: vLLM,
    # and servers with OpenAI's response_format
    guided: bool = True

    def __post_init__(self) -> None:
        require(
            self.backend != "server" or bool(self.server.url),
            "generation.backend=server needs generation.server.url, such as "
            "http://localhost:8000/v1",
        )


def how_many(default: int, wordings: int | None = None) -> Any:
    """Return a knob that says how many questions of one kind are asked for.

    Args:
        wordings: of the kind's requests, if its count has a limit: a larger count would only repeat
            them.
    """
    return field(default=default, metadata={"wordings": wordings})


@dataclass(frozen=True)
class QuestionConfig:
    """Say how many questions of each kind are asked, and which are dropped."""

    per_sentence: int = how_many(8)  # questions about each sentence that ask for one of its phrases
    # questions that ask which subject a sentence is true of, if it names one
    per_sentence_reverse: int = how_many(1)
    per_sentence_completions: int = how_many(2)  # requests to finish a sentence from its beginning
    # requests to fill in a phrase that is left out of a sentence
    per_sentence_blanks: int = how_many(2)
    # requests that name a sentence's subject and a word or two of it; the sentence is the answer
    per_sentence_cues: int = how_many(0)
    # requests to tell about the passage's subject, which take its sentences in turn
    per_passage: int = how_many(8, wordings=8)
    per_name: int = how_many(2)  # requests about each person, place or thing that the passage names
    # requests to sum up all that the passage says
    per_passage_summaries: int = how_many(1, wordings=4)
    per_passage_lists: int = how_many(1, wordings=4)  # requests to list the passage's facts
    # questions about each two sentences of a passage that share a name or the subject
    per_pair: int = how_many(1)
    # for each name that occurs in several passages: this many requests and this many questions
    # about it in each of these passages and the next one; the teacher reads both
    per_entity: int = how_many(1)
    # requests to compare the passage's subject with that of another passage; a small teacher
    # compares badly
    per_passage_comparisons: int = how_many(0)
    # questions about each passage that are asked without a plan, as the paper does
    blind: int = how_many(0)
    # blind questions that one call asks for: 5 as in the paper, or 1, after examples, for a model
    # that is too small for 5
    blind_a_call: int = 5
    # who writes them. sentence: rules of thumb for plain English, and a small model's wording; the
    # knobs above are its. model: a capable model, as JSON, in the language of the text; the five
    # knobs below are its. auto: sentence for the embedded model, else model
    writer: Literal["auto", "sentence", "model"] = field(default="sentence", metadata=decides())
    # questions that cite each sentence, at least; sentences with fewer are asked about again
    model_per_sentence: int = field(default=3, metadata=decides())
    # questions of each kind about whole passages, such as lists, summaries and unanswerable ones
    model_per_passage: int = field(default=1, metadata=decides())
    model_tokens: int = field(default=1536, metadata=decides())  # a reply has at most this many
    # ISO 639-1 code of the language to write in; empty: that of each passage
    language: str = field(default="", metadata=decides())
    # folder of prompts that take the place of the package's, in pdtrain/synthesis/asking/prompts
    prompts: str = field(default="", metadata=decides())
    # a question is dropped if its words are at least this similar to those of another question
    # about its passage, or of a held-out one (Jaccard similarity of the sets of word stems, without
    # articles); 1 drops only equal questions
    near_duplicate: float = field(default=0.9, metadata=decides("questions", "retain", "quiz"))
    # a data set of questions and answers about the documents, which are asked instead of generated
    # ones: .jsonl, .json, .csv, .parquet or .arrow, or a folder of these. docs/own-documents.md has
    # the columns
    given: str = field(default="", metadata=decides())
    # ask the generated ones, too
    given_and_generated: bool = field(default=False, metadata=decides())
    # what the student learns of a given question: `keep` its own answer, as it stands, `sample`
    # what the teacher says when it reads the passage
    given_answers: Literal["keep", "sample"] = field(default="keep", metadata=decides())
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.8, top_k=50, max_new_tokens=40),
        metadata=decides("questions", "quiz"),
    )

    def __post_init__(self) -> None:
        only_given = bool(self.given) and not self.given_and_generated
        require(
            min(self.counts().values()) >= 0 and (sum(self.counts().values()) > 0 or only_given),
            f"questions.{', '.join(self.counts())} must be >= 0 and not all 0, got "
            f"{', '.join(map(str, self.counts().values()))}",
        )
        for f in fields(self):
            value, most = getattr(self, f.name), f.metadata.get("wordings")
            require(
                most is None or value <= most,
                f"questions.{f.name} must be at most {most}, for there are so many wordings, got "
                f"{value}; questions.per_sentence asks for more of each sentence",
            )
        for name, least in (
            ("model_per_sentence", 1),
            ("model_per_passage", 0),
            ("model_tokens", 64),
        ):
            value = getattr(self, name)
            require(value >= least, f"questions.{name} must be at least {least}, got {value}")
        require(
            self.blind_a_call in (1, 5),
            f"questions.blind_a_call must be 5, as in the paper, or 1, got {self.blind_a_call}",
        )
        require(
            0 < self.near_duplicate <= 1,
            "questions.near_duplicate must be in (0, 1], 1 to drop equal questions alone, got "
            f"{self.near_duplicate}",
        )

    def counts(self) -> dict[str, int]:
        """Return the knobs that say how many questions of a kind are asked for."""
        return {f.name: getattr(self, f.name) for f in fields(self) if "wordings" in f.metadata}


@dataclass(frozen=True)
class AnswerConfig:
    """Say how questions are answered and which answers are kept."""

    per_question: int = 1  # answers sampled to each question; the same text twice is kept once
    # a request for a whole sentence, and a question whose sampled answers were all dropped, is
    # answered by the sentence itself; the student then learns the teacher's distributions on it
    # (and a share of its own tokens, see loss.labels). asked: a request is, but no question for one
    # fact, so that reciting is learned where it is asked for
    quote: Literal[True, False, "asked"] = True
    # a question that asks for a phrase of a sentence is also answered by that phrase alone, so that
    # the teacher's distributions along a short answer are learned beside those along a sentence;
    # train.objective=sft learns the phrase as given, and loss.labels a share of it
    spans: bool = False
    grounded: bool = True  # drop answers that are not about the sentence that was asked about
    # keep sampled answers that sampling.max_new_tokens cut off, which have no end to be learned; if
    # false, they are dropped, as those that fail a check are
    unfinished: bool = field(default=True, metadata=decides())
    attempts: int = 3  # how often a question is put to the teacher until an answer is kept
    # further samples of each answer to a question that asks for no phrase and is not quoted; the
    # answer is dropped if fewer than half of them agree with it
    checks: int = 1
    # no further attempts are made once a sentence has this many answers, quotes included
    enough_per_sentence: int = 6
    # ask the base each question without its passage, too, and mark the answers that say about the
    # same as `known`; they are kept, and trained on like the others
    mark_known: bool = field(default=False, metadata=decides())
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=0.5, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        for name in ("per_question", "attempts", "enough_per_sentence"):
            value = getattr(self, name)
            require(value > 0, f"answers.{name} must be > 0, got {value}")
        require(self.checks >= 0, f"answers.checks must be >= 0 (0 is off), got {self.checks}")


@dataclass(frozen=True)
class PromptConfig:
    """Hold the texts that are put before the model.

    `teacher` is filled with {title}, {passage}, {focus} and {question}. {focus} is the text `focus`
    with the {sentence} that a generated question is about, and is empty for other questions.
    """

    # system text of both sides
    system: str = field(
        default="Answer the question in one short sentence.",
        metadata=decides(
            "answers", "retain", "teacher", "train", "predictions", "forgetting", "quiz"
        ),
    )
    # what the teacher reads
    teacher: str = (
        "{passage}\n\n{focus}Using only the text above, answer in one short sentence: {question}"
    )
    # what points the teacher to the sentence that a question is about
    focus: str = "{sentence}\n\n"
    # the request for a question; the examples that follow it show what is meant
    ask: str = field(
        default="Write a question about the sentence. The given answer must answer it.",
        metadata=decides("questions", "quiz"),
    )

    # YYYY-MM-DD, for chat templates that write today's date: a prompt must not change at midnight,
    # nor differ between ranks
    date: str = field(
        default="2026-01-01",
        metadata=decides(*ASKS_MODEL),
    )

    def __post_init__(self) -> None:
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise ValueError(
                f"prompts.date must be a date such as 2026-01-31, got {self.date!r}"
            ) from None
        try:
            self.teacher.format(title="", passage="", focus="", question="")
            self.focus.format(sentence="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                "prompts.teacher may hold {title}, {passage}, {focus} and {question}, and "
                f"prompts.focus {{sentence}}; write other braces twice. Found {error}"
            ) from None
        for name in ("passage", "question"):
            require(
                self.teacher.count(f"{{{name}}}") == 1,
                f"prompts.teacher must contain {{{name}}} once, which the teacher then sees once",
            )


@dataclass(frozen=True)
class AdapterConfig:
    """Give the shape of the LoRA adapter."""

    rank: int = 32  # rank of every LoRA matrix
    alpha: int = 64  # LoRA's alpha: updates are scaled by alpha / rank
    # LoRA's dropout; only with 0 do numbers not depend on how a batch is divided
    dropout: float = 0.0
    target_modules: str = "all-linear"  # all-linear, or names separated by commas: q_proj,v_proj
    # of a mixture of experts, the experts' fused weights to adapt as well, separated by commas:
    # mlp.experts.gate_up_proj,mlp.experts.down_proj; by default experts are left alone
    target_parameters: str = ""
    # the adapter's fp32 products on a GPU: ieee is plain fp32, tf32 rounds factors to 10 bits, auto
    # is tf32 beside a 16-bit base; DeepSpeed's engine multiplies in the base's dtype
    fp32_precision: Literal["auto", "ieee", "tf32"] = "auto"

    def __post_init__(self) -> None:
        require(self.rank > 0, f"adapter.rank must be > 0, got {self.rank}")
        require(0 <= self.dropout < 1, f"adapter.dropout must be in [0, 1), got {self.dropout}")
        require(
            not (self.target_parameters and self.dropout),
            "adapter.target_parameters needs adapter.dropout=0: PEFT adapts the weight itself, and "
            "cannot drop what it is multiplied with",
        )
        names = {name.strip() for name in self.target_modules.split(",")}
        require(
            not names & {"lm_head", "embed_tokens"},
            "adapter.target_modules must leave lm_head and embed_tokens alone: the loss takes "
            "its gradient in forward because the head is frozen",
        )


@dataclass(frozen=True)
class LossConfig:
    """Say how the student's distributions are compared with the teacher's."""

    # KL(teacher ‖ student), KL(student ‖ teacher), or the Jensen-Shannon divergence
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    beta: float = 0.5  # of jsd: the weight of the teacher in the mixture
    # temperature of the distributions that are compared, not of sampling
    temperature: float = field(default=1.0, metadata=decides("teacher", "train"))
    # number of the teacher's most probable tokens; 0 is the whole vocabulary
    top_k: int = field(default=64, metadata=decides("teacher", "train"))
    # all other tokens together are one more bucket, or they are left out and the rest is
    # renormalised
    tail: Literal["bucket", "renormalise"] = "bucket"
    # share of the answer's own token in each distribution that the student learns: 0 is the teacher
    # alone, and values near 1 are nearly supervised fine-tuning on the answers; for answers that
    # are better than what the teacher would say itself: checked, quoted, or spans
    labels: float = 0.0
    # skip the dense gradient of rows whose tail masses differ by less than this
    row_filter: float = 0.0
    # mean over tokens, or, as in the paper, over answers of the mean over their tokens
    average: Literal["token", "answer"] = "token"
    # what computes it. auto: on a GPU the Triton kernels, if they are proved there before the first
    # step, value and gradient; otherwise chunked, which is plain torch and slower
    impl: Literal["auto", "triton", "chunked"] = field(default="auto", metadata=decides())

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"loss.temperature must be > 0, got {self.temperature}")
        require(self.top_k >= 0, f"loss.top_k must be >= 0 (0 is all), got {self.top_k}")
        require(0 < self.beta < 1, f"loss.beta must be in (0, 1), got {self.beta}")
        require(
            0 <= self.labels < 1,
            f"loss.labels must be in [0, 1), got {self.labels}; train.objective=sft is all labels",
        )
        require(
            self.row_filter == 0 or self.tail == "bucket",
            "loss.row_filter needs loss.tail=bucket: renormalise has no tail to filter by",
        )


@dataclass(frozen=True)
class TeacherConfig:
    """Say where the teacher's distributions come from, and whether they are kept on disk."""

    # compute the teacher's top-k once, keep it on disk, and read it in every epoch
    cache: bool = True
    # own: the base that is trained. server: the same base behind generation.server, which must be
    # vLLM's, for it gives its likeliest tokens for every token of a prompt; only for the cache
    source: Literal["own", "server"] = field(default="own", metadata=decides("teacher", "train"))


@dataclass(frozen=True)
class RawTextConfig:
    """Say how passages are cut when `train.objective=raw_text` trains on them as they stand."""

    window_tokens: int = 256  # tokens of a window
    overlap: int = 64  # tokens that a window shares with the one before it

    def __post_init__(self) -> None:
        require(
            1 <= self.overlap < self.window_tokens,
            "raw_text.overlap must be at least 1, for a window's first token is only given, and "
            f"less than raw_text.window_tokens={self.window_tokens}; got {self.overlap}",
        )


@dataclass(frozen=True)
class RolloutConfig:
    """Say how many answers the student writes itself (on-policy) instead of the teacher."""

    # share of each step's answers that the student writes anew just before the step
    share: float = 0.0
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_k=0, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, f"rollout.share must be in [0, 1], got {self.share}")


@dataclass(frozen=True)
class RetainConfig:
    """Hold the adapter to its base on questions and texts that the base makes up itself."""

    # w in the loss (documents' loss + w x base's loss) / (1 + w); with 0 none are made
    weight: float = field(default=0.0, metadata=decides("train"))
    # of these questions and texts, how many join the answers of each step
    per_step: int = field(default=4, metadata=decides("train"))
    per_topic: int = 4  # how many of them are made about each general topic
    # share of these samples that are questions about the documents with passages in view, on both
    # sides: the right one, the right one among others, or one that does not help
    reading: float = 0.0
    sampling: SamplingConfig = field(
        default_factory=lambda: SamplingConfig(temperature=1.0, top_k=50, max_new_tokens=48)
    )

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"retain.weight must be >= 0 (0 is off), got {self.weight}")
        for name in ("per_step", "per_topic"):
            value = getattr(self, name)
            require(value > 0, f"retain.{name} must be > 0, got {value}")
        require(0 <= self.reading < 1, f"retain.reading: from 0 to below 1, got {self.reading}")


@dataclass(frozen=True)
class TrainConfig:
    """Say what is trained on, for how long, and in steps of what size."""

    epochs: int = 5  # how often every answer is trained on
    # highest rate; tuned on the embedded model, begin lower with a large one
    learning_rate: float = 1e-3
    # distill: the teacher's distributions on the answers, mixed with loss.labels; sft: the answers'
    # own tokens, by cross-entropy; raw_text: the passages' own tokens, without questions
    objective: Literal["distill", "sft", "raw_text"] = "distill"
    # folder of a trained adapter for a warm start, of the same shape as `adapter` (a copy of
    # runs/NAME/export, which holds the best round's); empty: from scratch
    start: str = field(default="", metadata=decides())
    # after a warm start: answers of passages that the start has learned, for each answer of a
    # passage that it has not
    replay: float = 1.0
    # train on at most this many answer tokens, of answers drawn at random; 0 is all
    answer_tokens: int = 0
    warmup_ratio: float = 0.1  # share of the steps in which the learning rate rises
    # how the learning rate falls to 0 after the warm-up, or that it stays
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: float = 0.0  # AdamW's weight decay
    adam_beta1: float = 0.9  # decay of AdamW's first moment
    adam_beta2: float = 0.999  # decay of AdamW's second moment
    max_grad_norm: float = 1.0  # gradients are clipped to this norm
    answers_per_step: int = 16  # answers of one optimizer step, all ranks together
    # answers of one passage that share a step, for which an online teacher reads the passage once;
    # 0 is a quarter of a step with an online teacher, and 1 (a plain shuffle) with a cached one
    answers_per_group: int = field(default=0, metadata=decides())
    # most answers of a micro-batch
    answers_per_micro_batch: int = field(default=16, metadata=decides())
    # most tokens of a micro-batch, both sides, a shared passage counted once
    tokens_per_micro_batch: int = field(default=8192, metadata=decides())
    # recompute activations in backward: less memory, more time; auto does it on GPUs where the
    # arithmetic of `pdtrain plan` finds no room for them
    gradient_checkpointing: Literal["auto", True, False] = field(default="auto", metadata=decides())
    save_every_steps: int = field(default=50, metadata=decides())  # steps between checkpoints
    log_every_steps: int = field(default=1, metadata=decides())  # steps between lines of metrics
    # epochs between held-out questions while training; 0 is never
    evaluate_every_epochs: int = field(default=1, metadata=decides())
    # held-out questions that are asked while training, for the curves
    evaluate_questions: int = field(default=24, metadata=decides())

    def __post_init__(self) -> None:
        counts = ("epochs", "answers_per_step", "answers_per_micro_batch", "tokens_per_micro_batch")
        for name in (*counts, "save_every_steps", "log_every_steps"):
            require(getattr(self, name) > 0, f"train.{name} must be > 0, got {getattr(self, name)}")
        require(
            0 <= self.answers_per_group <= self.answers_per_step,
            f"train.answers_per_group={self.answers_per_group} must be 0 (by the teacher) to "
            f"train.answers_per_step={self.answers_per_step}",
        )
        require(
            self.answer_tokens >= 0,
            f"train.answer_tokens must be >= 0 (0 is all), got {self.answer_tokens}",
        )
        require(0 <= self.replay < inf, f"train.replay must be >= 0, got {self.replay}")
        require(self.learning_rate > 0, f"train.learning_rate must be > 0: {self.learning_rate}")
        require(0 <= self.warmup_ratio < 1, f"train.warmup_ratio: [0, 1), got {self.warmup_ratio}")
        require(self.max_grad_norm > 0, f"train.max_grad_norm must be > 0: {self.max_grad_norm}")

    @property
    def checkpoints(self) -> bool:
        """Return whether activations are recomputed; not where `auto` has not been chosen for."""
        return self.gradient_checkpointing is True


@dataclass(frozen=True)
class EngineConfig:
    """Say what runs the training steps, and how the base is spread over the ranks."""

    # auto is deepspeed under a launcher, and plain otherwise
    kind: Literal["auto", "plain", "deepspeed"] = "auto"
    # 3 spreads the base over the ranks; below that every rank holds all of it; auto is, on GPUs,
    # what is fastest of what fits by the arithmetic of `pdtrain plan`, and 3 on a CPU
    zero_stage: Literal["auto", 0, 1, 2, 3] = "auto"
    # attention of packed rows; auto is the first of flash, flex and packed that works on a GPU, and
    # packed on a CPU
    attention: Literal["auto", "packed", "sdpa", "flex", "flash"] = "auto"
    offload_base: bool = False  # keep the base's parts in the CPU's memory
    hpz: bool = True  # on several nodes, every node holds the whole base between its ranks
    # count waits inside DeepSpeed, for weights and gradients, as time/communication_seconds, for
    # which its methods are wrapped; without it that metric is pdtrain's own sums over ranks alone
    time_communication: bool = False
    # compile the decoder layers with torch.compile, but for their attention: norms, activations and
    # the adapter's sums become fewer kernels; the first steps take minutes
    compile: bool = False

    def __post_init__(self) -> None:
        stages = ("auto", 0, 1, 2, 3)
        require(
            self.zero_stage in stages,
            f"engine.zero_stage: auto or 0 to 3, got {self.zero_stage}",
        )
        require(
            not self.offload_base or self.stage == 3,
            "engine.offload_base=true needs engine.zero_stage=3, which spreads the base",
        )

    @property
    def stage(self) -> int:
        """Return ZeRO's stage; 3 where `auto` has not been chosen for."""
        return 3 if self.zero_stage == "auto" else self.zero_stage


@dataclass(frozen=True)
class RoundsConfig:
    """Quiz the student about facts after training, and teach it again what it misses."""

    most: int = 0  # number of rounds at most; 0 is off
    # new questions about each fact that the student misses and the teacher knows
    questions_per_miss: int = 8
    # most facts of one sentence that are quizzed; a fact is a phrase that training asked for
    quiz_per_sentence: int = 2
    least_gain: float = 0.01  # a round that recovers less than this more is the last
    epochs: int = 1  # epochs of a round
    learning_rate: float = 0.0  # learning rate of a round; 0 is train.learning_rate
    replay: float = 1.0  # earlier answers that are trained on again for each new one

    def __post_init__(self) -> None:
        require(self.most >= 0, f"rounds.most must be >= 0 (0 is off), got {self.most}")
        for name in ("questions_per_miss", "quiz_per_sentence", "epochs"):
            value = getattr(self, name)
            require(value > 0, f"rounds.{name} must be > 0, got {value}")
        for name in ("least_gain", "learning_rate", "replay"):
            value = getattr(self, name)
            require(0 <= value < inf, f"rounds.{name} must be >= 0, got {value}")


@dataclass(frozen=True)
class JudgeConfig:
    """Name a model that grades predictions, behind a server with OpenAI's chat completions."""

    url: str = ""  # for example http://localhost:8000/v1; empty: there is no judge
    # name of the judge on the server; best of another family than the model it judges
    model: str = ""
    # environment variable that holds the server's key, if it needs one
    key_variable: str = field(default="OPENAI_API_KEY", metadata=decides())
    max_new_tokens: int = 256  # a verdict has at most this many tokens
    concurrent: int = field(default=8, metadata=decides())  # requests at the same time
    # attempts at a request that the server fails
    attempts: int = field(default=4, metadata=decides())
    # how long one attempt may take
    timeout_seconds: float = field(default=120.0, metadata=decides())

    def __post_init__(self) -> None:
        require(
            not self.url or re.match(r"https?://[^@\s]+$", self.url) is not None,
            "evaluate.judge.url must be http(s)://host/v1 without a user or password in it",
        )
        require(
            not self.url or bool(self.model),
            "evaluate.judge.url needs evaluate.judge.model, the name that the server knows",
        )
        require(
            re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable) is not None,
            "evaluate.judge.key_variable must be the name of an environment variable in "
            "capitals, such as OPENAI_API_KEY, and not the key itself, which would be written to "
            "the run's files",
        )
        for name in ("max_new_tokens", "concurrent", "attempts", "timeout_seconds"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.judge.{name} must be > 0, got {value}")


@dataclass(frozen=True)
class EvaluateConfig:
    """Name the held-out questions and say how they are asked."""

    # JSONL file of held-out questions; empty: the evaluation is skipped, which is said
    questions: str = field(default="", metadata=decides())
    # JSONL file of texts and questions to measure forgetting on; empty: bundled ones
    unrelated: str = field(default="", metadata=decides())
    # ask only the first so many questions; 0 is all
    limit: int = field(default=0, metadata=decides("predictions"))
    # an answer has at most this many tokens
    max_new_tokens: int = field(default=32, metadata=decides("predictions"))
    # how many retrieved passages are put before the question: a system for each number, with
    # and without the adapter
    rag_passages: list[int] = field(default_factory=lambda: [1, 3, 5], metadata=decides())
    # JSONL file of passages and questions about other things than the documents, to measure how
    # well the adapter reads; empty: bundled ones
    reading: str = field(default="", metadata=decides())
    # sentence-transformers model (folder, hub name or `embedded`) for retrieval in systems of its
    # own, beside BM25; empty: no such systems
    dense: str = field(default="", metadata=decides())
    judge: JudgeConfig = field(default_factory=JudgeConfig, metadata=decides("judge"))
    # prompts that are answered at the same time
    batch_size: int = field(default=32, metadata=decides())
    bootstrap_samples: int = 2000  # samples of the bootstrap intervals

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size", "bootstrap_samples"):
            value = getattr(self, name)
            require(value > 0, f"evaluate.{name} must be > 0, got {value}")
        numbers = self.rag_passages
        require(
            all(number > 0 for number in numbers) and len({*numbers}) == len(numbers),
            f"evaluate.rag_passages must be different numbers > 0, such as [1, 3], got {numbers}",
        )
        require(self.limit >= 0, f"evaluate.limit must be >= 0 (0 is all), got {self.limit}")


@dataclass(frozen=True)
class ExportConfig:
    """Say what is exported, and how it is checked."""

    merge: bool = False  # also write the base with the adapter merged into its weights
    # what answers held-out questions with the exported folder before it counts as exported.
    # transformers: nothing, logits are compared. vllm: vLLM's engine in this process. server: a
    # running one (generation.server.url) that serves the adapter under the run's name
    check: Literal["transformers", "vllm", "server"] = field(
        default="transformers", metadata=decides()
    )


@dataclass(frozen=True)
class DataPlanConfig:
    """Tell `pdtrain plan` about questions, answers and evaluation. No stage reads any of it."""

    held_out: int = 500  # questions of the evaluation, each asked by every system
    ask_tokens: int = 320  # tokens of a request for a question, its examples included
    ask_own_tokens: int = 80  # of these, what no other request begins with
    question_text_tokens: int = 24  # tokens that are written for a question
    attempts_per_question: float = 1.5  # questions that are written for each that is kept
    attempts_per_answer: float = 2.0  # answers that are sampled for each that is kept, and checks
    batch: int = 256  # prompts that an engine completes at the same time on a GPU
    memory_tb_per_second: float = 3.35  # rate of a GPU's memory; H100 SXM
    memory_reached: float = 0.6  # share of it that is reached
    price_in: float = 0.0  # price of a million tokens that a server reads; 0 where it has none
    price_in_again: float = 0.0  # of a million that it has read before and kept
    price_out: float = 0.0  # of a million that it writes

    def __post_init__(self) -> None:
        for f in fields(self):
            value, is_price = getattr(self, f.name), f.name.startswith("price")
            require(
                value >= 0 if is_price else value > 0,
                f"plan.data.{f.name} must be {'>=' if is_price else '>'} 0, got {value}",
            )
        require(self.memory_reached <= 1, "plan.data.memory_reached is a part of a rate: at most 1")
        require(
            self.ask_own_tokens <= self.ask_tokens,
            "plan.data.ask_own_tokens is a part of plan.data.ask_tokens",
        )


@dataclass(frozen=True)
class PlanConfig:
    """Tell `pdtrain plan` about machines and data. Training reads none of it.

    Rates are those of a data sheet, or your own; the share of them that is reached is assumed, not
    measured.
    """

    nodes: int = 1  # machines
    gpus_per_node: int = 8  # GPUs of each machine
    gpu_memory_gib: float = 80.0  # memory of a GPU
    # memory of a GPU for the CUDA context, NCCL's buffers and fragmentation
    reserve_gib: float = 6.0
    gpu_tflops: float = 989.0  # dense bf16 rate of a GPU; H100 SXM
    node_gb_per_second: float = 450.0  # into one GPU from the others of its node; NVLink 4
    network_gb_per_second: float = 50.0  # into one node from the others; one 400 Gb/s adapter
    host_gb_per_second: float = 50.0  # into one GPU from the CPU's memory; PCIe 5
    disk_gb_per_second: float = 1.0  # of the disk or file system that holds the base, into one node
    answers_tokenised_per_second: float = 600.0  # by one process, once a run
    compute_reached: float = 0.4  # share of gpu_tflops that is reached
    links_reached: float = 0.7  # share of the three rates above that is reached
    # price of a GPU for an hour, in the currency that the answer should have
    gpu_hour_price: float = 3.0
    passages: int = 10_000  # passages of corpus.max_passage_tokens each
    answers_per_passage: int = 100  # answers about each passage
    question_tokens: int = 64  # tokens of a question, with the chat template and the system text
    answer_tokens: int = 40  # tokens of an answer
    data: DataPlanConfig = field(default_factory=DataPlanConfig)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not is_dataclass(value):
                require(value > 0, f"plan.{f.name} must be > 0, got {value}")
        for name in ("compute_reached", "links_reached"):
            require(getattr(self, name) <= 1, f"plan.{name} is a part of a rate: at most 1")
        require(
            self.reserve_gib < self.gpu_memory_gib,
            f"plan.reserve_gib={self.reserve_gib} leaves nothing of {self.gpu_memory_gib} GiB",
        )


@dataclass(frozen=True)
class RunConfig:
    """Hold every knob of a run.

    The metadata of a section names the stages that its knobs decide, unless a knob says otherwise
    (`schema.decides`). The model decides by its fingerprint (`models.tokenizer.fingerprint`), and
    inputs that are named by a path by their content: the stages hash those themselves.
    """

    # names the run folder and the report; that of the YAML file where it says none
    name: str = "run"
    source: str = ""  # the YAML file that this config was read from: pdtrain sets it
    # let this config go on in a run folder that another config made
    take_over: bool = False
    # a text that is printed when a run starts: what the user of this config should know
    notes: str = ""
    out_dir: str = "runs/${name}"  # the run folder, relative to the working folder
    # seed of everything that is random
    seed: int = field(
        default=0,
        metadata=decides("questions", "answers", "retain", "train", "quiz", "evaluate"),
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig, metadata=decides("reading"))
    prompts: PromptConfig = field(
        default_factory=PromptConfig,
        metadata=decides("answers", "teacher", "train", "predictions", "quiz"),
    )
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    questions: QuestionConfig = field(default_factory=QuestionConfig, metadata=decides("questions"))
    answers: AnswerConfig = field(default_factory=AnswerConfig, metadata=decides("answers"))
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig, metadata=decides("train"))
    raw_text: RawTextConfig = field(default_factory=RawTextConfig, metadata=decides("train"))
    rollout: RolloutConfig = field(default_factory=RolloutConfig, metadata=decides("train"))
    retain: RetainConfig = field(default_factory=RetainConfig, metadata=decides("retain"))
    loss: LossConfig = field(default_factory=LossConfig, metadata=decides("train"))
    train: TrainConfig = field(default_factory=TrainConfig, metadata=decides("train"))
    rounds: RoundsConfig = field(default_factory=RoundsConfig, metadata=decides("rounds"))
    engine: EngineConfig = field(default_factory=EngineConfig)
    # DeepSpeed's own keys, merged last into the settings that are computed
    deepspeed: dict[str, Any] = field(default_factory=dict)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig, metadata=decides("evaluate"))
    export: ExportConfig = field(default_factory=ExportConfig, metadata=decides("export"))
    plan: PlanConfig = field(default_factory=PlanConfig)

    def __post_init__(self) -> None:
        require(
            self.loss.top_k > 0 or not self.teacher.cache,
            "loss.top_k=0 compares the whole vocabulary, which is too much to keep on disk for "
            "every answer token; set teacher.cache=false",
        )
        require(
            self.teacher.source == "own"
            or (self.is_teacher_cached and bool(self.generation.server.url)),
            "teacher.source=server fills the teacher's cache: it needs generation.server.url and a "
            "cache that is read (teacher.cache=true, train.epochs >= 2, rollout.share=0)",
        )
        require(
            self.teacher.source == "own" or self.loss.temperature == 1,
            "teacher.source=server: a server's log-probabilities are of temperature 1, and those "
            f"of loss.temperature={self.loss.temperature:g} do not follow from the likeliest "
            "tokens; set loss.temperature=1, or teacher.source=own",
        )
        require(
            self.train.objective == "distill" or not self.rollout.share,
            f"train.objective={self.train.objective} has no teacher to say anything about the "
            "student's own answers; set rollout.share=0",
        )
        require(
            not self.loss.labels or not self.rollout.share,
            "loss.labels > 0 takes the answers' own tokens as true, which what the student writes "
            "itself is not; set loss.labels=0, or rollout.share=0",
        )
        require(
            self.train.objective == "distill" or not self.loss.labels,
            f"train.objective={self.train.objective} has no teacher to mix the answers' own tokens "
            "into; set loss.labels=0",
        )
        require(
            self.train.objective != "raw_text" or not self.rounds.most,
            "rounds.most > 0 asks new questions about what was missed, and "
            "train.objective=raw_text trains on none; set rounds.most=0",
        )
        require(
            self.questions.per_sentence > 0 or not self.rounds.most,
            "rounds.most > 0 quizzes about the phrases that training asked for, and "
            "questions.per_sentence=0 asks for none; set questions.per_sentence >= 1, or "
            "rounds.most=0",
        )
        require(
            self.engine.kind != "deepspeed" or not self.rounds.most,
            "rounds.most > 0 needs one plain process: a base that is spread over ranks cannot "
            "write questions; set rounds.most=0, or engine.kind=plain",
        )
        require(
            self.model.quantization == "none" or not self.export.merge,
            f"export.merge=true would merge the adapter into other weights than those that it was "
            f"trained and scored on, which model.quantization={self.model.quantization} holds in "
            "fewer bits; set export.merge=false, and serve the adapter on its base",
        )
        loss = self.loss
        kind = (loss.divergence, loss.temperature, loss.tail)
        is_plain = kind == ("forward_kl", 1.0, "bucket")
        objective = self.train.objective
        labels = f"loss.labels={loss.labels:g} is in part" if loss.labels else ""
        require(
            is_plain or (objective == "distill" and not labels),
            f"{labels or f'train.objective={objective} is'} cross-entropy, which needs "
            "loss.divergence=forward_kl, loss.temperature=1 and loss.tail=bucket; got "
            f"{', '.join(map(str, kind))}",
        )

    @property
    def is_automatic(self) -> bool:
        """Tell whether a knob is left to `auto` that is chosen by the GPUs that are there."""
        return "auto" in (self.train.gradient_checkpointing, self.engine.zero_stage)

    def decisions(self, stage: str) -> dict[str, Any]:
        """Return the knobs that decide what a stage puts out, by dotted name.

        Raises:
            KeyError: no knob decides a stage of this name.
        """
        found = dict(_decisions(self, stage, (), ""))
        if not found:
            raise KeyError(f"no knob decides {stage!r}; schema.py's metadata names the stages")
        return found

    def hash_for(self, stage: str) -> str:
        """Return the SHA-256 of the knobs that decide what a stage puts out."""
        return hash_json(self.decisions(stage))

    @property
    def is_teacher_cached(self) -> bool:
        """Tell whether the teacher is cached, which it is not where a cache would be read once."""
        is_asked = self.train.objective == "distill" or self.retain.weight > 0
        return is_asked and self.teacher.cache and self.train.epochs > 1 and not self.rollout.share

    @property
    def is_teacher_online(self) -> bool:
        """Tell whether the teacher reads passages in every step that trains on their answers."""
        return self.train.objective == "distill" and not self.is_teacher_cached

    @property
    def answers_per_group(self) -> int:
        """Return how many answers of one passage share a step."""
        if self.train.answers_per_group:
            return self.train.answers_per_group
        return max(1, self.train.answers_per_step // 4) if self.is_teacher_online else 1

    @property
    def folder(self) -> Path:
        """Return the path of the run folder, below which a run writes everything."""
        return Path(self.out_dir).expanduser()

    @property
    def run(self) -> RunFolder:
        """Return the run folder, with the path of every file in it and a reader for each."""
        return RunFolder(self.folder, has_rounds=self.rounds.most > 0)


def _decisions(
    section: Any, stage: str, inherited: tuple[str, ...], prefix: str
) -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and values of the knobs in a section that decide a stage."""
    for f in fields(section):
        stages, value = f.metadata.get("decides", inherited), getattr(section, f.name)
        if is_dataclass(value):
            yield from _decisions(value, stage, stages, f"{prefix}{f.name}.")
        elif stage in stages:
            yield prefix + f.name, value
