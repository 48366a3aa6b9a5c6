//! Runs as a table.

use super::{Run, State};
use std::path::Path;

use crate::evaluate::table::{Style, render};
use crate::path_text;
use crate::train::settings::show;

/// Longest settings in a table for a terminal; the others' end is cut off.
const LONGEST: usize = 48;

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
        }
    }
}

/// The preset and what differs from it, as in `sample epochs=2`.
pub(super) fn settings(run: &Run) -> String {
    let preset = run.preset.map(String::from);
    let differs = (run.differs.iter())
        .filter(|changed| changed.b.is_some())
        .map(|changed| format!("{}={}", changed.name, show(changed.b.as_ref())));
    let words: Vec<String> = preset.into_iter().chain(differs).collect();
    words.join(" ")
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

/// A row a run.
pub(super) fn list(runs: &[Run], style: Style) -> String {
    let header = [
        "run",
        "kind",
        "state",
        "settings",
        "best epoch",
        "validation loss",
        "test CIDEr",
        "seconds",
        "date (UTC)",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for run in runs {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_string(), |value| format!("{value:.digits$}"))
        };
        let state = run.state.map_or("-", State::name);
        rows.push(vec![
            path_text::one_line(Path::new(&run.name)),
            run.kind.clone(),
            match run.progress {
                Some((done, all)) if done < all => format!("{state} {done}/{all}"),
                _ => state.to_string(),
            },
            match style {
                Style::Text => cut(settings(run)),
                Style::Markdown => settings(run),
            },
            run.best_epoch.map_or("-".into(), |epoch| epoch.to_string()),
            number(run.validation_loss, 3),
            number(run.test_score("CIDEr"), 3),
            number(run.seconds, 0),
            run.date.clone().unwrap_or_default(),
        ]);
    }
    render(&rows, style)
}
