//! Words: with apostrophes, hyphens, slashes, full stops.

use super::characters::{
    is_apostrophe, is_hyphen, is_inner_apostrophe, is_letter, is_space, is_word,
};
use super::lists::{self, CLIPPED, WHOLE, WHOLE_TYPED};
use super::{Match, Token, at, run};

/// The text begins with `word`, in any case.
pub(super) fn matches_ignoring_case(text: &[char], word: &str) -> bool {
    let mut text = text.iter();
    word.chars().all(|c| {
        text.next().is_some_and(|t| {
            t.eq_ignore_ascii_case(&c) || (c == '\'' && matches!(t, '’' | '\u{92}'))
        })
    })
}

/// Letters and digits, with single underscores between them.
fn word_length(text: &[char]) -> usize {
    let mut length = run(text, is_word);
    while length > 0 && at(text, length, |c| c == '_') {
        match run(&text[length + 1..], is_word) {
            0 => break,
            more => length += 1 + more,
        }
    }
    length
}

/// A word, or one like `o'clock` and `d'Arc`.
fn thing_length(text: &[char]) -> usize {
    let elided = at(text, 0, |c| "dDoOlL".contains(c)) && at(text, 1, is_inner_apostrophe);
    if elided && run(&text[2..], is_word) >= 2 {
        return 2 + word_length(&text[2..]);
    }
    word_length(text)
}

/// `a.m.`: single letters, each with a full stop.
fn acronym_length(text: &[char]) -> usize {
    let mut length = 0;
    while at(text, length, |c| c.is_ascii_alphabetic()) && at(text, length + 1, |c| c == '.') {
        length += 2;
    }
    if length >= 4 { length } else { 0 }
}

/// `well-known`, `o'clock-ish`, and with stops and commas before the first hyphen `3.5-inch`, `red,blue-green`.
fn hyphenated_length(text: &[char]) -> usize {
    let joined = |first: usize, part: &dyn Fn(&[char]) -> usize| {
        let mut length = first;
        while length > 0 && at(text, length, is_hyphen) {
            match part(&text[length + 1..]) {
                0 => break,
                more => length += 1 + more,
            }
        }
        if length > first { length } else { 0 }
    };
    let things = joined(thing_length(text), &thing_length);
    let first = match at(text, 0, is_word) {
        true => run(text, |c| is_word(c) || c == '.' || c == ','),
        false => 0,
    };
    let stops = joined(first, &|part| acronym_length(part).max(run(part, is_word)));
    things.max(stops)
}

/// `end.Next`, `wow!amazing`: letters first after every mark.
fn dotted_length(text: &[char]) -> usize {
    if !at(text, 0, is_letter) {
        return 0;
    }
    let first = run(text, is_word);
    let mut length = first;
    while at(text, length, |c| matches!(c, '.' | '!' | '?')) && at(text, length + 1, is_letter) {
        length += 1 + run(&text[length + 1..], is_word);
    }
    if length > first { length } else { 0 }
}

/// `and/or`, `well-known/x`, `9/11/2001`: two or three parts.
fn slashed_length(text: &[char]) -> usize {
    let part = |text: &[char]| {
        let mut length = run(text, |c| c.is_ascii_alphanumeric());
        for _ in 0..2 {
            if length > 0 && at(text, length, is_hyphen) {
                match run(&text[length + 1..], |c| c.is_ascii_alphabetic()) {
                    0 => break,
                    more => length += 1 + more,
                }
            }
        }
        length
    };
    let first = part(text);
    let mut length = first;
    for _ in 0..2 {
        if length > 0 && at(text, length, |c| c == '/') {
            match part(&text[length + 1..]) {
                0 => break,
                more => length += 1 + more,
            }
        }
    }
    if length > first { length } else { 0 }
}

/// `AT&T`, `A+B`.
fn ampersand_length(text: &[char]) -> usize {
    let capitals = |text: &[char]| run(text, |c| c.is_ascii_uppercase());
    let first = capitals(text);
    let mut length = first;
    while length > 0 && at(text, length, |c| matches!(c, '&' | '+')) {
        match capitals(&text[length + 1..]) {
            0 => break,
            more => length += 1 + more,
        }
    }
    if length > first { length } else { 0 }
}

/// Lengths of the words that can begin here.
fn bases(text: &[char]) -> [usize; 5] {
    [
        word_length(text),
        thing_length(text),
        hyphenated_length(text),
        dotted_length(text),
        ampersand_length(text),
    ]
}

fn found(length: usize) -> Option<Match> {
    (length > 0).then(|| Match::plain(length))
}

