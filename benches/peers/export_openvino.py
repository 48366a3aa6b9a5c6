"""The networks as OpenVINO's models in float32; `quantize_openvino.py` makes the 8-bit ones of them."""

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from openvino._offline_transformations import apply_make_stateful_transformation
from torch import Tensor, nn

from . import networks
from .common import EMBEDDING, FOLDER, HEAD, HEADS, LAYERS, WIDTH, embeddings, pixels

BEST = 5  # tokens that GPT-2's model returns


class BestTokens(nn.Module):
    """GPT-2 with log-probabilities and ids of the best tokens in place of all logits."""

    def __init__(self, gpt2: networks.Gpt2):
        super().__init__()
        self.gpt2 = gpt2

    def forward(self, x: Tensor, beam_idx: Tensor, *past: Tensor):
        logits, *kept = self.gpt2(x, beam_idx, *past)
        values, ids = torch.log_softmax(logits, -1).topk(BEST, -1)
        return values, ids, *kept


def stateful(model: ov.Model) -> ov.Model:
    """Keys and values become the model's state, as optimum-intel has them, so that attention is fused with them."""
    apply_make_stateful_transformation(model, {f"past_{i}": f"present_{i}" for i in range(2 * LAYERS)})

    def integers(*values: int):
        return ops.constant(list(values), dtype=np.int64)

    batch = ops.gather(ops.shape_of(model.input("beam_idx"), output_type="i64"), integers(0), ops.constant(0, dtype=np.int64))
    shape = ops.concat([batch, *(integers(n) for n in (HEADS, 0, HEAD))], 0)
    empty = ops.broadcast(ops.constant(0.0, dtype=np.float32), shape)
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty])
    model.validate_nodes_and_infer_types()
    return model


def gpt2() -> ov.Model:
    cache = torch.zeros(2, HEADS, 3, HEAD)
    example = torch.zeros(2, 4, WIDTH), torch.arange(2, dtype=torch.int32), *[cache] * (2 * LAYERS)
    model = ov.convert_model(BestTokens(networks.load_gpt2()).eval(), example_input=example)
    inputs = {"x": [-1, -1, WIDTH], "beam_idx": [-1]} | {f"past_{i}": [-1, HEADS, -1, HEAD] for i in range(2 * LAYERS)}
    for port, (name, shape) in zip(model.inputs, inputs.items(), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(ov.PartialShape(shape))
    outputs = ["logs", "ids", *(f"present_{i}" for i in range(2 * LAYERS))]
    for port, name in zip(model.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    return stateful(model)


def plain(network: nn.Module, example: Tensor, shape: list[int]) -> ov.Model:
    return ov.convert_model(network, example_input=example, input=[ov.PartialShape(shape)])


@torch.no_grad()
def main():
    folder = FOLDER / "openvino"
    folder.mkdir(exist_ok=True)
    images, rows = torch.from_numpy(pixels()[:2]), torch.from_numpy(embeddings()[:2])
    ids = torch.randint(0, 49000, (2, 12))
    ids[:, -1] = 49407  # the end
    models = {
        "clip": lambda: plain(networks.load_clip(networks.ImageTower), images, [-1, 3, 224, 224]),
        "text": lambda: plain(networks.load_clip(networks.TextTower), ids, [-1, -1]),
        "mapper_transformer": lambda: plain(networks.load_mapper("transformer"), rows, [-1, EMBEDDING]),
        "mapper_mlp": lambda: plain(networks.load_mapper("mlp"), rows, [-1, EMBEDDING]),
        "gpt2": gpt2,
    }
    for name, make in models.items():
        ov.save_model(make(), folder / f"{name}.f32.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
