"""Models as Python calls them: one image or several, keyword arguments, NumPy's arrays."""

import contextlib
import functools
import itertools
import operator
import os
import sys
import threading
from dataclasses import dataclass

from . import _native
from ._images import checked, listed, shown, source
from ._native import Error

BATCH_SIZE = 16
SEARCH = frozenset(
    "num_captions beams beam_rule early_stopping beam_groups diversity_penalty temperature top_k top_p min_p typical_p"
    " epsilon_cutoff eta_cutoff seed best_of max_length min_length length_penalty no_repeat_ngram repetition_penalty"
    " bad_words stop prompt rerank".split()
)
"""The arguments that say how captions are searched."""


@dataclass(frozen=True)
class Caption:
    """A caption and how likely the model found it; as a string it is its text.

    text: the caption.
    score: the mean log-probability of its tokens, or what the length penalty makes of it; captions come in this order.
    log_prob: the sum of the log-probabilities of the tokens after the prompt.
    tokens: GPT-2's token ids, those of the prompt and the stop token included.
    similarity: the cosine of CLIP's embeddings of image and caption, with rerank="clip".
    consensus: the mean CIDEr-D to the other captions that were found, with rerank="consensus".
    """

    text: str
    score: float
    log_prob: float
    tokens: tuple
    similarity: "float | None" = None
    consensus: "float | None" = None

    def __str__(self):
        return self.text


@dataclass(frozen=True)
class Device:
    """A device that can be named on this machine.

    name: as Captioner takes it, such as cpu or cuda:0.
    description: what it calls itself; of the CPU the instruction set that is used.
    precisions: what it computes in: f32, f16, bf16, int8.
    is_auto: whether it is what "auto" stands for.
    """

    name: str
    description: str
    precisions: tuple
    is_auto: bool


