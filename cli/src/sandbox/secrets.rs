//! Passwords of a sandbox, drawn once.

use super::layout::Layout;
use super::pki::write_private;
use anyhow::Result;
use rand::distr::{Alphanumeric, SampleString};
use std::collections::BTreeMap;

/// User name -> password.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    layout: Option<Layout>,
    passwords: BTreeMap<String, String>,
}

impl Secrets {
    /// Those of the sandbox.
    pub fn load(layout: &Layout) -> Result<Self> {
        let passwords = match std::fs::read(layout.secrets()) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { layout: Some(layout.clone()), passwords })
    }

    /// The password of `user`; drawn and stored the first time.
    pub fn of(&mut self, user: &str) -> Result<String> {
        if let Some(password) = self.passwords.get(user) {
            return Ok(password.clone());
        }
        let password = Alphanumeric.sample_string(&mut rand::rng(), 24);
        self.passwords.insert(user.to_owned(), password.clone());
        if let Some(layout) = &self.layout {
            std::fs::create_dir_all(layout.dir())?;
            write_private(&layout.secrets(), &serde_json::to_string_pretty(&self.passwords)?)?;
        }
        Ok(password)
    }
}
