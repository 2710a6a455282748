//! `docs/cli.md`, made of what `--help` says: a test compares the two.

use super::failure::Exit;
use clap::Command;

/// What stands before the reference.
const HEAD: &str = include_str!("docs_head.md");

/// The whole document.
pub fn document() -> String {
    let codes: String = Exit::ALL.iter().map(|(exit, meaning)| format!("| {} | {meaning} |\n", *exit as u8)).collect();
    let mut globals = super::global_arguments();
    let globals = globals.render_help().to_string();
    let globals = globals.split_once("Cloud:\n").map_or("", |(_, options)| options);
    let head = HEAD.replace("EXIT-CODES\n", &format!("| 0 | it is done |\n{codes}")).replace("GLOBALS\n", globals);
    let mut text =
        format!("<!-- Made of the program's own help: MIZAR_WRITE_CLI_DOCS=1 cargo test -p mizar docs -->\n\n{head}");
    let mut tree = super::plain_tree();
    tree.build();
    write(&mut text, &tree, "mizar", 1);
    format!("{}\n", text.trim_end())
}

fn write(text: &mut String, command: &Command, path: &str, depth: usize) {
    let mut inner: Vec<&Command> = command.get_subcommands().filter(|inner| !inner.is_hide_set()).collect();
    inner.retain(|inner| inner.get_name() != "help");
    inner.sort_by_key(|command| command.get_display_order());
    if depth > 1 {
        *text += &format!("\n{} {path}\n\n", "#".repeat(depth));
        *text += &match (inner.is_empty(), command.get_about()) {
            (false, Some(about)) => format!("{about}.\n"),
            _ => format!("```text\n{}\n```\n", trimmed(&command.clone().render_help().to_string())),
        };
    }
    for inner in inner {
        write(text, inner, &format!("{path} {}", inner.get_name()), depth + 1);
    }
}

/// Without what every help says of itself.
fn trimmed(help: &str) -> String {
    let lines = help.lines().filter(|line| !line.trim_start().starts_with("-h, --help "));
    lines.map(str::trim_end).collect::<Vec<_>>().join("\n").replace("\nOptions:\n\n", "\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_program_says() {
        let path = crate::devel::root().join("docs/cli.md");
        let document = document();
        if std::env::var_os("MIZAR_WRITE_CLI_DOCS").is_some() {
            std::fs::write(&path, &document).expect("docs/cli.md is written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = document.lines().zip(written.lines()).find(|(wanted, is)| wanted != is);
        assert!(
            document == written,
            "docs/cli.md is not what --help says ({differs:?}): MIZAR_WRITE_CLI_DOCS=1 cargo test -p mizar docs"
        );
    }
}
