"""Write a tiny random embedding model in the layout of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from support import tiny_tokenizer
from transformers import BertConfig, BertModel

WIDTH = 16


def write_model(
    folder: Path, pooling: str = "mean_tokens", longest: int = 60, **settings: Any
) -> str:
    """Write a random BERT of two layers that pools and normalises, and return its path.

    Args:
        longest: tokens that the model reads at once.
        settings: of `config_sentence_transformers.json`, such as `prompts`.
    """
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=64, **sizes
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    places = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(places)
    ]
    modes = {
        f"pooling_mode_{kind}": kind == pooling
        for kind in ("mean_tokens", "cls_token", "max_tokens")
    }
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, **modes},
        "sentence_bert_config.json": {"max_seq_length": longest},
        "config_sentence_transformers.json": settings,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return str(folder)
