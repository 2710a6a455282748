//! The command line of tenants and operators: a client of the public API only.
//!
//! Nouns are data ([`tables`]), verbs are written once ([`verbs`]), what has no such form has a
//! module of its own. A verb returns the text for standard output or a failure with its kind
//! ([`failure`]): scripts branch on exit codes, people read what to do.

pub mod cloud;
pub mod docs;
pub mod failure;
mod flow_log;
mod host;
mod policy;
mod preview;
mod quota;
mod reach;
pub mod render;
pub mod resource;
mod seeing;
mod tables;
mod trace;
mod tree;
mod verbs;
mod wait;

use crate::client::Api;
use crate::config::{Choice, Surroundings};
use crate::{bundle, config, devel, doctor};
use anyhow::Result;
use clap::{ArgMatches, Args as _, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Mizar, a multi-tenant cloud network.
#[derive(Parser)]
#[command(
    name = "mizar",
    version,
    term_width = 110,
    after_help = "Which cloud: clouds.yaml and OS_*, as for OpenStack's clients. Exit codes: docs/cli.md."
)]
struct Arguments {
    #[command(flatten)]
    choice: Choice,
    #[command(subcommand)]
    verb: Verb,
}

/// What is not a resource of the table.
#[derive(Subcommand)]
enum Verb {
    /// Label policies (Kubernetes' NetworkPolicy): apply, list, show, delete.
    #[command(subcommand, display_order = 49)]
    Policy(policy::Verb),
    /// Quotas of projects: show, list, set, reset.
    #[command(subcommand, display_order = 50)]
    Quota(quota::Verb),
    /// Follow a packet from a port through the tables of the hosts on its way; none is sent.
    #[command(display_order = 55, after_help = trace::EXAMPLE)]
    Trace(trace::Arguments),
    /// Check this host, or a whole deployment, and say what to do.
    #[command(display_order = 60, after_help = doctor::EXAMPLE)]
    Doctor(doctor::Arguments),
    /// Collect what a report of a fault needs, without secrets, into an archive.
    #[command(display_order = 61, after_help = bundle::EXAMPLE)]
    SupportBundle(bundle::Arguments),
    /// Write the completion of a shell.
    #[command(display_order = 70, after_help = "Example:\n  mizar completion bash > /etc/bash_completion.d/mizar")]
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Verbs of `./dev`, for people who work on Mizar itself.
    #[command(subcommand, hide = true)]
    Dev(devel::Verb),
}

/// The whole command line.
pub fn tree() -> Command {
    nouns(Arguments::command())
}

/// Without what every verb takes.
fn plain_tree() -> Command {
    nouns(Verb::augment_subcommands(Command::new("mizar").term_width(110)))
}

fn nouns(command: Command) -> Command {
    tables::RESOURCES.into_iter().enumerate().fold(command, |command, (place, resource)| {
        let noun = tree::noun(resource).display_order(place);
        command.subcommand(match resource.noun {
            host::NOUN => seeing::extend(host::extend(noun)),
            _ => preview::extend(reach::extend(flow_log::extend(seeing::extend(noun)))),
        })
    })
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = tree().get_matches();
    match run(&matches) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let (noun, inner) = matches.subcommand().expect("a verb is required");
    if let Some(resource) = tables::RESOURCES.into_iter().find(|resource| resource.noun == noun) {
        let (verb, inner) = inner.subcommand().expect("a verb is required");
        let choice = Choice::from_arg_matches(inner)?;
        let api = api(&choice)?;
        return print(&match (noun, verb) {
            (host::NOUN, host::STATE) => host::state(&api, inner)?,
            (_, seeing::DROPS) => seeing::drops(&api, resource, inner)?,
            (_, seeing::FLOWS) => seeing::flows(&api, resource, inner)?,
            (_, flow_log::FLOW_LOG) => flow_log::run(&api, resource, inner)?,
            _ => match reach::run(&api, resource, verb, inner).or_else(|| preview::run(&api, resource, verb, inner)) {
                Some(said) => said?,
                None => verbs::run(&api, resource, verb, inner)?,
            },
        });
    }
    let Arguments { choice, verb } = Arguments::from_arg_matches(matches)?;
    match verb {
        Verb::Policy(verb) => print(&policy::run(&api(&choice)?, verb, |line| print(line).map(drop))?),
        Verb::Quota(verb) => print(&quota::run(&api(&choice)?, verb)?),
        Verb::Trace(arguments) => print(&trace::run(&api(&choice)?, &arguments)?),
        Verb::Doctor(arguments) => {
            let (text, code) = doctor::run(&arguments, &choice, &Surroundings::of_this_process())?;
            print(&text)?;
            Ok(code)
        }
        Verb::SupportBundle(arguments) => print(&bundle::run(&arguments, &choice, &Surroundings::of_this_process())?),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut tree(), "mizar", &mut script);
            print(&String::from_utf8(script)?)
        }
        Verb::Dev(verb) => match devel::run(verb) {
            Ok(code) => Ok(code),
            // Its failures are of programs and processes, not of calls.
            Err(error) => {
                eprintln!("error: {error:#}");
                Ok(ExitCode::FAILURE)
            }
        },
    }
}

fn api(choice: &Choice) -> Result<Api> {
    Api::at(config::find(choice, &Surroundings::of_this_process())?.access)
}