pub(super) fn word(text: &[char]) -> Option<Match> {
    found(thing_length(text))
}

pub(super) fn compound(text: &[char]) -> Option<Match> {
    found(hyphenated_length(text).max(slashed_length(text)))
}

pub(super) fn dotted(text: &[char]) -> Option<Match> {
    found(dotted_length(text))
}

/// `AT&T`, and the currencies `US$`, `C$`, and `C++`, `C#`.
pub(super) fn capitals(text: &[char]) -> Option<Match> {
    let letters = run(text, |c| c.is_ascii_uppercase());
    let currency = match letters > 0 && at(text, letters, |c| c == '$') {
        true => letters + 1,
        false => 0,
    };
    let language = match text {
        ['c' | 'C', '+', '+', ..] => 3,
        ['c' | 'C' | 'f' | 'F', '#', ..] => 2,
        _ => 0,
    };
    found(ampersand_length(text).max(currency).max(language))
}

/// `cannot`, `gonna`
pub(super) fn joined(text: &[char]) -> Option<Match> {
    let length = word_length(text);
    lists::cut(&text[..length]).map(|cut| Match::new(length, Token::Cut(cut)))
}

/// `Mr.`, `no. 5`
pub(super) fn abbreviation(text: &[char]) -> Option<Match> {
    let mut length = run(text, |c| c.is_ascii_alphabetic());
    if length == 0 || !at(text, length, |c| c == '.') {
        return None;
    }
    if matches_ignoring_case(text, "ph.d.") {
        length = 4;
    }
    let stopped = Match::plain(length + 1);
    if lists::is_abbreviation(&text[..length]) {
        return Some(stopped);
    }
    let space = usize::from(at(text, length + 1, is_space));
    let numbered =
        lists::is_numbered(&text[..length]) && at(text, length + 1 + space, |c| c.is_ascii_digit());
    numbered.then_some(Match {
        seen: length + 2 + space,
        ..stopped
    })
}

/// `a. The`: the letter is a word of its own where a sentence begins after it.
pub(super) fn sentence_end(text: &[char]) -> Option<Match> {
    if !at(text, 0, |c| c.is_ascii_alphabetic()) || !at(text, 1, |c| c == '.') {
        return None;
    }
    let space = run(&text[2..], is_space);
    let next = &text[2 + space..];
    let length = run(next, |c| c.is_ascii_alphabetic());
    let starts = space > 0
        && lists::is_starter(&next[..length])
        && next.get(length).is_none_or(|&c| is_space(c));
    starts.then_some(Match {
        length: 1,
        seen: 3 + space + length,
        token: Token::Plain,
    })
}

/// `-LRB-`: the tokenizer's own names of brackets stay whole.
pub(super) fn bracket(text: &[char]) -> Option<Match> {
    let lower = |place: usize| text.get(place).map(char::to_ascii_lowercase);
    let named = matches!(lower(1), Some('l' | 'r'))
        && matches!(lower(2), Some('r' | 'c' | 's'))
        && lower(3) == Some('b')
        && text[0] == '-'
        && at(text, 4, |c| c == '-');
    named.then(|| Match::plain(5))
}

/// `U.S.`
pub(super) fn acronym(text: &[char]) -> Option<Match> {
    found(acronym_length(text))
}

/// `word.,`: a full stop before a comma stays with its word.
pub(super) fn before_comma(text: &[char]) -> Option<Match> {
    bases(text)
        .into_iter()
        .filter(|&length| {
            length > 0
                && at(text, length, |c| c == '.')
                && at(text, length + 1, |c| matches!(c, ',' | ';' | ':'))
        })
        .max()
        .map(|length| Match {
            length: length + 1,
            seen: length + 2,
            token: Token::Plain,
        })
}

/// `n't`, and the letters before it.
pub(super) fn negation(text: &[char]) -> Option<Match> {
    let letters = run(text, |c| c.is_ascii_alphabetic());
    let is_n = |place: usize| matches!(text[place], 'n' | 'N');
    let negated = letters > 0
        && is_n(letters - 1)
        && (letters == 1 || !is_n(letters - 2))
        && at(text, letters, is_inner_apostrophe)
        && at(text, letters + 1, |c| matches!(c, 't' | 'T'));
    negated.then(|| match letters {
        1 => Match::new(3, Token::Clitic),
        _ => Match {
            length: letters - 1,
            seen: letters + 2,
            token: Token::Plain,
        },
    })
}

