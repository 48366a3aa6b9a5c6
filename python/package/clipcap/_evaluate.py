"""Scores of captions, as pycocoevalcap takes and gives them."""

import os
from collections.abc import Mapping

from . import _native
from ._images import checked, shown
from ._native import Error


def evaluate(candidates, references, *, meteor_data=None):
    """Scores captions against references: {"Bleu_1": .., "Bleu_2": .., "Bleu_3": .., "Bleu_4": .., "METEOR_exact_stem": ..,
    "ROUGE_L": .., "CIDEr": ..}, the numbers that pycocoevalcap's COCOEvalCap gives, without Java.

    candidates: each image's caption by its id, {id: caption} or {id: [caption]}; or a list of captions.
    references: each image's references by its id, {id: [caption, ...]}; or a list of such lists, in the same order.
        A caption may also be {"caption": text}, and both may be COCO's lists of {"image_id": id, "caption": text}.
        Captions are as people wrote them: they are tokenized here, as COCOEvalCap does it.
    meteor_data: a folder with METEOR's data (paraphrase-en.gz and synonym/), for METEOR with synonyms and paraphrases;
        without it METEOR_exact_stem is METEOR with its exact and stem stages alone.

    SPICE is out of reach: it parses captions with Stanford's dependency parser.
    """
    names, overall, _ = _score(candidates, references, meteor_data, False)[1]
    return dict(zip(names, overall))


def evaluate_each(candidates, references, *, meteor_data=None):
    """The scores of each image: {id: {"Bleu_1": .., ..}}, or a list of them where lists were given.

    Takes what evaluate() takes. CIDEr's document frequencies are those of all images that are given.
    """
    ids, (names, _, images) = _score(candidates, references, meteor_data, True)
    scores = [dict(zip(names, image)) for image in images]
    return scores if ids is None else dict(zip(ids, scores))


def _score(candidates, references, meteor_data, each):
    """The images' ids, where they have some, and what the native half gives."""
    candidates, references = _by_id(candidates), _by_id(references)
    if isinstance(candidates, Mapping) != isinstance(references, Mapping):
        raise Error("candidates and references are not of one kind: give two dicts, or two lists")
    if isinstance(references, Mapping):
        ids = list(references)
        _same(set(candidates), set(ids))
        pairs = [(name, candidates[name], references[name]) for name in ids]
    else:
        ids = None
        if len(candidates) != len(references):
            raise Error(f"{len(candidates)} candidates and {len(references)} references: give as many")
        pairs = list(zip(range(len(references)), candidates, references))
    if not pairs:
        raise Error("there is no image to score: give at least one")
    samples = [_sample(*pair) for pair in pairs]
    folder = None if meteor_data is None else os.fsdecode(meteor_data)
    return ids, _native.evaluate(samples, folder, each)


def _by_id(captions):
    """A dict as it is, COCO's list as a dict, another list as a list."""
    if isinstance(captions, Mapping):
        return captions
    if isinstance(captions, (str, bytes)):
        raise Error(f"{shown(captions)} is one caption: give a dict or a list of them")
    try:
        captions = list(captions)
    except TypeError:
        raise Error(f"{shown(captions)} is neither a dict nor a list of captions: give one of both") from None
    if not captions or not all(isinstance(row, Mapping) and "image_id" in row for row in captions):
        return captions
    images = {}
    for row in captions:
        images.setdefault(row["image_id"], []).append(row)
    return images


def _same(candidates, references):
    """Refuses images of which one of both is missing, with a few of their ids."""
    for missing, of, kind in (
        (references - candidates, "references", "candidate"),
        (candidates - references, "a candidate", "references"),
    ):
        if missing:
            some = ", ".join(sorted(map(repr, missing))[:3])
            more = ", ..." if len(missing) > 3 else ""
            raise Error(f"{len(missing)} images have {of} and no {kind} ({some}{more}): give the same images to both")


def _sample(name, candidate, references):
    candidates, references = _captions(candidate), _captions(references)
    if len(candidates) != 1:
        raise Error(f"image {name!r} has {len(candidates)} candidates: give one")
    if not references:
        raise Error(f"image {name!r} has no reference: give at least one")
    what = f"a caption of image {name!r}"
    return checked(candidates[0], what), [checked(caption, what) for caption in references]


def _captions(captions):
    """One caption or several, as strings where they are some."""
    if isinstance(captions, (str, bytes, Mapping)) or not hasattr(captions, "__iter__"):
        captions = [captions]
    return [caption.get("caption") if isinstance(caption, Mapping) else caption for caption in captions]
