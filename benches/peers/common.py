"""What all peers share: sizes, inputs, the protocol of a worker, beam search in NumPy.

A worker reads a JSON object a line, {"work": ..., "way": ..., ...}, and answers with {"seconds": ..., "out": ...} or {"error": ...}; "out",
which is compared between both sides, only where the line has "dump".
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

FOLDER = Path(os.environ["BENCH_FOLDER"])
THREADS = int(os.environ["BENCH_THREADS"])
TOKENS = 20
WIDTH, HEADS, LAYERS, VOCABULARY = 768, 12, 12, 50257  # GPT-2 small
HEAD = WIDTH // HEADS
EMBEDDING = 512  # of CLIP ViT-B/32
PREFIX = {"transformer": 40, "mlp": 10}  # positions before a caption, by mapper
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def read_image(path: Path) -> np.ndarray:
    """An image as CLIP's own preprocessing makes it: the shorter side 224, the longer one rounded down, the middle; [3, 224, 224]."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    shorter = min(image.size)
    image = image.resize([224 * side // shorter for side in image.size], Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    values = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1)


def pixels() -> np.ndarray:
    """All images, [64, 3, 224, 224]."""
    return np.load(FOLDER / "pixels.npy")


def embeddings() -> np.ndarray:
    """Their embeddings by PyTorch in float32, not normalized, [64, 512]. Both sides begin captioning and training with them."""
    return np.array(json.loads((FOLDER / "embeddings.json").read_text()), np.float32)


def sentences(count: int) -> list[str]:
    """Sentences of ten words, each a token of the vocabulary that `convert.py` makes."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [" ".join(letters[(i * 7 + j * 3) % 26] + letters[(i * 5 + j * 11) % 26] for j in range(10)) for i in range(count)]


def clip_tokenizer():
    """CLIP's tokenizer, without what transformers wraps around it."""
    from transformers import CLIPTokenizerFast

    return CLIPTokenizerFast.from_pretrained(FOLDER / "clip").backend_tokenizer


class Peer:
    """A method for each kind of work, which returns a function that gives what is compared, called outside the clock. Runtimes say how they
    load things: `image_tower` and `text_tower` are functions of an array, `captioner` has the methods `greedy` and `beams`."""

    def __init__(self):
        self.loaded = {}

    def image_tower(self, way: str) -> Callable[[np.ndarray], np.ndarray]:
        raise NotImplementedError

    def text_tower(self, way: str) -> Callable[[np.ndarray], np.ndarray]:
        raise NotImplementedError

    def captioner(self, way: str, mapper: str):
        raise NotImplementedError

    def once(self, load: Callable, *arguments):
        """What `load` returns, loaded by the first call."""
        key = load.__name__, *arguments
        if key not in self.loaded:
            self.loaded[key] = load(*arguments)
        return self.loaded[key]

    @cached_property
    def pixels(self):
        return pixels()

    @cached_property
    def embeddings(self):
        return embeddings()

    def clip(self, work: dict):
        return self.once(self.image_tower, work["way"])(self.pixels[: work["batch"]]).tolist

    def text(self, work: dict):
        # All sentences have as many tokens: nothing is padded.
        encoded = self.once(clip_tokenizer).encode_batch(sentences(work["batch"]))
        ids = np.array([row.ids for row in encoded], np.int64)
        return self.once(self.text_tower, work["way"])(ids).tolist

    def caption(self, work: dict):
        captioner = self.once(self.captioner, work["way"], work["mapper"])
        rows, tokens, beams = self.embeddings[: work["batch"]], work["tokens"], work["beams"]
        if beams == 0:
            return captioner.greedy(rows, tokens).tolist
        return captioner.beams(rows, tokens, beams)[:, 0].tolist

    def serve(self):
        """Answers work until the input ends."""
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # libraries print
        for line in sys.stdin:
            work = json.loads(line)
            try:
                start = time.perf_counter()
                out = getattr(self, work["work"])(work)
                answer = {"seconds": time.perf_counter() - start}
                if work.get("dump"):
                    answer["out"] = out()
            except Exception as error:  # the driver writes it down and goes on
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            print(json.dumps(answer), file=answers, flush=True)


def beam_search(batch: int, beams: int, tokens: int, first: Callable, step: Callable) -> np.ndarray:
    """ClipCap's search among captions of equal length: ids [batch, beams, tokens], the best first.

    `first()` returns log-probabilities and ids of each image's best `beams` tokens, [batch, beams]; `step(ids, source, n)` those of every
    beam, [batch * beams, beams], where beam i goes on from beam `source[i]` with the n-th token `ids[i]`.
    """
    scores, ids = (np.array(values[:, :beams]) for values in first())
    found = ids[..., None]
    base = beams * np.arange(batch)[:, None]
    source = np.arange(batch * beams)
    for n in range(1, tokens):
        logs, candidates = (values.reshape(batch, beams, -1) for values in step(ids.reshape(-1), source, n))
        sums = (scores[..., None] + logs).reshape(batch, -1)
        best = np.argsort(-sums, axis=-1, kind="stable")[:, :beams]
        scores = np.take_along_axis(sums, best, -1)
        ids = np.take_along_axis(candidates.reshape(batch, -1), best, -1)
        parent = best // logs.shape[-1]
        found = np.concatenate([np.take_along_axis(found, parent[..., None], 1), ids[..., None]], -1)
        source = (parent + base).reshape(-1)
    return found
