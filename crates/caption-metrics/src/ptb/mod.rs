//! The PTB tokenizer of the COCO caption evaluation, one caption at a time.
//!
//! pycocoevalcap sends captions through Stanford's `PTBTokenizer` 3.4.1 with `-preserveLines -lowerCase` and then leaves
//! out 17 punctuation tokens. This is written from what that program gives out for some 600,000 probes, not from its
//! source. It reads all captions as one file, a line each, and looks past the end of a line: whether the last word of
//! `Corner of Main St and Avenue A.` keeps its stop depends on the next caption's first word ([`tokenize_before`]). Its
//! other such habit is left out: a line separator that is not `\n` shifts all later captions by one.
//!
//! A rule sees the text from where the last token ended. Each says how much it would take, and how much of the text it has
//! looked at; the one that has looked at most wins, the first of them on a tie.

mod characters;
mod lists;
mod numbers;
mod rules;
mod web;

use characters::{Class, class, is_hyphen, is_letter, is_space};

/// What a rule would take.
#[derive(Clone, Copy, Debug)]
struct Match {
    /// Characters of the token.
    length: usize,
    /// Characters looked at, those of the token included.
    seen: usize,
    token: Token,
}

/// How characters become a token.
#[derive(Clone, Copy, Debug)]
enum Token {
    /// In lower case.
    Plain,
    /// In lower case, with typographic apostrophes made plain.
    Clitic,
    /// Two tokens, cut here.
    Cut(usize),
    /// In lower case, with no-break spaces for spaces and names for brackets.
    Spaced,
    /// Typographic quotation marks as typewriters have them.
    Quotes,
    /// This text.
    Fixed(&'static str),
    /// Punctuation: no token.
    Dropped,
}

impl Match {
    fn new(length: usize, token: Token) -> Self {
        Self {
            length,
            seen: length,
            token,
        }
    }

