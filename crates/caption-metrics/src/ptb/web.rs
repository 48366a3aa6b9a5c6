//! Addresses, markup, tags, smileys.

use super::characters::{is_letter, is_space, is_word};
use super::{Match, Token, at, run};

/// An entity at the start of the text: its length in bytes and what it means.
pub(super) fn entity(text: &str) -> Option<(usize, char)> {
    const ENTITIES: [(&str, char); 6] = [
        ("&amp;", '&'),
        ("&apos;", '\''),
        ("&quot;", '"'),
        ("&nbsp;", ' '),
        ("&mdash;", '—'),
        ("&ndash;", '–'),
    ];
    ENTITIES
        .into_iter()
        .find(|(name, _)| {
            (text.get(..name.len())).is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
        .map(|(name, meant)| (name.len(), meant))
}

/// `&lt;`, `&gt;` and `&#39;`, which are not read as the characters they stand for.
fn written_out(text: &[char]) -> Option<Match> {
    let starts = |name: &str| super::rules::matches_ignoring_case(text, name);
    if starts("&lt;") {
        return Some(Match::new(4, Token::Fixed("<")));
    }
    if starts("&gt;") {
        return Some(Match::new(4, Token::Fixed(">")));
    }
    let digits = match text {
        ['&', '#', rest @ ..] => run(rest, |c| c.is_ascii_digit()),
        _ => 0,
    };
    (digits > 0 && at(text, digits + 2, |c| c == ';')).then(|| Match::plain(digits + 3))
}

/// `<b>`, `</a>`, `<br/>`, `<a href="x y">`, `<!-- x -->`
pub(super) fn markup(text: &[char]) -> Option<Match> {
    if text[0] == '&' {
        return written_out(text);
    }
    if text[0] != '<' {
        return None;
    }
    let length = match text.get(1)? {
        '!' if at(text, 2, |c| c.is_ascii_alphabetic() || c == '-') => declaration(text),
        '?' if at(text, 2, |c| c.is_ascii_alphabetic()) => declaration(text),
        '/' => closing(text),
        _ => opening(text),
    }?;
    Some(Match::new(length, Token::Spaced))
}

fn declaration(text: &[char]) -> Option<usize> {
    text.iter().position(|&c| c == '>').map(|end| end + 1)
}

fn name_length(text: &[char]) -> usize {
    if at(text, 0, |c| c.is_ascii_alphabetic()) {
        run(text, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '-')
        })
    } else {
        0
    }
}

fn closing(text: &[char]) -> Option<usize> {
    let name = name_length(&text[2..]);
    let end = 2 + name + run(&text[2 + name..], |c| c == ' ');
    (name > 0 && at(text, end, |c| c == '>')).then_some(end + 1)
}

fn opening(text: &[char]) -> Option<usize> {
    let name = name_length(&text[1..]);
    if name == 0 {
        return None;
    }
    let mut end = 1 + name;
    let spaces = |from: usize| run(&text[from..], |c| c == ' ');
    loop {
        let space = spaces(end);
        let attribute = name_length(&text[end + space..]);
        if space == 0 || attribute == 0 {
            end += space;
            break;
        }
        end += space + attribute;
        let equals = end + spaces(end);
        if at(text, equals, |c| c == '=') {
            let quote = equals + 1 + spaces(equals + 1);
            end = quoted(text, quote)?;
        }
    }
    end += usize::from(at(text, end, |c| c == '/'));
    at(text, end, |c| c == '>').then_some(end + 1)
}

/// Where the quotation that begins at `start` ends.
fn quoted(text: &[char], start: usize) -> Option<usize> {
    let mark = *text.get(start).filter(|&&c| c == '"' || c == '\'')?;
    let length = text[start + 1..].iter().position(|&c| c == mark)?;
    Some(start + length + 2)
}

/// What an address can hold before its path.
fn is_address(c: char) -> bool {
    !is_space(c) && !matches!(c, '"' | '<' | '>' | '|' | '(' | ')')
}

/// What an address can end with.
fn is_address_end(c: char) -> bool {
    is_address(c) && !matches!(c, '.' | '!' | '?' | ',' | '{' | '}' | '-')
}

/// Characters of an address, up to the last that can end one; at least two.
fn address_length(text: &[char]) -> usize {
    let mut length = run(text, is_address);
    while length > 0 && !is_address_end(text[length - 1]) {
        length -= 1;
    }
    if length >= 2 { length } else { 0 }
}

/// `https://...`, `www...`, `foo.com/...`
pub(super) fn url(text: &[char]) -> Option<Match> {
    for scheme in ["http://", "https://"] {
        if super::rules::matches_ignoring_case(text, scheme) {
            let length = address_length(&text[scheme.len()..]);
            return (length > 0).then(|| Match::plain(scheme.len() + length));
        }
    }
    let host = www(text).or_else(|| known_host(text))?;
    let path = match at(text, host, |c| c == '/') {
        true => address_length(&text[host + 1..]),
        false => 0,
    };
    Some(Match::plain(if path > 0 { host + 1 + path } else { host }))
}

