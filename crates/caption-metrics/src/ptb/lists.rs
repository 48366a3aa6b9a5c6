//! The words that the tokenizer treats as none other, found by giving the Stanford tokenizer 3.4.1 every string of up to
//! four letters and the words of WordNet with a full stop after them.

/// Keep their full stop, in any case. Single letters do too.
const ABBREVIATIONS: &str = "
adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros calif capt cf cie
cmdr co col colo conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb fla fri ft ga gen gov govs
hon inc ind insp intl invt jan jos jr jul jun kan kans ky lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont
mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc ppte ppty pres prof pte ptes pty ptys pvt rd rep reps
rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs tue tues univ va vs vt wed wis wisc
wm wyo ph.d ";

/// Keep it when written with a capital: they are words too.
const CAPITALISED: &str = " ark az del ill la mass miss ore pa tex wash ";

/// Keep it before a number.
const NUMBERED: &str = " art ca fig figs no nos op pp prop ";

/// After a single letter with a full stop, these begin a sentence.
const STARTERS: &str = "
A About According After An As At But He Her Here However If In It Last Many More Now Once One Other Our She Since So
Some Such That The Their Then There These They This We What When While Yet You ";

/// Two words in one: the word and where it is cut.
const JOINED: [(&str, usize); 6] = [
    ("cannot", 3),
    ("gimme", 3),
    ("gonna", 3),
    ("gotta", 3),
    ("lemme", 3),
    ("wanna", 3),
];

/// Words with an apostrophe that stay whole; `'` stands for any.
pub(super) const WHOLE: [&str; 6] = ["cap'n", "c'mon", "li'l", "nat'l", "ol'", "'n'"];

/// The same, only with a typewriter's apostrophe.
pub(super) const WHOLE_TYPED: [&str; 2] = ["e'er", "s'mores"];

/// Begin with an apostrophe.
pub(super) const CLIPPED: [&str; 4] = ["'till", "'til", "'em", "'cause"];

fn holds(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|entry| entry == word)
}

/// Whether `word`, without its full stop, is an abbreviation.
pub(super) fn is_abbreviation(word: &[char]) -> bool {
    let text: String = word.iter().collect::<String>().to_ascii_lowercase();
    (word.len() == 1 && text.as_bytes()[0].is_ascii_lowercase())
        || holds(ABBREVIATIONS, &text)
        || (word[0].is_ascii_uppercase() && holds(CAPITALISED, &text))
}

/// Whether `word` is an abbreviation before a number.
pub(super) fn is_numbered(word: &[char]) -> bool {
    holds(
        NUMBERED,
        &word.iter().collect::<String>().to_ascii_lowercase(),
    )
}

/// Whether `word` begins a sentence.
pub(super) fn is_starter(word: &[char]) -> bool {
    holds(STARTERS, &word.iter().collect::<String>())
}

/// Where a word that is two is cut.
pub(super) fn cut(word: &[char]) -> Option<usize> {
    if !(5..=6).contains(&word.len()) {
        return None;
    }
    JOINED
        .iter()
        .find(|(joined, _)| {
            joined.len() == word.len() && super::rules::matches_ignoring_case(word, joined)
        })
        .map(|&(_, cut)| cut)
}
