//! An explanation as lines for a person.

use clipcap::explain::report::Explained;
use clipcap::explain::{ExplainedToken, Faithfulness, Losses};

use crate::cli::out::one_line;

/// A token's row of other tokens has so many at most.
const OTHERS: usize = 3;

/// The caption, a row a token, and a row a prefix vector.
pub fn table(explained: &Explained) -> String {
    let explanation = &explained.explanation;
    let mut text = format!(
        "{}: {}\n",
        one_line(&explained.image),
        one_line(explanation.caption.trim())
    );
    let width = (explanation.tokens.iter())
        .map(|token| shown(&token.text).chars().count())
        .max()
        .unwrap_or(0)
        .max("token".len());
    text += &format!("  {:width$}  prob.  image  most relevant  else\n", "token");
    for token in &explanation.tokens {
        let (row, column) = most_relevant(token, explanation.side);
        let place = format!("row {row}, col. {column}");
        let line = format!(
            "  {:width$}  {:>4.0}%  {:>4.0}%  {place:13}  {}",
            shown(&token.text),
            100.0 * token.probability(),
            100.0 * token.image_share,
            others(token)
        );
        text += line.trim_end();
        text.push('\n');
    }
    for (place, vector) in explanation.prefix.iter().enumerate() {
        let near: Vec<String> = (vector.neighbors.iter())
            .map(|neighbor| format!("{} {:.2}", shown(&neighbor.text), neighbor.cosine))
            .collect();
        text += &format!("  prefix {:>2}: {}\n", place + 1, near.join(", "));
    }
    text
}

/// A token as it is, its spaces and what cannot be seen of it made visible.
fn shown(text: &str) -> String {
    match text.trim() {
        "" => format!("{text:?}"),
        word => one_line(word),
    }
}

/// From 1.
fn most_relevant(token: &ExplainedToken, side: usize) -> (usize, usize) {
    let cells = token.cells.iter().enumerate();
    let most = cells
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(0, |(place, _)| place);
    (most / side + 1, most % side + 1)
}

fn others(token: &ExplainedToken) -> String {
    let others = token
        .alternatives
        .iter()
        .filter(|other| other.id != token.id);
    let others: Vec<String> = (others.take(OTHERS))
        .map(|other| {
            format!(
                "{} {:.0}%",
                shown(&other.text),
                100.0 * other.log_prob.exp()
            )
        })
        .collect();
    others.join(", ")
}

/// What checks came to, a row a method and kind of words.
pub fn faithfulness(found: &[Faithfulness], draws: usize, confidence: f64) -> String {
    let mut text = String::new();
    for (place, found) in found.iter().enumerate() {
        if place == 0 {
            text += &format!(
                "{} images, {:.0}% of each covered in its mean color; random: the mean of {draws} draws; {:.0}% intervals over images\n",
                found.images,
                100.0 * found.share,
                100.0 * confidence
            );
            text += "method     words     tokens  relevant  others'  random  ratio\n";
        }
        let method = format!("{:?}", found.method).to_lowercase();
        for (kind, losses) in [
            ("content", &found.content),
            ("function", &found.function),
            ("all", &found.all),
        ] {
            text += &row(&method, kind, losses);
        }
    }
    text
}

fn row(method: &str, kind: &str, losses: &Losses) -> String {
    let ratio = losses
        .ratio
        .map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}"));
    let interval = losses.interval.map_or_else(String::new, |interval| {
        format!(" ({:.2} to {:.2})", interval.low, interval.high)
    });
    format!(
        "{method:9}  {kind:8}  {:>6}  {:>8.3}  {:>7.3}  {:>6.3}  {ratio:>5}{interval}\n",
        losses.tokens, losses.relevant, losses.others, losses.random
    )
}
