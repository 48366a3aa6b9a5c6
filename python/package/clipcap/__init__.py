"""Captions images by CLIP, a mapper and GPT-2: clipcap-burn for Python.

    import clipcap

    captioner = clipcap.Captioner()            # the sample model, which knows images of shapes alone
    captioner.caption("photo.jpg")             # a sentence
    captioner.caption([array, image, "b.png"]) # a list of sentences
    captioner.captions("photo.jpg", beams=5, num_captions=3)
    captioner.embed(["a.jpg", "b.jpg"])        # float32, [2, D]

    clipcap.evaluate({1: ["A dog."]}, {1: ["A dog runs.", "Dog."]})

Images are paths, NumPy arrays (uint8, [H, W, 3], gray or RGBA), Pillow's images, or the bytes of a file. Python's lock is
released while captions are computed, and several threads may share a Captioner. What goes wrong is a clipcap.Error.
"""

import os as _os

# What burn puts on its default device, such as weights that are read, goes to the CPU first; its own choice would be a GPU,
# whether or not the machine has a driver. It looks here each time.
_os.environ.setdefault("BURN_DEVICE", "flex")

from ._captioner import Caption, Captioner, Device, allow_truncated, devices  # noqa: E402
from ._evaluate import evaluate, evaluate_each  # noqa: E402
from ._native import VERSION as __version__  # noqa: E402
from ._native import Error  # noqa: E402

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

# As help() and messages are to call them.
for _public in (Caption, Captioner, Device, allow_truncated, devices, evaluate, evaluate_each):
    for _named in (_public, *vars(_public).values()):
        if hasattr(_named, "__code__") or _named is _public:
            _named.__module__ = "clipcap"
del _public, _named
