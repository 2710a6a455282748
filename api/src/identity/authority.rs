//! Who says who somebody is: one setting of three values.
//!
//! - `embedded`: this program keeps the accounts and signs the tokens.
//! - `keystone=FILE`: a Keystone elsewhere validates tokens; FILE says where ([`keystone::Config`]).
//! - `oidc=FILE`: an OIDC issuer signs tokens; FILE says which ([`oidc::Config`]).
//!
//! With the last two there are no routes of identity v3 here: clients get their tokens there.

use super::keystone::{self, Keystone};
use super::oidc::{self, Oidc};
use super::token::{Claims, TokenError, Tokens};
use crate::observe::limits::Toll;
use std::path::Path;

/// What the setting says. Files are read when it is parsed, so that a mistake in one ends the
/// program before it opens anything.
#[derive(Clone, Debug, Default)]
pub enum Setting {
    /// Accounts are kept here.
    #[default]
    Embedded,
    /// A Keystone.
    Keystone(Box<keystone::Config>),
    /// An OIDC issuer.
    Oidc(Box<oidc::Config>),
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "embedded" => Ok(Self::Embedded),
            Some(("keystone", file)) => {
                let config: keystone::Config = read(Path::new(file))?;
                config.check().map_err(|reason| format!("{file}: {reason}"))?;
                Ok(Self::Keystone(Box::new(config)))
            }
            Some(("oidc", file)) => {
                let config: oidc::Config = read(Path::new(file))?;
                config.check().map_err(|reason| format!("{file}: {reason}"))?;
                Ok(Self::Oidc(Box::new(config)))
            }
            _ => Err("it is one of embedded, keystone=FILE, oidc=FILE".into()),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Whom the server believes.
#[derive(Debug)]
pub enum Authority {
    /// Itself.
    Embedded(Tokens),
    /// A Keystone.
    Keystone(Keystone),
    /// An OIDC issuer.
    Oidc(Oidc),
}

impl From<Tokens> for Authority {
    fn from(tokens: Tokens) -> Self {
        Self::Embedded(tokens)
    }
}

impl Authority {
    /// Who sends this token. If somebody else has to be asked about it, that has its toll.
    pub async fn verify(&self, token: &str, toll: impl FnOnce() -> Toll) -> Result<Claims, TokenError> {
        match self {
            Self::Embedded(tokens) => tokens.verify(token),
            Self::Keystone(keystone) => keystone.verify(token, toll()).await,
            Self::Oidc(oidc) => oidc.verify(token).await,
        }
    }

    /// The embedded service, if this is it.
    pub const fn embedded(&self) -> Option<&Tokens> {
        match self {
            Self::Embedded(tokens) => Some(tokens),
            Self::Keystone(_) | Self::Oidc(_) => None,
        }
    }

    /// What keeps it from verifying tokens, as far as it is known without asking anybody.
    pub fn self_check(&self) -> Result<(), TokenError> {
        self.embedded().map_or(Ok(()), Tokens::self_check)
    }
}