    fn plain(length: usize) -> Self {
        Self::new(length, Token::Plain)
    }
}

type Rule = fn(&[char]) -> Option<Match>;

/// In the order in which they win ties.
const RULES: [Rule; 25] = [
    web::markup,
    web::url,
    web::email,
    web::smiley,
    web::tag,
    web::file_name,
    numbers::phone,
    numbers::fraction,
    numbers::number,
    rules::bracket,
    rules::joined,
    rules::sentence_end,
    rules::abbreviation,
    rules::acronym,
    rules::before_comma,
    rules::negation,
    rules::before_clitic,
    rules::clitic,
    rules::clipped,
    rules::elided,
    rules::inner_apostrophe,
    rules::dotted,
    rules::compound,
    rules::capitals,
    rules::word,
];

/// A caption's tokens, lower-cased, without punctuation, joined by spaces: what the scorers see.
pub fn tokenize(caption: &str) -> String {
    tokenize_before(caption, "")
}

/// The same of a caption that another follows in the file.
pub fn tokenize_before(caption: &str, next: &str) -> String {
    let mut text = clean(caption);
    let length = text.len();
    if caption.trim_end().ends_with('.') {
        let end = next
            .char_indices()
            .nth(LOOKAHEAD)
            .map_or(next.len(), |(end, _)| end);
        text.push('\t');
        text.extend(clean(&next[..end]));
    }
    let mut tokens = String::with_capacity(caption.len());
    let mut place = 0;
    while place < length {
        let rest = &text[place..];
        if is_space(rest[0]) {
            place += 1;
            continue;
        }
        let found = plain_word(rest).unwrap_or_else(|| longest(rest));
        write(&mut tokens, &rest[..found.length], found.token);
        place += found.length;
    }
    tokens
}

/// Characters of the next caption that can matter: a word that begins sentences.
const LOOKAHEAD: usize = 24;

/// Most words: letters alone, then white space or a comma with white space after it. No rule takes more.
fn plain_word(rest: &[char]) -> Option<Match> {
    let length = rest.iter().take_while(|&&c| is_letter(c)).count();
    let ends = |i: usize| rest.get(i).is_none_or(|&c| is_space(c));
    let plain = length > 0 && (ends(length) || (rest[length] == ',' && ends(length + 1)));
    plain.then(|| match lists::cut(&rest[..length]) {
        Some(cut) => Match::new(length, Token::Cut(cut)),
        None => Match::plain(length),
    })
}

fn longest(rest: &[char]) -> Match {
    let mut best: Option<Match> = None;
    for found in RULES.iter().filter_map(|rule| rule(rest)) {
        if best.is_none_or(|best| found.seen > best.seen) {
            best = Some(found);
        }
    }
    let mark = mark(rest);
    match best {
        Some(best) if best.seen >= mark.seen => best,
        _ => mark,
    }
}

/// Punctuation and symbols, each a token, some in runs.
fn mark(rest: &[char]) -> Match {
    let run = |marks: &[char]| rest.iter().take_while(|c| marks.contains(c)).count();
    let whole_run = |least: usize, otherwise: Token| match run(&rest[..1]) {
        length if length >= least => Match::plain(length),
        _ => Match::new(1, otherwise),
    };
    match rest[0] {
        '-' => match run(&['-']) {
            length @ 1..=4 => Match::new(length, Token::Dropped),
            length => Match::plain(length),
        },
        '?' | '!' => match run(&['?', '!']) {
            1 => Match::new(1, Token::Dropped),
            length => Match::plain(length),
        },
        '.' => Match::new(
            if run(&['.']) < 3 {
                1
            } else {
                run(&['.']).min(5)
            },
            Token::Dropped,
        ),
        '_' => whole_run(1, Token::Plain),
        '*' | '#' | '@' => whole_run(2, Token::Plain),
        '<' | '>' if rest.get(1) == Some(&rest[0]) => Match::plain(2),
        ',' | ':' | ';' | '…' | '«' | '»' | '‹' | '›' | '–' | '—' | '―' | '\u{96}' | '\u{97}' => {
            Match::new(1, Token::Dropped)
        }
        '\'' | '`' | '"' => quotes(rest),
        first if written_quote(first).is_some() => quotes(rest),
        other => Match::new(1, named(other)),
    }
}

/// A typographic quotation mark as the tokenizer writes it.
fn written_quote(c: char) -> Option<&'static str> {
    match c {
        '‘' | '‛' | '\u{91}' => Some("`"),
        '’' | '\u{92}' => Some("'"),
        '“' | '\u{93}' => Some("``"),
        '”' | '\u{94}' => Some("''"),
        _ => None,
    }
}

/// A quotation mark, or two that are one token: two typographic ones that make no ordinary pair are not left out.
fn quotes(rest: &[char]) -> Match {
    let typographic = |place: usize| rest.get(place).and_then(|&c| written_quote(c));
    match (typographic(0), typographic(1)) {
        (Some("`"), Some("`")) | (Some("'"), Some("'")) => Match::new(2, Token::Dropped),
        (Some(_), Some(_)) => Match::new(2, Token::Quotes),
        (None, None) if rest[0] != '"' && rest.get(1) == Some(&rest[0]) => {
            Match::new(2, Token::Dropped)
        }
        _ => Match::new(1, Token::Dropped),
    }
}

/// Symbols that have another name.
fn named(symbol: char) -> Token {
    Token::Fixed(match symbol {
        '(' => "-lrb-",
        ')' => "-rrb-",
        '[' => "-lsb-",
        ']' => "-rsb-",
        '{' => "-lcb-",
        '}' => "-rcb-",
        '€' | '₠' | '¤' | '\u{80}' => "$",
        '£' => "#",
        '¢' => "cents",
        '¼' => "1/4",
        '½' => "1/2",
        '¾' => "3/4",
        '⅓' => "1/3",
        '⅔' => "2/3",
        _ => return Token::Plain,
    })
}

