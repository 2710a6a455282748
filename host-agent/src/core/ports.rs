//! Ports of this host and their interfaces: which entry goes with which interface, and what the
//! API hears of it.

use super::{AttachedPort, Chore, Core, chain};
use crate::dataplane::PlaneError;
use crate::links::{Interface, Made};
use mizar_plan::{Key, Wiring};
use std::collections::BTreeSet;
use uuid::Uuid;

impl Core {
    /// Wires and unwires attached ports as their entries say. `None` = all of them.
    pub(super) fn reconcile_ports(&mut self, touched: Option<&BTreeSet<Uuid>>) {
        let ids: Vec<Uuid> =
            self.attached.keys().filter(|id| touched.is_none_or(|touched| touched.contains(id))).copied().collect();
        for id in ids {
            let Some(number) = self.store.planner.port(id).map(|port| port.number) else {
                if self.store.complete && self.may_remove() {
                    self.unattach(id, true);
                }
                continue;
            };
            let Some(attached) = self.attached.get_mut(&id) else { continue };
            let made = &attached.interface.made;
            if attached.number != Some(number) {
                // Until the maps are filled, whatever program is there is the better one.
                if self.adopted
                    && let Err(error) = self.plane.guard().bind(&made.ifname, made.ifindex)
                {
                    tracing::error!(port = %id, interface = made.ifname, error = chain(&error), "no program on the interface");
                    continue;
                }
                let wiring = Wiring {
                    ifindex: made.ifindex,
                    inner_ifindex: made.inner_ifindex,
                    kind: attached.interface.delivery(),
                };
                if let Some(old) = attached.number.replace(number) {
                    self.store.planner.wire(old, None);
                    self.reports.forget(old);
                }
                self.store.planner.wire(number, Some(wiring));
            }
        }
    }

    /// The maps are filled: packets go by them from now on. Endpoints come first, for an endpoint's
    /// packet asks for its way where a packet to it has to come back from its sender. A port whose
    /// interface takes no program leaves the maps again.
    pub(super) fn engage(&mut self) -> Result<(), PlaneError> {
        let guard = self.plane.guard();
        for (id, attached) in &mut self.attached {
            let made = &attached.interface.made;
            if let Err(error) = guard.bind(&made.ifname, made.ifindex) {
                tracing::error!(port = %id, interface = made.ifname, error = chain(&error), "no program on the interface");
                if let Some(number) = attached.number.take() {
                    self.store.planner.wire(number, None);
                }
            }
        }
        self.plane.engage()?;
        self.adopted = true;
        self.flush();
        Ok(())
    }

    /// A port has an interface now, ready but for the program and the maps.
    pub fn attach(&mut self, interface: Interface) -> Result<(), String> {
        let id = interface.port;
        let port =
            self.store.planner.port(id).ok_or_else(|| format!("port {id} is not bound to this host any more"))?;
        let (number, generation) = (port.number, port.generation);
        self.attached.insert(id, AttachedPort { interface, number: None });
        self.reconcile_ports(Some(&BTreeSet::from([id])));
        self.flush();
        self.report();
        let Some(attached) = self.attached.get(&id) else {
            return Err(format!("port {id} is not bound to this host any more"));
        };
        if attached.number.is_some() && self.is_in_force(number) {
            tracing::info!(port = %id, number, generation, interface = attached.interface.made.ifname, "port wired");
            return Ok(());
        }
        let failure = self.store.failures().into_iter().next().map(|f| f.reason);
        Err(format!("port {id} cannot be wired: {}", failure.as_deref().unwrap_or("its maps are not adopted yet")))
    }

    pub(super) fn is_in_force(&self, number: u32) -> bool {
        self.adopted && self.store.planner.is_in_force(&Key::Ep(number))
    }

    /// A port's interface shall go. Returns it, if there is one.
    pub fn detach(&mut self, id: Uuid) -> Option<Interface> {
        let interface = self.unattach(id, false)?;
        self.flush();
        self.report();
        Some(interface)
    }

    /// An interface vanished: with its namespace, or by a foreign hand.
    pub fn interface_vanished(&mut self, ifindex: u32) {
        let id = self.attached.iter().find(|(_, a)| a.interface.made.ifindex == ifindex).map(|(id, _)| *id);
        if let Some(id) = id {
            tracing::warn!(port = %id, ifindex, "the port's interface vanished");
            if let Some(interface) = self.detach(id) {
                self.release(&interface.made);
            }
        }
    }

    pub(super) fn unattach(&mut self, id: Uuid, remove: bool) -> Option<Interface> {
        let attached = self.attached.remove(&id)?;
        let interface = attached.interface;
        if let Some(number) = attached.number {
            self.store.planner.wire(number, None);
            match self.store.planner.port_by_number(number) {
                Some(port) => drop(self.reports.lost(number, port.generation)),
                None => self.reports.forget(number),
            }
        }
        // The program goes with the interface, after the maps: until then its packets drop.
        if remove {
            self.chore(Chore::RemoveInterface(interface.clone()));
        }
        Some(interface)
    }

    /// The interface is gone: its program's link is no longer needed.
    pub fn release(&mut self, made: &Made) {
        if let Err(error) = self.plane.detach(made.ifindex) {
            tracing::warn!(interface = made.ifname, error = chain(&error), "a program's link could not be removed");
        }
    }

    /// Tells the API of attached ports that are in force.
    pub(super) fn report(&mut self) {
        let mut wired = Vec::new();
        for (id, attached) in &self.attached {
            if let (Some(number), Some(port)) = (attached.number, self.store.planner.port(*id))
                && self.is_in_force(number)
            {
                wired.push((number, port.generation));
            }
        }
        for (number, generation) in wired {
            self.reports.wired(number, generation);
        }
        if self.reports.is_pending() {
            self.news.notify_one();
        }
    }
}
