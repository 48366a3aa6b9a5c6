"""What goes wrong is a clipcap.Error that names the image, the value and what to do."""

import os
import subprocess
import sys

import clipcap
import numpy as np
import pytest
from conftest import FIXTURES
from PIL import Image

GOOD = np.zeros((8, 8, 3), np.uint8)


class OnCard:
    """As a tensor on a GPU is."""

    def __array__(self, *arguments, **more):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.fixture
def truncated(tmp_path):
    path = tmp_path / "cut.jpg"
    data = (FIXTURES / "photo.jpg").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("missing.jpg", ["missing.jpg: no such file"]),
        ("https://example.org/a.jpg", ["https://example.org/a.jpg", "download"]),
        ("a\0b.jpg", ["images[1]", "null character"]),
        (os.sep, ["is a folder"]),
        (b"", ["images[1]", "empty"]),
        (b"words and no image", ["images[1]", "is not an image", "JPEG"]),
        (b"\x89PNG\r\n\x1a\n", ["images[1]", "damaged"]),
        (b"<!doctype html><html>", ["images[1]", "is not an image but"]),
        (np.zeros((3, 8, 8), np.uint8), ["images[1]", "[3, 8, 8]", ".transpose(1, 2, 0)"]),
        (np.zeros((8, 8, 2), np.uint8), ["images[1]", "[8, 8, 2]", "[H, W, 3]"]),
        (np.zeros((8, 8, 3), np.float32), ["images[1]", "float32", "astype('uint8')"]),
        (np.zeros((8, 8, 3), np.int64), ["images[1]", "int64", "give uint8"]),
        (np.zeros((0, 8, 3), np.uint8), ["images[1]", "[0, 8, 3]", "at least one pixel"]),
        (np.zeros(8, np.uint8), ["images[1]", "[8]"]),
        (np.zeros((2, 8, 8, 3), np.uint8), ["images[1]", "[2, 8, 8, 3]"]),
        (np.broadcast_to(np.zeros(1, np.uint8), (20000, 20000)), ["images[1]", "20000 x 20000", "shrink"]),
        (OnCard(), ["images[1]", "cuda:0"]),
        (None, ["images[1]", "None is not an image", "a path"]),
        (5, ["images[1]", "5 is not an image"]),
        ([GOOD], ["images[1]", "is not an image"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, list) else type(value).__name__,
)
def test_a_bad_image_is_named(captioner, image, words):
    for ask in (captioner.caption, captioner.captions, captioner.embed):
        with pytest.raises(clipcap.Error) as raised:
            ask([GOOD, image, GOOD])
        assert all(word in str(raised.value) for word in words), raised.value
        assert "\n" not in str(raised.value)
    first, bad, last = captioner.caption([GOOD, image, GOOD], errors="none")
    assert bad is None and first == last == captioner.caption(GOOD)
    rows = captioner.embed([GOOD, image, GOOD], errors="none")
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]


def test_one_image_alone_is_called_image(captioner):
    with pytest.raises(clipcap.Error, match="^image: is not an image"):
        captioner.caption(b"words")
    with pytest.raises(clipcap.Error, match="^image: None is not an image"):
        captioner.caption(None)
    assert captioner.caption(b"words", errors="none") is None
    assert captioner.captions(b"words", errors="none") is None
    assert captioner.caption([b"words"], errors="none") == [None]


def test_what_pillow_cannot_read_is_named(captioner, truncated):
    with pytest.raises(clipcap.Error, match=r"images\[0\]: Pillow cannot read it: .*truncated"):
        captioner.caption([Image.open(truncated)])


