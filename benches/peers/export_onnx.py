"""The networks as ONNX graphs, in float32 and with 8-bit weights."""

from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from safetensors.numpy import load_file

from . import networks
from .common import EMBEDDING, FOLDER, HEAD, HEADS, LAYERS, PREFIX, WIDTH
from .onnx_graph import FLOAT, FUSED, INT32, INT64, Affine, Graph, Layer

BEST = 5  # tokens that GPT-2's graph returns
State = dict[str, np.ndarray]


def affine(state: State, *names: str) -> Affine:
    """Linear layers of the same input as one."""
    parts = [np.concatenate([state[f"{name}.{part}"] for name in names]) for part in ("weight", "bias") if f"{names[0]}.{part}" in state]
    return Affine(*parts)


def clip_layers(state: State, tower: str) -> list[Layer]:
    def layer(i: int) -> Layer:
        at = f"{tower}.encoder.layers.{i}."
        qkv = affine(state, *(f"{at}self_attn.{part}_proj" for part in "qkv"))
        norm1, out, norm2, up, down = (affine(state, at + name) for name in ("layer_norm1", "self_attn.out_proj", "layer_norm2", "mlp.fc1", "mlp.fc2"))
        return Layer(norm1, qkv, out, norm2, up, down)

    return [layer(i) for i in range(12)]


def quick_gelu(graph: Graph):
    return lambda y, bias: graph.node("QuickGelu", [graph.add(y, bias)], domain=FUSED, alpha=1.702)


def image_tower() -> onnx.ModelProto:
    state, graph, tower = load_file(FOLDER / "clip/model.safetensors"), Graph(), "vision_model"
    patches = graph.constant(state[f"{tower}.embeddings.patch_embedding.weight"])
    x = graph.node("Conv", ["pixel_values", patches], strides=[32, 32], kernel_shape=[32, 32])
    x = graph.node("Reshape", [x, graph.constant([0, WIDTH, 49])])
    x = graph.node("Transpose", [x], perm=[0, 2, 1])
    shape = graph.node("Concat", [graph.size("pixel_values", 0), graph.constant([1, WIDTH])], axis=0)
    first = graph.constant(state[f"{tower}.embeddings.class_embedding"].reshape(1, 1, WIDTH))
    x = graph.node("Concat", [graph.node("Expand", [first, shape]), x], axis=1)
    x = graph.add(x, state[f"{tower}.embeddings.position_embedding.weight"])
    _, x = graph.norm(x, affine(state, f"{tower}.pre_layrnorm"))
    x = graph.encoder(x, clip_layers(state, tower), 12, False, quick_gelu(graph))
    _, x = graph.norm(graph.gather(x, graph.constant(0), 1), affine(state, f"{tower}.post_layernorm"))
    graph.node("MatMul", [x, graph.constant(state["visual_projection.weight"].T)], ["embedding"])
    return graph.model("clip", {"pixel_values": (FLOAT, ["batch", 3, 224, 224])}, {"embedding": (FLOAT, ["batch", EMBEDDING])})


def text_tower() -> onnx.ModelProto:
    state, graph, tower = load_file(FOLDER / "clip/model.safetensors"), Graph(), "text_model"
    x = graph.gather(graph.constant(state[f"{tower}.embeddings.token_embedding.weight"]), "input_ids")
    positions = graph.range(graph.constant(0), graph.scalar(graph.size("input_ids", 1)))
    places = graph.gather(graph.constant(state[f"{tower}.embeddings.position_embedding.weight"]), positions)
    x = graph.encoder(graph.node("Add", [x, places]), clip_layers(state, tower), 8, True, quick_gelu(graph))
    # The end of a text has the largest id.
    end = graph.node("ArgMax", ["input_ids"], axis=1, keepdims=1)
    rows = graph.range(graph.constant(0), graph.scalar(graph.size("input_ids", 0)))
    rows = graph.node("Unsqueeze", [rows, graph.constant([1])])
    x = graph.node("GatherND", [x, graph.node("Concat", [rows, end], axis=1)])
    _, x = graph.norm(x, affine(state, f"{tower}.final_layer_norm"))
    graph.node("MatMul", [x, graph.constant(state["text_projection.weight"].T)], ["embedding"])
    return graph.model("text", {"input_ids": (INT64, ["batch", "length"])}, {"embedding": (FLOAT, ["batch", EMBEDDING])})


def numpy_state(network) -> State:
    return {key: value.numpy() for key, value in network.state_dict().items()}


