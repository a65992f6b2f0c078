"""Distil in a plain PyTorch loop, with the teacher online or read from a file."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pdkernels import TopKKLLoss, teacher_topk
from pdkernels.exchange import read_topk, write_topk


def train(
    body: torch.nn.Module, head: Tensor, batches: Callable[[], list[tuple]], steps: int
) -> list[float]:
    """Return each step's loss; a batch is (inputs, teacher's hidden states or TopK, labels)."""
    loss_of, losses = TopKKLLoss(k=16, label_weight=0.25), []
    optimizer = torch.optim.AdamW(body.parameters(), lr=1e-2)
    for _ in range(steps):
        for inputs, teacher, labels in batches():
            loss = loss_of(body(inputs), head, teacher, labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    return losses


def cache(path: Path, hidden: Tensor, head: Tensor, tokenizer: str) -> None:
    """Write the teacher's top-k of hidden states (B, L, D), a record each sequence."""
    topk = teacher_topk(hidden.flatten(0, 1), head, 16)
    splits = torch.arange(len(hidden) + 1) * hidden.shape[1]
    write_topk(
        path, topk, num_words=len(head), row_splits=splits, metadata={"tokenizer": tokenizer}
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    head, teacher = torch.randn(1000, 32) / 4, torch.nn.Linear(8, 32)
    body, inputs = torch.nn.Linear(8, 32), torch.randn(4, 6, 8)
    labels = torch.randint(1000, (4, 6)).masked_fill(torch.arange(6) < 2, -100)
    hidden = teacher(inputs).detach() * 3
    path = Path("teacher.safetensors")
    cache(path, hidden, head, "none")
    online = train(body, head, lambda: [(inputs, hidden, labels)], 20)
    cached = train(body, head, lambda: [(inputs, read_topk(path)[0], labels)], 20)
    print(f"loss {online[0]:.3f} -> {online[-1]:.3f} online, -> {cached[-1]:.3f} cached")
    assert cached[-1] < online[-1] < online[0]