def test_truncated_images_are_taken_when_they_are_allowed(captioner, truncated):
    with pytest.raises(clipcap.Error, match=r"cut short; clipcap.allow_truncated\(\) takes what is there"):
        captioner.caption(truncated)
    assert clipcap.allow_truncated() is False
    try:
        assert captioner.caption(truncated)
    finally:
        assert clipcap.allow_truncated(False) is True


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"beams": 0}, "the beam size is 0: give at least 1"),
        ({"beams": 2.5}, "beams is 2.5: give a whole number"),
        ({"beams": -1}, "beams is -1: give a whole number of at least 0"),
        ({"beams": "many"}, "beams is 'many': give a whole number"),
        ({"beams": 3, "seed": 1}, "seed draws captions and beams searches for them: give one of both"),
        ({"beams": 3, "num_captions": 4}, "num_captions is 4 and beams 3: give at least as many beams"),
        ({"num_captions": 3}, "give beams=3, or temperature=1.0"),
        ({"num_captions": 0}, "0 captions an image"),
        ({"beam_rule": "hf"}, "beam_rule needs beams"),
        ({"beams": 3, "beam_rule": "mine"}, "beam_rule is 'mine': give \"clipcap\" or \"hf\""),
        ({"beams": 3, "early_stopping": True}, 'early_stopping needs beam_rule="hf"'),
        ({"beams": 3, "beam_rule": "hf", "early_stopping": "late"}, "early_stopping is 'late': give True"),
        ({"beams": 4, "beam_rule": "hf", "beam_groups": 3}, "3 groups of 4 beams"),
        ({"temperature": 0}, "the temperature is 0: give a number above 0"),
        ({"temperature": float("nan")}, "the temperature is NaN"),
        ({"top_p": 1.5}, "top-p is 1.5: give a number above 0 and at most 1"),
        ({"seed": -3}, "seed is -3: give a whole number"),
        ({"best_of": 2, "num_captions": 3}, "best_of is 2 and num_captions 3"),
        ({"max_length": 0}, "the longest caption is 0 tokens"),
        ({"max_length": 10**6}, "1000000"),
        ({"min_length": 9, "max_length": 5}, "the shortest caption is 9 tokens and the longest 5"),
        ({"bad_words": "red"}, "bad_words is 'red': give a list of strings"),
        ({"bad_words": [1]}, "bad_words is [1]: give a list of strings"),
        ({"stop": ["a red circle"]}, "the stop text `a red circle` is"),
        ({"prompt": 5}, "prompt is 5: give a string"),
        ({"rerank": "best"}, "rerank is 'best': give \"score\""),
        ({"batch_size": 0}, "batch_size is 0: give a whole number of at least 1"),
        ({"errors": "ignore"}, "errors is 'ignore': give \"raise\" or \"none\""),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_options_that_make_no_sense_are_refused(captioner, search, words):
    with pytest.raises(clipcap.Error) as raised:
        captioner.captions(GOOD, **search)
    assert words in str(raised.value)


def test_an_unknown_option_is_pythons_error(captioner):
    with pytest.raises(TypeError, match="beam_size"):
        captioner.caption(GOOD, beam_size=5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "nowhere"}, "nowhere is not a model folder"),
        ({"model": "sampl"}, "did you mean `sample`?"),
        ({"model": "clipcap-coco"}, "clipcap fetch clipcap-coco"),
        ({"model": FIXTURES}, "config.json"),
        ({"model": 5}, "model is 5: give a folder's path"),
        ({"device": "gpu"}, "device `gpu` is unknown"),
        ({"device": "rocm"}, "device `rocm:0` is not in this build"),
        ({"device": 0}, "device is 0: give its name"),
        ({"precision": "f8"}, 'precision is "f8": give one of f32, f16, bf16, int8'),
        ({"precision": 16}, "precision is 16: give its name"),
    ],
    ids=str,
)
def test_models_devices_and_precisions_that_are_not_there_are_named(given, words):
    with pytest.raises(clipcap.Error) as raised:
        clipcap.Captioner(**{"device": "cpu", **given})
    assert words in str(raised.value)


def test_a_damaged_model_is_named(captioner, tmp_path):
    for file in os.listdir(captioner.model):
        with open(os.path.join(captioner.model, file), "rb") as original:
            data = original.read()
        (tmp_path / file).write_bytes(data if file.endswith(".json") else data[: len(data) // 2])
    with pytest.raises(clipcap.Error, match=str(tmp_path)):
        clipcap.Captioner(tmp_path, device="cpu").caption(GOOD)


def test_texts_are_strings(captioner):
    for texts, words in [
        (["a", 5], r"texts\[1\] is 5: give a string"),
        (5, "texts is 5: give a string, or several"),
        ("\ud800", "not Unicode"),
    ]:
        with pytest.raises(clipcap.Error, match=words):
            captioner.embed_texts(texts)
    with pytest.raises(clipcap.Error, match="prompt is"):
        captioner.caption(GOOD, prompt="\ud800")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_unicode_are_opened_and_told(captioner, tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    with open(name, "wb") as file:
        file.write((FIXTURES / "one.png").read_bytes())
    assert captioner.caption(os.fsdecode(name)) == captioner.caption(FIXTURES / "one.png")
    with pytest.raises(clipcap.Error, match="no such file"):
        captioner.caption(os.fsdecode(name + b"2"))


def test_errors_are_value_errors():
    assert issubclass(clipcap.Error, ValueError) and clipcap.Error.__module__ == "clipcap"


def test_ctrl_c_ends_it_between_two_batches(tmp_path):
    code = (
        "import clipcap, numpy as np, os, signal\n"
        "def images():\n"
        "    for place in range(10**9):\n"
        "        if place == 40: os.kill(os.getpid(), signal.SIGINT)\n"
        "        yield np.zeros((8, 8, 3), np.uint8)\n"
        "clipcap.Captioner(device='cpu').caption(images())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert "KeyboardInterrupt" in ended.stderr, ended.stderr
