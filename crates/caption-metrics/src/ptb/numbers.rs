//! Numbers, fractions, telephone numbers.

use super::{Match, Token, at, run};

fn digits(text: &[char]) -> usize {
    run(text, |c| c.is_ascii_digit())
}

/// `1,000`, `3.14`, `.5`, `10:30`, `-5`
pub(super) fn number(text: &[char]) -> Option<Match> {
    let sign = usize::from(at(text, 0, |c| matches!(c, '+' | '-')));
    let first = digits(&text[sign..]);
    let mut length = sign + first;
    while at(text, length, |c| matches!(c, '.' | ',' | ':')) {
        match digits(&text[length + 1..]) {
            0 => break,
            more => length += 1 + more,
        }
    }
    (length > sign).then(|| Match::plain(length))
}

/// `1/2`, and `2 1/2` as one token with a no-break space.
pub(super) fn fraction(text: &[char]) -> Option<Match> {
    let simple = |text: &[char]| {
        let above = digits(text);
        if !(1..=4).contains(&above) || !at(text, above, |c| matches!(c, '/' | '⁄')) {
            return None;
        }
        match digits(&text[above + 1..]).min(4) {
            0 => None,
            below => Some(above + 1 + below),
        }
    };
    let whole = digits(text);
    let mixed = ((1..=4).contains(&whole) && at(text, whole, |c| matches!(c, ' ' | '-')))
        .then(|| simple(&text[whole + 1..]))
        .flatten()
        .map(|length| whole + 1 + length);
    mixed
        .or_else(|| simple(text))
        .map(|length| Match::new(length, Token::Spaced))
}

/// `(650) 723-0293`, `650 723 0293`: groups of 2 to 4, 2 to 4, 3 or 4, and 3 to 5 digits, the first one optional.
pub(super) fn phone(text: &[char]) -> Option<Match> {
    let length = bracketed(text).or_else(|| plain(text))?;
    Some(Match::new(length, Token::Spaced))
}

fn bracketed(text: &[char]) -> Option<usize> {
    if !at(text, 0, |c| c == '(') {
        return None;
    }
    let area = digits(&text[1..]);
    if !(2..=3).contains(&area) || !at(text, area + 1, |c| c == ')') {
        return None;
    }
    let start = area + 2 + usize::from(at(text, area + 2, |c| c == ' '));
    subscriber(&text[start..]).map(|length| start + length)
}

fn plain(text: &[char]) -> Option<usize> {
    let plus = run(text, |c| c == '+').min(2);
    let first = group(&text[plus..])?;
    let second = group(&text[plus + first..]).map(|second| first + second);
    let with = |start: usize| subscriber(&text[plus + start..]).map(|length| plus + start + length);
    second.and_then(with).or_else(|| with(first))
}

/// Two to four digits with a space or hyphen after them.
fn group(text: &[char]) -> Option<usize> {
    let length = digits(text);
    ((2..=4).contains(&length) && at(text, length, |c| matches!(c, ' ' | '-')))
        .then_some(length + 1)
}

/// Three or four digits and three to five, with a space or hyphen between them or not.
fn subscriber(text: &[char]) -> Option<usize> {
    let exchange = digits(text);
    if (3..=4).contains(&exchange) && at(text, exchange, |c| matches!(c, ' ' | '-')) {
        let line = digits(&text[exchange + 1..]).min(5);
        if line >= 3 {
            return Some(exchange + 1 + line);
        }
    }
    (exchange >= 6).then(|| exchange.min(9))
}
