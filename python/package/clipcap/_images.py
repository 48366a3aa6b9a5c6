"""Images of all kinds, made into what the native half takes: a path, a file's bytes, or pixels with their shape."""

import os
import sys

from ._native import Error

KINDS = "a path, a NumPy array, a Pillow image, or the bytes of an image file"


def listed(images):
    """The images as an iterator, and whether they are several; an array [B, H, W, C] is several."""
    if is_one(images):
        return iter([images]), False
    if is_array(images):
        return iter(array(images, "images")), True
    try:
        return iter(images), True
    except TypeError:
        return iter([images]), False


def is_one(image):
    """Whether it is one image."""
    if isinstance(image, (str, bytes, bytearray, memoryview, os.PathLike)) or is_pillow(image):
        return True
    return is_array(image) and getattr(image, "ndim", 3) != 4


def is_pillow(image):
    """Whether it is one of Pillow's, which is not imported for that."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def is_array(image):
    """Whether NumPy can look at it: its own arrays, and tensors on the CPU."""
    return hasattr(image, "__array_interface__") or hasattr(image, "__array__")


def source(image, name):
    """An image for the native half, with what errors call it.

    Raises Error for what is no image.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return name, bytes(image)
    if isinstance(image, (str, os.PathLike)):
        path = os.fsdecode(image)
        if path.startswith(("http://", "https://")):
            raise Error(f"{path}: addresses are not opened: download the image, and give its bytes")
        if "\0" in path:
            raise Error(f"{name}: the path {path!r} has a null character: give the path of a file")
        return name, path
    if is_pillow(image):
        return name, from_pillow(image, name)
    if is_array(image):
        return name, from_array(array(image, name), name)
    raise Error(f"{name}: {shown(image)} is not an image: give {KINDS}")


def checked(text, name):
    """A string that has an encoding; lone halves of surrogate pairs have none."""
    if not isinstance(text, str):
        raise Error(f"{name} is {shown(text)}: give a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Error(f"{name} is {shown(text)}, which is not Unicode: leave out its lone surrogates") from None
    return text


def shown(value):
    """A value for a message, on one line and not long."""
    text = " ".join(repr(value).split())
    return f"{text[:60]}..." if len(text) > 63 else text


def from_pillow(image, name):
    """Pixels of Pillow's image as RGB. One that is as it was opened is turned as its EXIF says, like a file."""
    from PIL import ImageFile, ImageOps

    try:
        if isinstance(image, ImageFile.ImageFile):
            image = ImageOps.exif_transpose(image)
        image = image.convert("RGB")
        width, height = image.size
        return image.tobytes(), height, width, 3
    except Exception as error:  # whatever a decoder finds wrong
        raise Error(f"{name}: Pillow cannot read it: {error}") from error


def array(image, name):
    """NumPy's view of an array."""
    import numpy

    try:
        return numpy.asarray(image)
    except Exception as error:  # a tensor on a GPU, for one
        raise Error(f"{name}: NumPy cannot look at it: {error}") from error


def from_array(pixels, name):
    """Pixels of an array of bytes: gray [H, W] or [H, W, 1], RGB [H, W, 3], or RGBA [H, W, 4]."""
    shape = tuple(pixels.shape)
    what = f"{name}: an array of {pixels.dtype}, {list(shape)}"
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in (1, 3, 4):
        first = len(shape) == 3 and shape[0] in (1, 3, 4)
        hint = ": channels come last, as by .transpose(1, 2, 0)" if first else ": give [H, W, 3], [H, W] or [H, W, 4]"
        raise Error(what + hint)
    if pixels.dtype != "uint8":
        hint = ": give uint8, from 0 to 255"
        if pixels.dtype.kind == "f":
            hint += ", as by (255 * x).round().astype('uint8') where 1 is white"
        raise Error(what + hint)
    if 0 in shape:
        raise Error(f"{what}: it is empty: give at least one pixel")
    if max(shape[:2]) >= 2**31:
        raise Error(f"{what}: it is too large: shrink it first")
    return pixels.tobytes(), shape[0], shape[1], channels
