//! Packets that are waited for: WATCH, and the flag of ports that has the programs look into it.

use super::kernel::{open, unless_absent};
use super::raw::Raw;
use super::{Pins, PlaneError};
use aya::maps::{HashMap, MapData, MapError};
use mizar_abi::maps::{self, ep_flag, name};

type Hash<K, V> = HashMap<MapData, Raw<K>, Raw<V>>;

/// Both maps, opened a second time. Who writes here holds the core, by which all others write to EP.
pub struct Marks {
    watch: Hash<u32, maps::Watch>,
    ep: Hash<u32, maps::Ep>,
}

fn failed(map: &'static str) -> impl FnOnce(MapError) -> PlaneError {
    move |source| PlaneError::Map { map, source }
}

impl Marks {
    /// Opens the pins, and forgets what a former agent waited for.
    pub fn open(pins: &Pins) -> Result<Self, PlaneError> {
        let mut marks = Self { watch: open(pins, name::WATCH)?, ep: open(pins, name::EP)? };
        let left: Vec<u32> = marks.watch.keys().filter_map(Result::ok).map(|Raw(port)| port).collect();
        let marked = marks.ep.iter().filter_map(Result::ok).filter(|(_, Raw(ep))| ep.flags & ep_flag::WATCHED != 0);
        let marked: Vec<u32> = marked.map(|(Raw(port), _)| port).collect();
        for port in left.into_iter().chain(marked) {
            marks.end(port)?;
        }
        Ok(marks)
    }

    /// Waits for a packet of a port. False: the port is not attached here.
    pub fn set(&mut self, port: u32, watch: maps::Watch) -> Result<bool, PlaneError> {
        let Ok(Raw(ep)) = self.ep.get(&Raw(port), 0) else { return Ok(false) };
        self.watch.insert(Raw(port), Raw(watch), 0).map_err(failed(name::WATCH))?;
        self.flag(port, maps::Ep { flags: ep.flags | ep_flag::WATCHED, ..ep })?;
        Ok(true)
    }

    /// Waits no more for what has this number. What the programs did already is not done again, and what was waited for since
    /// goes on.
    pub fn clear(&mut self, port: u32, number: u32) -> Result<(), PlaneError> {
        match self.watch.get(&Raw(port), 0) {
            Ok(Raw(later)) if later.id != number => Ok(()),
            _ => self.end(port),
        }
    }

    fn end(&mut self, port: u32) -> Result<(), PlaneError> {
        unless_absent(self.watch.remove(&Raw(port))).map_err(failed(name::WATCH))?;
        match self.ep.get(&Raw(port), 0) {
            Ok(Raw(ep)) if ep.flags & ep_flag::WATCHED != 0 => {
                self.flag(port, maps::Ep { flags: ep.flags & !ep_flag::WATCHED, ..ep })
            }
            _ => Ok(()),
        }
    }

    fn flag(&mut self, port: u32, ep: maps::Ep) -> Result<(), PlaneError> {
        self.ep.insert(Raw(port), Raw(ep), 0).map_err(failed(name::EP))
    }
}
