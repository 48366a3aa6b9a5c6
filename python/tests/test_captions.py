"""Captions and embeddings are the program's, whatever form the images have."""

import multiprocessing
import pickle
import threading
import time

import clipcap
import numpy as np
import pytest
from conftest import FIXTURES
from PIL import Image


def test_captions_are_the_programs(captioner, told, scenes):
    assert captioner.caption(scenes) == [line["caption"] for line in told]
    for line, [caption] in zip(told, captioner.captions(scenes), strict=True):
        assert str(caption) == caption.text == line["caption"]
        assert caption.tokens == tuple(line["tokens"])
        assert caption.log_prob == pytest.approx(line["log_prob"], abs=1e-4)
        assert caption.score == pytest.approx(line["score"], abs=1e-4)
        assert caption.similarity is None and caption.consensus is None


@pytest.mark.parametrize(
    ("search", "flags"),
    [
        ({"beams": 4, "num_captions": 3}, "--decode beam --beam-size 4 --num-captions 3"),
        (
            {"beams": 4, "beam_rule": "hf", "early_stopping": "never", "length_penalty": 0.5},
            "--decode beam --beam-size 4 --beam-rule hf --early-stopping never --length-penalty 0.5",
        ),
        (
            {"beams": 4, "num_captions": 4, "beam_rule": "hf", "beam_groups": 2, "diversity_penalty": 0.7},
            "--decode beam --beam-size 4 --num-captions 4 --beam-rule hf --beam-groups 2 --diversity-penalty 0.7",
        ),
        (
            {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "seed": 7, "num_captions": 2, "best_of": 5},
            "--decode sample --temperature 1.3 --top-k 40 --top-p 0.9 --seed 7 --num-captions 2 --best-of 5",
        ),
        (
            {"seed": 1, "best_of": 6, "num_captions": 3, "rerank": "consensus"},
            "--decode sample --seed 1 --best-of 6 --num-captions 3 --consensus",
        ),
        ({"beams": 3, "num_captions": 3, "rerank": "clip"}, "--decode beam --beam-size 3 --num-captions 3 --rerank clip"),
        (
            {"prompt": "There is", "max_length": 12, "min_length": 5, "bad_words": ["red", "large"], "stop": ["."]},
            "--prompt=There~is --max-length 12 --min-length 5 --bad-words red,large --stop .",
        ),
        ({"no_repeat_ngram": 2, "repetition_penalty": 1.5}, "--no-repeat-ngram 2 --repetition-penalty 1.5"),
    ],
)
def test_every_search_finds_what_the_program_finds(captioner, program, scenes, search, flags):
    lines = program("infer", *(flag.replace("~", " ") for flag in flags.split()), *scenes)
    found = captioner.captions(scenes, **search)
    assert [c.text for one in found for c in one] == [line["caption"] for line in lines]
    for caption, line in zip((c for one in found for c in one), lines, strict=True):
        assert caption.score == pytest.approx(line["score"], abs=1e-4)
        assert caption.similarity == pytest.approx(line.get("similarity"), abs=1e-4)
        assert caption.consensus == pytest.approx(line.get("consensus"), abs=1e-5)
    if "num_captions" in search:
        assert captioner.caption(scenes, **search) == [[c.text for c in one] for one in found]


def test_paths_bytes_arrays_and_pillow_give_the_same(captioner, scenes):
    path = scenes[0]
    data = path.read_bytes()
    image = Image.open(path).convert("RGB")
    pixels = np.asarray(image)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 9, np.uint8)])
    mirrored = np.asfortranarray(pixels)[:, ::-1][:, ::-1]  # neither contiguous nor in rows
    forms = [path, str(path), data, bytearray(data), memoryview(data), image, Image.open(path), pixels, alpha, mirrored]
    [wanted] = captioner.captions(path)
    assert all(captions == [wanted] for captions in captioner.captions(forms))
    assert captioner.caption(pixels) == captioner.caption(image) == captioner.caption(data) == wanted.text
    assert captioner.caption(np.stack([pixels, pixels])) == [wanted.text] * 2
    assert captioner.caption(tuple(forms[:2])) == captioner.caption(iter(forms[:2])) == [wanted.text] * 2
    embeddings = captioner.embed(forms)
    assert (embeddings == embeddings[0]).all()


def test_gray_is_its_own_rgb(captioner):
    gray = np.asarray(Image.open(FIXTURES / "gray.png").convert("L"))
    forms = [gray, gray[:, :, None], np.dstack([gray] * 3), FIXTURES / "gray.png"]
    embeddings = captioner.embed(forms)
    assert (embeddings == embeddings[0]).all()


@pytest.mark.parametrize("name", ["orientation_6.jpg", "palette.png", "rgba.png", "cmyk.jpg", "interlaced.gif"])
def test_pillow_sees_files_as_the_library_does(captioner, name):
    opened, path = Image.open(FIXTURES / name), FIXTURES / name
    by_pillow, by_path = captioner.embed([opened, path])
    assert by_pillow == pytest.approx(by_path, abs=0.02)


