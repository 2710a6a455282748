//! `mizar`: the command line.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Mizar, a multi-tenant cloud network.
#[derive(Parser)]
#[command(name = "mizar", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Verbs of `./dev`, for people who work on Mizar itself.
    #[command(subcommand, hide = true)]
    Dev(mizar::devel::Verb),
}

fn main() -> ExitCode {
    let Arguments { verb: Verb::Dev(verb) } = Arguments::parse();
    match mizar::devel::run(verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
