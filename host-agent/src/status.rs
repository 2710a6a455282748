//! What operators see.

use crate::core::{Shared, chain};
use crate::dataplane::Pins;
use crate::dataplane::runtime::Runtime;
use mizar_plan::Table;
use mizar_wire::local::Status;
use std::collections::BTreeMap;

/// Reads maps for people, apart from whoever works on them.
#[derive(Clone, Debug)]
pub struct Observer {
    pins: Option<Pins>,
    transit_hook: String,
}

type Numbers = BTreeMap<String, u64>;

impl Observer {
    /// Of the maps pinned here; `None` = in memory, nothing of the programs' own to see.
    pub fn new(pins: Option<Pins>, transit_hook: &str) -> Self {
        Self { pins, transit_hook: transit_hook.to_owned() }
    }

    /// Runs `read` where it may take its time: a full flow table is 100,000 system calls.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Runtime) -> Result<T, String> + Send + 'static,
    ) -> Result<Option<T>, String> {
        let Some(pins) = self.pins.clone() else { return Ok(None) };
        let work = move || read(&Runtime::open(&pins).map_err(|e| chain(&e))?);
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map(Some)
    }

    /// The state of the agent.
    pub async fn status(&self, core: &Shared) -> Result<Status, String> {
        type Seen = (Numbers, Numbers, BTreeMap<String, usize>);
        let seen: Option<Seen> = self
            .read(|runtime| {
                Ok((runtime.counters().map_err(|e| chain(&e))?, runtime.drops_by_reason(), runtime.sizes()))
            })
            .await?;
        let (counters, drops, mut maps) = seen.unwrap_or_default();
        let core = core.lock();
        for table in Table::ALL {
            maps.insert(table.name().to_owned(), 0);
        }
        for (key, _) in core.dump().map_err(|e| chain(&e))? {
            *maps.entry(key.table().name().to_owned()).or_insert(0) += 1;
        }
        let store = core.store();
        Ok(Status {
            host: core.identity().host.clone(),
            number: store.number,
            cursor: store.cursor.clone(),
            entries: store.len(),
            failures: store
                .failures()
                .into_iter()
                .map(|f| format!("scope {} kind {} key {}: {}", f.scope, f.kind, f.key, f.reason))
                .collect(),
            api_seen_s: core.api_seen.map(|at| at.elapsed().as_secs()),
            ports: core.attached().keys().copied().collect(),
            transit_hook: self.transit_hook.clone(),
            counters,
            drops,
            maps,
        })
    }

    /// Entries and maps, as text. Keys of the cluster are not shown.
    pub async fn dump(&self, core: &Shared) -> Result<serde_json::Value, String> {
        let flows = self.read(|runtime| Ok(runtime.flows())).await?.unwrap_or_default();
        let core = core.lock();
        let mut maps: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (key, value) in core.dump().map_err(|e| chain(&e))? {
            let text = match value {
                mizar_plan::Value::Cfg(mut cfg) => {
                    cfg.keys = [[0; 16]; 2];
                    format!("{cfg:?}")
                }
                value => format!("{key:?} = {value:?}"),
            };
            maps.entry(key.table().name()).or_default().push(text);
        }
        maps.insert("FLOWS", flows.iter().map(|(key, flow)| format!("{key:?} = {flow:?}")).collect());
        let mut entries = core.store().dump();
        for entry in &mut entries {
            if entry.kind == mizar_wire::Kind::ClusterKey as i16
                && let Some(secret) = entry.body.as_mut().and_then(|body| body.get_mut("key"))
            {
                *secret = serde_json::Value::String("(not shown)".to_owned());
            }
        }
        Ok(serde_json::json!({ "entries": entries, "maps": maps }))
    }
}
