"""What all peers begin with, once `convert.py --make` has made the checkpoints: a captioner with an MLP mapper before the same GPT-2, images, their
pixels and embeddings. Takes PyTorch, transformers and Pillow."""

import json

import numpy as np
import torch
from PIL import Image

from . import networks
from .common import FOLDER, read_image


def captioner_mlp():
    torch.manual_seed(1)
    state = torch.load(FOLDER / "captioner.pt", map_location="cpu", mmap=True)
    state = {key: value for key, value in state.items() if key.startswith("gpt.")}
    mapper = networks.MlpMapper().state_dict()
    torch.save(state | {f"clip_project.{key}": value for key, value in mapper.items()}, FOLDER / "captioner_mlp.pt")


def images():
    (FOLDER / "images").mkdir(exist_ok=True)
    for i in range(64):
        path = FOLDER / f"images/{i:03}.jpg"
        if not path.is_file():
            noise = Image.effect_noise((160, 120), 40 + i).convert("RGB")
            noise.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)


def main():
    if not (FOLDER / "captioner_mlp.pt").is_file():
        captioner_mlp()
    images()
    pixels = np.stack([read_image(path) for path in sorted((FOLDER / "images").iterdir())])
    np.save(FOLDER / "pixels.npy", pixels)
    with torch.inference_mode():
        rows = networks.load_clip(networks.ImageTower)(torch.from_numpy(pixels))
    (FOLDER / "embeddings.json").write_text(json.dumps(rows.tolist()))


if __name__ == "__main__":
    main()