def mapper(kind: str) -> onnx.ModelProto:
    state, graph, length = numpy_state(networks.load_mapper(kind)), Graph(), PREFIX[kind]
    shape = graph.constant([-1, length, WIDTH])
    if kind == "mlp":
        x = graph.node("Tanh", [graph.linear("embedding", affine(state, "model.0"))])
        graph.node("Reshape", [graph.linear(x, affine(state, "model.2")), shape], ["prefix"])
    else:
        x = graph.node("LpNormalization", ["embedding"], axis=-1, p=2)
        x = graph.node("Reshape", [graph.linear(x, affine(state, "linear")), shape])
        batch = graph.node("Concat", [graph.size("embedding", 0), graph.constant([length, WIDTH])], axis=0)
        learned = graph.node("Expand", [graph.constant(state["prefix_const"][None]), batch])
        x = graph.node("Concat", [x, learned], axis=1)

        def layer(i: int) -> Layer:
            at = f"transformer.layers.{i}."
            qkv = affine(state, f"{at}attn.to_queries", f"{at}attn.to_keys_values")
            norm1, out, norm2, up, down = (affine(state, at + name) for name in ("norm1", "attn.project", "norm2", "mlp.fc1", "mlp.fc2"))
            return Layer(norm1, qkv, out, norm2, up, down)

        def relu(y: str, bias: np.ndarray) -> str:
            return graph.node("Relu", [graph.add(y, bias)])

        x = graph.encoder(x, [layer(i) for i in range(8)], 8, False, relu)
        graph.node("Slice", [x, *(graph.constant([n]) for n in (length, 2 * length, 1))], ["prefix"])
    return graph.model(f"mapper_{kind}", {"embedding": (FLOAT, ["batch", EMBEDDING])}, {"prefix": (FLOAT, ["batch", length, WIDTH])})


def gpt2() -> onnx.ModelProto:
    """Inputs x [B, S, C] that end at position `total` -> the best tokens; keys and values in place (GroupQueryAttention)."""
    state, graph = numpy_state(networks.load_gpt2()), Graph()
    total = graph.node("Cast", ["total"], to=INT64)
    positions = graph.range(graph.node("Sub", [total, graph.scalar(graph.size("x", 1))]), total)
    x = graph.node("Add", ["x", graph.gather(graph.constant(state["wpe.weight"]), positions)])

    def attend(i: int, qkv: list[str]) -> str:
        inputs = [*qkv, f"past_{2 * i}", f"past_{2 * i + 1}", "last", "total"]
        outputs = [f"attended_{i}", f"present_{2 * i}", f"present_{2 * i + 1}"]
        return graph.node("GroupQueryAttention", inputs, outputs, FUSED, num_heads=HEADS, kv_num_heads=HEADS)[0]

    def gelu(y: str, bias: np.ndarray) -> str:
        return graph.node("FastGelu", [y, graph.constant(bias)], domain=FUSED)

    layers = [Layer(*(affine(state, f"layers.{i}.{name}") for name in Layer._fields)) for i in range(LAYERS)]
    x, skip = graph.transformer(x, layers, attend, gelu)
    _, y = graph.norm(x, affine(state, "norm"), skip)
    logits = graph.product(graph.gather(y, graph.constant(-1), 1), state["head.weight"])
    graph.node("TopK", [graph.node("LogSoftmax", [logits], axis=-1), graph.constant([BEST])], ["logs", "ids"], axis=-1)
    cache = FLOAT, ["batch", HEADS, "room", HEAD]
    inputs = {"x": (FLOAT, ["batch", "steps", WIDTH]), "last": (INT32, ["batch"]), "total": (INT32, [])}
    inputs |= {f"past_{i}": cache for i in range(2 * LAYERS)}
    outputs = {f"present_{i}": cache for i in range(2 * LAYERS)}
    outputs |= {"logs": (FLOAT, ["batch", BEST]), "ids": (INT64, ["batch", BEST])}
    return graph.model("gpt2", inputs, outputs)


def quantize_blocks(source: Path, target: Path):
    options = {"block_size": 128, "is_symmetric": True, "accuracy_level": 4, "bits": 8}
    quantizer = MatMulNBitsQuantizer(onnx.load(source), algo_config=DefaultWeightOnlyQuantConfig(**options), **options)
    quantizer.process()
    onnx.save(quantizer.model.model, target)


def main():
    folder = FOLDER / "onnx"
    folder.mkdir(exist_ok=True)
    graphs = {
        "clip": image_tower,
        "text": text_tower,
        "mapper_transformer": lambda: mapper("transformer"),
        "mapper_mlp": lambda: mapper("mlp"),
        "gpt2": gpt2,
    }
    for name, make in graphs.items():
        source = folder / f"{name}.f32.onnx"
        onnx.save(make(), source)
        quantize_dynamic(
            source,
            folder / f"{name}.int8.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            extra_options={"DefaultTensorType": FLOAT},
        )
        if name not in ("clip", "text"):
            quantize_blocks(source, folder / f"{name}.blocks.onnx")
    np.save(folder / "wte.npy", networks.load_gpt2().wte.weight.detach().numpy())


if __name__ == "__main__":
    main()
