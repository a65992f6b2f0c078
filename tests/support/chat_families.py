"""Tiny tokenizers with the templates and the control tokens of five families of models."""

from __future__ import annotations

from dataclasses import dataclass

from support import CHATML, DATA
from thinking_templates import HARMONY
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

LLAMA_3 = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') "
    "+ message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}"
    "{% elif message['role'] == 'user' %}{{ '[INST]' + message['content'] + '[/INST]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
# refuses a message that names a channel, and takes thoughts out of earlier turns, as many do
REFUSES = (
    "{% for message in messages %}{% if '<|channel|>' in message['content'] %}"
    "{{ raise_exception('a message names a channel') }}{% endif %}{% endfor %}"
)
STRIPS = CHATML.replace("message['content']", "(message['content'].split('</think>')[-1] | trim)")


@dataclass(frozen=True)
class Family:
    """Name a family's template, its special tokens, and further tokens that are not special."""

    template: str
    special: tuple[str, ...]
    marks: tuple[str, ...] = ()
    kind: str = "bytes"
    bos: str = ""


FAMILIES = {
    "chatml": Family(
        CHATML, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ("<think>", "</think>")
    ),
    "chatml_that_strips": Family(
        STRIPS, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), ("<think>", "</think>")
    ),
    "llama_3": Family(
        LLAMA_3,
        ("<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
    ),
    "gemma": Family(
        GEMMA, ("<eos>", "<start_of_turn>", "<end_of_turn>", "<unk>"), kind="pieces", bos="<bos>"
    ),
    "mistral": Family(
        MISTRAL,
        ("</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<unk>"),
        ("[TOOL_CALLS]",),
        kind="unigram",
        bos="<s>",
    ),
    "harmony": Family(
        REFUSES + HARMONY,
        ("<|return|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
        bos="<|startoftext|>",
    ),
}


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the family's kind, trained on the few documents of the tests."""
    special = [*([family.bos] if family.bos else []), *family.special]
    texts = [path.read_text(encoding="utf-8") for path in sorted(DATA.iterdir()) if path.is_file()]
    fast = MAKERS[family.kind](special, texts)
    fast.add_tokens([AddedToken(mark, normalized=True) for mark in family.marks])
    if family.bos:
        place = fast.token_to_id(family.bos)
        fast.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, place)]
        )
    more = {"unk_token": "<unk>"} if "<unk>" in special else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=fast,
        bos_token=family.bos or family.special[0],
        eos_token=family.special[0],
        pad_token=family.special[0],
        extra_special_tokens=special,
        chat_template=family.template,
        clean_up_tokenization_spaces=False,
        **more,
    )


def _bytes(special: list[str], texts: list[str]) -> Tokenizer:
    """Return a byte-level BPE, as of Qwen, Llama 3 and gpt-oss."""
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=380, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return fast


def _pieces(special: list[str], texts: list[str]) -> Tokenizer:
    """Return a BPE of whole texts with blanks as letters, as of Gemma."""
    fast = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.decoder = decoders.Replace("▁", " ")
    letters = sorted({chr(code) for code in range(32, 127)} - {" "} | {"▁", "\n"})
    fast.train_from_iterator(
        (part for text in texts for part in text.split("\n")),
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=letters, show_progress=False
        ),
    )
    return fast


def _unigram(special: list[str], texts: list[str]) -> Tokenizer:
    """Return a unigram model whose vocabulary itself holds the control tokens."""
    fast = Tokenizer(models.Unigram())
    fast.normalizer = normalizers.NFKC()
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    fast.decoder = decoders.Metaspace(prepend_scheme="first")
    letters = [chr(code) for code in range(33, 127)] + ["\n"]
    fast.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=260,
            special_tokens=special,
            initial_alphabet=letters,
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    return fast


MAKERS = {"bytes": _bytes, "pieces": _pieces, "unigram": _unigram}