class Captioner:
    """A model that captions images and embeds images and sentences.

    model: a model folder or a run's folder by path, or a name that `clipcap models` lists, looked up as the program does
        it; without one the sample model, which is in this package and knows images of shapes alone.
    device: "auto" (a GPU if there is one, else the CPU), "cpu", "wgpu", "vulkan", "metal", "cuda" or "rocm", with ":N" for
        the N-th card; devices() lists those that are here.
    precision: "f32", "f16", "bf16" or "int8" (the last on the CPU alone); without it float16 where the device has it,
        which the CPU keeps weights in and computes in float32.

    Threads may share one. On the CPU it computes on all cores, or on as many as RAYON_NUM_THREADS says when the first is
    loaded. A pickled one is loaded again, from the same folder, where it is unpickled.
    """

    def __init__(self, model=None, *, device="auto", precision=None):
        if model is not None and not isinstance(model, (str, os.PathLike)):
            raise Error(f"model is {shown(model)}: give a folder's path or a model's name")
        if not isinstance(device, str):
            raise Error(f'device is {shown(device)}: give its name, such as "cpu" or "cuda:0"')
        if precision is not None and not isinstance(precision, str):
            raise Error(f'precision is {shown(precision)}: give its name, such as "f32"')
        folder = None if model is None else os.fsdecode(model)
        with _quiet(device):
            self._native = _native.Captioner(folder, device, precision)
        self._ahead = self.device != "cpu"

    @property
    def model(self):
        """The model's folder."""
        return str(self._native.model)

    @property
    def device(self):
        """The name of the device that computes."""
        return self._native.device

    @property
    def precision(self):
        """What is computed in."""
        return self._native.precision

    @property
    def embedding_dim(self):
        """Width of an embedding."""
        return self._native.embedding_dim

    def __repr__(self):
        return f"clipcap.Captioner({self.model!r}, device={self.device!r}, precision={self.precision!r})"

    def __reduce__(self):
        load = functools.partial(Captioner, device=self.device, precision=self.precision)
        return load, (os.path.abspath(self.model),)

    def caption(
        self,
        images,
        *,
        num_captions=None,
        beams=None,
        beam_rule=None,
        early_stopping=None,
        beam_groups=None,
        diversity_penalty=None,
        temperature=None,
        top_k=None,
        top_p=None,
        min_p=None,
        typical_p=None,
        epsilon_cutoff=None,
        eta_cutoff=None,
        seed=None,
        best_of=None,
        max_length=None,
        min_length=0,
        length_penalty=1.0,
        no_repeat_ngram=0,
        repetition_penalty=1.0,
        bad_words=(),
        stop=(),
        prompt="",
        rerank="score",
        batch_size=BATCH_SIZE,
        errors="raise",
    ):
        """Captions an image: a string. Of several images (a list, or an array [B, H, W, C]) a list of strings.

        An image is a path, a NumPy array of uint8 ([H, W, 3], gray or RGBA), a Pillow image, or the bytes of a file.
        The likeliest token is taken each time, unless beams or one of the settings of sampling are given.

        num_captions: with it each image has a list of so many captions, best first, instead of one string.

        Beam search:
        beams: captions that are grown side by side.
        beam_rule: "clipcap", where beams are compared by their means, or "hf", Hugging Face's.
        early_stopping, beam_groups, diversity_penalty: Hugging Face's, with beam_rule="hf".

        Sampling, where any of these is given:
        temperature: divides the logits; below 1 likely tokens become likelier.
        top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff: which tokens may be drawn, as in transformers.
        seed: the same seed draws the same captions of an image, whatever others are beside it.
        best_of: captions that are drawn, of which the best are given.

        Any search:
        max_length, min_length: tokens of a caption, the prompt not counted; by default up to 67, or what fits.
        length_penalty: captions are ranked by their log-probability over length ** length_penalty.
        no_repeat_ngram: no sequence of so many tokens twice; 0 allows all.
        repetition_penalty: above 1 tokens that were there already become less likely.
        bad_words: words that no caption has, capitalized or not.
        stop: texts of one token each that end a caption, instead of the model's own.
        prompt: what every caption begins with, without a space at its end.
        rerank: what is best: the search's "score", the similarity of image and caption to "clip", or the "consensus" of
            the captions that were found.

        batch_size: images that are captioned together.
        errors: "raise" an Error for an image that cannot be read, or have "none": None in its place.
        """
        search = {name: value for name, value in locals().items() if name in SEARCH}
        form = _best if num_captions is None else _strings
        return self._captions(images, search, batch_size, errors, form)

    def captions(
        self,
        images,
        *,
        num_captions=None,
        beams=None,
        beam_rule=None,
        early_stopping=None,
        beam_groups=None,
        diversity_penalty=None,
        temperature=None,
        top_k=None,
        top_p=None,
        min_p=None,
        typical_p=None,
        epsilon_cutoff=None,
        eta_cutoff=None,
        seed=None,
        best_of=None,
        max_length=None,
        min_length=0,
        length_penalty=1.0,
        no_repeat_ngram=0,
        repetition_penalty=1.0,
        bad_words=(),
        stop=(),
        prompt="",
        rerank="score",
        batch_size=BATCH_SIZE,
        errors="raise",
    ):
        """Captions with their scores: of an image a list of Caption, best first; of several images a list of such lists.

        Takes what caption() takes; num_captions is 1 unless it is given.
        """
        search = {name: value for name, value in locals().items() if name in SEARCH}
        return self._captions(images, search, batch_size, errors, _whole)

    def embed(self, images, *, batch_size=BATCH_SIZE, errors="raise"):
        """CLIP's embeddings of images, projected and not normalized: float32, [B, D], with one row for one image.

        Takes the images that caption() takes. With errors="none" an image that cannot be read has a row of NaN.
        """
        import numpy

        width = self.embedding_dim
        rows = []

        def embed(crops):
            return numpy.frombuffer(self._native.embed(crops), dtype=numpy.float32).reshape(-1, width)

        for row in self._each(images, batch_size, errors, embed)[0]:
            rows.append(numpy.full(width, numpy.nan, dtype=numpy.float32) if row is None else row)
        return numpy.stack(rows) if rows else numpy.zeros((0, width), dtype=numpy.float32)

    def embed_texts(self, texts):
        """CLIP's embeddings of sentences, projected and not normalized: float32, [T, D]. A sentence that is longer than
        CLIP reads is cut.

        texts: a string, or several.
        """
        import numpy

        values = self._native.embed_texts(_texts(texts))
        return numpy.frombuffer(values, dtype=numpy.float32).reshape(-1, self.embedding_dim)

    def score(self, images, texts, *, batch_size=BATCH_SIZE):
        """How similar CLIP finds images and sentences, as cosines: float32, [B, T]; of one image [T]; of one sentence
        without that axis.
        """
        import numpy

        several = listed(images)[1]
        images = self.embed(images, batch_size=batch_size)
        sentences = self.embed_texts(texts)
        for rows in (images, sentences):
            norms = numpy.linalg.norm(rows, axis=1, keepdims=True)
            numpy.divide(rows, norms, out=rows, where=norms > 0)
        cosines = images @ sentences.T  # [B, T]
        if isinstance(texts, str):
            cosines = cosines[:, 0]
        return cosines if several else cosines[0]

    def _captions(self, images, search, batch_size, errors, form):
        asked = self._native.search(search)

        def caption(crops):
            return map(form, self._native.caption(crops, asked))

        outcomes, several = self._each(images, batch_size, errors, caption)
        return outcomes if several else outcomes[0]

    def _each(self, images, batch_size, errors, work):
        """What `work` makes of each image, batch after batch, and whether they are several; None for one that cannot be
        read where errors are "none"."""
        images, several = listed(images)
        batches = _batches(images, several, _at_least_one(batch_size), errors)
        outcomes = []
        for missing, crops in self._opened(batches, errors == "raise"):
            made, failed = iter(work(crops)), iter(crops.failed)
            outcomes += [None if gone or next(failed) is not None else next(made) for gone in missing]
        return outcomes, several

    def _opened(self, batches, strict):
        """Batches with what was opened of them; on a GPU while the one before is worked on. The CPU has no time to spare."""
        if not self._ahead:
            for missing, sources in batches:
                yield missing, self._native.open(sources, strict)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as opener:
            opening = None
            for missing, sources in batches:
                following = missing, opener.submit(self._native.open, sources, strict)
                if opening is not None:
                    yield opening[0], opening[1].result()
                opening = following
            if opening is not None:
                yield opening[0], opening[1].result()


