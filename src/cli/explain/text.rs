//! An explanation as lines for a person.

use clipcap::explain::report::Explained;
use clipcap::explain::{ExplainedToken, Faithfulness, HARDLY, Losses, Method, PrefixVector};

use crate::cli::out::one_line;

/// The caption, a row a token, and a row a prefix vector unless none of its nearest tokens were asked for.
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
    let (method, lost) = match explanation.method {
        Method::Attention => ("attention", ""),
        Method::Occlusion => ("occlusion", "   loss"),
    };
    text += &format!("  method: {method}\n");
    text += &format!(
        "  {:width$}  prob.  image{lost}  {:21}  likeliest\n",
        "token", "most relevant"
    );
    for token in &explanation.tokens {
        let (row, column) = most_relevant(token, explanation.side);
        let place = format!("row {row} of {}, col. {column}", explanation.side);
        let loss = match explanation.method {
            Method::Attention => String::new(),
            Method::Occlusion => loss(token),
        };
        let line = format!(
            "  {:width$}  {:>5}  {:>5}{loss}  {place:21}  {}",
            shown(&token.text),
            percent(token.probability()),
            percent(token.image_share),
            likeliest(token)
        );
        text += line.trim_end();
        text.push('\n');
    }
    let looked_up = |vector: &&PrefixVector| !vector.neighbors.is_empty();
    for (place, vector) in explanation.prefix.iter().filter(looked_up).enumerate() {
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

/// The likeliest tokens in its place, itself among them.
fn likeliest(token: &ExplainedToken) -> String {
    let likeliest: Vec<String> = (token.alternatives.iter())
        .map(|other| format!("{} {}", shown(&other.text), percent(other.log_prob.exp())))
        .collect();
    likeliest.join(", ")
}

/// In whole percent; not 0% of what is possible.
fn percent(share: f32) -> String {
    match share {
        share if share < 0.005 => "<1%".to_string(),
        _ => format!("{:.0}%", 100.0 * share),
    }
}

/// The most of its log-probability that covering a cell cost, `-` where it is hardly any.
fn loss(token: &ExplainedToken) -> String {
    let most = token.cells.iter().copied().fold(0.0, f32::max);
    match most < HARDLY {
        true => format!("  {:>5}", "-"),
        false => format!("  {most:>5.2}"),
    }
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
