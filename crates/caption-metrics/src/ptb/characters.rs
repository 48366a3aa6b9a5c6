//! What a character is to the tokenizer.
//!
//! `characters.txt` holds the classes beyond ASCII as ranges of hexadecimal code points, found by giving the Stanford
//! tokenizer 3.4.1 every character of the basic plane between two letters. They are of the Unicode version it was built
//! with: a letter that came later is unknown to it, and so is everything outside the basic plane.

use std::sync::LazyLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Letters, marks and digits of all scripts: they make words.
    Letter,
    /// A token of its own.
    Symbol,
    /// White space, and what is unknown: deleted, and parts words.
    Gap,
}

static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let mut classes = vec![Class::Gap; 0x1_0000];
    let mut class = Class::Letter;
    for item in include_str!("characters.txt").split_whitespace() {
        match item {
            "letters" => class = Class::Letter,
            "symbols" => class = Class::Symbol,
            range => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let code = |text| usize::from_str_radix(text, 16).expect("hexadecimal");
                classes[code(first)..=code(last)].fill(class);
            }
        }
    }
    classes
});

pub(super) fn class(c: char) -> Class {
    if c.is_ascii_alphanumeric() {
        Class::Letter
    } else if c.is_ascii() {
        if c.is_ascii_graphic() {
            Class::Symbol
        } else {
            Class::Gap
        }
    } else {
        CLASSES.get(c as usize).copied().unwrap_or(Class::Gap)
    }
}

/// Letters of all scripts and digits.
pub(super) fn is_word(c: char) -> bool {
    class(c) == Class::Letter
}

/// Letters, without ASCII digits.
pub(super) fn is_letter(c: char) -> bool {
    is_word(c) && !c.is_ascii_digit()
}

/// `'`, `’` and the latter's code in Windows text.
pub(super) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | '\u{92}')
}

/// What stands for an apostrophe within a word: opening quotation marks too.
pub(super) fn is_inner_apostrophe(c: char) -> bool {
    is_apostrophe(c) || matches!(c, '`' | '‘' | '‛' | '\u{91}')
}

pub(super) fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}')
}

/// White space as [`super::clean`] leaves it.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
