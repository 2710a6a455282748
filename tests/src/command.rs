//! The real `mizar` command, as tenants and operators use it, and the real `openstack` beside it.

use crate::bed::Bed;
use anyhow::{Context, Result, ensure};
use mizar::sandbox::secrets::Secrets;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The program, as somebody signs in.
pub struct Cli {
    /// Where it is.
    pub program: PathBuf,
    /// What it finds in its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// Where python-openstackclient is, unmodified.
pub fn openstack() -> Result<PathBuf> {
    let dir = std::env::var("MIZAR_PYTHON").map(PathBuf::from).unwrap_or(mizar::devel::root().join(".dev/venv/bin"));
    let program = dir.join("openstack");
    ensure!(program.exists(), "{} is missing: `./dev test` makes it", program.display());
    Ok(program)
}

/// What a call said.
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub error: String,
}

impl Said {
    /// Of a program that has ended.
    pub fn of(output: Output) -> Result<Self> {
        Ok(Self {
            code: output.status.code().context("ended by a signal")?,
            out: String::from_utf8(output.stdout)?,
            error: String::from_utf8(output.stderr)?,
        })
    }
}

impl Cli {
    /// As this user of the project of the same name.
    pub fn of(bed: &Bed, user: &str) -> Result<Self> {
        let password = Secrets::load(bed.sandbox.layout())?.of(user)?;
        let environment = vec![
            ("OS_AUTH_URL", format!("{}/v3", bed.sandbox.api_url())),
            ("OS_USERNAME", user.into()),
            ("OS_PASSWORD", password),
            ("OS_PROJECT_NAME", user.into()),
        ];
        Ok(Self { program: bed.sandbox.binaries().path("mizar")?, environment })
    }

    /// Without what the test's own environment says of clouds.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OS_")) {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Words are parted by spaces; `_` in a quoted value is for nobody.
    pub fn raw(&self, line: &str) -> Result<Said> {
        Said::of(self.command().args(line.split_whitespace()).output()?)
    }

    /// What it says, if it ends well.
    pub fn run(&self, line: &str) -> Result<String> {
        let said = self.raw(line)?;
        ensure!(said.code == 0, "{} {line}: {} {}", self.program.display(), said.code, said.error);
        Ok(said.out)
    }

    /// The same, read.
    pub fn json(&self, line: &str) -> Result<Value> {
        serde_json::from_str(&self.run(&format!("{line} -o json"))?).with_context(|| format!("mizar {line}"))
    }

    /// It must end with `code` and say `words` on standard error.
    pub fn fails(&self, line: &str, code: i32, words: &str) -> Result<()> {
        let said = self.raw(line)?;
        ensure!(
            said.code == code && said.error.contains(words) && said.out.is_empty(),
            "mizar {line}: {} instead of {code}, without `{words}`: {}{}",
            said.code,
            said.error,
            said.out
        );
        Ok(())
    }
}