def _batches(images, several, batch_size, errors):
    """Batches for the native half, each with whether the images in it are missing because they are none."""
    if errors not in ("raise", "none"):
        raise Error(f'errors is {shown(errors)}: give "raise" or "none"')
    names = (f"images[{place}]" for place in itertools.count()) if several else itertools.repeat("image")
    while batch := list(itertools.islice(images, batch_size)):
        missing, sources = [], []
        for image in batch:
            try:
                sources.append(source(image, next(names)))
                missing.append(False)
            except Error:
                if errors == "raise":
                    raise
                missing.append(True)
        yield missing, sources


def _at_least_one(batch_size):
    try:
        size = operator.index(batch_size)
    except TypeError:
        size = 0
    if size < 1:
        raise Error(f"batch_size is {shown(batch_size)}: give a whole number of at least 1")
    return size


def _best(found):
    return found[0][0]


def _strings(found):
    return [text for text, *_ in found]


def _whole(found):
    return [
        Caption(text, score, log_prob, tuple(tokens), similarity, consensus)
        for text, tokens, log_prob, score, similarity, consensus in found
    ]


def _texts(texts):
    """Several sentences of one or several."""
    try:
        texts = [texts] if isinstance(texts, str) else list(texts)
    except TypeError:
        raise Error(f"texts is {shown(texts)}: give a string, or several") from None
    return [checked(text, f"texts[{place}]") for place, text in enumerate(texts)]


_LOCK = threading.Lock()


@contextlib.contextmanager
def _quiet(device="auto"):
    """While GPUs are looked for, the Wayland library prints an error where Linux has no XDG_RUNTIME_DIR, as in containers:
    for so long it has one."""
    if device == "cpu" or not sys.platform.startswith("linux"):
        yield
        return
    with _LOCK:
        added = "XDG_RUNTIME_DIR" not in os.environ
        if added:
            os.environ["XDG_RUNTIME_DIR"] = "/nonexistent"
        try:
            yield
        finally:
            if added:
                del os.environ["XDG_RUNTIME_DIR"]


def devices():
    """The devices that can be named on this machine, the CPU first. All of them are opened for that."""
    with _quiet():
        found = _native.devices()
    return [Device(name, description, tuple(precisions), auto) for name, description, precisions, auto in found]


def allow_truncated(allow=True):
    """Takes truncated images from now on, in the whole process, as Pillow's LOAD_TRUNCATED_IMAGES does, or refuses them,
    which is so in the beginning. What is missing is black, or gray in a JPEG. Returns what was so before.
    """
    before = _native.allows_truncated()
    _native.allow_truncated(bool(allow))
    return before
