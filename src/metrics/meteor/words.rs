//! What METEOR knows of English without its data files.

/// Words that carry little content: those of relative frequency above one in a thousand in METEOR 1.5's English data.
pub(super) const FUNCTION_WORDS: &str = "the , . to of and a in that for \" is on 's it with was as said at he by be from have has \
    are his but an this not i will \u{2019} they ) -rrb- ( -lrb- who their had we which were been more or s its would about new \
    one after you : also up when there than $ all out her people she year two - can if last first \u{201c} over other \u{201d} into \
    some what so -- no time years could ? 't \u{2014} '";

/// Words in lower case whose full stop ends no sentence; `true` for those before numbers only.
pub(super) const PREFIXES: [(&str, bool); 6] = [
    ("v", false),
    ("vs", false),
    ("i.e", false),
    ("rev", false),
    ("e.g", false),
    ("pp", true),
];
