"""What is there before anything is measured: environments, our binaries, models in every form. Each is made once, where it is missing."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .limits import Peaks
from .processes import BENCHES, environment

ROOT = BENCHES.parent


@dataclass(frozen=True)
class Binaries:
    """The program, the worker of `speed.rs`, and the bench that measures the processor's peaks."""

    program: Path
    worker: Path
    products: Path

    def peaks(self) -> Peaks:
        # No product has this word: the peaks alone are measured.
        first = subprocess.run([self.products, "none"], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[0]
        return Peaks(*map(float, re.findall(r"([\d.]+|inf) (?:f32|bf16|int8|GB/s)", first)))


def execute(command: Sequence, folder: Path | None = None, output: int | None = None) -> str:
    print("$", *command, file=sys.stderr, flush=True)
    variables = environment(folder) if folder else {**os.environ, "CARGO_INCREMENTAL": "0"}
    place = BENCHES if folder else ROOT
    return subprocess.run(list(map(str, command)), cwd=place, env=variables, check=True, stdout=output, text=True).stdout


def build() -> Binaries:
    """Cargo's names for benches have hashes, so it is asked for them."""
    found = {}
    program, worker = ["build", "--release", "--bin", "clipcap"], ["bench", "--no-run", "--bench", "speed"]
    products = ["bench", "--no-run", "--package", "cpu-kernels", "--bench", "products"]
    for what in (program, worker, products):
        lines = execute(["cargo", *what, "--message-format", "json-render-diagnostics"], output=subprocess.PIPE).splitlines()
        messages = [json.loads(line) for line in lines if line.startswith("{")]
        found |= {m["target"]["name"]: Path(m["executable"]) for m in messages if m.get("executable")}
    return Binaries(found["clipcap"], found["speed"], found["products"])


def python(folder: Path, requirements: str, venv: str) -> Path:
    """The interpreter of an environment with what a file of requirements lists."""
    interpreter = folder / venv / "bin/python"
    if not interpreter.is_file():
        execute([sys.executable, "-m", "venv", folder / venv], folder)
        try:
            execute([interpreter, "-m", "pip", "install", "--quiet", "--requirement", BENCHES / requirements], folder)
        except subprocess.CalledProcessError:
            # Half an environment is none.
            interpreter.unlink()
            raise
    return interpreter


def peers_python(folder: Path) -> Path:
    return python(folder, "requirements.txt", "venv")


def models(folder: Path, program: Path):
    """Checkpoints with random weights, and every runtime's form of them: 10 GB."""
    interpreter = peers_python(folder)

    def step(made: str, *command):
        """`made` is the last file of a step."""
        if not (folder / made).is_file():
            execute(command, folder)

    step("captioner.pt", interpreter, BENCHES / "convert.py", folder, "--make")
    step("embeddings.json", interpreter, "-m", "peers.make_inputs")
    for model, captioner in (("model", "captioner.pt"), ("model_mlp", "captioner_mlp.pt")):
        checkpoints = ["--clip", folder / "clip", "--gpt2", folder / "gpt2", "--captioner", folder / captioner]
        step(f"{model}/config.json", program, "convert", *checkpoints, "--output", folder / model)
    step("onnx/wte.npy", interpreter, "-m", "peers.export_onnx")
    step("ct2/model.bin", interpreter, "-m", "peers.export_ctranslate2")
    step("openvino/gpt2.f32.bin", interpreter, "-m", "peers.export_openvino")
    if not (folder / "openvino/gpt2.int8.bin").is_file():
        execute([python(folder, "requirements-quantize.txt", "venv-quantize"), "-m", "peers.quantize_openvino"], folder)
