"""ONNX Runtime on the graphs of `export_onnx.py`. Ways: `f32`; `int8` (8-bit weights, activations quantized as they come); `blocks` (8-bit weights
with a scale for each block of 128)."""

import numpy as np
import onnxruntime as ort

from .common import FOLDER, HEAD, HEADS, LAYERS, THREADS, Peer, beam_search


def session(name: str, way: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return ort.InferenceSession(FOLDER / f"onnx/{name}.{way}.onnx", options, providers=["CPUExecutionProvider"])


class Captioner:
    """GPT-2 reads and writes keys and values in place."""

    def __init__(self, way: str, mapper: str):
        self.mapper, self.gpt2 = session(f"mapper_{mapper}", way), session("gpt2", way)
        self.wte = np.load(FOLDER / "onnx/wte.npy", mmap_mode="r")
        self.buffers: list[np.ndarray] = []

    def bind(self, rows: int, length: int):
        shape = (rows, HEADS, length, HEAD)
        if not self.buffers or self.buffers[0].shape != shape:
            self.buffers = [np.zeros(shape, np.float32) for _ in range(2 * LAYERS)]
        self.binding = self.gpt2.io_binding()
        for i, buffer in enumerate(self.buffers):
            self.binding.bind_input(f"past_{i}", "cpu", 0, np.float32, shape, buffer.ctypes.data)
            self.binding.bind_output(f"present_{i}", "cpu", 0, np.float32, shape, buffer.ctypes.data)

    def run(self, x: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [B, S, C], the last of `total` positions -> log-probabilities and ids of the best tokens."""
        self.binding.bind_cpu_input("x", np.ascontiguousarray(x, np.float32))
        self.binding.bind_cpu_input("last", np.full(len(x), total - 1, np.int32))
        self.binding.bind_cpu_input("total", np.array(total, np.int32))
        self.binding.bind_output("logs")
        self.binding.bind_output("ids")
        self.gpt2.run_with_iobinding(self.binding)
        logs, ids = self.binding.get_outputs()[-2:]
        return logs.numpy(), ids.numpy()

    def prefix(self, rows: np.ndarray) -> np.ndarray:
        return self.mapper.run(None, {"embedding": rows})[0]

    def greedy(self, rows: np.ndarray, tokens: int) -> np.ndarray:
        x = self.prefix(rows)
        length, found = x.shape[1], []
        self.bind(len(rows), length + tokens)
        for n in range(tokens):
            _, ids = self.run(x, length + n)
            found.append(ids[:, 0])
            x = self.wte[found[-1]][:, None]
        return np.stack(found, 1)

    def beams(self, rows: np.ndarray, tokens: int, beams: int) -> np.ndarray:
        x = self.prefix(rows)
        length = x.shape[1]

        def first():
            self.bind(len(rows), length + tokens)
            found = self.run(x, length)
            prefixes = self.buffers
            self.bind(len(rows) * beams, length + tokens)
            for buffer, prefix in zip(self.buffers, prefixes):
                buffer.reshape(len(rows), beams, *buffer.shape[1:])[..., :length, :] = prefix[:, None, :, :length]
            return found

        def step(ids, source, n):
            end = length + n - 1
            if n > 1 and (source != np.arange(len(source))).any():
                # An image's beams share the prefix.
                for buffer in self.buffers:
                    buffer[:, :, length:end] = buffer[source, :, length:end]
            return self.run(self.wte[ids][:, None], end + 1)

        return beam_search(len(rows), beams, tokens, first, step)


class OnnxRuntimePeer(Peer):
    def tower(self, name: str, way: str):
        # Blocks pay where weights are read for few rows; a tower's whole input is quantized.
        run = session(name, "int8" if way == "blocks" else way)
        [only] = run.get_inputs()
        return lambda x: run.run(None, {only.name: x})[0]

    def image_tower(self, way: str):
        return self.tower("clip", way)

    def text_tower(self, way: str):
        return self.tower("text", way)

    def captioner(self, way: str, mapper: str) -> Captioner:
        return Captioner(way, mapper)


if __name__ == "__main__":
    OnnxRuntimePeer().serve()
