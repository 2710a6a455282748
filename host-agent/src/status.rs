//! What operators see.

use crate::core::{Shared, chain};
use crate::dataplane::runtime::Runtime;
use crate::dataplane::{Pins, PlaneError, fill};
use crate::flow_log::recent::Recent;
use mizar_plan::Table;
use mizar_wire::local::Status;
use std::collections::BTreeMap;

/// Reads maps for people, apart from whoever works on them.
#[derive(Clone, Debug)]
pub struct Observer {
    pins: Option<Pins>,
    transit_hook: String,
    log: Option<Recent>,
}

type Numbers = BTreeMap<String, u64>;
/// Entries of maps, by name.
pub type Sizes = BTreeMap<String, usize>;

impl Observer {
    /// Of the maps pinned here; `None` = in memory, nothing of the programs' own to see.
    pub fn new(pins: Option<Pins>, transit_hook: &str) -> Self {
        Self { pins, transit_hook: transit_hook.to_owned(), log: None }
    }

    /// The same, which says of the flow log too how it goes.
    pub fn with_log(self, log: Recent) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Runs `read` where it may take its time: a full flow table is 100,000 system calls.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Pins) -> Result<T, PlaneError> + Send + 'static,
    ) -> Result<Option<T>, String> {
        let Some(pins) = self.pins.clone() else { return Ok(None) };
        let work = move || read(&pins).map_err(|e| chain(&e));
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?.map(Some)
    }

    /// Entries of each map.
    pub async fn sizes(&self) -> Result<Sizes, String> {
        let sizes = self.read(fill::sizes).await?;
        let sizes = sizes.unwrap_or_else(|| Table::ALL.iter().map(|table| (table.name(), 0)).collect());
        Ok(sizes.into_iter().map(|(map, entries)| (map.to_owned(), entries)).collect())
    }

    /// The state of the agent.
    pub async fn status(&self, core: &Shared) -> Result<Status, String> {
        let maps = self.sizes().await?;
        self.status_with(core, maps).await
    }

    /// The same, where the maps were counted before: that takes a system call an entry.
    pub async fn status_with(&self, core: &Shared, maps: Sizes) -> Result<Status, String> {
        let seen: Option<(Numbers, Numbers)> = self
            .read(|pins| {
                let runtime = Runtime::open(pins)?;
                Ok((runtime.counters()?, runtime.drops_by_reason()))
            })
            .await?;
        let (mut counters, drops) = seen.unwrap_or_default();
        if let Some(log) = &self.log {
            let (written, unwritten) = log.counts();
            counters.extend([("flow_log_written".into(), written), ("flow_log_unwritten".into(), unwritten)]);
        }
        let core = core.lock();
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
        let flows = self.read(|pins| Ok(Runtime::open(pins)?.flows())).await?.unwrap_or_default();
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
