"""Define the knobs of what is planned before a run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass

from pdtrain.schema.checks import require


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