/// `www.` and names with stops between them, the last of two to four letters.
fn www(text: &[char]) -> Option<usize> {
    if !super::rules::matches_ignoring_case(text, "www.") {
        return None;
    }
    let is_host = |c: char| (is_address_end(c) || c == '-') && c != '/';
    let mut length = 3;
    let mut last = 0..0;
    let mut names = 0;
    while at(text, length, |c| c == '.') {
        let more = run(&text[length + 1..], is_host);
        if more == 0 {
            break;
        }
        last = length + 1..length + 1 + more;
        length = last.end;
        names += 1;
    }
    let letters = run(&text[last.clone()], |c| c.is_ascii_alphabetic());
    (names >= 2 && letters >= 2).then(|| last.start + letters.min(4))
}

/// A name of letters under one of the four oldest endings.
fn known_host(text: &[char]) -> Option<usize> {
    let is_host = |c: char| c.is_ascii_alphabetic() || c == '&' || !(c.is_ascii() || is_space(c));
    let mut length = run(text, is_host);
    let mut host = None;
    while length > 0 && at(text, length, |c| c == '.') {
        let ending: String = text[length + 1..].iter().take(3).collect();
        if ["com", "net", "org", "edu"].contains(&ending.as_str()) {
            host = Some(length + 4);
        }
        match run(&text[length + 1..], is_host) {
            0 => break,
            more => length += 1 + more,
        }
    }
    host
}

/// `me@foo.com`, in `<>` too.
pub(super) fn email(text: &[char]) -> Option<Match> {
    let open = usize::from(text[0] == '<');
    if !at(text, open, |c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let fits = |c: char| is_address(c) && !matches!(c, '{' | '}');
    let chunk = &text[open..open + run(&text[open..], fits)];
    let place = chunk.iter().rposition(|&c| c == '@')?;
    let is_host = |c: char| c != '.';
    let mut length = place + 1 + run(&chunk[place + 1..], is_host);
    if length == place + 1 {
        return None;
    }
    while at(chunk, length, |c| c == '.') {
        match run(&chunk[length + 1..], is_host) {
            0 => break,
            more => length += 1 + more,
        }
    }
    length += open;
    length += usize::from(open == 1 && at(text, length, |c| c == '>'));
    Some(Match::plain(length))
}

/// `#tag`, `@name`
pub(super) fn tag(text: &[char]) -> Option<Match> {
    let length = match text {
        ['#', rest @ ..] => run(rest, is_letter),
        ['@', first, rest @ ..] if first.is_ascii_alphabetic() || *first == '_' => {
            1 + run(rest, |c| c.is_ascii_alphanumeric() || c == '_')
        }
        _ => 0,
    };
    (length > 0).then(|| Match::plain(1 + length))
}

/// Endings of file names that may begin with a digit.
const FILE_ENDINGS: &str = "bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl \
    png ppt ps py sql tar txt wav x xml zip";

/// `1.jpg`, `12.34.jpg`
pub(super) fn file_name(text: &[char]) -> Option<Match> {
    let word = |text: &[char]| run(text, is_word);
    let mut length = word(text);
    let mut best = None;
    while length > 0 && at(text, length, |c| c == '.') {
        let more = word(&text[length + 1..]);
        let ending: String = text[length + 1..length + 1 + more].iter().collect();
        length += 1 + more;
        if (FILE_ENDINGS.split(' ')).any(|known| known.eq_ignore_ascii_case(&ending)) {
            best = Some(Match::plain(length));
        }
        if more == 0 {
            break;
        }
    }
    best
}

/// `:)`, `;-)`, `=D`, `^_^`
pub(super) fn smiley(text: &[char]) -> Option<Match> {
    const EDGES: &str = "-^=~<>";
    if let [left, '_', right, ..] = text
        && EDGES.contains(*left)
        && EDGES.contains(*right)
    {
        return Some(Match::plain(3));
    }
    let hat = usize::from(matches!(text[0], '<' | '>'));
    if !at(text, hat, |c| matches!(c, ':' | ';' | '=')) {
        return None;
    }
    let mouth = |place: usize| at(text, place, |c| "()DPdpO|\\{@[]".contains(c));
    let nose = at(text, hat + 1, |c| "'o*-".contains(c)) && mouth(hat + 2);
    let length = match (nose, mouth(hat + 1)) {
        (true, _) => hat + 3,
        (false, true) => hat + 2,
        (false, false) => return None,
    };
    (!at(text, length, |c| c.is_ascii_alphanumeric())).then(|| Match::new(length, Token::Spaced))
}
