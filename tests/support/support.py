"""Share ranks on one machine, a tiny model and run, and comparisons among the tests."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pdtrain.distributed import shared_buffers

if TYPE_CHECKING:  # each spawned rank imports this file, and transformers takes seconds
    from transformers import PreTrainedTokenizerFast

    from pdtrain.config import RunConfig

DATA = Path(__file__).parents[1] / "data"

SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None,
    reason="DeepSpeed compiles its CPU collectives at first use: needs a C++ compiler",
)


def assert_no_worse_than_eager(fused: Tensor, eager: Tensor, truth: Tensor, slack: float) -> None:
    """Check that `fused` errs no more than `eager`, which computes plainly in the same dtype.

    The truth is fp32 or fp64.
    """
    allowed = (eager.double() - truth.double()).abs().max() + slack
    error = (fused.double() - truth.double()).abs().max()
    assert error <= allowed, f"fused is off by {error:.2e}, eager by {allowed - slack:.2e}"


def run_ranks(
    work: Callable[..., None],
    num_ranks: int,
    tmp_path: Path,
    *args: object,
    timeout_seconds: float = 120.0,
) -> None:
    """Run work(rank, *args) in num_ranks gloo processes; any failing rank fails the test.

    `work` is a function at the top level of a test file. A rank that hangs is ended by its handle
    once `timeout_seconds` are over. Results come back through files in `tmp_path`.
    """
    meet = tmp_path / f"meet-{time.monotonic_ns()}"  # a file that ranks met at cannot be reused
    source = (work.__code__.co_filename, work.__name__)
    ranks = torch.multiprocessing.spawn(
        _one_rank, (source, num_ranks, f"file://{meet}", args), nprocs=num_ranks, join=False
    )
    deadline = time.monotonic() + timeout_seconds
    try:
        while not ranks.join(timeout=max(0.1, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise AssertionError(f"the ranks did not finish in {timeout_seconds:.0f} s")
    finally:
        for process in ranks.processes:
            if process.is_alive():
                process.kill()
                process.join()


def _one_rank(
    rank: int, source: tuple[str, str], num_ranks: int, meet: str, args: tuple[object, ...]
) -> None:
    # test files are not importable by name: the repository root stays off sys.path
    path, name = source
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=num_ranks)
    try:
        getattr(module, name)(rank, *args)
    finally:
        shared_buffers.remove_own(rank)
        dist.destroy_process_group()
    # all is done and checked; Python's own end at times aborts, as `cli.run` says
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


# torch's operator: what it is called here, and which argument is the whole tensor
COUNTED = {"_allgather_base_": ("gather", 0), "_reduce_scatter_base_": ("reduce", 1)}


class Collectives(TorchDispatchMode):
    """Count the bytes of collectives inside: whole tensors, a rank's own part included.

    `counts` has [kind, ranks, bytes], kind such as "gather", ranks those that took part. torch's
    own operators are watched, whoever calls them; on CPUs backward runs in the same thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[str, tuple[int, ...], int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            name = function._opname
            if name in COUNTED:
                kind, whole = COUNTED[name]
                groups = [x for x in args if isinstance(x, torch.ScriptObject)]
                ranks = dist.get_process_group_ranks(dist.ProcessGroup.unbox(groups[0]))
                self.counts.append((kind, tuple(ranks), args[whole].nbytes))
            else:  # nothing of weight may go another way unseen
                assert name in {"allreduce_", "broadcast_", "barrier"}, f"unknown collective {name}"
        return function(*args, **(kwargs or {}))

    def bytes(self, kind: str, num_ranks: int | None = None) -> int:
        """Return the bytes of one kind of collectives, of groups of this many ranks if given."""
        return sum(
            size
            for found, ranks, size in self.counts
            if found == kind and num_ranks in (None, len(ranks))
        )


# Without it glibc keeps freed tensors of up to 32 MB in its heap, in pieces, and what a process
# holds says little about what it asked for. For the environment of ranks, before they start.
PLAIN_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


def resident_bytes() -> dict[str, int]:
    """Return the resident bytes of this process, by the names that Linux gives them.

    RssAnon is its own memory, RssFile pages of files, which the kernel takes back when others need
    the memory, and RssShmem shared memory.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    found = (line.split() for line in lines if line.startswith("Rss"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in found}


class Resident(threading.Thread):
    """Sample `resident_bytes` while entered; `peak` holds the highest of each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak: dict[str, int] = {}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.001):
            self._look()

    def _look(self) -> None:
        for name, size in resident_bytes().items():
            self.peak[name] = max(size, self.peak.get(name, 0))

    def __enter__(self) -> Resident:
        self._look()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._look()


