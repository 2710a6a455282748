//! Who may follow packets at once: each of them holds a request for as long as a packet is waited for.

use crate::frame::fault::Fault;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Packets that are followed through this server at once.
const OF_SERVER: usize = 32;
/// And of the ports of one project.
const OF_PROJECT: usize = 4;

/// The places that are taken, by project.
#[derive(Debug, Default)]
pub struct Places(Mutex<BTreeMap<Uuid, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    places: &'a Places,
    project: Uuid,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, BTreeMap<Uuid, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one for a port of a project.
    pub fn take(&self, project: Uuid) -> Result<Place<'_>, Fault> {
        let mut taken = self.taken();
        let of_project = taken.get(&project).copied().unwrap_or_default();
        let full = |whose: &str, most: usize| {
            format!("{most} packets {whose} are waited for already: try again when one has come.")
        };
        if of_project >= OF_PROJECT {
            return Err(Fault::conflict("LiveTraceLimit", full("of the project", OF_PROJECT)));
        }
        if taken.values().sum::<usize>() >= OF_SERVER {
            return Err(Fault::refused(503, "LiveTraceUnavailable", full("of all projects", OF_SERVER)));
        }
        taken.insert(project, of_project + 1);
        Ok(Place { places: self, project })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(number) = taken.get_mut(&self.project) {
            *number -= 1;
            if *number == 0 {
                taken.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_a_few_places_and_leaves_some_to_others() -> Result<(), Fault> {
        let (places, red) = (Places::default(), Uuid::from_u128(1));
        let held: Vec<_> = (0..OF_PROJECT).map(|_| places.take(red)).collect::<Result<_, _>>()?;
        assert_eq!(places.take(red).expect_err("it is full").status().as_u16(), 409);
        let others: Vec<_> = (0..OF_SERVER - OF_PROJECT).map(|n| places.take(Uuid::from_u128(2 + n as u128))).collect();
        assert!(others.iter().all(Result::is_ok), "it is not full yet");
        assert_eq!(places.take(Uuid::from_u128(99)).expect_err("it is full").status().as_u16(), 503);
        drop((held, others));
        places.take(red)?;
        assert!(places.taken().is_empty(), "a place is not given back");
        Ok(())
    }
}
