"""PyTorch: `python -m peers.torch_peer [DEVICE]`. Ways: `eager`, `bf16` and `f16` (weights), `autocast` (bfloat16), `int8` (dynamic quantization of
linear layers), `tf32`; with `compile` behind it, as in `bf16 compile`, by Inductor with frozen weights."""

import sys
import time
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from . import networks
from .common import HEAD, HEADS, LAYERS, THREADS, Peer, beam_search, pixels
from .torch_training import Training

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


class Way:
    def __init__(self, name: str):
        self.kind, _, compiler = name.partition(" ")
        self.compiled = compiler == "compile"
        self.dtype = DTYPES.get(self.kind, torch.float32)
        torch.set_float32_matmul_precision("high" if self.kind == "tf32" else "highest")

    def network(self, network: nn.Module, device: torch.device) -> nn.Module:
        if self.kind == "int8":
            from torch.ao.quantization import quantize_dynamic

            return quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
        return network.to(device, self.dtype)

    def function(self, run: Callable) -> Callable:
        if not self.compiled:
            return run
        import torch._inductor.config as config

        config.freezing = True
        return torch.compile(run, dynamic=False)

    def autocast(self, device: torch.device):
        return torch.autocast(device.type, torch.bfloat16, enabled=self.kind == "autocast")


class Captioner:
    def __init__(self, name: str, mapper: str, device: torch.device):
        self.way, self.device = Way(name), device
        self.mapper = self.way.network(networks.load_mapper(mapper), device)
        self.gpt2 = self.way.network(networks.load_gpt2(), device)
        if self.way.kind != "int8" and not self.way.compiled:
            self.gpt2.head.weight = self.gpt2.wte.weight
        self.prefill = self.way.function(lambda rows: self.gpt2.prefill(self.mapper(rows)))
        self.step = self.way.function(lambda *arguments: self.gpt2.step_fixed(*arguments)) if self.way.compiled else self.gpt2.step
        self.kept = torch.empty(0)

    def begin(self, rows: np.ndarray, beams: int, tokens: int) -> tuple[Tensor, int]:
        """The first logits, and the length of the prefix; its keys and values are laid out for every beam."""
        logits, prefix = self.prefill(torch.as_tensor(rows).to(self.device, self.way.dtype))
        batch, length = len(rows), prefix.shape[3]
        shape = (2 * LAYERS, batch * beams, HEADS, length + tokens, HEAD)
        if self.kept.shape != shape:
            self.kept = torch.zeros(shape, dtype=prefix.dtype, device=self.device)
        self.kept.view(2 * LAYERS, batch, beams, *shape[2:])[..., :length, :] = prefix[:, :, None]
        return logits.float(), length

    def next(self, ids: Tensor, at: int) -> Tensor:
        """The logits after one token more, at position `at`."""
        if not self.way.compiled:
            return self.step(ids, self.kept, at).float()
        mask = torch.arange(self.kept.shape[3])[None, None, None] <= at
        return self.step(ids, self.kept, torch.tensor([at]), mask).float()

    def greedy(self, rows: np.ndarray, tokens: int) -> np.ndarray:
        with torch.inference_mode(), self.way.autocast(self.device):
            logits, length = self.begin(rows, 1, tokens)
            found = [logits.argmax(-1)]
            for n in range(tokens - 1):
                found.append(self.next(found[-1], length + n).argmax(-1))
            return torch.stack(found, 1).cpu().numpy()

    def beams(self, rows: np.ndarray, tokens: int, beams: int) -> np.ndarray:
        length = 0

        def best(logits: Tensor):
            values, ids = logits.topk(beams, -1)
            return (values - logits.logsumexp(-1, keepdim=True)).cpu().numpy(), ids.cpu().numpy()

        def first():
            nonlocal length
            logits, length = self.begin(rows, beams, tokens)
            return best(logits)

        def step(ids, source, n):
            end = length + n - 1
            if n > 1 and (source != np.arange(len(source))).any():
                # An image's beams share the prefix.
                self.kept[:, :, :, length:end] = self.kept[:, torch.from_numpy(source).to(self.device), :, length:end]
            return best(self.next(torch.from_numpy(ids).to(self.device), end))

        with torch.inference_mode(), self.way.autocast(self.device):
            return beam_search(len(rows), beams, tokens, first, step)


class TorchPeer(Peer):
    def __init__(self, device: str = "cpu"):
        super().__init__()
        self.device, self.training = torch.device(device), None
        torch.set_num_threads(THREADS)

    @cached_property
    def pixels(self) -> Tensor:
        found = torch.from_numpy(pixels()).to(self.device)
        # Work for a GPU has up to 256 images.
        return found if self.device.type == "cpu" else found.repeat(4, 1, 1, 1)

    def tower(self, kind: type[nn.Module], name: str):
        way = Way(name)
        run = way.function(way.network(networks.load_clip(kind), self.device))

        def embed(x: Tensor | np.ndarray) -> np.ndarray:
            with torch.inference_mode(), way.autocast(self.device):
                x = torch.as_tensor(x, device=self.device)
                return run(x.to(way.dtype) if x.is_floating_point() else x).float().cpu().numpy()

        return embed

    def image_tower(self, way: str):
        return self.tower(networks.ImageTower, way)

    def text_tower(self, way: str):
        return self.tower(networks.TextTower, way)

    def captioner(self, way: str, mapper: str) -> Captioner:
        return Captioner(way, mapper, self.device)

    def train(self, work: dict):
        return self.trained(work)()

    def resnet18(self, work: dict):
        return self.trained(work)()

    def trained(self, work: dict):
        """A training step, kept until one of another kind is asked for: two do not have to fit."""
        key = {name: value for name, value in work.items() if name != "dump"}
        if self.training is None or self.training[0] != key:
            self.loaded, self.training = {}, None
            way = Way(work["way"])
            steps = Training(self.device, self.embeddings, way.kind, way.compiled)
            self.training = key, steps.resnet18(work) if work["work"] == "resnet18" else steps.captions(work)
        return self.training[1]

    def peak(self, work: dict):
        """10^9 operations a second of a large product in a precision, or for `bandwidth` 10^9 bytes a second of summing up a large array."""
        n, kind = 3072, work["way"]
        if kind == "bandwidth":
            a = torch.zeros(1 << 28)
            run, amount = a.sum, a.nbytes
        elif kind == "int8":
            a = torch.randint(-127, 127, (n, n), dtype=torch.int8)
            run, amount = lambda: torch._int_mm(a, a.t()), 2 * n**3
        else:
            layer = nn.Linear(n, n, bias=False).to(Way(kind).dtype)
            a = torch.randn(n, n, dtype=layer.weight.dtype)
            run, amount = lambda: layer(a), 2 * n**3
        seconds = []
        with torch.inference_mode():
            for _ in range(5):
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
        return lambda: amount / min(seconds) / 1e9


if __name__ == "__main__":
    TorchPeer(*sys.argv[1:]).serve()
