//! Every place of bouncer and divider, with transit in tcx; and what else needs no other setting.

use mizar::sandbox::settings::Settings;
use mizar_tests::scenarios::{direct, errors, lifecycle, paths};
use mizar_tests::{bed, harness};
use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = Settings { transit_hook: "tcx".into(), ..bed::settings() };
    harness::run("tpathst", settings, &[paths::SCENARIOS, direct::SCENARIOS, lifecycle::SCENARIOS, errors::SCENARIOS])
}
