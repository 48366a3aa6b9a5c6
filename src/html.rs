//! HTML pages from templates.

use anyhow::{Context, Result};

/// Text that cannot become a part of the page.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Puts HTML in the place of each `{{name}}` of a template. What is put in is not looked at again.
///
/// # Errors
/// When the template has a name that nothing is given for.
pub fn fill(template: &str, parts: &[(&str, String)]) -> Result<String> {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .context("the page's template is damaged")?;
        let (_, text) = (parts.iter().find(|(known, _)| *known == name))
            .with_context(|| format!("the page's template has an unknown part `{name}`"))?;
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}
