//! Several shards and dividers, with transit in tcx.

use mizar_tests::harness;
use mizar_tests::scenarios::many_roles;
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run("tmany", many_roles::settings("tcx"), &[many_roles::SCENARIOS])
}
