"""GPT-2 as a CTranslate2 model; its vocabulary is t0, t1, ..."""

import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

from . import networks
from .common import FOLDER, HEADS, LAYERS, VOCABULARY


def main():
    state = {key: value.numpy() for key, value in networks.load_gpt2().state_dict().items()}
    spec = TransformerDecoderModelSpec.from_config(LAYERS, HEADS, pre_norm=True, activation=common_spec.Activation.GELUTanh)

    def norm(part, name: str):
        part.gamma, part.beta = state[f"{name}.weight"], state[f"{name}.bias"]

    def linear(part, name: str):
        part.weight, part.bias = state[f"{name}.weight"], state[f"{name}.bias"]

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = decoder.projection.weight = state["wte.weight"]
    decoder.position_encodings.encodings = state["wpe.weight"]
    norm(decoder.layer_norm, "norm")
    for i, layer in enumerate(decoder.layer):
        norm(layer.self_attention.layer_norm, f"layers.{i}.norm1")
        linear(layer.self_attention.linear[0], f"layers.{i}.qkv")
        linear(layer.self_attention.linear[1], f"layers.{i}.out")
        norm(layer.ffn.layer_norm, f"layers.{i}.norm2")
        linear(layer.ffn.linear_0, f"layers.{i}.up")
        linear(layer.ffn.linear_1, f"layers.{i}.down")
    spec.register_vocabulary([f"t{i}" for i in range(VOCABULARY)])
    for name in ("bos_token", "eos_token", "unk_token"):
        setattr(spec.config, name, f"t{VOCABULARY - 1}")
    spec.validate()
    spec.optimize()
    (FOLDER / "ct2").mkdir(exist_ok=True)
    spec.save(str(FOLDER / "ct2"))


if __name__ == "__main__":
    main()
