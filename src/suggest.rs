//! What somebody meant who wrote a name a little wrong.

/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.8;

/// The known name that is most like the one written, if one is like it at all. Case and the marks between words do not count.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = plain(written);
    let alike = |name: &str| strsim::jaro_winkler(&written, &plain(name));
    let best = known
        .into_iter()
        .map(|name| (alike(name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        // The first of equals.
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, name)| name)
}

fn plain(name: &str) -> String {
    let marks = ['-', '.', ' '];
    name.trim().to_lowercase().replace(marks, "_")
}

/// The message of an error of serde's, with the key or value that was meant in the place of all that there are.
pub fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    for what in ["unknown field `", "unknown variant `"] {
        let Some((before, rest)) = text.split_once(what) else {
            continue;
        };
        let Some((written, expected)) = rest.split_once('`') else {
            continue;
        };
        // `a`, `b`: what stands between every other two marks.
        if let Some(meant) = nearest(written, expected.split('`').skip(1).step_by(2)) {
            let place = match expected.rfind(" at line ") {
                Some(place) => &expected[place..],
                None => "",
            };
            return format!("{before}{what}{written}`: did you mean `{meant}`?{place}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["learning_rate", "batch_size", "epochs", "noise.rate"];
        for (written, meant) in [
            ("learning_rat", Some("learning_rate")),
            ("learning-rate", Some("learning_rate")),
            ("LearningRate", Some("learning_rate")),
            ("epoch", Some("epochs")),
            ("batchsize", Some("batch_size")),
            ("noise_rate", Some("noise.rate")),
            ("temperature", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)] // only its keys are of interest
    struct Sizes {
        n_layer: usize,
        n_head: usize,
    }

    #[test]
    fn an_unknown_key_comes_with_the_one_that_was_meant() {
        let told = |text: &str| explain(&serde_json::from_str::<Sizes>(text).unwrap_err());
        assert_eq!(
            told("{\"n_layers\": 2}"),
            "unknown field `n_layers`: did you mean `n_layer`? at line 1 column 11"
        );
        assert!(told("{\"zzz\": 2}").contains("expected `n_layer` or `n_head`"));
        assert!(told("{\"n_layer\": 2}").contains("missing field `n_head`"));
    }
}
