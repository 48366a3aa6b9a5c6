"""The peer's side of `metrics.rs`: BLEU, ROUGE-L and CIDEr of two COCO files by pycocoevalcap, as its `eval.py` goes about it."""

import contextlib
import io
import json
import sys
from collections import defaultdict

with contextlib.redirect_stdout(io.StringIO()):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    references, results = (json.load(open(path)) for path in sys.argv[1:])
    gts = defaultdict(list)
    for annotation in references["annotations"]:
        gts[annotation["image_id"]].append(annotation)
    res = {result["image_id"]: [result] for result in results}
    gts = {image: gts[image] for image in res}
    tokenizer = PTBTokenizer()
    gts, res = tokenizer.tokenize(gts), tokenizer.tokenize(res)
    bleu, _ = Bleu(4).compute_score(gts, res)
    overall = {f"Bleu_{n + 1}": score for n, score in enumerate(bleu)}
    overall["ROUGE_L"] = float(Rouge().compute_score(gts, res)[0])
    overall["CIDEr"] = float(Cider().compute_score(gts, res)[0])
print(json.dumps({"overall": overall}))
