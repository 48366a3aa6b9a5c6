//! What METEOR knows of English without its data files.

/// Words that carry little content, which [`DELTA`](super::DELTA) weighs less: all of relative frequency above one in a
/// thousand in a corpus of English, in that order, as METEOR 1.5 counted them. It is part of how the metric is defined, a
/// count with a threshold and nothing chosen, and `METEOR_exact_stem` would be another number without it; therefore it
/// stands here, where what was compiled with judgement (synonyms, paraphrases) comes from the user's copy.
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
