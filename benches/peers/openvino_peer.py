"""OpenVINO on the models of `export_openvino.py`. Ways: `f32` and `bf16` (hints for inference), `int8` (towers calibrated; captioning with 8-bit
weights, activations quantized as they come)."""

import os

import numpy as np
import openvino as ov

from .common import FOLDER, THREADS, WIDTH, Peer, beam_search


def compiled(name: str, way: str) -> ov.CompiledModel:
    precision = "bf16" if way == "bf16" else "f32"
    options = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    if name == "gpt2":
        options["KV_CACHE_PRECISION"] = precision
        if way == "int8":
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = WIDTH
    if cache := os.environ.get("BENCH_OPENVINO_CACHE"):  # compiled models, for a quick start
        options["CACHE_DIR"] = cache
    weights = "int8" if way == "int8" else "f32"
    return ov.Core().compile_model(FOLDER / f"openvino/{name}.{weights}.xml", "CPU", options)


class Captioner:
    """GPT-2 keeps keys and values as its state, and reorders them by `beam_idx`."""

    def __init__(self, way: str, mapper: str):
        self.mapper, self.gpt2 = compiled(f"mapper_{mapper}", way), compiled("gpt2", way).create_infer_request()
        self.wte = np.load(FOLDER / "onnx/wte.npy", mmap_mode="r")

    def run(self, x: np.ndarray, beam_idx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [B, S, C] -> log-probabilities and ids of the best tokens."""
        inputs = {"x": np.ascontiguousarray(x), "beam_idx": beam_idx.astype(np.int32)}
        found = self.gpt2.infer(inputs, share_inputs=True, share_outputs=True)
        return found["logs"].copy(), found["ids"].copy()

    def greedy(self, rows: np.ndarray, tokens: int) -> np.ndarray:
        x, same, found = self.mapper(rows)[0], np.arange(len(rows)), []
        self.gpt2.reset_state()
        for _ in range(tokens):
            _, ids = self.run(x, same)
            found.append(ids[:, 0])
            x = self.wte[found[-1]][:, None]
        return np.stack(found, 1)

    def beams(self, rows: np.ndarray, tokens: int, beams: int) -> np.ndarray:
        def first():
            self.gpt2.reset_state()
            return self.run(self.mapper(rows)[0], np.arange(len(rows)))

        def step(ids, source, n):
            # At first an image has one beam, from which all go on.
            return self.run(self.wte[ids][:, None], source // beams if n == 1 else source)

        return beam_search(len(rows), beams, tokens, first, step)


class OpenVinoPeer(Peer):
    def tower(self, name: str, way: str):
        run = compiled(name, way)
        return lambda x: run(x)[0]

    def image_tower(self, way: str):
        return self.tower("clip", way)

    def text_tower(self, way: str):
        return self.tower("text", way)

    def captioner(self, way: str, mapper: str) -> Captioner:
        return Captioner(way, mapper)


if __name__ == "__main__":
    OpenVinoPeer().serve()
