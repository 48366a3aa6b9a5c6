//! What goes wrong, as Python is told.

use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

create_exception!(
    clipcap,
    Error,
    PyValueError,
    "What went wrong: an image that cannot be read, an option that makes no sense, a model that is not there. The message \
     names the image, by its path or its place in the list, the value, and what to do."
);

/// What the library's messages call after the program's flags, and Python's word for it.
const WORDS: [(&str, &str); 5] = [
    ("--allow-truncated", "clipcap.allow_truncated()"),
    ("--device cpu", "device=\"cpu\""),
    ("--precision f16", "precision=\"f16\""),
    ("--precision f32", "precision=\"f32\""),
    ("f16\"` or f32", "f16\"` or \"f32\""),
];

/// A message of the library in Python's words.
pub fn in_python(message: &str) -> String {
    WORDS
        .iter()
        .fold(message.to_string(), |text, (flag, word)| {
            text.replace(flag, word)
        })
}

/// An error of the library, with all that it says.
pub fn error(error: &anyhow::Error) -> PyErr {
    refused(&format!("{error:#}"))
}

/// An error with this message.
pub fn refused(message: &str) -> PyErr {
    Error::new_err(in_python(message))
}
