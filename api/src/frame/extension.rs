//! Extensions, as `/v2.0/extensions` announces them.

use crate::app::Settings;

/// A named part of the API. Each resource names its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// By which clients know it.
    pub alias: &'static str,
    /// For people.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Whether what it promises is done, not only stored: clients adapt to what is announced.
    pub behaves: bool,
}

impl Extension {
    /// One that does what it says.
    pub const fn new(alias: &'static str, name: &'static str, description: &'static str) -> Self {
        Self { alias, name, description, behaves: true }
    }

    /// One that is stored, validated and shown, while the data plane does not act on it yet.
    pub const fn stored_only(alias: &'static str, name: &'static str, description: &'static str) -> Self {
        Self { alias, name, description, behaves: false }
    }

    /// Whether clients are told.
    pub const fn is_announced(&self, settings: &Settings) -> bool {
        self.behaves || settings.announce_all
    }
}
