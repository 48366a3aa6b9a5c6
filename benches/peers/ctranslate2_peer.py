"""CTranslate2: GPT-2 alone, whose prompt is token ids, as many as the prefix has positions; what the mapper does is left out. Ways: its compute
types."""

import ctranslate2
import numpy as np

from .common import FOLDER, PREFIX, THREADS, Peer


class Captioner:
    def __init__(self, way: str, mapper: str):
        options = {"device": "cpu", "compute_type": way, "inter_threads": 1, "intra_threads": THREADS}
        self.gpt2, self.length = ctranslate2.Generator(str(FOLDER / "ct2"), **options), PREFIX[mapper]

    def greedy(self, rows: np.ndarray, tokens: int) -> np.ndarray:
        return self.beams(rows, tokens, 1)[:, 0]

    def beams(self, rows: np.ndarray, tokens: int, beams: int) -> np.ndarray:
        prompts = [[f"t{(row * 977 + i * 31 + 5) % 50000}" for i in range(self.length)] for row in range(len(rows))]
        lengths = {"max_length": tokens, "min_length": tokens, "include_prompt_in_result": False}
        found = self.gpt2.generate_batch(prompts, max_batch_size=0, beam_size=beams, sampling_topk=1, num_hypotheses=beams, **lengths)
        return np.array([row.sequences_ids for row in found])


class CTranslate2Peer(Peer):
    def captioner(self, way: str, mapper: str) -> Captioner:
        return Captioner(way, mapper)


if __name__ == "__main__":
    CTranslate2Peer().serve()
