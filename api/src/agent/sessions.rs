//! What this replica remembers of the hosts that poll here: only what saves a question to the
//! database, or tells an acknowledgement that matters from one that does not.

use mizar_db::agents::register::Known;
use mizar_db::feed::Cursor;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct Session {
    known: Known,
    /// The last cursor that was acknowledged here.
    acked: Option<Cursor>,
    /// Whether something was sent that is not known to be acknowledged.
    owes: bool,
    /// Whether its last acknowledgement named failures; `None` = not known here.
    failing: Option<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_name: Mutex<HashMap<String, Session>>,
}

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Somebody may wait for it: store it at once.
    pub matters: bool,
    /// Failures came, changed or went: ports may have to change their status.
    pub failures: bool,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of a host.
    pub fn get(&self, name: &str) -> Option<Known> {
        self.lock().get(name).map(|session| session.known.clone())
    }

    /// Remembers a host as the database has it.
    pub fn put(&self, name: &str, known: Known) {
        self.lock().insert(name.to_owned(), Session { known, acked: None, owes: true, failing: None });
    }

    /// Forgets hosts that are gone, or that another boot holds.
    pub fn forget(&self, number: i32) {
        self.lock().retain(|_, session| session.known.number != number);
    }

    /// What these hosts acknowledged was not stored: the next acknowledgement, even of the same,
    /// matters, and so do its failures or their absence.
    pub fn doubt<'a>(&self, numbers: impl IntoIterator<Item = &'a i32>) {
        let numbers: HashSet<i32> = numbers.into_iter().copied().collect();
        let mut sessions = self.lock();
        for session in sessions.values_mut().filter(|session| numbers.contains(&session.known.number)) {
            (session.acked, session.owes, session.failing) = (None, true, None);
        }
    }

    /// Something was sent: its acknowledgement will matter.
    pub fn sent(&self, name: &str) {
        if let Some(session) = self.lock().get_mut(name) {
            session.owes = true;
        }
    }

    /// An acknowledgement came. Of a bookmark it can wait for the next renewal of leases.
    pub fn acked(&self, name: &str, cursor: &Cursor, failing: bool) -> Weight {
        let mut sessions = self.lock();
        let Some(session) = sessions.get_mut(name) else { return Weight { matters: true, failures: true } };
        let news = session.acked.as_ref() != Some(cursor);
        let failures = failing || session.failing != Some(false);
        let matters = (news && session.owes) || failures;
        if news {
            session.acked = Some(cursor.clone());
            session.owes = false;
        }
        session.failing = Some(failing);
        Weight { matters, failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_matters_once_and_after_something_was_sent() {
        let sessions = Sessions::default();
        sessions.put("a", Known { number: 1, boot_id: "b".into() });
        let at = |text: &str| text.parse::<Cursor>().expect("a cursor");
        let matters = |text: &str| sessions.acked("a", &at(text), false).matters;
        assert!(matters("5:5:"), "the first one here may answer what another replica sent");
        assert!(!matters("5:5:"));
        assert!(!matters("6:6:"), "a bookmark");
        sessions.sent("a");
        assert!(!matters("6:6:"), "not yet applied");
        assert!(matters("7:7:"));
    }

    #[test]
    fn what_could_not_be_stored_matters_again_and_nothing_else() {
        let sessions = Sessions::default();
        let at: Cursor = "5:5:".parse().expect("a cursor");
        let ack = |name| sessions.acked(name, &at, false);
        for (name, number) in [("a", 1), ("b", 2)] {
            sessions.put(name, Known { number, boot_id: "b".into() });
            ack(name);
        }
        sessions.doubt(&[1]);
        assert_eq!(ack("a"), Weight { matters: true, failures: true });
        assert_eq!(ack("b"), Weight { matters: false, failures: false });
    }

    #[test]
    fn failures_matter_while_they_last_and_when_they_end() {
        let sessions = Sessions::default();
        sessions.put("a", Known { number: 1, boot_id: "b".into() });
        let at: Cursor = "5:5:".parse().expect("a cursor");
        let failures = |failing| sessions.acked("a", &at, failing).failures;
        assert_eq!(
            [failures(false), failures(false), failures(true), failures(true), failures(false), failures(false)],
            [true, false, true, true, true, false]
        );
    }
}
