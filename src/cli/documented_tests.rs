//! What README, book and `--help` show is what the program takes.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::Cli;

#[path = "../../tests/integration/common/documented.rs"]
mod documented;

use documented::{Shown, commands, mentioned, name, pages};

fn check(shown: &Shown) {
    for call in shown.calls() {
        let words = std::iter::once("clipcap".to_string()).chain(call);
        match Cli::try_parse_from(words) {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                ) => {}
            Err(error) => panic!("{}: {}\n{error}", shown.place, shown.line),
        }
    }
}

#[test]
fn every_command_of_the_readme_and_the_book_is_taken() {
    let mut count = 0;
    for page in pages() {
        for shown in commands(&page).iter().chain(&mentioned(&page)) {
            // A sentence may name a command alone, or stand for any.
            let named = shown.line.trim_start_matches("clipcap ");
            if !named.contains(' ') && !commands(&page).iter().any(|other| other.line == shown.line)
            {
                let known = Cli::command();
                let is_known = known
                    .get_subcommands()
                    .any(|command| command.get_name() == named);
                assert!(
                    is_known || named == "COMMAND" || named.starts_with('-'),
                    "{}: {named}",
                    shown.place
                );
                continue;
            }
            if named.starts_with("COMMAND") {
                continue;
            }
            check(shown);
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn every_example_of_the_help_is_taken() {
    fn collect(command: &clap::Command, examples: &mut Vec<Shown>) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        for line in help.lines().map(str::trim) {
            let example = line.split("   (").next().unwrap_or(line);
            if example.starts_with("clipcap ") || example.contains("| clipcap ") {
                examples.push(Shown {
                    place: format!("help of {}", command.get_name()),
                    line: example.to_string(),
                    output: None,
                });
            }
        }
        command
            .get_subcommands()
            .for_each(|command| collect(command, examples));
    }
    let mut examples = Vec::new();
    collect(&Cli::command(), &mut examples);
    assert!(examples.len() > 30, "{}", examples.len());
    examples.iter().for_each(check);
}

#[test]
fn the_readme_is_short_and_every_command_is_in_the_book() {
    let page = pages().remove(0);
    assert_eq!(name(&page), "README.md");
    let words = std::fs::read_to_string(&page)
        .unwrap()
        .split_whitespace()
        .count();
    assert!(words <= 1300, "{words} words");
    let table = pages()
        .into_iter()
        .find(|page| page.ends_with("commands.md"));
    let table = std::fs::read_to_string(table.unwrap()).unwrap();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(
            table.contains(&format!("`{name}`")),
            "{name} is not in commands.md"
        );
    }
}
