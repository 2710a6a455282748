//! Runs scenarios in one sandbox, in the form of Rust's test programs: `test NAME ... ok`, and
//! a part of a name as filter.

use crate::bed::{Bed, Emptied};
use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use mizar::sandbox::progress::seconds;
use mizar::sandbox::settings::Settings;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};

/// A scenario: a sentence, and what it does.
pub type Scenario = (&'static str, fn(&Bed) -> Result<()>);

/// Runs the scenarios in a sandbox made with `settings`; only if one is chosen is it started.
pub fn run(name: &'static str, settings: Settings, scenarios: &[&[Scenario]]) -> ExitCode {
    let bed: Arc<OnceLock<Mutex<Option<Bed>>>> = Arc::default();
    let trials = scenarios
        .iter()
        .flat_map(|group| group.iter())
        .map(|&(sentence, scenario)| {
            let (bed, settings) = (bed.clone(), settings.clone());
            Trial::test(sentence, move || {
                let bed = bed.get_or_init(|| Mutex::new(started(name, settings)));
                // A panic in a scenario fails that one; the sandbox is as usable as after an error.
                let mut bed = bed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match &mut *bed {
                    Some(bed) => bed.run(scenario).map_err(|error| Failed::from(format!("{error:#}"))),
                    None => Err("the sandbox could not be started; the first test's output says why".into()),
                }
            })
        })
        .collect();
    // One sandbox and two cores: side by side, scenarios would disturb each other's counters.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let conclusion = libtest_mimic::run(&arguments, trials);
    let mut failed = conclusion.has_failed();
    if let Some(bed) = bed.get().and_then(|bed| bed.lock().unwrap_or_else(|p| p.into_inner()).take()) {
        if let Some(Emptied { after, within }) = bed.emptied() {
            println!("maps: empty at most {} after all was deleted (bound {})\n", seconds(after), seconds(within));
        }
        if let Err(error) = bed.down(failed) {
            eprintln!("error: the sandbox was not removed: {error:#}");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn started(name: &str, settings: Settings) -> Option<Bed> {
    Bed::up(name, settings).inspect_err(|error| eprintln!("error: sandbox {name}: {error:#}")).ok()
}
