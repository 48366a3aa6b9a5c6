"""A process that captions images, importing what it needs for that alone: `python -m peers.caption_files PEER WAY PATH...`"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .common import THREADS, TOKENS, Peer, read_image


def load(peer: str) -> Peer:
    if peer == "torch":
        from .torch_peer import TorchPeer

        return TorchPeer()
    if peer == "openvino":
        from .openvino_peer import OpenVinoPeer

        return OpenVinoPeer()
    if peer == "onnxruntime":
        from .onnxruntime_peer import OnnxRuntimePeer

        return OnnxRuntimePeer()
    return mixed()


def mixed() -> Peer:
    """CTranslate2 has no CLIP: ONNX Runtime reads the images, and runs the mapper, whose prefix cannot be handed over."""
    from .ctranslate2_peer import Captioner
    from .onnxruntime_peer import OnnxRuntimePeer, session

    names = {"float32": "f32", "int8": "int8"}

    class Mixed(OnnxRuntimePeer):
        def image_tower(self, way: str):
            return super().image_tower(names[way])

        def captioner(self, way: str, mapper: str):
            prefix = session(f"mapper_{mapper}", names[way])

            class AfterMapper(Captioner):
                def greedy(self, rows: np.ndarray, tokens: int) -> np.ndarray:
                    prefix.run(None, {"embedding": rows})
                    return super().greedy(rows, tokens)

            return AfterMapper(way, mapper)

    return Mixed()


def main():
    name, way, *paths = sys.argv[1:]
    files = [file for path in map(Path, paths) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    with ThreadPoolExecutor(THREADS) as pool:
        images = pool.map(read_image, files)
        peer = load(name)
        tower, captioner = peer.image_tower(way), peer.captioner(way, "transformer")
        for first in range(0, len(files), 16):
            batch = np.stack([next(images) for _ in files[first : first + 16]])
            for row in captioner.greedy(tower(batch), TOKENS):
                print(row.tolist(), flush=True)


if __name__ == "__main__":
    main()
