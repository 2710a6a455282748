//! What the API still has to hear about interfaces.
//!
//! A report is repeated in every request until one of them is answered: requests get lost,
//! reports must not. What changed again while a request was under way is reported again.

use mizar_wire::sync::{PortWiring, Ports};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wired(u32),
    Lost(u32),
}

/// Wirings by port number.
#[derive(Debug, Default)]
pub struct Reports {
    /// The last word on each port, and whether the API has it.
    ports: BTreeMap<u32, (State, bool)>,
    /// Whether the API has had the complete list since the agent's start.
    introduced: bool,
}

impl Reports {
    /// The port's interface is in force with this generation. True if that is news.
    pub fn wired(&mut self, port: u32, generation: u32) -> bool {
        self.set(port, State::Wired(generation))
    }

    /// The port's interface is gone, or was never there. True if that is news.
    pub fn lost(&mut self, port: u32, generation: u32) -> bool {
        // Only what was once reported wired can be lost.
        matches!(self.ports.get(&port), Some((State::Wired(_), _))) && self.set(port, State::Lost(generation))
    }

    /// The port is no longer this host's: nothing is to be said of it.
    pub fn forget(&mut self, port: u32) {
        self.ports.remove(&port);
    }

    fn set(&mut self, port: u32, state: State) -> bool {
        let news = self.ports.get(&port).map(|(s, _)| *s) != Some(state);
        if news {
            self.ports.insert(port, (state, false));
        }
        news
    }

    /// Whether something waits to be said.
    pub fn is_pending(&self) -> bool {
        self.ports.values().any(|(_, told)| !told)
    }

    /// What to put into a request: the reports, and whether the list is complete.
    pub fn next(&self) -> (Ports, bool) {
        let mut ports = Ports::default();
        for (port, (state, told)) in &self.ports {
            match state {
                State::Wired(generation) if !told || !self.introduced => {
                    ports.wired.push(PortWiring { port: *port, generation: *generation });
                }
                State::Lost(generation) if !told => {
                    ports.lost.push(PortWiring { port: *port, generation: *generation })
                }
                State::Wired(_) | State::Lost(_) => {}
            }
        }
        (ports, !self.introduced)
    }

    /// A request with these reports was answered.
    pub fn answered(&mut self, sent: &Ports, complete: bool) {
        self.introduced |= complete;
        for (list, make) in [(&sent.wired, State::Wired as fn(u32) -> State), (&sent.lost, State::Lost)] {
            for wiring in list {
                if let Some((state, told)) = self.ports.get_mut(&wiring.port)
                    && *state == make(wiring.generation)
                {
                    *told = true;
                }
            }
        }
        self.ports.retain(|_, (state, told)| !(*told && matches!(state, State::Lost(_))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_repeated_until_it_is_answered() {
        let mut reports = Reports::default();
        assert!(reports.wired(5, 1));
        assert!(!reports.wired(5, 1), "no news");
        let (first, complete) = reports.next();
        assert!(complete);
        assert_eq!(first.wired, [PortWiring { port: 5, generation: 1 }]);
        assert_eq!(reports.next(), (first.clone(), true), "not answered yet");
        reports.answered(&first, complete);
        assert_eq!(reports.next(), (Ports::default(), false));
        assert!(!reports.is_pending());
    }

    #[test]
    fn what_changes_under_way_is_reported_again() {
        let mut reports = Reports::default();
        reports.wired(5, 1);
        let (sent, complete) = reports.next();
        reports.lost(5, 1);
        reports.answered(&sent, complete);
        let (next, complete) = reports.next();
        assert_eq!((next.wired.len(), next.lost), (0, vec![PortWiring { port: 5, generation: 1 }]));
        reports.wired(5, 2);
        reports.answered(&Ports { wired: vec![], lost: vec![PortWiring { port: 5, generation: 1 }] }, complete);
        assert_eq!(reports.next().0.wired, [PortWiring { port: 5, generation: 2 }]);
    }

    #[test]
    fn a_port_that_never_was_wired_is_not_lost_and_a_forgotten_one_is_not_mentioned() {
        let mut reports = Reports::default();
        assert!(!reports.lost(5, 1));
        reports.wired(6, 1);
        reports.forget(6);
        assert!(!reports.is_pending());
        assert_eq!(reports.next().0, Ports::default());
    }
}
