"""How long a row takes at the least: its arithmetic at the processor's measured peak, or its weights at the bandwidth of its memory, phase by
phase whichever takes longer."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

BYTES = {"f32": 4, "bf16": 2, "int8": 1}
WIDTH, LAYERS, VOCABULARY, EMBEDDING = 768, 12, 50257, 512
PREFIX = {"transformer": 40, "mlp": 10}
TEXT_TOKENS = 12


@dataclass(frozen=True)
class Peaks:
    """10^9 operations a second in each precision (infinite where there is no such instruction), and 10^9 bytes a second."""

    f32: float
    bf16: float
    int8: float
    bandwidth: float

    def seconds(self, phases: Iterable["Phase"], precision: str) -> float | None:
        peak = asdict(self)[precision]
        if peak == float("inf"):
            return None
        read = BYTES[precision] / self.bandwidth
        return sum(max(phase.operations / peak, phase.weights * read) for phase in phases) / 1e9


@dataclass(frozen=True)
class Phase:
    """Work that begins when all before it is done. An addition and a multiplication are two operations; weights are those that are read, once
    each."""

    operations: float
    weights: float

    def __add__(self, other: "Phase") -> "Phase":
        return Phase(self.operations + other.operations, self.weights + other.weights)

    def trained(self, times: float) -> "Phase":
        """With the backward pass: 3 where weights are trained, 2 where gradients only pass."""
        return Phase(self.operations * times, self.weights * times)


def products(rows: float, weights: float) -> Phase:
    return Phase(2 * rows * weights, weights)


def transformer(layers: int, width: int, hidden: int, rows: int, length: int, causal: bool = False) -> Phase:
    """`rows` sequences."""
    seen = length * (length + 1) / 2 if causal else length**2
    attention = Phase(4 * rows * width * seen * layers, 0)
    return products(rows * length, layers * (4 * width**2 + 2 * width * hidden)) + attention


def image_tower(batch: int) -> Phase:
    return products(batch * 49, 3 * 32 * 32 * WIDTH) + transformer(12, WIDTH, 4 * WIDTH, batch, 50) + products(batch, WIDTH * EMBEDDING)


def text_tower(batch: int) -> Phase:
    return transformer(12, 512, 2048, batch, TEXT_TOKENS, causal=True) + products(batch, 512 * EMBEDDING)


def mapper(kind: str, batch: int) -> Phase:
    length = PREFIX[kind]
    if kind == "mlp":
        hidden = length * WIDTH // 2
        return products(batch, EMBEDDING * hidden + hidden * length * WIDTH)
    return products(batch, EMBEDDING * length * WIDTH) + transformer(8, WIDTH, 2 * WIDTH, batch, 2 * length)


def gpt2(rows: int, length: int, logits: int) -> Phase:
    """Sequences of which the last `logits` positions are read out."""
    return transformer(LAYERS, WIDTH, 4 * WIDTH, rows, length, causal=True) + products(rows * logits, WIDTH * VOCABULARY)


def gpt2_step(rows: int, length: int) -> Phase:
    """One token more after `length` positions."""
    attention = Phase(4 * rows * WIDTH * (length + 1) * LAYERS, 0)
    return products(rows, LAYERS * 12 * WIDTH**2 + WIDTH * VOCABULARY) + attention


def captioning(batch: int, beams: int, tokens: int, kind: str) -> list[Phase]:
    prefix = PREFIX[kind]
    rows = batch * max(1, beams)
    steps = [gpt2_step(rows, prefix + n) for n in range(tokens - 1)]
    return [mapper(kind, batch), gpt2(batch, prefix, 1), *steps]


def training(batch: int, tokens: int, joint: bool) -> list[Phase]:
    forward = gpt2(batch, PREFIX["transformer"] + tokens - 1, tokens)
    return [mapper("transformer", batch).trained(3), forward.trained(3 if joint else 2)]


def resnet18(batch: int, side: int, width: int) -> list[Phase]:
    convolutions, inputs = [(3, width, 3, side)], width
    for stage in range(4):
        outputs, across = width << stage, side >> stage
        convolutions += [(inputs, outputs, 3, across), *[(outputs, outputs, 3, across)] * 3]
        convolutions += [(inputs, outputs, 1, across)] if stage else []
        inputs = outputs
    layers = [products(batch * across**2, a * b * kernel**2) for a, b, kernel, across in convolutions]
    return [layer.trained(3) for layer in layers]


def phases(work: Mapping) -> list[Phase]:
    match work["work"]:
        case "clip":
            return [image_tower(work["batch"])]
        case "text":
            return [text_tower(work["batch"])]
        case "caption":
            return captioning(work["batch"], work["beams"], work["tokens"], work["mapper"])
        case "train":
            return training(work["batch"], work["tokens"], work["joint"])
        case "resnet18":
            return resnet18(work["batch"], work["side"], work["width"])
        case other:
            raise ValueError(f"unknown work: {other}")
