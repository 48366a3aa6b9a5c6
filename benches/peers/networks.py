"""The networks in PyTorch, as they are run, compiled and exported: transformers' CLIP, ClipCap's mappers, and a GPT-2 whose keys and values are
arguments."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import EMBEDDING, FOLDER, HEAD, HEADS, LAYERS, PREFIX, VOCABULARY, WIDTH


class ImageTower(nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.vision_model, self.visual_projection = clip.vision_model, clip.visual_projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output)


class TextTower(nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.text_model, self.text_projection = clip.text_model, clip.text_projection

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.text_projection(self.text_model(input_ids=input_ids).pooler_output)


def load_clip(tower: type[nn.Module]) -> nn.Module:
    from transformers import CLIPModel

    return tower(CLIPModel.from_pretrained(FOLDER / "clip")).eval()


class MapperLayer(nn.Module):
    """Named as in ClipCap's checkpoints, as is all of the mappers."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.to_queries = nn.Linear(WIDTH, WIDTH, bias=False)
            self.to_keys_values = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
            self.project = nn.Linear(WIDTH, WIDTH)

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.mlp = self.Attention(), self.Mlp()

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        y = self.norm1(x)
        q = self.attn.to_queries(y).view(b, n, 8, WIDTH // 8).transpose(1, 2)
        k, v = self.attn.to_keys_values(y).view(b, n, 2, 8, WIDTH // 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, WIDTH)
        x = x + self.attn.project(y)
        return x + self.mlp.fc2(F.relu(self.mlp.fc1(self.norm2(x))))


class TransformerMapper(nn.Module):
    length = PREFIX["transformer"]

    def __init__(self):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList([MapperLayer() for _ in range(8)])
        self.linear = nn.Linear(EMBEDDING, self.length * WIDTH)
        self.prefix_const = nn.Parameter(torch.zeros(self.length, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [B, 512] -> prefixes [B, 40, 768]"""
        x = self.linear(F.normalize(x, dim=-1)).view(-1, self.length, WIDTH)
        x = torch.cat([x, self.prefix_const.expand(x.shape[0], -1, -1)], 1)
        for layer in self.transformer.layers:
            x = layer(x)
        return x[:, self.length :]


class MlpMapper(nn.Module):
    """Embeddings come as CLIP makes them, not normalized, as in ClipCap's published checkpoints with this mapper."""

    length = PREFIX["mlp"]

    def __init__(self):
        super().__init__()
        hidden = self.length * WIDTH // 2
        self.model = nn.Sequential(nn.Linear(EMBEDDING, hidden), nn.Tanh(), nn.Linear(hidden, self.length * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings [B, 512] -> prefixes [B, 10, 768]"""
        return self.model(x).view(-1, self.length, WIDTH)


def captioner_state(mapper: str, prefix: str) -> dict[str, Tensor]:
    """A part of a ClipCap checkpoint, by names without `prefix`."""
    name = {"transformer": "captioner.pt", "mlp": "captioner_mlp.pt"}[mapper]
    state = torch.load(FOLDER / name, map_location="cpu", mmap=True)
    return {key.removeprefix(prefix): value.float() for key, value in state.items() if key.startswith(prefix)}


def load_mapper(kind: str = "transformer") -> nn.Module:
    mapper = {"transformer": TransformerMapper, "mlp": MlpMapper}[kind]()
    mapper.load_state_dict(captioner_state(kind, "clip_project."))
    return mapper.eval()


class Gpt2Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def heads(self, x: Tensor):
        """Queries, keys and values, each [B, H, N, D]."""
        b, n, _ = x.shape
        return self.qkv(self.norm1(x)).view(b, n, 3, HEADS, HEAD).permute(2, 0, 3, 1, 4).unbind(0)

    def rest(self, x: Tensor, attended: Tensor) -> Tensor:
        """What follows attention, of which `attended` [B, H, N, D] came."""
        x = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    """GPT-2 small, linear layers as nn.Linear, so that each can be quantized; the head has the token embeddings' weights."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(1024, WIDTH)
        self.layers = nn.ModuleList([Gpt2Layer() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def hidden(self, x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        """[B, N, C] -> [B, N, C], before the last norm; keys and values are appended to `kept`."""
        x = x + self.wpe.weight[: x.shape[1]]
        for layer in self.layers:
            q, k, v = layer.heads(x)
            if kept is not None:
                kept += [k, v]
            x = layer.rest(x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x

    def prefill(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, P, C] -> the last position's logits [B, V], keys and values [2 L, B, H, P, D]."""
        kept = []
        x = self.hidden(x, kept)
        return self.head(self.norm(x[:, -1])), torch.stack(kept)

    def step(self, ids: Tensor, kept: Tensor, n: int) -> Tensor:
        """One token more -> logits [B, V]; its keys and values are written to position n of `kept` [2 L, B, H, N, D]."""
        x = self.wte(ids)[:, None] + self.wpe.weight[n]
        for i, layer in enumerate(self.layers):
            q, k, v = layer.heads(x)
            keys, values = kept[2 * i, :, :, : n + 1], kept[2 * i + 1, :, :, : n + 1]
            keys[:, :, n:], values[:, :, n:] = k, v
            x = layer.rest(x, F.scaled_dot_product_attention(q, keys, values))
        return self.head(self.norm(x[:, 0]))

    def step_fixed(self, ids: Tensor, kept: Tensor, at: Tensor, mask: Tensor) -> Tensor:
        """The same with shapes that stay, for the compiler: position `at` [1], and which positions may be seen, `mask` [1, 1, 1, N]."""
        x = self.wte(ids)[:, None] + self.wpe(at)
        for i, layer in enumerate(self.layers):
            q, k, v = layer.heads(x)
            keys, values = kept[2 * i], kept[2 * i + 1]
            keys.index_copy_(2, at, k)
            values.index_copy_(2, at, v)
            x = layer.rest(x, F.scaled_dot_product_attention(q, keys, values, attn_mask=mask))
        return self.head(self.norm(x[:, 0]))

    def forward(self, x: Tensor, beam_idx: Tensor, *past: Tensor):
        """For exporters: x [B, S, C] after `past` of 2 L [B, H, T, D] -> logits [B, V], and 2 L [B, H, T + S, D]."""
        past = [state.index_select(0, beam_idx) for state in past]
        s, t = x.shape[1], past[0].shape[2]
        positions = torch.arange(t, t + s)
        x = x + self.wpe(positions)
        mask = (torch.arange(t + s)[None] <= positions[:, None])[None, None]
        mask = torch.where(mask, 0.0, -1e9)
        kept = []
        for i, layer in enumerate(self.layers):
            q, k, v = layer.heads(x)
            k, v = torch.cat([past[2 * i], k], 2), torch.cat([past[2 * i + 1], v], 2)
            kept += [k, v]
            x = layer.rest(x, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        return self.head(self.norm(x[:, -1])), *kept


def load_gpt2() -> Gpt2:
    """The captioner's, which transformers names otherwise and keeps with linear weights as [in, out]."""
    state = captioner_state("transformer", "gpt.transformer.")
    names = {"norm1": "ln_1", "qkv": "attn.c_attn", "out": "attn.c_proj", "norm2": "ln_2", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    found = {"wte.weight": state["wte.weight"], "wpe.weight": state["wpe.weight"], "head.weight": state["wte.weight"]}
    for part in ("weight", "bias"):
        found[f"norm.{part}"] = state[f"ln_f.{part}"]
        for i in range(LAYERS):
            for ours, theirs in names.items():
                value = state[f"h.{i}.{theirs}.{part}"]
                found[f"layers.{i}.{ours}.{part}"] = value.t().contiguous() if value.dim() == 2 else value
    gpt2 = Gpt2()
    gpt2.load_state_dict(found)
    return gpt2.eval()


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first, self.second = convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1)
        self.around = convolution(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.around(x) + self.second(F.relu(self.first(x))))


def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


def resnet18(width: int) -> nn.Sequential:
    """ResNet-18 with the stem for CIFAR's images and without a classifier."""
    layers, inputs = [convolution(3, width, 3, 1), nn.ReLU()], width
    for stage in range(4):
        for i in range(2):
            layers.append(Block(inputs, width << stage, 2 if stage and not i else 1))
            inputs = width << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