/// Reads the entities that matter, and makes every character that parts words a space: an ordinary one where it was one
/// or a no-break space, a tab elsewhere.
fn clean(caption: &str) -> Vec<char> {
    let mut text = Vec::with_capacity(caption.len() + 1);
    let mut rest = caption;
    while let Some(c) = rest.chars().next() {
        if c == '&'
            && let Some((entity, meant)) = web::entity(rest)
        {
            text.push(meant);
            rest = &rest[entity..];
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match c {
            '\u{ad}' => {}
            ' ' | '\u{a0}' | '\n' => text.push(' '),
            c if class(c) == Class::Gap
                && !is_hyphen(c)
                && matches!(mark(&[c]).token, Token::Plain) =>
            {
                text.push('\t');
            }
            c => text.push(c),
        }
    }
    text
}

/// Adds a token.
fn write(tokens: &mut String, text: &[char], token: Token) {
    let mut separate = || {
        if !tokens.is_empty() {
            tokens.push(' ');
        }
    };
    match token {
        Token::Dropped => {}
        Token::Cut(cut) => {
            write(tokens, &text[..cut], Token::Plain);
            write(tokens, &text[cut..], Token::Plain);
        }
        Token::Fixed(name) => {
            separate();
            tokens.push_str(name);
        }
        Token::Quotes => {
            separate();
            tokens.extend(text.iter().filter_map(|&c| written_quote(c)));
        }
        Token::Plain if text.iter().all(char::is_ascii) => {
            separate();
            tokens.extend(text.iter().map(char::to_ascii_lowercase));
        }
        Token::Plain => {
            separate();
            tokens.push_str(&text.iter().collect::<String>().to_lowercase());
        }
        Token::Clitic => {
            separate();
            tokens.extend(text.iter().map(|&c| match c {
                '’' | '\u{92}' => '\'',
                '‘' | '‛' | '\u{91}' => '`',
                c => c.to_ascii_lowercase(),
            }));
        }
        Token::Spaced => {
            separate();
            for &c in text {
                match c {
                    ' ' => tokens.push('\u{a0}'),
                    '(' => tokens.push_str("-lrb-"),
                    ')' => tokens.push_str("-rrb-"),
                    c => tokens.extend(c.to_lowercase()),
                }
            }
        }
    }
}

/// How many characters from the start fit.
fn run(text: &[char], fits: impl Fn(char) -> bool) -> usize {
    text.iter().take_while(|&&c| fits(c)).count()
}

/// The character at a place fits.
fn at(text: &[char], place: usize, fits: impl Fn(char) -> bool) -> bool {
    text.get(place).is_some_and(|&c| fits(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_of_all_kinds_parts_words_and_emoji_are_deleted() {
        assert_eq!(
            tokenize("a\tdog\u{3000}runs\r\n\u{2028}fast"),
            "a dog runs fast"
        );
        assert_eq!(tokenize("a😀b ❤️"), "a b ❤");
        assert_eq!(tokenize("  \n "), "");
        assert_eq!(tokenize("soft\u{ad}hyphen"), "softhyphen");
    }

    #[test]
    fn the_next_caption_decides_about_a_last_letter_with_a_stop() {
        assert_eq!(tokenize("Avenue A."), "avenue a.");
        assert_eq!(tokenize_before("Avenue A.", "The corner"), "avenue a");
        assert_eq!(tokenize_before("Avenue A.", "Dogs"), "avenue a.");
        assert_eq!(tokenize_before("Gate no.", "5 dogs"), "gate no.");
        assert_eq!(tokenize_before("Gate no.", "Five dogs"), "gate no");
    }

    #[test]
    fn no_text_is_too_strange() {
        for text in [
            "<a b=\"", "((((((", "a@", "http://", "'", "1/2/3/4", "-", "n't", "&#", "&#39", "a-",
            "犬",
        ] {
            tokenize(text);
            tokenize(&text.repeat(500));
        }
    }
}
