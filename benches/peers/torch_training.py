"""Training steps in PyTorch: weights, gradients and the optimizer in float32; products in another type by autocast."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import networks


class Training:
    def __init__(self, device: torch.device, embeddings: np.ndarray, kind: str, compiled: bool):
        self.device, self.embeddings, self.kind, self.compiled = device, embeddings, kind, compiled

    def autocast(self) -> AbstractContextManager:
        dtype = torch.float16 if self.kind == "f16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.kind in ("autocast", "f16"))

    def captions(self, work: dict) -> Callable:
        """A step on captions of which every token is in the loss, with the mapper trained, or GPT-2 too (`joint`)."""
        batch, tokens = work["batch"], work["tokens"]
        mapper, gpt2 = networks.load_mapper().to(self.device), networks.load_gpt2().to(self.device)
        gpt2.head.weight = gpt2.wte.weight
        gpt2.requires_grad_(work["joint"])
        parameters = [p for network in (mapper, gpt2) for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=2e-5, eps=1e-6, weight_decay=0.0, fused=True)
        ids = torch.tensor([[row * 977 + i * 31 + 5 for i in range(tokens)] for row in range(batch)], device=self.device)
        rows = torch.from_numpy(np.resize(self.embeddings, (batch, self.embeddings.shape[1]))).to(self.device)

        def loss(rows: Tensor, ids: Tensor) -> Tensor:
            x = torch.cat([mapper(rows), gpt2.wte(ids[:, :-1])], 1)
            hidden = gpt2.norm(gpt2.hidden(x)[:, mapper.length - 1 :])
            return F.cross_entropy(gpt2.head(hidden).flatten(0, 1).float(), ids.flatten())

        return self.step(optimizer, loss, rows, ids)

    def resnet18(self, work: dict) -> Callable:
        """A step that makes the mean of the embeddings' squares smaller. The way `channels_last` has channels next to each other."""
        batch, side = work["batch"], work["side"]
        network = networks.resnet18(work["width"]).to(self.device).train()
        count = 3 * side * side
        index = torch.arange(batch * count, device=self.device)
        pixels = ((index // count * 977 + index * 31) % 255 / 255).view(batch, 3, side, side)
        if self.kind == "channels_last":
            network, pixels = (x.to(memory_format=torch.channels_last) for x in (network, pixels))
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        return self.step(optimizer, lambda pixels: network(pixels).float().square().mean(), pixels)

    def step(self, optimizer: torch.optim.Optimizer, loss_of: Callable[..., Tensor], *inputs: Tensor) -> Callable:
        loss_of = torch.compile(loss_of, dynamic=False) if self.compiled else loss_of

        def step():
            with self.autocast():
                loss = loss_of(*inputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            value = loss.item()
            return lambda: value

        return step
