"""Full-size random checkpoints in, a model folder out: wall time and peak memory of `convert`, time to the first caption of
`infer`, and what PyTorch takes to read the same files.

    python -m venv venv && venv/bin/pip install torch transformers pillow
    cargo build --release
    venv/bin/python benches/convert.py [FOLDER]

The checkpoints (ViT-B/32, GPT-2 small, a transformer mapper with prefix 40 in front of a GPT-2 of its own) are made in FOLDER
once, 1.9 GB. Every measurement is of a process of its own; files are read from the page cache.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "/tmp/clipcap-bench")
CLIPCAP = Path(os.environ.get("CLIPCAP", TARGET / "release/clipcap"))
CLIP, GPT2, CAPTIONER, MODEL, IMAGE = (FOLDER / name for name in ("clip", "gpt2", "captioner.pt", "model", "image.png"))
RUNS = 3


def vocabulary(folder, clip):
    """As many entries as the real ones, of single bytes and pairs of them."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    bytes_ = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    ends = [b + "</w>" for b in bytes_] if clip else []
    pairs = [(a, b) for a in bytes_ for b in (ends or bytes_)][:48894 if clip else 50000]
    special = ["<|startoftext|>", "<|endoftext|>"] if clip else ["<|endoftext|>"]
    tokens = bytes_ + ends + [a + b for a, b in pairs] + special
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))


def make():
    import torch
    from PIL import Image
    from torch import nn
    from transformers import CLIPConfig, CLIPModel, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    CLIPModel(CLIPConfig()).save_pretrained(CLIP)  # transformers' defaults are ViT-B/32
    gpt2 = GPT2LMHeadModel(GPT2Config())
    gpt2.save_pretrained(GPT2)
    vocabulary(CLIP, clip=True)
    vocabulary(GPT2, clip=False)
    state = {f"gpt.{key}": value for key, value in gpt2.state_dict().items()}
    for layer in range(12):
        state[f"gpt.transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 1024, 1024, dtype=torch.uint8).tril()
        state[f"gpt.transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    width, name = 768, "clip_project."
    state[f"{name}prefix_const"] = torch.randn(40, width)

    def linear(key, inputs, outputs, bias=True):
        layer = nn.Linear(inputs, outputs, bias=bias)
        state.update({f"{name}{key}.{k}": v.detach() for k, v in layer.named_parameters()})

    linear("linear", 512, 40 * width)
    for layer in range(8):
        at = f"transformer.layers.{layer}."
        for norm in ("norm1", "norm2"):
            state |= {f"{name}{at}{norm}.weight": torch.ones(width), f"{name}{at}{norm}.bias": torch.zeros(width)}
        linear(f"{at}attn.to_queries", width, width, bias=False)
        linear(f"{at}attn.to_keys_values", width, 2 * width, bias=False)
        linear(f"{at}attn.project", width, width)
        linear(f"{at}mlp.fc1", width, 2 * width)
        linear(f"{at}mlp.fc2", 2 * width, width)
    torch.save(state, CAPTIONER)
    Image.effect_noise((640, 480), 60).convert("RGB").save(IMAGE)


PEER = """
import sys, torch
from transformers import CLIPModel, GPT2LMHeadModel
CLIPModel.from_pretrained(sys.argv[1])
GPT2LMHeadModel.from_pretrained(sys.argv[2])
torch.load(sys.argv[3], map_location="cpu")
"""


def measure(command):
    """Seconds, peak memory in MB, and seconds to the first byte on standard output, of a process."""
    start, first = time.perf_counter(), None
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if process.stdout.read(1):
        first = time.perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {command}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, first


def convert():
    subprocess.run(["rm", "-rf", str(MODEL)], check=True)
    return measure([CLIPCAP, "convert", "--clip", CLIP, "--gpt2", GPT2, "--captioner", CAPTIONER, "--output", MODEL])


def row(name, runs, limit):
    seconds, memory = min(run[0] for run in runs), max(run[1] for run in runs)
    print(f"| {name} | {seconds:.2f} s | {memory:.0f} MB | {limit} |")


if "--make" in sys.argv:
    make()
    sys.exit()
if not IMAGE.is_file():
    # In a process of its own: one that has read PyTorch would pass its size on to the processes that it measures.
    subprocess.run([sys.executable, __file__, FOLDER, "--make"], check=True)
size = sum(file.stat().st_size for file in [*CLIP.glob("*"), *GPT2.glob("*"), CAPTIONER])
print(f"{platform.machine()}, {os.cpu_count()} cores, {size / 1e9:.2f} GB of checkpoints, best of {RUNS}\n")
print("| | wall | peak memory | must be |\n| --- | ---: | ---: | --- |")
row("`clipcap convert`", [convert() for _ in range(RUNS)], "15 s, 3 GB")
infer = [CLIPCAP, "infer", "--model", MODEL, "--device", "cpu", IMAGE, "--max-length"]
# Random weights never end a caption: once as many tokens as COCO's captions have, once as many as there can be.
for tokens in (12, 67):
    captions = [measure([*infer, tokens]) for _ in range(RUNS)]
    row(f"`clipcap infer`, start to first caption of {tokens} tokens", [(run[2], run[1]) for run in captions], "3 s")
row("PyTorch, reading the same files", [measure([sys.executable, "-c", PEER, CLIP, GPT2, CAPTIONER]) for _ in range(RUNS)], "")
