"""What is compared: rows of work, and by which ways of which peers in each precision."""

from collections.abc import Mapping
from dataclasses import dataclass

TOKENS = 20
TRAINED_CAPTIONS = 40
PRECISIONS = ("f32", "bf16", "int8")
PEERS = ("torch", "onnxruntime", "openvino", "ctranslate2")

Ways = Mapping[str, Mapping[str, list[str]]]  # of each peer, by precision

CAPTION_WAYS: Ways = {
    "f32": {"torch": ["eager"], "onnxruntime": ["f32"], "openvino": ["f32"], "ctranslate2": ["float32"]},
    "bf16": {"torch": ["bf16", "autocast"], "openvino": ["bf16"]},
    "int8": {"torch": ["int8"], "onnxruntime": ["int8", "blocks"], "openvino": ["int8"], "ctranslate2": ["int8"]},
}
TOWER_WAYS: Ways = {
    "f32": {"torch": ["eager"], "onnxruntime": ["f32"], "openvino": ["f32"]},
    "bf16": {"torch": ["bf16", "autocast"], "openvino": ["bf16"]},
    "int8": {"torch": ["int8"], "onnxruntime": ["int8"], "openvino": ["int8"]},
}
TRAIN_WAYS: Ways = {"f32": {"torch": ["eager", "compile"]}, "bf16": {"torch": ["autocast", "autocast compile"]}}
RESNET_WAYS: Ways = {"f32": {"torch": ["eager", "channels_last", "compile"]}}
# A process that has to be started does not autocast or compile.
PROCESS_WAYS: Ways = {
    "f32": CAPTION_WAYS["f32"],
    "bf16": {"torch": ["bf16"], "openvino": ["bf16"]},
    "int8": CAPTION_WAYS["int8"],
}


def compiled(ways: Ways) -> Ways:
    """With PyTorch compiled, too."""
    more = {"f32": ["compile"], "bf16": ["bf16 compile"], "int8": []}
    return {precision: peers | {"torch": peers["torch"] + more[precision]} for precision, peers in ways.items()}


@dataclass(frozen=True)
class Row:
    name: str
    work: Mapping
    ways: Ways
    # Models of rows of a family stay loaded together.
    family: str
    # Slow work is repeated less often.
    most_pairs: int = 99

    @property
    def model(self) -> str:
        """The model folder of ours."""
        return "model_mlp" if self.work.get("mapper") == "mlp" else "model"


def caption(name: str, batch: int, beams: int, mapper: str = "transformer", most_pairs: int = 99) -> Row:
    work = {"work": "caption", "batch": batch, "beams": beams, "tokens": TOKENS, "mapper": mapper}
    # Compiling takes a minute for each number of beams, and gains less than a tenth.
    return Row(name, work, CAPTION_WAYS if beams else compiled(CAPTION_WAYS), f"caption {mapper}", most_pairs)


def train(name: str, joint: bool) -> Row:
    work = {"work": "train", "batch": TRAINED_CAPTIONS, "tokens": TOKENS, "joint": joint}
    return Row(name, work, TRAIN_WAYS, name, 2)


def resnet18(batch: int, most_pairs: int) -> Row:
    name = f"training step, ResNet-18, {batch} images"
    work = {"work": "resnet18", "batch": batch, "side": 32, "width": 64, "stem": "cifar"}
    return Row(name, work, RESNET_WAYS, name, most_pairs)


def clip(name: str, work: str, batch: int) -> Row:
    return Row(name, {"work": work, "batch": batch}, compiled(TOWER_WAYS) if work == "clip" else TOWER_WAYS, f"CLIP {work}")


ROWS = [
    clip("CLIP image, 1 image", "clip", 1),
    clip("CLIP image, 32 images", "clip", 32),
    clip("CLIP text, 1 sentence", "text", 1),
    clip("CLIP text, 64 sentences", "text", 64),
    caption("greedy, 1 image", 1, 0),
    caption("greedy, 16 images", 16, 0),
    caption("beam 5, 1 image", 1, 5),
    caption("beam 5, 16 images", 16, 5, most_pairs=3),
    caption("greedy, MLP mapper, 1 image", 1, 0, "mlp"),
    caption("greedy, MLP mapper, 16 images", 16, 0, "mlp"),
    train("training step, mapper", False),
    train("training step, mapper and GPT-2", True),
    resnet18(32, 5),
    resnet18(128, 3),
]
ONE_MODEL_AT_A_TIME = ("train", "resnet18")  # kinds of work
START, MEMORY, IMAGE_FOLDER = "start to first caption", "peak memory of it", "folder of 64 JPEGs"
PROCESS_ROWS = [START, MEMORY, IMAGE_FOLDER]
NAMES = [row.name for row in ROWS] + PROCESS_ROWS
# The work that a folder of images takes, in batches of 16.
FOLDER_WORK = [{"work": "clip", "batch": 16}, {"work": "caption", "batch": 16, "beams": 0, "tokens": TOKENS, "mapper": "transformer"}] * 4
