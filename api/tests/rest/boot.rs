//! The program itself: bad configuration ends it before anything is opened.

use std::process::{Command, Output};

fn boot(arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mizar-api"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MIZAR_")) {
        command.env_remove(name);
    }
    Ok(command.args(arguments).output()?)
}

const COMPLETE: [&str; 12] = [
    "--database-url",
    "postgres://localhost/none",
    "--agent-listen",
    "127.0.0.1:0",
    "--tls-cert",
    "c",
    "--tls-key",
    "k",
    "--tls-client-ca",
    "a",
    "--state-dir",
    "/nonexistent/mizar",
];

#[test]
fn bad_configuration_ends_with_64_and_names_the_flag() -> anyhow::Result<()> {
    let cases: [(&[&str], &str); 11] = [
        (&[], "--database-url"),
        (&["--colour"], "--colour"),
        (&["--listen", "nowhere"], "--listen"),
        (&["--underlay-mtu", "100"], "--underlay-mtu"),
        (&["--lease-s", "0"], "--lease-s"),
        (&["--token-ttl-s", "1"], "--token-ttl-s"),
        (&["--public-url", "ftp://x"], "--public-url"),
        (&["--agent-fd", "1"], "--agent-fd"),
        (&["--identity", "ldap"], "--identity"),
        (&["--identity", "oidc=/nonexistent/file"], "/nonexistent/file"),
        (&["--agent-fd", "7"], "--agent-listen"),
    ];
    for (more, flag) in cases {
        let arguments = if more.is_empty() { vec![] } else { [&COMPLETE, more].concat() };
        let output = boot(&arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{more:?}: {said}");
        assert!(said.contains(flag), "{more:?}: {said}");
    }
    assert_eq!(boot(&["--help"])?.status.code(), Some(0));
    Ok(())
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() -> anyhow::Result<()> {
    let directory = std::env::temp_dir().join(format!("mizar-api-boot-{}", uuid::Uuid::new_v4().simple()));
    std::fs::write(&directory, "a file, not a directory")?;
    let at = COMPLETE.len() - 1;
    let path = directory.to_string_lossy();
    let output = boot(&[&COMPLETE[..at], &[path.as_ref()]].concat())?;
    std::fs::remove_file(&directory)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(path.as_ref()) && !said.contains("panicked"), "{said}");
    Ok(())
}
