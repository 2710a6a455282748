//! How full the maps are.

use super::kernel::size;
use super::live::Live;
use super::runtime::Runtime;
use super::{Pins, PlaneError};
use mizar_abi::maps::name;
use mizar_wire::ask::Fill;
use std::collections::BTreeMap;

/// Maps all of whose places are there from the beginning: they never fill.
const WHOLE: [&str; 1] = [name::CFG];

/// Entries of each map. A system call an entry: for a thread that may wait.
pub fn sizes(pins: &Pins) -> Result<BTreeMap<&'static str, usize>, PlaneError> {
    let mut sizes = Runtime::open(pins)?.sizes();
    sizes.extend(Live::open(pins)?.sizes());
    Ok(sizes)
}

/// Entries of each map that can fill, and how many there is room for.
pub fn fills(pins: &Pins) -> Result<Vec<Fill>, PlaneError> {
    let filling = sizes(pins)?.into_iter().filter(|(map, _)| !WHOLE.contains(map));
    filling.map(|(map, entries)| Ok(fill(map, entries, size(pins, map)?))).collect()
}

/// While a map is walked entries come and go, and some may be met twice: there are never more than there is room for.
fn fill(map: &str, entries: usize, most: usize) -> Fill {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Fill { map: map.to_owned(), entries: number(entries.min(most)), most: number(most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_wire::ask::Answer;

    #[test]
    fn what_is_met_twice_makes_no_map_fuller_than_full() {
        let full = fill(name::FLOW_EST, 9, 8);
        assert_eq!(full, Fill { map: "FLOW_EST".into(), entries: 8, most: 8 });
        assert!(Answer::from_value(Answer::Maps(vec![full]).to_value()).is_ok());
    }
}
