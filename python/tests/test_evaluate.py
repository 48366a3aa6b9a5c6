"""Scores are pycocoevalcap's, by the fixtures of the crate caption-metrics."""

import json

import clipcap
import pytest
from conftest import ROOT

METRICS = ROOT / "crates/caption-metrics/tests/fixtures"
NAMES = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR_exact_stem", "ROUGE_L", "CIDEr"]


@pytest.fixture(params=["real", "nasty"])
def golden(request):
    return json.loads((METRICS / f"{request.param}.json").read_text(encoding="utf-8"))


def close(found, wanted):
    """Double precision, in another order of summation; METEOR's ties between alignments are decided otherwise."""
    for name, value in found.items():
        assert value == pytest.approx(wanted[name], abs=1e-4 if "METEOR" in name else 1e-9), name


def test_scores_are_pycocoevalcaps(golden):
    images = golden["images"]
    candidates = {place: [image["candidate"]] for place, image in enumerate(images)}
    references = {place: image["references"] for place, image in enumerate(images)}
    overall = clipcap.evaluate(candidates, references)
    assert list(overall) == NAMES
    close(overall, golden["overall"])
    each = clipcap.evaluate_each(candidates, references)
    assert list(each) == list(references)
    for place, image in enumerate(images):
        close(each[place], image["scores"])
    whole = clipcap.evaluate(candidates, references, meteor_data=METRICS / "meteor")
    assert list(whole) == [name.replace("_exact_stem", "") for name in NAMES]
    close(whole, golden["overall"])


def test_all_forms_give_the_same():
    texts = {1: "A dog runs.", "b": "Two cats."}
    references = {1: ["A dog is running.", "Dog."], "b": ["Two cats!"]}
    wanted = clipcap.evaluate(texts, references)
    rows = [{"image_id": name, "caption": text} for name, text in texts.items()]
    many = [{"image_id": name, "caption": text, "id": 5} for name in references for text in references[name]]
    for candidates, given in [
        ({name: [text] for name, text in texts.items()}, references),
        ({name: [{"caption": text}] for name, text in texts.items()}, {"b": "Two cats!", 1: tuple(references[1])}),
        (list(texts.values()), list(references.values())),
        (([text] for text in texts.values()), iter(references.values())),
        (rows, many),
        (rows, references),
    ]:
        assert clipcap.evaluate(candidates, given) == pytest.approx(wanted)
    assert wanted["Bleu_1"] > 0.5
    each = clipcap.evaluate_each(list(texts.values()), list(references.values()))
    assert [list(scores) for scores in each] == [NAMES, NAMES]


@pytest.mark.parametrize(
    ("candidates", "references", "words"),
    [
        ({}, {}, "there is no image to score"),
        ([], [], "there is no image to score"),
        ({1: "a"}, {1: ["a"], 2: ["b"]}, "1 images have references and no candidate (2)"),
        ({1: "a", 2: "b"}, {1: ["a"]}, "1 images have a candidate and no references (2)"),
        ({1: ["a", "b"]}, {1: ["a"]}, "image 1 has 2 candidates: give one"),
        ({1: []}, {1: ["a"]}, "image 1 has 0 candidates"),
        ({1: "a"}, {1: []}, "image 1 has no reference: give at least one"),
        ({1: "a"}, {1: [5]}, "a caption of image 1 is 5: give a string"),
        ({1: {"text": "a"}}, {1: ["a"]}, "a caption of image 1 is None"),
        ({1: "\ud800"}, {1: ["a"]}, "a caption of image 1 is '\\ud800', which is not Unicode"),
        ({1: "a"}, [["a"]], "not of one kind"),
        (["a"], [["a"], ["b"]], "1 candidates and 2 references"),
        ("a", ["a"], "is one caption"),
        (5, ["a"], "neither a dict nor a list"),
    ],
)
def test_what_cannot_be_scored_is_named(candidates, references, words):
    for evaluate in (clipcap.evaluate, clipcap.evaluate_each):
        with pytest.raises(clipcap.Error) as raised:
            evaluate(candidates, references)
        assert words in str(raised.value)


def test_meteors_data_that_is_not_there_is_named(tmp_path):
    with pytest.raises(clipcap.Error, match=str(tmp_path)):
        clipcap.evaluate(["a"], [["a"]], meteor_data=tmp_path)