def tiny_tokenizer(vocab_size: int = 320) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE, trained on tests/data, with a ChatML template and a system role."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [path.read_text(encoding="utf-8") for path in sorted(DATA.iterdir()) if path.is_file()]
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        chat_template=CHATML,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )


def tiny_model(folder: Path, architecture: str = "llama", seed: int = 0, **changes: object) -> Path:
    """Write a Hugging Face folder with a random model of 2 layers and a real tokenizer.

    `architecture` is a `model_type` of transformers (llama, qwen2, qwen3, mistral, ...);
    `changes` go into its config. Its weights are larger than a fresh model's, so that its
    distributions differ from position to position.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(architecture, **(sizes | changes))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_records(num_passages: int = 3, answers_per_passage: int = 4) -> tuple[list, list, list]:
    """Return passages, questions and answers of random tokens, of many lengths.

    Two answers of the first passage are to the same question.
    """
    from pdtrain.records import Answer, Passage, Question, content_id

    rng = random.Random(0)
    words = (DATA / "harbour.txt").read_text(encoding="utf-8").split()
    passages, questions, answers = [], [], []
    for number in range(num_passages):
        text = " ".join(words[20 * number : 20 * number + 20])
        passage = Passage(
            content_id(number, text), f"{number}.txt", "Osk", text, 0, len(text), 20, ((0, 30),)
        )
        passages.append(passage)
        for turn in range(answers_per_passage):
            if turn != 1 or number:
                text = "What about " + " ".join(rng.sample(words, rng.randrange(1, 6))) + "?"
                questions.append(
                    Question(content_id(passage.id, text), passage.id, text, "recital", -(turn % 2))
                )
            # special tokens are numbered 0 to 3
            ids = tuple(rng.randrange(4, 300) for _ in range(1 + rng.randrange(8)))
            question = questions[-1]
            answers.append(
                Answer(content_id(question.id, ids), question.id, passage.id, "-", ids, True)
            )
    return passages, questions, answers


def tiny_config(out_dir: Path, model: Path, /, **sections: object) -> RunConfig:
    """Return the config of a run on a tiny model: a small adapter, no cache, else the defaults."""
    from pdtrain.config import from_dict

    values = {
        "out_dir": str(out_dir),
        "model": {"name": str(model), "device": "cpu", "dtype": "float32"},
        "adapter": {"rank": 4, "alpha": 8},
        "teacher": {"cache": False},
    }
    for name, section in sections.items():
        values[name] = (values.get(name, {}) | section) if isinstance(section, dict) else section
    return from_dict(values)


def write_records(config: RunConfig, *records: list) -> None:
    """Write passages, and if given questions and answers, as finished stages leave them."""
    from pdtrain.stage import run_units

    for name, found in zip(("passages", "questions", "answers"), records, strict=False):
        run_units(
            config.folder / name,
            name,
            {},
            {record.id: record for record in found},
            lambda _, record: [record.to_json()],
            name,
        )


def randomise_adapter(model: torch.nn.Module, seed: int = 0) -> None:
    """Set an adapter's weights as after some training, so that teacher and student differ."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.2)


@contextmanager
def folders_inside_one_another(root: Path, count: int = 1200) -> Iterator[None]:
    """Hold more folders inside one another than Python can walk, and remove them afterwards.

    What is left of them would end a later session of pytest, which removes old folders, in a
    traceback.
    """
    deep = root
    for _ in range(count):
        deep = deep / "d"
        os.mkdir(deep)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", str(root / "d")], check=True)