/// A reader that has enough (`| head`) is no failure.
fn print(text: &str) -> Result<ExitCode> {
    if !text.is_empty() {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Global arguments, for the documentation.
fn global_arguments() -> Command {
    Choice::augment_args(Command::new("mizar").term_width(110).disable_help_flag(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn leaves(command: &Command, path: &str, seen: &mut Vec<(String, Command)>) {
        let mut inner = command.get_subcommands().filter(|inner| !inner.is_hide_set()).peekable();
        if inner.peek().is_none() {
            seen.push((path.to_owned(), command.clone()));
        }
        inner.for_each(|inner| leaves(inner, &format!("{path} {}", inner.get_name()), seen));
    }

    #[test]
    fn arguments_do_not_contradict_each_other() {
        tree().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example_that_it_would_take() {
        let mut seen = Vec::new();
        leaves(&tree(), "mizar", &mut seen);
        assert!(seen.len() > 50, "{} verbs", seen.len());
        for (path, command) in seen {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> = help.lines().filter_map(|line| line.strip_prefix("  mizar ")).collect();
            assert!(!examples.is_empty(), "{path} has no example");
            for example in examples {
                let example = example.split(" > ").next().expect("the first part");
                assert!(format!("mizar {example}").starts_with(&path), "{path}: mizar {example}");
                let words = words(example);
                let parsed =
                    tree().try_get_matches_from(std::iter::once("mizar").chain(words.iter().map(String::as_str)));
                let parsed = parsed.unwrap_or_else(|refused| panic!("mizar {example}: {refused}"));
                read(&parsed);
            }
        }
    }

    /// Panics where two arguments of one id are of different types.
    fn read(matches: &ArgMatches) {
        match matches.subcommand().expect("every example has a verb") {
            (noun, inner) if tables::RESOURCES.iter().any(|resource| resource.noun == noun) => {
                let (_, inner) = inner.subcommand().expect("every noun has a verb");
                Choice::from_arg_matches(inner).expect("the choice of a cloud");
                if inner.try_contains_id("output").is_ok() {
                    render::Output::of(inner);
                }
            }
            _ => {
                Arguments::from_arg_matches(matches).expect("an example is complete");
            }
        }
    }

    /// As a shell would, with single quotes.
    fn words(line: &str) -> Vec<String> {
        let mut quoted = false;
        let mut words = vec![String::new()];
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().expect("there is one").push(c),
            }
        }
        words
    }

    /// Commands that a document shows: lines after `$`, and those between backquotes that are whole.
    fn commands(document: &str) -> Vec<String> {
        let shown = document.lines().filter_map(|line| line.strip_prefix("$ "));
        let spoken = document.split('`').skip(1).step_by(2).filter(|code| !code.contains(['\n', '…']));
        let ours = shown.chain(spoken).filter(|command| command.starts_with("mizar "));
        ours.map(|command| command.split(" | ").next().unwrap_or(command).to_owned()).collect()
    }

    #[test]
    fn what_the_guides_tell_to_type_is_understood() {
        for (name, at_least) in [("docs/operator.md", 30), ("docs/tenant.md", 0), ("docs/label-policies.md", 0)] {
            let guide = std::fs::read_to_string(devel::root().join(name)).expect(name);
            let commands = commands(&guide);
            assert!(commands.len() >= at_least, "{name}: {commands:?}");
            for command in commands {
                if let Err(refused) = tree().try_get_matches_from(words(&command)) {
                    assert!(refused.kind() == ErrorKind::DisplayHelp, "{name}: {command}: {refused}");
                }
            }
        }
    }

    #[test]
    fn the_operators_guide_names_every_reason_and_every_setting() {
        let read = |path: &str| std::fs::read_to_string(devel::root().join(path)).expect(path);
        let guide = read("docs/operator.md");
        let has = |word: &str| assert!(guide.contains(&format!("`{word}`")), "`{word}` is not in docs/operator.md");
        mizar_abi::reason::Drop::ALL.iter().for_each(|reason| has(reason.name()));
        for program in ["api", "scheduler", "host-agent", "web"] {
            let settings = read(&format!("{program}/src/config.rs"));
            let variables = settings.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
            assert!(variables.clone().count() > 3, "{program}");
            variables.for_each(has);
        }
    }

    #[test]
    fn wrong_uses_are_usage_errors() {
        for (line, kind) in [
            ("network", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("network create", ErrorKind::MissingRequiredArgument),
            ("network list --limit 0", ErrorKind::ValueValidation),
            ("network list -o xml", ErrorKind::InvalidValue),
            ("network create a --share --no-share", ErrorKind::ArgumentConflict),
            ("port show a --wait-timeout 3", ErrorKind::MissingRequiredArgument),
            ("network show a --wait", ErrorKind::UnknownArgument),
            ("host delete a", ErrorKind::InvalidSubcommand),
            ("host set a --transit maybe", ErrorKind::InvalidValue),
            ("security-group-rule create g --direction up", ErrorKind::InvalidValue),
            ("quota set p network", ErrorKind::ValueValidation),
            ("network list --os-project-id a --os-project-name b", ErrorKind::ArgumentConflict),
        ] {
            let refused = tree().try_get_matches_from(format!("mizar {line}").split(' ')).expect_err(line);
            assert_eq!(refused.kind(), kind, "{line}: {refused}");
            assert_eq!(refused.exit_code(), failure::Exit::Usage as i32, "{line}");
        }
    }

    #[test]
    fn every_shell_gets_a_completion_that_knows_the_nouns() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut tree(), "mizar", &mut script);
            assert!(String::from_utf8_lossy(&script).contains("security-group"), "{shell}");
        }
    }
}
