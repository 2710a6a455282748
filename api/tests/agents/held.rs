//! What an agent holds, by what it was told.

use crate::server::Agent;
use mizar_wire::entry::Change;
use mizar_wire::sync::{SnapshotPage, SyncReply};
use std::collections::BTreeMap;

type Place = (i64, u16, i16, String);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held(pub BTreeMap<Place, serde_json::Value>);

impl Held {
    pub fn of(pages: &[SnapshotPage]) -> Self {
        let mut held = Self::default();
        pages.iter().flat_map(|page| &page.entries).for_each(|entry| held.change(entry));
        held
    }

    /// By a snapshot.
    pub async fn by(agent: &mut Agent) -> anyhow::Result<Self> {
        Ok(Self::of(&agent.snapshot().await?))
    }

    pub fn hear(&mut self, reply: &SyncReply) {
        for range in reply.scopes_dropped.iter().chain(&reply.scopes_added) {
            self.0.retain(|&(scope, slot, ..), _| scope != range.scope || slot < range.lo || slot > range.hi);
        }
        reply.changes.iter().for_each(|change| self.change(change));
    }

    fn change(&mut self, change: &Change) {
        let place = (change.scope, change.slot, change.kind, change.key.clone());
        match &change.body {
            Some(body) => self.0.insert(place, body.clone()),
            None => self.0.remove(&place),
        };
    }

    /// Entries of some kinds.
    pub fn only(mut self, kinds: &[mizar_wire::Kind]) -> Self {
        self.0.retain(|(_, _, kind, _), _| kinds.iter().any(|known| *known as i16 == *kind));
        self
    }
}
