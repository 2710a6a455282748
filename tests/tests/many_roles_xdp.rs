//! Several shards and dividers, with transit in XDP.

use mizar_tests::harness;
use mizar_tests::scenarios::many_roles;
use std::process::ExitCode;

fn main() -> ExitCode {
    harness::run("tmanyx", many_roles::settings("xdp"), &[many_roles::SCENARIOS])
}
