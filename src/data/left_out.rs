//! What is left out of a data set or of results: named, counted, and an error when it is too much.

use anyhow::{Result, bail};

use super::text::cell::printable;

/// Above this share of entries that cannot be used, nothing of a file is used.
pub const MAX_SHARE: f64 = 0.1;

/// How many of the entries that were left out are named.
const NAMED: usize = 10;

/// How many of them an error names.
const NAMED_IN_ERROR: usize = 3;

/// Entries (rows, annotations, images) that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub count: usize,
    /// The first of them, a line each: file, place and reason.
    pub named: Vec<String>,
}

impl LeftOut {
    /// Counts an entry; `line` is what it is and why it cannot be used.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.named.len() < NAMED {
            self.named.push(printable(&line()));
        }
        self.count += 1;
    }

    /// Adds what was left out elsewhere.
    pub fn extend(&mut self, other: Self) {
        let room = NAMED - self.named.len();
        self.named.extend(other.named.into_iter().take(room));
        self.count += other.count;
    }

    /// Whether more than [`MAX_SHARE`] of `total` entries were left out.
    pub fn is_too_much(&self, total: usize) -> bool {
        exceeds(self.count, total)
    }

    /// # Errors
    /// When more than [`MAX_SHARE`] of the `total` entries of `file` were left out. The error names the first and ends
    /// with `fix`.
    pub fn check(&self, file: &str, total: usize, fix: &str) -> Result<()> {
        if !self.is_too_much(total) {
            return Ok(());
        }
        let prefix = format!("{file}: ");
        let named: Vec<&str> = (self.named.iter().take(NAMED_IN_ERROR))
            .map(|line| line.strip_prefix(&prefix).unwrap_or(line))
            .collect();
        let more = match self.count - named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        bail!(
            "{file}: {} of {total} entries cannot be used, more than {:.0}%: {}{more}: {fix}",
            self.count,
            100.0 * MAX_SHARE,
            named.join("; "),
        )
    }

    /// What was left out, a line each, the last for those that are not named.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let named = self.named.iter().map(|line| format!("left out: {line}"));
        let rest = self.count - self.named.len();
        named.chain((rest > 0).then(|| format!("left out: {rest} more")))
    }
}

/// Whether `count` of `total` is more than [`MAX_SHARE`].
pub fn exceeds(count: usize, total: usize) -> bool {
    count as f64 > MAX_SHARE * total as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out(count: usize) -> LeftOut {
        let mut left_out = LeftOut::default();
        for number in 1..=count {
            left_out.note(|| format!("a.csv: row {number}: has no caption"));
        }
        left_out
    }

    #[test]
    fn a_tenth_may_be_left_out_and_no_more() {
        assert!(left_out(0).check("a.csv", 0, "").is_ok());
        assert!(left_out(2).check("a.csv", 20, "").is_ok());
        let error = left_out(3).check("a.csv", 20, "correct them").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.csv: 3 of 20 entries cannot be used, more than 10%: row 1: has no caption; \
             row 2: has no caption; row 3: has no caption: correct them"
        );
        let error = left_out(5).check("a.csv", 20, "x").unwrap_err().to_string();
        assert!(
            error.contains("row 3: has no caption; and 2 more: x"),
            "{error}"
        );
    }

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let mut left_out = left_out(8);
        left_out.extend(self::left_out(7));
        let lines: Vec<String> = left_out.lines().collect();
        assert_eq!((left_out.count, lines.len()), (15, 11));
        assert_eq!(lines[0], "left out: a.csv: row 1: has no caption");
        assert_eq!(lines[10], "left out: 5 more");
    }
}
