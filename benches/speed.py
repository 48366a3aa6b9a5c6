"""Captioning and training beside PyTorch, as ratios: the table in the README.

    python -m venv venv && venv/bin/pip install torch transformers pillow
    venv/bin/python benches/speed.py [ROW ...] [--folder FOLDER] [--pairs N] [--precision P] [--markdown FILE]

Without a ROW all are measured; a ROW is the beginning of a row's name, such as `greedy`. Both sides have the same full-size
models with random weights (ViT-B/32, GPT-2 small, a transformer mapper with prefix 40), made in FOLDER by `convert.py`, and the
same images. Work is done in turn, this program and then PyTorch in each of its ways, N times after a first that does not count,
and the ratio is the median of those of neighbors. Nothing else may run: it would slow PyTorch more.

PyTorch's ways: `cached` keeps keys and values, as transformers does; `ClipCap` reads everything anew for each token, as ClipCap's
`predict.py` does. Both use all cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TOKENS = 20
BATCH = 40

# name, work, PyTorch's ways, and at least so many times as fast as which of them
ROWS = [
    ("CLIP, 1 image", {"work": "clip", "batch": 1}, ["cached"], 1.2),
    ("CLIP, 32 images", {"work": "clip", "batch": 32}, ["cached"], 1.0),
    ("greedy, 1 image", {"work": "caption", "batch": 1, "beams": 0, "tokens": TOKENS}, ["cached", "ClipCap"], 2.5),
    ("greedy, 16 images", {"work": "caption", "batch": 16, "beams": 0, "tokens": TOKENS}, ["cached"], None),
    ("beam 5, 1 image", {"work": "caption", "batch": 1, "beams": 5, "tokens": TOKENS}, ["cached", "ClipCap"], 3.5),
    ("beam 5, 16 images", {"work": "caption", "batch": 16, "beams": 5, "tokens": TOKENS}, ["cached"], None),
    ("training step, mapper", {"work": "train", "batch": BATCH, "tokens": TOKENS, "joint": False}, ["cached"], 1.0),
    ("training step, mapper and GPT-2", {"work": "train", "batch": BATCH, "tokens": TOKENS, "joint": True}, ["cached"], 1.0),
    (
        "training step, ResNet-18 of the sample",
        {"work": "resnet18", "batch": 128, "side": 48, "width": 16, "stem": "imagenet"},
        ["cached"],
        None,
    ),
    (
        "training step, ResNet-18 of CIFAR-10",
        {"work": "resnet18", "batch": 32, "side": 32, "width": 64, "stem": "cifar"},
        ["cached"],
        None,
    ),
]
START, FOLDER_ROW, MEMORY = "start to first caption", "folder of 64 JPEGs", "peak memory of captioning"
# Slow work is done less often.
SLOW = ("beam 5, 16", "training", "folder")


def images(folder, count=64):
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{i:03}.jpg"
        if not path.is_file():
            noise = Image.effect_noise((160, 120), 40 + i).convert("RGB")
            noise.resize((640, 480), Image.BICUBIC).save(path, quality=90)


class Worker:
    """A process that does one piece of work a line and says how long each took."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def time(self, work):
        self.process.stdin.write(json.dumps(work) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"failed: {work}")
        # PyTorch's threads spin for a while after their last work.
        time.sleep(0.3)
        return float(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(command):
    """Seconds to the first byte on standard output, seconds in all, peak memory in MB, of a process."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.read(1)
    first = time.perf_counter() - start
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {command}")
    return first, time.perf_counter() - start, usage.ru_maxrss / 1024


def build():
    """The worker's path: cargo's name for it has a hash."""
    command = ["cargo", "build", "--release", "--bin", "clipcap"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CARGO_INCREMENTAL": "0"})
    command = ["cargo", "bench", "--bench", "speed", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [m["executable"] for m in found if m.get("executable") and m["target"]["name"] == "speed"][-1]


def median_of_pairs(ours, theirs):
    return statistics.median(b / a for a, b in zip(ours, theirs))


class Table:
    def __init__(self):
        self.lines = ["| what | here | PyTorch | ratio | must be |", "| --- | ---: | ---: | ---: | ---: |"]

    def add(self, name, ours, theirs, ratio, goal, unit="s"):
        number = (lambda x: f"{x:.0f}") if unit == "MB" else (lambda x: f"{x:.3f}")
        goal = f"{goal}" if goal else ""
        self.lines.append(f"| {name} | {number(ours)} {unit} | {number(theirs)} {unit} | {ratio:.2f} | {goal} |")
        print(self.lines[-1], flush=True)


def processes(args, table, wanted):
    """The rows for which whole processes are started."""
    infer = [TARGET / "release/clipcap", "infer", "--model", args.folder / "model", "--device", args.device]
    infer += ["--max-length", TOKENS]
    peer = [sys.executable, __file__, "--peer", args.folder, "--caption", args.peer_device, "f32"]
    images = args.folder / "images"
    cases = [(START, [images / "000.jpg"], args.pairs, 0, 5.0), (FOLDER_ROW, [images], max(2, args.pairs // 3), 1, 2.0)]
    memory = []
    for name, paths, pairs, which, goal in cases:
        if not (wanted(name) or wanted(MEMORY)):
            continue
        runs = [(measure([*infer, *paths]), measure([*peer, *paths])) for _ in range(pairs + 1)][1:]
        ours, theirs = [run[0][which] for run in runs], [run[1][which] for run in runs]
        table.add(name, statistics.median(ours), statistics.median(theirs), median_of_pairs(ours, theirs), goal)
        memory.append((max(run[0][2] for run in runs), max(run[1][2] for run in runs)))
    if memory:
        ours, theirs = memory[-1]
        table.add(MEMORY, ours, theirs, theirs / ours, 2.0, "MB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/clipcap-bench"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="as in `clipcap infer --device`")
    parser.add_argument("--peer-device", default="cpu", help="as PyTorch calls it")
    parser.add_argument("--precision", default=None, help="as in `clipcap infer --precision`; PyTorch computes in bf16 for bf16, else in f32")
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()

    def wanted(name):
        return not args.rows or any(name.startswith(row) for row in args.rows)

    worker = build()
    if not (args.folder / "model/config.json").is_file():
        subprocess.run([sys.executable, ROOT / "benches/convert.py", args.folder], check=True)
    images(args.folder / "images")
    table = Table()
    print("\n".join(table.lines))
    processes(args, table, wanted)
    rows = [row for row in ROWS if wanted(row[0])]
    if rows:
        ours = Worker([worker, args.folder / "model", args.folder / "images", args.device, *filter(None, [args.precision])])
        peer_precision = "bf16" if args.precision == "bf16" else "f32"
        theirs = Worker([sys.executable, __file__, "--peer", args.folder, "--work", args.peer_device, peer_precision])
    for name, work, ways, goal in rows:
        pairs = max(2, args.pairs // 3) if name.startswith(SLOW) else args.pairs
        times = {"ours": []} | {way: [] for way in ways}
        for _ in range(pairs + 1):
            times["ours"].append(ours.time(work))
            for way in ways:
                # The slow way once only: it is three to six times as slow.
                if way == "ClipCap" and len(times[way]) >= 3:
                    continue
                times[way].append(theirs.time({**work, "way": way}))
        for way in ways:
            count = len(times[way])
            a, b = times["ours"][1:count], times[way][1:]
            label = name if way == "cached" else f"{name}, ClipCap's way"
            least = 15.0 if (way == "ClipCap" and name.startswith("beam")) else (goal if way == "cached" else None)
            table.add(label, statistics.median(a), statistics.median(b), median_of_pairs(a, b), least)
    if rows:
        ours.close()
        theirs.close()
    if args.markdown:
        args.markdown.write_text("\n".join(table.lines) + "\n")


if __name__ == "__main__":
    if "--peer" in sys.argv:
        from speed_peer import run

        run(sys.argv[sys.argv.index("--peer") + 1 :])
    else:
        main()
