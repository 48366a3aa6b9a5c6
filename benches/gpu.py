"""This program on a GPU: captions compared with the CPU's, time of a first and a second start, and the work of `speed.rs` beside
PyTorch on the same card. For a machine with a card, PyTorch and no Rust, where minutes count: every part has a time limit.

    cargo build --release --features vulkan,cuda --bench speed         # .ci/cuda, where GitHub cannot be reached
    python benches/gpu.py target/release/deps/speed-HASH --devices cuda --limit 420 --json gpu.json

The bench's binary is the program too, when it is called `clipcap`, so that one file is all there is to carry. Networks are full-size
with random weights, made in FOLDER by `convert.py` and `peers/make_inputs.py`; captions are the sample model's.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from compare.processes import environment

BENCHES = Path(__file__).absolute().parent
ROOT = BENCHES.parent
IMAGES, TOKENS = 200, 20


def caption(batch, beams):
    return {"work": "caption", "batch": batch, "beams": beams, "tokens": TOKENS, "mapper": "transformer"}


CAPTIONING = [
    ("CLIP, 1 image", {"work": "clip", "batch": 1}),
    ("greedy, 1 image", caption(1, 0)),
    ("CLIP, 32 images", {"work": "clip", "batch": 32}),
    ("greedy, 16 images", caption(16, 0)),
    ("beam 5, 1 image", caption(1, 5)),
    ("beam 5, 16 images", caption(16, 5)),
    ("CLIP, 256 images", {"work": "clip", "batch": 256}),
    ("greedy, 64 images", caption(64, 0)),
]
TRAINING = [
    ("training step, mapper", {"work": "train", "batch": 40, "tokens": TOKENS, "joint": False}),
    ("training step, mapper and GPT-2", {"work": "train", "batch": 40, "tokens": TOKENS, "joint": True}),
    ("training step, ResNet-18, 512 images", {"work": "resnet18", "batch": 512, "side": 32, "width": 64, "stem": "cifar"}),
]


class Bench:
    def __init__(self, args):
        self.args, self.start, self.found = args, time.monotonic(), {}
        self.folder = args.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clipcap = self.folder / "clipcap"
        self.clipcap.unlink(missing_ok=True)
        self.clipcap.symlink_to(args.binary.resolve())

    def left(self):
        return self.args.limit - (time.monotonic() - self.start)

    def keep(self, key, value):
        """Written at once: whatever ends this program early loses nothing."""
        self.found[key] = value
        self.args.json.write_text(json.dumps(self.found, indent=1))
        print(f"{time.monotonic() - self.start:6.1f} s  {key}: {json.dumps(value)}", flush=True)

    def run(self, args, limit, names=None):
        """Seconds, lines of standard output, and what went wrong, of a process."""
        start = time.monotonic()
        limit = max(1, min(limit, self.left()))
        process = subprocess.Popen(
            [str(arg) for arg in args], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        try:
            out, errors = process.communicate("\n".join(names or []), timeout=limit)
            wrong = errors[-600:] if process.returncode else None
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            wrong = f"stopped after {limit:.0f} s: {errors[-600:]}"
        return time.monotonic() - start, out.splitlines(), wrong

    def infer(self, device, precision, limit, names, *more):
        command = [self.clipcap, "infer", "--device", device, "--precision", precision, "--format", "jsonl", *more, "-"]
        seconds, lines, wrong = self.run(command, limit, names)
        return seconds, {row["image"]: row for row in map(json.loads, lines)}, wrong

    def starts(self, device, names):
        """Kernels are compiled and chosen by the first start on a machine, and read from the user's cache folder by the next."""
        for which in ("first", "second"):
            seconds, _, wrong = self.infer(device, "f16", 120, names[:1])
            self.keep(f"{which} start, 1 image, sample model, {device} f16", {"seconds": round(seconds, 2), "wrong": wrong})

    def captions(self, device, precision, names, *more):
        _, expected, _ = self.infer("cpu", "f32", 60, names, *more)
        seconds, rows, wrong = self.infer(device, precision, 75, names, *more)
        same = [name for name in rows if name in expected and rows[name].get("tokens") == expected[name]["tokens"]]
        apart = [abs(rows[name]["log_prob"] - expected[name]["log_prob"]) for name in same]
        key = f"captions as the CPU's f32, {device} {precision} {' '.join(more)}".strip()
        result = {"of": len(expected), "answered": len(rows), "equal": len(same)}
        self.keep(key, result | {"log_prob_difference": max(apart, default=None), "seconds": round(seconds, 2), "wrong": wrong})

    def side(self, name, command, limit, rows, way=None):
        """Medians of a side's rows; the first time of each, with what is compiled for it, is kept apart."""
        process = subprocess.Popen(
            [str(part) for part in command], cwd=BENCHES, env=environment(self.folder), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(self.folder / "errors.txt", "w"),
        )
        stop = threading.Timer(max(1, min(limit, self.left())), process.kill)
        stop.start()
        for row, work in rows:
            times, wrong = [], ""
            for _ in range(9):
                try:
                    process.stdin.write(json.dumps(work | {"way": way}) + "\n")
                    process.stdin.flush()
                    line = process.stdout.readline()
                except BrokenPipeError:
                    line = ""
                answer = json.loads(line or '{"error": ""}')
                if "error" in answer:
                    wrong = answer["error"]
                    break
                times.append(answer["seconds"])
                if len(times) > 3 and sum(times[1:]) > 6:
                    break
            if len(times) < 3:
                wrong = wrong or (self.folder / "errors.txt").read_text()[-600:] or "no time left"
                self.keep(f"{name}: {row}", {"seconds": None, "first": times[:1], "wrong": wrong})
                break
            self.keep(f"{name}: {row}", {"seconds": round(statistics.median(times[2:]), 5), "first": round(times[0], 3)})
        stop.cancel()
        process.kill()
        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", type=Path)
    parser.add_argument("--devices", default="cuda", help="as in `clipcap infer --device`, several with commas")
    parser.add_argument("--peer-device", default="cuda", help="as PyTorch calls it")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/clipcap-bench"))
    parser.add_argument("--limit", type=float, default=420, help="seconds in all")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    bench = Bench(args)
    make = [[sys.executable, "convert.py", str(bench.folder), "--make"], [sys.executable, "-m", "peers.make_inputs"]]
    checkpoints = subprocess.Popen(
        " && ".join(map(shlex.join, make)), shell=True, cwd=BENCHES, env=environment(bench.folder),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    _, lines, wrong = bench.run([bench.clipcap, "devices"], 30)
    bench.keep("devices", wrong or lines)
    bench.run([bench.clipcap, "infer", "--device", "cpu"], 60)  # draws the sample's images
    names = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "dataset/sample/images").glob("*.png"))[:IMAGES]]
    devices = args.devices.split(",")
    for device in devices:
        bench.starts(device, names)
    checkpoints.wait()
    model = args.folder / "model"
    parts = ["--clip", args.folder / "clip", "--gpt2", args.folder / "gpt2", "--captioner", args.folder / "captioner.pt"]
    _, _, wrong = bench.run([bench.clipcap, "convert", *parts, "--output", model], 60)
    bench.keep("checkpoints", wrong or "converted")
    worker = args.folder / "speed"
    worker.unlink(missing_ok=True)
    worker.symlink_to(args.binary.resolve())
    peer = [sys.executable, "-m", "peers.torch_peer", args.peer_device]
    ours = [worker, model, args.folder, devices[0]]
    bench.side(f"{devices[0]} f16", [*ours, "f16"], 140, CAPTIONING)
    bench.side("PyTorch f16", peer, 60, CAPTIONING + TRAINING, "f16")
    bench.captions(devices[0], "f16", names)
    bench.side(f"{devices[0]} f16", [*ours, "f16"], 100, TRAINING)
    bench.captions(devices[0], "f32", names)
    bench.captions(devices[0], "f32", names, "--decode", "beam")
    for device in devices[1:]:
        bench.captions(device, "f16", names)
    # burn multiplies float32 on tensor cores, in TF32.
    bench.side("PyTorch tf32", peer, 60, CAPTIONING + TRAINING, "tf32")
    bench.side(f"{devices[0]} f32", [*ours, "f32"], 150, CAPTIONING)


if __name__ == "__main__":
    main()
