//! What the command line prints, of every verb that only looks: the examples of its help as tables, JSON and YAML, by the real
//! program, before an API that answers as the document of the API says. What is printed is held in a file of each noun, written
//! anew by MIZAR_WRITE_CLI_GOLDEN=1.

mod stub;

use anyhow::{Context as _, Result, ensure};
use clap::Command as Tree;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Verbs that only look.
const LOOKS: [&str; 11] =
    ["list", "show", "drops", "flows", "flow-log", "rules", "who-can-reach", "can-reach", "preview", "state", "trace"];

/// How it is written; the first is what is written where nothing is said.
const FORMATS: [&str; 3] = ["", " -o json", " -o yaml"];

/// The examples of all verbs that look, by noun.
fn examples(tree: &Tree, noun: Option<&str>, found: &mut BTreeMap<String, Vec<String>>) {
    for inner in tree.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let name = inner.get_name();
        if inner.get_subcommands().next().is_some() {
            examples(inner, Some(name), found);
        } else if LOOKS.contains(&name) {
            let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().filter_map(|line| line.strip_prefix("  mizar ")).map(str::to_owned);
            found.entry(noun.unwrap_or(name).to_owned()).or_default().extend(lines);
        }
    }
}

/// As a shell would, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.last_mut().expect("there is one").push_str(part);
            continue;
        }
        for (place, word) in part.split(' ').enumerate() {
            if place > 0 {
                words.push(String::new());
            }
            words.last_mut().expect("there is one").push_str(word);
        }
    }
    words
}

fn said(api: &str, line: &str) -> Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_mizar"))
        .args(words(line))
        .env_clear()
        .envs([
            ("OS_AUTH_URL", format!("{api}/v3").as_str()),
            ("OS_USERNAME", "ann"),
            ("OS_PASSWORD", "secret"),
            ("OS_PROJECT_NAME", "red"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_PROJECT_DOMAIN_NAME", "Default"),
        ])
        .output()
        .context("the program")?;
    ensure!(output.status.success(), "mizar {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn what_verbs_print_is_what_the_files_hold() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let api = stub::start()?;
    let mut nouns = BTreeMap::new();
    examples(&mizar::command::tree(), None, &mut nouns);
    let count: usize = nouns.values().map(Vec::len).sum();
    ensure!(count > 50, "{count} examples: {nouns:?}");
    let (mut others, mut known) = (Vec::new(), Vec::new());
    for (noun, lines) in nouns {
        let mut text = String::new();
        for (line, format) in lines.iter().flat_map(|line| FORMATS.map(|format| (line, format))) {
            // Some examples say themselves how it is to be written.
            if format.is_empty() || !line.contains(" -o ") {
                let line = format!("{line}{format}");
                text += &format!("$ mizar {line}\n{}\n", said(&api, &line)?);
            }
        }
        let file = folder.join(format!("{noun}.txt"));
        if std::env::var_os("MIZAR_WRITE_CLI_GOLDEN").is_some() {
            std::fs::write(&file, &text)?;
        }
        let held = std::fs::read_to_string(&file).unwrap_or_default();
        let differs = text.lines().zip(held.lines()).find(|(is, held)| is != held);
        if held != text {
            others.push(format!("{noun}: {differs:?}"));
        }
        known.push(format!("{noun}.txt"));
    }
    for file in std::fs::read_dir(&folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        ensure!(!name.ends_with(".txt") || known.contains(&name), "{name} is of no noun");
    }
    ensure!(
        others.is_empty(),
        "printed and held differ (MIZAR_WRITE_CLI_GOLDEN=1 writes the files):\n{}",
        others.join("\n")
    );
    Ok(())
}
