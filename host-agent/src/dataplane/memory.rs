//! Maps in memory: for tests of everything above the kernel.

use super::{Dataplane, Guard, PlaneError};
use mizar_plan::{Key, Table, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the maps hold.
#[derive(Debug, Default)]
pub struct Content {
    /// Entries of all maps.
    pub maps: BTreeMap<Key, Value>,
    /// Interfaces with the endpoint program.
    pub attached: BTreeSet<u32>,
    /// Operations refused, as a full map refuses them: keys of these maps.
    pub full: BTreeSet<Table>,
    /// Engaging fails.
    pub stuck: bool,
    /// Packets would go by these maps.
    pub engaged: bool,
}

/// A data plane that forwards nothing. Clones share their content, as pins do.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Content>>);

impl Memory {
    /// What the maps hold.
    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dataplane for Memory {
    fn dump(&self, table: Table) -> Result<Vec<(Key, Value)>, PlaneError> {
        Ok(self.content().maps.iter().filter(|(key, _)| key.table() == table).map(|(k, v)| (*k, *v)).collect())
    }

    fn put(&mut self, key: &Key, value: &Value) -> Result<(), PlaneError> {
        let mut content = self.content();
        if content.full.contains(&key.table()) {
            return Err(PlaneError::Unfit(format!("map {} is full", key.table().name())));
        }
        content.maps.insert(*key, *value);
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<(), PlaneError> {
        self.content().maps.remove(key);
        Ok(())
    }

    fn engage(&mut self) -> Result<(), PlaneError> {
        let mut content = self.content();
        if content.stuck {
            return Err(PlaneError::Unfit("no link can be turned".to_owned()));
        }
        content.engaged = true;
        Ok(())
    }

    fn guard(&self) -> Arc<dyn Guard> {
        Arc::new(self.clone())
    }

    fn detach(&mut self, ifindex: u32) -> Result<(), PlaneError> {
        self.content().attached.remove(&ifindex);
        Ok(())
    }

    fn detach_others(&mut self, ifindexes: &BTreeSet<u32>) -> Result<(), PlaneError> {
        self.content().attached.retain(|i| ifindexes.contains(i));
        Ok(())
    }
}

impl Guard for Memory {
    fn bind(&self, _ifname: &str, ifindex: u32) -> Result<(), PlaneError> {
        self.content().attached.insert(ifindex);
        Ok(())
    }
}
