//! The commands that the README and the book show. The program's unit tests read them here too.

use std::fs;
use std::path::{Path, PathBuf};

/// A command line in a page.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where it is, as `docs/src/training.md:12`.
    pub place: String,
    /// The line as it is, with `cargo run --release --` written as `clipcap`.
    pub line: String,
    /// What is said to come of it, in blocks called `console`.
    pub output: Option<String>,
}

impl Shown {
    /// The arguments of each call of the program in the line; none for other commands.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let words = shlex::split(&self.line).unwrap_or_else(|| panic!("{}: quotes", self.place));
        let calls = words.split(|word| word == "|" || word == "&&");
        let arguments = |call: &[String]| {
            let until = call
                .iter()
                .position(|word| word == ">")
                .unwrap_or(call.len());
            call[1..until].to_vec()
        };
        let ours = calls.filter(|call| call.first().is_some_and(|name| name == "clipcap"));
        ours.map(arguments).collect()
    }
}

/// The README and the pages of the book, in order.
pub fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = fs::read_dir(root.join("docs/src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.sort();
    pages.insert(0, root.join("README.md"));
    pages
}

/// A page's name, as `docs/src/training.md`.
pub fn name(page: &Path) -> String {
    let inside = page.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    inside.display().to_string().replace('\\', "/")
}

/// The commands of the blocks called `sh` and `console`, in order.
pub fn commands(page: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(page).unwrap();
    let (mut shown, mut block) = (Vec::<Shown>::new(), None);
    for (number, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            block = match block {
                None => Some(kind.trim().to_string()),
                Some(_) => None,
            };
            continue;
        }
        let command = match block.as_deref() {
            Some("sh") if !line.trim().is_empty() => line,
            Some("console") => match (line.strip_prefix("$ "), shown.last_mut()) {
                (Some(command), _) => command,
                (None, Some(last)) => {
                    let output = last.output.get_or_insert_default();
                    *output += line;
                    output.push('\n');
                    continue;
                }
                (None, None) => panic!("{}:{number}: output before a command", name(page)),
            },
            _ => continue,
        };
        let of_console = block.as_deref() == Some("console");
        shown.push(Shown {
            place: format!("{}:{}", name(page), number + 1),
            line: command.replace("cargo run --release -- ", "clipcap "),
            output: of_console.then(String::new),
        });
    }
    shown
}

/// Calls of the program within sentences and tables: `clipcap COMMAND ...` between backquotes.
pub fn mentioned(page: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(page).unwrap();
    let mut mentioned = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let spans = line.split('`').skip(1).step_by(2);
        for span in spans.filter(|span| span.starts_with("clipcap ")) {
            mentioned.push(Shown {
                place: format!("{}:{}", name(page), number + 1),
                line: span.to_string(),
                output: None,
            });
        }
    }
    mentioned
}
