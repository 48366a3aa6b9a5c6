//! Mean and spread of what was measured several times.

use serde::Serialize;

/// Mean and standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    /// With one less than the number of values; `None` of a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        match values.len() {
            0 => None,
            1 => Some(Self {
                mean,
                deviation: None,
            }),
            _ => Some(Self {
                mean,
                deviation: Some((squares / (count - 1.0)).sqrt()),
            }),
        }
    }

    /// `mean ± deviation`, each as `show` writes a value.
    pub fn show(self, show: impl Fn(f64) -> String) -> String {
        match self.deviation {
            None => show(self.mean),
            Some(deviation) => format!("{} ± {}", show(self.mean), show(deviation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_no_spread_and_several_the_samples() {
        assert_eq!(Spread::of(&[]), None);
        let show = |value: f64| format!("{value:.2}");
        assert_eq!(Spread::of(&[0.5]).unwrap().show(show), "0.50");
        let spread = Spread::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!(spread.show(show), "5.00 ± 2.14");
    }
}
