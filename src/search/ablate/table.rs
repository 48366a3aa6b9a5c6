//! What came of an ablation, as a table.

use super::{Compared, Outcome};
use crate::search::spread::Spread;

/// A number of the table.
struct Column {
    title: &'static str,
    value: fn(&Outcome) -> Option<f64>,
    show: fn(f64) -> String,
}

/// The table's numbers; those that nothing has are left out.
const COLUMNS: [Column; 6] = [
    Column {
        title: "validation loss",
        value: |outcome| Some(outcome.validation_loss),
        show: |loss| format!("{loss:.3}"),
    },
    Column {
        title: "BLEU-4",
        value: |outcome| outcome.bleu_4,
        show: |score| format!("{score:.3}"),
    },
    Column {
        title: "CIDEr",
        value: |outcome| outcome.cider,
        show: |score| format!("{score:.3}"),
    },
    Column {
        title: "true captions",
        value: |outcome| Some(outcome.scenes?.true_captions),
        show: |share| format!("{:.1}%", 100.0 * share),
    },
    Column {
        title: "right main objects",
        value: |outcome| Some(outcome.scenes?.right_main_objects),
        show: |share| format!("{:.1}%", 100.0 * share),
    },
    Column {
        title: "seconds",
        value: |outcome| Some(outcome.seconds),
        show: |seconds| format!("{seconds:.0}"),
    },
];

/// An outcome in a line.
pub(super) fn told(outcome: &Outcome) -> String {
    let shown = |column: &Column| {
        let value = (column.value)(outcome)?;
        Some(format!("{} {}", column.title, (column.show)(value)))
    };
    let shown: Vec<String> = COLUMNS.iter().filter_map(shown).collect();
    shown.join(", ")
}

/// The outcomes as a Markdown table; of several seeds mean and standard deviation.
pub fn table(compared: &[Compared]) -> String {
    let all = || compared.iter().flat_map(|variant| &variant.outcomes);
    let columns: Vec<&Column> = (COLUMNS.iter())
        .filter(|column| all().any(|outcome| (column.value)(outcome).is_some()))
        .collect();
    let titles: String = columns
        .iter()
        .map(|column| format!(" {} |", column.title))
        .collect();
    let mut text = format!(
        "| setting |{titles}\n| --- |{}\n",
        " ---: |".repeat(columns.len())
    );
    for variant in compared {
        let cell = |column: &&Column| {
            let values: Option<Vec<f64>> = variant.outcomes.iter().map(column.value).collect();
            let spread = values.and_then(|values| Spread::of(&values));
            let shown = spread.map_or("-".into(), |spread| spread.show(column.show));
            format!(" {shown} |")
        };
        let cells: String = columns.iter().map(cell).collect();
        text.push_str(&format!("| {} |{cells}\n", variant.name));
    }
    if let Some(seeds) = compared.iter().map(|variant| variant.outcomes.len()).max()
        && seeds > 1
    {
        text.push_str(&format!("\nMean ± standard deviation of {seeds} seeds.\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::scenes::SceneScores;

    fn outcome(loss: f64) -> Outcome {
        Outcome {
            name: "no noise".into(),
            validation_loss: loss,
            cider: None,
            bleu_4: None,
            scenes: Some(SceneScores {
                true_captions: 0.25,
                right_main_objects: 0.5,
            }),
            seconds: 9.6,
        }
    }

    #[test]
    fn a_table_has_a_row_a_variant_and_the_columns_that_have_a_value() {
        let compared = |losses: &[f64]| Compared {
            name: "no noise".into(),
            outcomes: losses.iter().map(|loss| outcome(*loss)).collect(),
        };
        assert_eq!(
            table(&[compared(&[1.23456])]),
            "| setting | validation loss | true captions | right main objects | seconds |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | no noise | 1.235 | 25.0% | 50.0% | 10 |\n"
        );
        let text = table(&[compared(&[1.0, 2.0, 3.0])]);
        assert!(
            text.contains("| no noise | 2.000 ± 1.000 | 25.0% ± 0.0% | 50.0% ± 0.0% | 10 ± 0 |"),
            "{text}"
        );
        assert!(text.ends_with("\nMean ± standard deviation of 3 seeds.\n"));
    }
}
