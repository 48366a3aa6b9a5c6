"""OpenVINO's models in int8, by nncf in an environment of its own."""

import nncf
import numpy as np
import openvino as ov

from .common import FOLDER, pixels


def main():
    ids = np.random.default_rng(0).integers(0, 49000, (16, 12))
    ids[:, -1] = 49407  # the end
    calibration = {"clip": pixels()[32:48], "text": ids}
    for name in ("clip", "text", "mapper_transformer", "mapper_mlp", "gpt2"):
        model = ov.Core().read_model(FOLDER / f"openvino/{name}.f32.xml")
        if name in calibration:
            rows = nncf.Dataset([row[None] for row in calibration[name]])
            model = nncf.quantize(model, rows, model_type=nncf.ModelType.TRANSFORMER, subset_size=16)
        else:
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        ov.save_model(model, FOLDER / f"openvino/{name}.int8.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