def test_an_image_that_pillow_has_turned_is_not_turned_again(captioner):
    opened = Image.open(FIXTURES / "orientation_6.jpg")
    turned = opened.rotate(-90, expand=True)
    turned.info["exif"] = opened.info["exif"]
    by_pillow, by_path = captioner.embed([turned, FIXTURES / "orientation_6.jpg"])
    assert by_pillow == pytest.approx(by_path, abs=0.02)


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_change_nothing_and_none_is_nothing(captioner, scenes, monkeypatch, ahead):
    monkeypatch.setattr(captioner, "_ahead", ahead)  # as on a GPU
    assert captioner.caption(scenes, batch_size=2) == captioner.caption(scenes, batch_size=1) == captioner.caption(scenes)
    mixed = [scenes[0], None, scenes[1], b"no image", *scenes[2:], None, None]
    wanted = captioner.caption(mixed, errors="none")
    assert [caption is None for caption in wanted] == [False, True, False, True, False, False, False, True, True]
    for size in (1, 2, 3):
        assert captioner.caption(mixed, errors="none", batch_size=size) == wanted
        assert np.isnan(captioner.embed(mixed, errors="none", batch_size=size)).all(axis=1).tolist() == [c is None for c in wanted]
    with pytest.raises(clipcap.Error, match=r"images\[4\]"):
        captioner.caption([*scenes[:4], b"no image", *scenes], batch_size=2)
    assert captioner.caption([]) == captioner.captions([]) == []
    assert captioner.embed([]).shape == (0, captioner.embedding_dim)
    assert captioner.embed_texts([]).shape == (0, captioner.embedding_dim)


def test_embeddings_are_the_programs(exact, program, scenes):
    embeddings = exact.embed(scenes)
    assert embeddings.dtype == np.float32 and embeddings.shape == (len(scenes), exact.embedding_dim)
    wanted = np.array([line["embedding"] for line in program("embed", *scenes)], np.float32)
    assert embeddings == pytest.approx(wanted, abs=1e-5)
    assert exact.embed(scenes[0]).shape == (1, exact.embedding_dim)
    embeddings[0, 0] = 0  # it may be written to


def test_scores_are_cosines_of_embeddings(exact, told, scenes):
    texts = [line["caption"] for line in told]
    a, b = exact.embed(scenes), exact.embed_texts(texts)
    cosines = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    scores = exact.score(scenes, texts)
    assert scores == pytest.approx(cosines, abs=1e-5)
    assert (scores.argmax(axis=1) == range(len(texts))).all(), "each image is nearest to its caption"
    assert exact.score(scenes[0], texts) == pytest.approx(cosines[0], abs=1e-5)
    assert exact.score(scenes[0], texts[0]) == pytest.approx(cosines[0, 0], abs=1e-5)
    assert exact.score(scenes, texts[0]).shape == (len(scenes),)
    reranked = exact.captions(scenes[0], beams=3, rerank="clip")[0]
    assert exact.score(scenes[0], reranked.text) == pytest.approx(reranked.similarity, abs=1e-5)


def test_others_go_on_while_a_batch_is_captioned(captioner, scenes):
    begun, ended, steps = threading.Event(), threading.Event(), 0

    def work():
        begun.set()
        captioner.caption(scenes * 40, batch_size=1000)
        ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    while not ended.is_set():
        steps += 1
        time.sleep(0.0001)
    thread.join()
    assert steps > 20, "Python's lock is held meanwhile"


def test_threads_share_a_captioner(captioner, scenes):
    wanted = captioner.caption(scenes)
    found = {}

    def work(number):
        found[number] = [captioner.caption(scenes) for _ in range(3)]

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [wanted] * 3 for number in range(4)}


def caption_in_a_child(captioner, path, queue):
    try:
        queue.put(captioner.caption(path))
    except clipcap.Error as error:
        queue.put(error)


@pytest.mark.parametrize("way", ["spawn", "fork"])
def test_processes_have_one_of_their_own_and_a_fork_is_refused(captioner, scenes, way):
    if way not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {way}")
    context = multiprocessing.get_context(way)
    queue = context.Queue()
    wanted = captioner.caption(scenes[0])
    child = context.Process(target=caption_in_a_child, args=(captioner, scenes[0], queue))
    child.start()
    found = queue.get(timeout=300)
    child.join()
    if way == "fork":
        assert isinstance(found, clipcap.Error) and "spawn" in str(found)
    else:
        assert found == wanted


def test_a_pickled_captioner_is_loaded_again(exact, scenes):
    again = pickle.loads(pickle.dumps(exact))
    assert (again.model, again.device, again.precision) == (exact.model, "cpu", "f32")
    assert again.captions(scenes[0]) == exact.captions(scenes[0])
    error = pickle.loads(pickle.dumps(clipcap.Error("a message")))
    assert isinstance(error, clipcap.Error) and str(error) == "a message"


def test_models_are_found_as_the_program_finds_them(captioner, home):
    assert captioner.model.startswith(str(home / "model" / "sample-"))
    assert captioner.device == "cpu" and captioner.precision == "f16"
    by_path = clipcap.Captioner(captioner.model, device="cpu", precision="int8")
    by_name = clipcap.Captioner("sample", device="cpu")
    assert by_path.precision == "int8" and by_name.model == captioner.model
    assert repr(by_name) == f"clipcap.Captioner({by_name.model!r}, device='cpu', precision='f16')"


def test_devices_are_listed():
    devices = clipcap.devices()
    assert devices[0].name == "cpu" and "f32" in devices[0].precisions
    assert sum(device.is_auto for device in devices) == 1
