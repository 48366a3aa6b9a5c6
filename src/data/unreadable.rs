//! What becomes of images of a data set that cannot be read: they are named and left out, up to a share of all.

use std::fmt::Display;

use anyhow::{Result, bail};

use super::left_out::{MAX_SHARE, exceeds};

/// How many of them are named.
const NAMED: usize = 10;

/// Names the first unreadable images of `total`, each by an error that begins with its name. `data`: what the data set is
/// called.
///
/// # Errors
/// When there are more of them than [`MAX_SHARE`].
pub fn check<E: Display>(
    unreadable: &[E],
    total: usize,
    data: impl Display,
    report: &dyn Fn(&str),
) -> Result<()> {
    let Some(first) = unreadable.first() else {
        return Ok(());
    };
    for error in unreadable.iter().take(NAMED) {
        report(&format!("skipped {error}"));
    }
    if unreadable.len() > NAMED {
        report(&format!("skipped {} images in all", unreadable.len()));
    }
    if exceeds(unreadable.len(), total) {
        bail!(
            "{} of {total} images of {data} cannot be read, more than {:.0}% (the first: {first}): check where its images are (`--images`)",
            unreadable.len(),
            100.0 * MAX_SHARE,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn some_are_named_and_too_many_are_an_error() {
        let said = RefCell::new(Vec::new());
        let report = |line: &str| said.borrow_mut().push(line.to_string());
        let errors: Vec<String> = (0..12).map(|i| format!("{i}.png: is damaged")).collect();
        check(&errors, 120, "photos", &report).unwrap();
        assert_eq!(said.borrow().len(), 11);
        assert_eq!(said.borrow()[0], "skipped 0.png: is damaged");
        let error = check(&errors, 119, "photos", &report).unwrap_err();
        assert!(
            (error.to_string())
                .starts_with("12 of 119 images of photos cannot be read, more than 10%"),
            "{error}"
        );
        check::<String>(&[], 0, "photos", &report).unwrap();
    }
}
