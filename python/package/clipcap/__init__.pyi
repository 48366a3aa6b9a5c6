"""Captions images by CLIP, a mapper and GPT-2: clipcap-burn for Python."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, overload

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from typing_extensions import Unpack

__version__: str
__all__ = [
    "Caption",
    "Captioner",
    "Device",
    "Error",
    "allow_truncated",
    "devices",
    "evaluate",
    "evaluate_each",
]

_Image: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | Image
_Errors: TypeAlias = Literal["raise", "none"]
_Text: TypeAlias = str | Mapping[str, Any]
_Candidates: TypeAlias = Mapping[Any, _Text | Iterable[_Text]] | Iterable[_Text | Iterable[_Text]]
_References: TypeAlias = Mapping[Any, _Text | Iterable[_Text]] | Iterable[_Text | Iterable[_Text]]

class _Search(TypedDict, total=False):
    beams: int | None
    beam_rule: Literal["clipcap", "hf"] | None
    early_stopping: bool | Literal["never"] | None
    beam_groups: int | None
    diversity_penalty: float | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    seed: int | None
    best_of: int | None
    max_length: int | None
    min_length: int
    length_penalty: float
    no_repeat_ngram: int
    repetition_penalty: float
    bad_words: Iterable[str]
    stop: Iterable[str]
    prompt: str
    rerank: Literal["score", "clip", "consensus"]
    batch_size: int

class Error(ValueError):
    """What went wrong: the message names the image, the value, and what to do."""

@dataclass(frozen=True)
class Caption:
    """A caption and how likely the model found it."""

    text: str
    score: float
    log_prob: float
    tokens: tuple[int, ...]
    similarity: float | None = None
    consensus: float | None = None

@dataclass(frozen=True)
class Device:
    """A device that can be named on this machine."""

    name: str
    description: str
    precisions: tuple[str, ...]
    is_auto: bool

class Captioner:
    """A model that captions images and embeds images and sentences."""

    def __init__(
        self, model: str | os.PathLike[str] | None = None, *, device: str = "auto", precision: str | None = None
    ) -> None: ...
    @property
    def model(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def embedding_dim(self) -> int: ...
    # A string is an image, and not several of one letter.
    @overload
    def caption(  # type: ignore[overload-overlap]
        self, images: _Image, *, num_captions: None = None, errors: Literal["raise"] = "raise", **search: Unpack[_Search]
    ) -> str: ...
    @overload
    def caption(
        self, images: Iterable[_Image], *, num_captions: None = None, errors: Literal["raise"] = "raise", **search: Unpack[_Search]
    ) -> list[str]: ...
    @overload
    def caption(  # type: ignore[overload-overlap]
        self, images: _Image, *, num_captions: int, errors: Literal["raise"] = "raise", **search: Unpack[_Search]
    ) -> list[str]: ...
    @overload
    def caption(
        self, images: Iterable[_Image], *, num_captions: int, errors: Literal["raise"] = "raise", **search: Unpack[_Search]
    ) -> list[list[str]]: ...
    @overload
    def caption(
        self, images: Iterable[_Image], *, num_captions: None = None, errors: _Errors, **search: Unpack[_Search]
    ) -> list[str | None]: ...
    @overload
    def caption(
        self, images: Iterable[_Image], *, num_captions: int, errors: _Errors, **search: Unpack[_Search]
    ) -> list[list[str] | None]: ...
    @overload
    def captions(  # type: ignore[overload-overlap]
        self, images: _Image, *, num_captions: int | None = None, errors: Literal["raise"] = "raise", **search: Unpack[_Search]
    ) -> list[Caption]: ...
    @overload
    def captions(
        self, images: Iterable[_Image], *, num_captions: int | None = None, errors: Literal["raise"] = "raise", **search: Unpack[_Search]
    ) -> list[list[Caption]]: ...
    @overload
    def captions(
        self, images: Iterable[_Image], *, num_captions: int | None = None, errors: _Errors, **search: Unpack[_Search]
    ) -> list[list[Caption] | None]: ...
    def embed(
        self, images: _Image | Iterable[_Image], *, batch_size: int = 16, errors: _Errors = "raise"
    ) -> NDArray[np.float32]: ...
    def embed_texts(self, texts: str | Iterable[str]) -> NDArray[np.float32]: ...
    def score(
        self, images: _Image | Iterable[_Image], texts: str | Iterable[str], *, batch_size: int = 16
    ) -> NDArray[np.float32]: ...

def evaluate(
    candidates: _Candidates, references: _References, *, meteor_data: str | os.PathLike[str] | None = None
) -> dict[str, float]: ...
@overload
def evaluate_each(
    candidates: Mapping[Any, _Text | Iterable[_Text]],
    references: Mapping[Any, _Text | Iterable[_Text]],
    *,
    meteor_data: str | os.PathLike[str] | None = None,
) -> dict[Any, dict[str, float]]: ...
@overload
def evaluate_each(
    candidates: Iterable[_Text | Iterable[_Text]],
    references: Iterable[_Text | Iterable[_Text]],
    *,
    meteor_data: str | os.PathLike[str] | None = None,
) -> list[dict[str, float]]: ...
def devices() -> list[Device]: ...
def allow_truncated(allow: bool = True) -> bool: ...