/// Length of `'s`, `'ll` and the like, 0 if they are not there.
fn clitic_length(text: &[char]) -> usize {
    if !at(text, 0, is_apostrophe) {
        return 0;
    }
    ["s", "m", "d", "ll", "re", "ve"]
        .into_iter()
        .find(|ending| matches_ignoring_case(&text[1..], ending))
        .map_or(0, |ending| 1 + ending.len())
}

/// Whether the clitic stands: a typewriter's apostrophe needs its end, a typographic one does not.
fn stands(clitic: &[char], length: usize) -> bool {
    length > 0 && (clitic[0] != '\'' || !at(clitic, length, |c| c.is_ascii_alphabetic()))
}

/// The word before `'s` and the like.
pub(super) fn before_clitic(text: &[char]) -> Option<Match> {
    bases(text)
        .into_iter()
        .filter(|&length| length > 0)
        .map(|length| (length, clitic_length(&text[length..])))
        .filter(|&(length, clitic)| stands(&text[length..], clitic))
        .max_by_key(|(length, clitic)| length + clitic)
        .map(|(length, clitic)| Match {
            length,
            seen: length + clitic,
            token: Token::Plain,
        })
}

/// `'s` and the like, which no letter follows, or that a typographic apostrophe begins.
pub(super) fn clitic(text: &[char]) -> Option<Match> {
    let length = clitic_length(text);
    stands(text, length).then(|| Match::new(length, Token::Clitic))
}

/// Words that begin with an apostrophe: `'em`, `'n'`, `'90s`, `'tis`.
pub(super) fn clipped(text: &[char]) -> Option<Match> {
    if !at(text, 0, is_apostrophe) {
        return None;
    }
    for word in ["'tis", "'twas"] {
        if text[0] == '\'' && matches_ignoring_case(text, word) {
            return Some(Match {
                length: 2,
                seen: word.len(),
                token: Token::Plain,
            });
        }
    }
    let word = CLIPPED
        .into_iter()
        .find(|word| matches_ignoring_case(text, word));
    if let Some(word) = word {
        return Some(Match::plain(word.len()));
    }
    let digits = run(&text[1..], |c| c.is_ascii_digit());
    if digits == 2 {
        let decade = at(text, 3, |c| matches!(c, 's' | 'S')) && !at(text, 4, is_word);
        let alone = text.get(3).is_none_or(|&c| is_space(c));
        return (decade || alone).then(|| Match::plain(if decade { 4 } else { 3 }));
    }
    let and = at(text, 1, |c| matches!(c, 'n' | 'N'))
        && (text[0] != '\'' || !at(text, 2, |c| c.is_ascii_alphabetic()));
    and.then(|| Match::plain(2))
}

/// `y'` of `y'all`, `j'` of `j'ai`, `d'` where no longer word begins with it.
pub(super) fn elided(text: &[char]) -> Option<Match> {
    if !at(text, 1, is_apostrophe) {
        return None;
    }
    let clitic = |c: char| matches!(c, 's' | 'm' | 'd' | 'S' | 'M' | 'D');
    let fits = match text[0] {
        'y' | 'Y' => at(text, 2, |c| is_letter(c) && !clitic(c)),
        'j' | 'J' | 'd' | 'D' | 'l' | 'L' => !at(text, 2, clitic),
        _ => false,
    };
    fits.then(|| Match::plain(2))
}

/// Words that stay whole with an apostrophe in them: `O'Brien`, `ma'am`, `cap'n`.
pub(super) fn inner_apostrophe(text: &[char]) -> Option<Match> {
    let listed = (WHOLE.into_iter())
        .find(|word| matches_ignoring_case(text, word))
        .or_else(|| {
            (WHOLE_TYPED.into_iter())
                .find(|word| matches_ignoring_case(text, word) && text.contains(&'\''))
        });
    if let Some(word) = listed {
        return Some(Match::plain(word.len()));
    }
    let letters = run(text, is_letter);
    if letters == 0 || !at(text, letters, is_inner_apostrophe) {
        return None;
    }
    let after = &text[letters + 1..];
    if letters == 1 {
        let prefix = matches!(text[0], 'n' | 'A'..='H' | 'J'..='X' | 'Z');
        let more = run(after, is_letter);
        return (prefix && more >= 2).then(|| Match::plain(2 + more));
    }
    let vowel = |c: char| matches!(c.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u');
    let last = text[letters - 1];
    let between = (vowel(last) || matches!(last, 'y' | 'Y'))
        && at(after, 0, |c| vowel(c) || c.is_ascii_uppercase());
    between.then(|| Match::plain(letters + 1 + run(after, |c| c.is_ascii_alphabetic())))
}
