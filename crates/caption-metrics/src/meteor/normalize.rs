//! METEOR's own normalisation, which comes after the PTB tokenizer (`-norm`): another cut of the same text.

use super::words::PREFIXES;

/// The words that METEOR compares.
pub(super) fn normalize(text: &str) -> Vec<String> {
    // Most captions are words of small letters, and are left as they are.
    if text.bytes().all(|b| b.is_ascii_lowercase() || b == b' ') {
        return text.split_ascii_whitespace().map(String::from).collect();
    }
    let text = part_dashes(part_apostrophes(part_commas(part_marks(text))));
    let text: String = text.into_iter().collect();
    let words: Vec<&str> = text
        .split([' ', '\u{a0}'])
        .filter(|word| !word.is_empty())
        .collect();
    let mut normal = Vec::with_capacity(words.len());
    for (i, word) in words.iter().enumerate() {
        let next = Next::of(words.get(i + 1));
        match word.strip_suffix('.') {
            Some(start) if start.contains('.') && start.contains(char::is_alphabetic) => {
                normal.push(word.replace('.', "").to_lowercase());
            }
            Some(start) if !start.is_empty() && !start.ends_with('.') => {
                if next == Next::Small || is_prefix(start, next) {
                    normal.push(word.to_lowercase());
                } else {
                    normal.push(start.to_lowercase());
                    normal.push(".".to_string());
                }
            }
            _ => normal.push(word.to_lowercase()),
        }
    }
    normal
}

/// What the next word begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Small,
    Digit,
    Other,
}

impl Next {
    fn of(word: Option<&&str>) -> Self {
        match word.and_then(|word| word.chars().next()) {
            Some(c) if c.is_lowercase() => Self::Small,
            Some(c) if c.is_ascii_digit() => Self::Digit,
            _ => Self::Other,
        }
    }
}

/// Whether a word's full stop ends no sentence.
fn is_prefix(word: &str, next: Next) -> bool {
    (PREFIXES.iter()).any(|&(prefix, number)| prefix == word && (!number || next == Next::Digit))
}

/// Latin and Cyrillic letters and digits: what is kept together.
fn is_alphanumeric(c: char) -> bool {
    c.is_ascii_digit() || is_alphabetic(c)
}

fn is_alphabetic(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='\u{17e}' | '\u{400}'..='\u{527}'
        | '\u{1d00}'..='\u{1d7f}' | '\u{a640}'..='\u{a66e}' | '\u{a67e}'..='\u{a697}')
}

/// Plain quotation marks and dashes; spaces round every other mark, and round runs of full stops.
fn part_marks(text: &str) -> Vec<char> {
    let mut parted = Vec::with_capacity(text.len() + 8);
    let plain = |c: char| match c {
        '‘' | '’' | '`' => '\'',
        '“' | '”' => '"',
        c => c,
    };
    let mut rest = text.chars().map(plain).peekable();
    while let Some(c) = rest.next() {
        let mut more = 1;
        while matches!(c, '\'' | '.' | '-') && rest.next_if_eq(&c).is_some() {
            more += 1;
        }
        match c {
            '.' if more > 1 => {
                parted.push(' ');
                parted.extend(std::iter::repeat_n('.', more));
                parted.push(' ');
            }
            '–' => parted.extend([' ', '-', ' ']),
            '-' => parted.extend(std::iter::repeat_n('-', more.div_ceil(2))),
            '\'' if more > 1 => {
                parted.extend(std::iter::repeat_n([' ', '"', ' '], more / 2).flatten());
                parted.extend((more % 2 == 1).then_some('\''));
            }
            '.' | '\'' | ',' | ' ' | '\u{a0}' => parted.push(c),
            c if is_alphanumeric(c) => parted.push(c),
            c => parted.extend([' ', c, ' ']),
        }
    }
    parted
}

/// Replaces marks that are `mark` by what `replace` makes of the characters round them.
fn part(text: &[char], mark: char, replace: impl Fn(char, char) -> &'static str) -> Vec<char> {
    let mut parted = Vec::with_capacity(text.len() + 8);
    for (i, &c) in text.iter().enumerate() {
        if c != mark {
            parted.push(c);
            continue;
        }
        let before = i.checked_sub(1).map_or(' ', |i| text[i]);
        let after = text.get(i + 1).copied().unwrap_or(' ');
        parted.extend(replace(before, after).chars());
    }
    parted
}

/// Spaces round commas that are not between digits.
fn part_commas(text: Vec<char>) -> Vec<char> {
    part(&text, ',', |before, after| {
        if before.is_ascii_digit() && after.is_ascii_digit() {
            ","
        } else {
            " , "
        }
    })
}

/// `dog's` to `dog 's`; an apostrophe that is not between letters stands alone.
fn part_apostrophes(text: Vec<char>) -> Vec<char> {
    part(&text, '\'', |before, after| match (before, after) {
        (b, a) if is_alphabetic(b) && is_alphabetic(a) => " '",
        (b, 's') if b.is_ascii_digit() => " '",
        (b, a) if b.is_ascii_digit() && is_alphabetic(a) => "'",
        _ => " ' ",
    })
}

/// A space for a hyphen between letters or digits; what the last one took is not looked at again, so that `a-b-c` keeps
/// its second.
fn part_dashes(mut text: Vec<char>) -> Vec<char> {
    let mut i = 1;
    while i + 1 < text.len() {
        let before = is_alphanumeric(text[i - 1]) || text[i - 1] == '.';
        if text[i] == '-' && before && is_alphanumeric(text[i + 1]) {
            text[i] = ' ';
            i += 2;
        }
        i += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        normalize(text).join(" ")
    }

    /// What the program `Meteor` 1.5 writes as the text it aligns.
    #[test]
    fn text_is_cut_as_the_program_cuts_it() {
        for (text, cut) in [
            ("man 's dog isn 't", "man ' s dog isn ' t"),
            (
                "ca n't o'clock y' all 5'6 5's 5'x",
                "ca n 't o 'clock y ' all 5 ' 6 5 's 5'x",
            ),
            (
                "well-known a-b-c x-1,000 -5 a- --",
                "well known a b-c x 1,000 -5 a- -",
            ),
            ("-lrb-650-rrb- 723-0293", "-lrb 650 rrb- 723 0293"),
            (";--rrb- a--b ----- é–é", "; -rrb- a b --- é - é"),
            (
                "u.s.-based ph.d. e.g. e.g 3.5. x",
                "us based phd eg e.g 3.5. x",
            ),
            (
                "mr. smith no. 5 vs. 5 pp. 5 pp. , dog.",
                "mr. smith no . 5 vs. 5 pp. 5 pp . , dog .",
            ),
            (
                "a,b 1,2 a, b a..b dog... x",
                "a , b 1,2 a , b a .. b dog ... x",
            ),
            (
                "café ßø ж 犬が a_b @me c++",
                "café ßø ж 犬 が a _ b @ me c + +",
            ),
            ("2\u{a0}1/2 10:30 `` a ''", "2 1 / 2 10 : 30 \" a \""),
        ] {
            assert_eq!(words(text), cut);
        }
    }
}
