//! `mizar`: the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    mizar::command::main()
}
