"""PyTorch's side of `speed.py`: CLIP and GPT-2 of transformers, ClipCap's transformer mapper, greedy and beam search with and
without a cache, training steps.

Decoding follows `predict.py` of rmokady/CLIP_prefix_caption at 1ad805a, without ends of captions, so that both sides do the same
number of steps.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel, GPT2LMHeadModel
from transformers.cache_utils import DynamicCache

TOKENS, PREFIX, WIDTH = 20, 40, 768
DTYPES = {"f32": torch.float32, "tf32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.to_queries = nn.Linear(dim, dim, bias=False)
        self.to_keys_values = nn.Linear(dim, 2 * dim, bias=False)
        self.project = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q = self.to_queries(x).reshape(b, n, self.heads, c // self.heads).transpose(1, 2)
        kv = self.to_keys_values(x).reshape(b, n, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.project(F.scaled_dot_product_attention(q, kv[0], kv[1]).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Mapper(nn.Module):
    """ClipCap's, with its names."""

    def __init__(self):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList([Layer(WIDTH, 8) for _ in range(8)])
        self.linear = nn.Linear(512, PREFIX * WIDTH)
        self.prefix_const = nn.Parameter(torch.zeros(PREFIX, WIDTH))

    def forward(self, x):
        x = self.linear(x).view(x.shape[0], PREFIX, WIDTH)
        x = torch.cat([x, self.prefix_const.expand(x.shape[0], -1, -1)], 1)
        for layer in self.transformer.layers:
            x = layer(x)
        return x[:, PREFIX:]


