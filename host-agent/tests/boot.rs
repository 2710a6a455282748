//! What the binary does before it touches anything.

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mizar-agent"));
    let output = command.args(arguments).env_clear().output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn bad_configuration_ends_with_64_and_names_the_setting() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state").display().to_string();
    let base =
        ["--host", "h", "--ca", "/nonexistent", "--cert", "c", "--key", "k", "--uplink", "u", "--state-dir", &state];
    let with = |more: &[&'static str]| run(&[&base, more].concat());
    for (arguments, named) in [
        (vec![], "--api"),
        (vec!["--api", "http://192.0.2.1"], "--api"),
        (vec!["--api", "https://192.0.2.1", "--transit-hook", "generic"], "transit-hook"),
        (vec!["--api", "https://192.0.2.1", "--flow-entries", "many"], "flow-entries"),
        (vec!["--api", "https://192.0.2.1", "--unheard-of"], "unheard-of"),
        (vec!["--api", "https://192.0.2.1"], "--ca"),
    ] {
        let (code, text) = with(&arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {text}");
        assert!(text.contains(named), "{named} in {text}");
    }
    assert!(!dir.path().join("state").exists(), "nothing was made");
}

#[test]
fn help_is_no_mistake() {
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("--transit-hook"), "{text}");
}
