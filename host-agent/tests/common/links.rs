//! Interfaces in memory.

use mizar_agent::links::{Interface, LinkError, Links, Made, Survey, host_ifname};
use mizar_plan::Endpoint;
use mizar_wire::local::AttachKind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

#[derive(Default)]
pub struct State {
    next: u32,
    /// Interfaces by index, and whether they were finished.
    pub there: BTreeMap<u32, (String, bool)>,
    /// Configuring fails.
    pub broken: bool,
    /// Removing fails.
    pub stuck: bool,
}

#[derive(Clone, Default)]
pub struct FakeLinks(pub Arc<Mutex<State>>);

impl Links for FakeLinks {
    async fn survey(&self) -> Result<Survey, LinkError> {
        Ok(Survey::default())
    }

    async fn make(&self, port: Uuid, _: &AttachKind) -> Result<Made, LinkError> {
        let mut state = self.0.lock().unwrap();
        state.next += 1;
        let ifindex = 100 + state.next;
        state.there.insert(ifindex, (host_ifname(port), false));
        Ok(Made { ifname: host_ifname(port), ifindex, inner_ifindex: 0 })
    }

    async fn configure(&self, _: &Interface, _: &Endpoint) -> Result<(), LinkError> {
        if self.0.lock().unwrap().broken {
            return Err(LinkError::Refused("no more addresses, says the kernel".into()));
        }
        Ok(())
    }

    async fn finish(&self, interface: &Interface) -> Result<(), LinkError> {
        self.0.lock().unwrap().there.get_mut(&interface.made.ifindex).unwrap().1 = true;
        Ok(())
    }

    async fn is_sound(&self, interface: &Interface) -> bool {
        self.0.lock().unwrap().there.contains_key(&interface.made.ifindex)
    }

    async fn remove(&self, made: &Made) -> Result<(), LinkError> {
        let mut state = self.0.lock().unwrap();
        if state.stuck {
            return Err(LinkError::Refused("busy, says the kernel".into()));
        }
        state.there.remove(&made.ifindex);
        Ok(())
    }
}