def convolution(inputs, outputs, kernel, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first, self.second = convolution(inputs, outputs, 3, stride), convolution(outputs, outputs, 3, 1)
        self.around = convolution(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, x):
        return F.relu(self.around(x) + self.second(F.relu(self.first(x))))


def resnet18(width, stem):
    """torchvision's, without the classifier; or with the stem for small images."""
    blocks, inputs = [], width
    for stage in range(4):
        for i in range(2):
            blocks.append(Block(inputs, width << stage, 2 if stage and not i else 1))
            inputs = width << stage
    start = [convolution(3, width, 3, 1), nn.ReLU()]
    if stem == "imagenet":
        start = [convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*start, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Peer:
    def __init__(self, folder):
        folder = Path(folder)
        self.clip = CLIPModel.from_pretrained(folder / "clip").eval()
        self.gpt2 = GPT2LMHeadModel.from_pretrained(folder / "gpt2").eval()
        state = torch.load(folder / "captioner.pt", map_location="cpu", mmap=True)
        self.mapper = Mapper()
        self.mapper.load_state_dict({k[13:]: v for k, v in state.items() if k.startswith("clip_project.")})
        gpt2 = {k[4:]: v for k, v in state.items() if k.startswith("gpt.") and not k.endswith((".bias_", "masked_bias"))}
        self.gpt2.load_state_dict({k: v for k, v in gpt2.items() if not k.endswith("attn.bias")}, strict=False)
        self.device, self.optimizer, self.pixels, self.embeddings = "cpu", None, None, None
        self.resnet18, self.dtype = None, torch.float32

    def to(self, device, dtype):
        """Inference computes in `dtype`; training keeps float32 weights and computes in it by autocast."""
        self.device, self.dtype = device, dtype
        for model in (self.clip, self.gpt2, self.mapper):
            model.to(device, dtype)

    def autocast(self):
        half = self.dtype != torch.float32
        return torch.autocast(torch.device(self.device).type, self.dtype if half else torch.bfloat16, enabled=half)

    def see(self, paths):
        """Images as CLIP reads them, resized and cut as its own preprocessing does."""
        import numpy
        from PIL import Image

        pixels = []
        for path in paths:
            image = Image.open(path).convert("RGB")
            scale = 224 / min(image.size)
            image = image.resize([round(side * scale) for side in image.size], Image.BICUBIC)
            left, top = (image.width - 224) // 2, (image.height - 224) // 2
            values = torch.from_numpy(numpy.array(image.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1) / 255
            pixels.append((values - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        return torch.stack(pixels).to(self.device, self.dtype)

    def encode(self, pixels):
        found = self.clip.get_image_features(pixel_values=pixels)
        return getattr(found, "pooler_output", found)

    def prefix(self, embeddings):
        return self.mapper(embeddings / embeddings.norm(dim=-1, keepdim=True))

    def greedy(self, embeddings, tokens, cached):
        x, cache, found = self.prefix(embeddings), None, []
        for _ in range(tokens):
            if cached:
                out = self.gpt2(inputs_embeds=x, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
            else:
                out = self.gpt2(inputs_embeds=x, use_cache=False)
            token = out.logits[:, -1].argmax(-1)
            found.append(token)
            read = self.gpt2.transformer.wte(token)[:, None]
            x = read if cached else torch.cat([x, read], 1)
        return torch.stack(found, 1)

    def beams(self, embeddings, tokens, beams, cached):
        """All images together when cached; one after the other in ClipCap's way."""
        if not cached:
            return torch.stack([self.beams_of_one(row[None], tokens, beams) for row in embeddings])
        b = embeddings.shape[0]
        out = self.gpt2(inputs_embeds=self.prefix(embeddings), use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        scores, token = out.logits[:, -1].log_softmax(-1).topk(beams, -1)  # [b, beams]
        cache.batch_repeat_interleave(beams)
        found = token[..., None]
        for length in range(2, tokens + 1):
            read = self.gpt2.transformer.wte(token.reshape(-1, 1))
            out = self.gpt2(inputs_embeds=read, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logs = out.logits[:, -1].log_softmax(-1).view(b, beams, -1)
            sums = scores[..., None] + logs
            mean, index = (sums / length).view(b, -1).topk(beams, -1)
            source, token = index // logs.shape[-1], index % logs.shape[-1]
            scores = mean * length
            found = torch.cat([found.gather(1, source[..., None].expand(-1, -1, found.shape[-1])), token[..., None]], -1)
            cache.reorder_cache((source + torch.arange(b, device=source.device)[:, None] * beams).view(-1))
        return found

    def beams_of_one(self, embedding, tokens, beams):
        x, scores, found = self.prefix(embedding), None, None
        for length in range(1, tokens + 1):
            logs = self.gpt2(inputs_embeds=x, use_cache=False).logits[:, -1].log_softmax(-1)
            if scores is None:
                scores, token = logs.topk(beams, -1)
                x = x.expand(beams, *x.shape[1:])
                scores, token = scores[0], token[0]
                found = token[:, None]
            else:
                sums = scores[:, None] + logs
                mean, index = (sums / length).view(-1).topk(beams, -1)
                source, token = index // logs.shape[1], index % logs.shape[1]
                x, found, scores = x[source], torch.cat([found[source], token[:, None]], 1), mean * length
            x = torch.cat([x, self.gpt2.transformer.wte(token)[:, None]], 1)
        return found

    def train(self, batch, tokens, joint):
        if self.optimizer is None or self.optimizer[0] != joint:
            self.embeddings = self.embeddings.float()
            for model in (self.gpt2, self.mapper):
                model.float()
            for p in self.gpt2.parameters():
                p.requires_grad_(joint)
            parameters = [*self.mapper.parameters(), *(self.gpt2.parameters() if joint else [])]
            self.optimizer = joint, torch.optim.AdamW(parameters, lr=2e-5, eps=1e-6, weight_decay=0.0)
        _, optimizer = self.optimizer
        ids = [[row * 977 + i * 31 + 5 for i in range(tokens)] for row in range(batch)]
        ids = torch.tensor(ids, device=self.device)
        rows = self.embeddings[torch.arange(batch) % len(self.embeddings)]
        with self.autocast():
            x = torch.cat([self.mapper(rows), self.gpt2.transformer.wte(ids[:, :-1])], 1)
            hidden = self.gpt2.transformer(inputs_embeds=x, use_cache=False).last_hidden_state[:, PREFIX - 1 :]
            loss = F.cross_entropy(self.gpt2.lm_head(hidden).flatten(0, 1), ids.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def train_resnet18(self, batch, side, width, stem):
        if self.resnet18 is None or self.resnet18[0] != (width, stem):
            network = resnet18(width, stem).to(self.device)
            count = 3 * side * side
            index = torch.arange(batch * count, device=self.device)
            pixels = ((index // count * 977 + index * 31) % 255 / 255).view(batch, 3, side, side)
            self.resnet18 = (width, stem), network, torch.optim.Adam(network.parameters(), lr=1e-3), pixels
        _, network, optimizer, pixels = self.resnet18
        with self.autocast():
            loss = network(pixels).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def work(self, work):
        if work["work"] == "resnet18":
            return self.train_resnet18(work["batch"], work["side"], work["width"], work["stem"])
        if work["work"] == "train":
            return self.train(work["batch"], work["tokens"], work["joint"])
        with torch.inference_mode():
            if work["work"] == "clip":
                repeats = -(-work["batch"] // len(self.pixels))
                return self.encode(self.pixels.repeat(repeats, 1, 1, 1)[: work["batch"]]).cpu()
            rows, cached = self.embeddings[: work["batch"]], work["way"] == "cached"
            if work["beams"]:
                return self.beams(rows, work["tokens"], work["beams"], cached).cpu()
            return self.greedy(rows, work["tokens"], cached).cpu()


def files(paths):
    return [file for path in map(Path, paths) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


def run(args):
    folder, mode, *rest = args
    if rest[1] == "tf32":
        torch.set_float32_matmul_precision("high")
    peer = Peer(folder)
    peer.to(rest[0], DTYPES[rest[1]])
    if mode == "--caption":
        paths = files(rest[2:])
        with torch.inference_mode():
            for first in range(0, len(paths), 16):
                batch = paths[first : first + 16]
                for row in peer.greedy(peer.encode(peer.see(batch)), TOKENS, cached=True):
                    print(row.tolist(), flush=True)
        return
    with torch.no_grad():
        peer.pixels = peer.see(files([Path(folder) / "images"]))
        peer.embeddings = peer.encode(peer.pixels)
    for line in sys.stdin:
        work = json.loads(line)
        start = time.perf_counter()
        peer.work(work)
        print(time.perf_counter() - start, flush=True)
