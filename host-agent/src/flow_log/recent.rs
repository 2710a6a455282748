//! The last records, for whoever asks: so many of a port, so that a busy one takes nobody's place.

use super::file::Files;
use super::line::Line;
use mizar_wire::ask::{ANSWER, FlowLog};
use mizar_wire::log::Logged;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records of one port.
const OF_PORT: usize = 500;
/// Records in all; of the port that has most, the oldest goes first.
const MOST: usize = 20_000;
/// Bytes of a file that an agent reads when it begins.
const TAIL: u64 = 4 << 20;
/// Bytes of an answer that what is around the records may take.
const AROUND: usize = 128;

#[derive(Debug, Default)]
struct Records {
    ports: BTreeMap<u32, VecDeque<Logged>>,
    held: usize,
    written: u64,
    unwritten: u64,
}

/// See the module. Shared by those who hold it.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<Records>>);

/// Two records of one flow.
fn is_same(a: &Logged, b: &Logged) -> bool {
    let id = |one: &Logged| (one.protocol, one.source, one.destination, one.source_port, one.destination_port);
    // An agent that reads the file has its clock from another moment.
    id(a) == id(b) && a.judged == b.judged && a.start_ms.abs_diff(b.start_ms) <= 1_000
}

impl Recent {
    /// Nobody panics with it in his hands.
    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With what the files say last. Without them, with nothing: that must not keep a host from its work.
    pub fn of(files: &Files) -> Self {
        let recent = Self::default();
        let tail = |files: &Files| {
            files.tail(TAIL).unwrap_or_else(|error| {
                tracing::warn!(%error, "the flow log of before could not be read");
                String::new()
            })
        };
        let tails = [tail(&files.beside()), tail(files)];
        let mut records: Vec<Logged> = tails.iter().flat_map(|tail| tail.lines()).filter_map(Line::read).collect();
        records.sort_by_key(|record| record.end_ms);
        records.into_iter().for_each(|record| recent.add(record));
        recent
    }

    /// Adds one. What was said of the same flow earlier says nothing more.
    pub fn add(&self, record: Logged) {
        let mut all = self.records();
        let all = &mut *all;
        let of_port = all.ports.entry(record.port).or_default();
        all.held -= of_port.len();
        of_port.retain(|old| old.ended.is_some() || !is_same(old, &record));
        of_port.push_back(record);
        if of_port.len() > OF_PORT {
            of_port.pop_front();
        }
        all.held += of_port.len();
        while all.held > MOST {
            let Some((number, most)) = all.ports.iter_mut().max_by_key(|(_, records)| records.len()) else { break };
            let number = *number;
            all.held -= usize::from(most.pop_front().is_some());
            if most.is_empty() {
                all.ports.remove(&number);
            }
        }
    }

    /// So many records reached the file.
    pub fn written(&self, records: u64) {
        self.records().written += records;
    }

    /// So many did not.
    pub fn unwritten(&self, records: u64) {
        self.records().unwritten += records;
    }

    /// Records that were written since the agent began, and those that could not be.
    pub fn counts(&self) -> (u64, u64) {
        let all = self.records();
        (all.written, all.unwritten)
    }

    /// The youngest of these ports, which ended, or were written, not before this moment.
    pub fn read(&self, ports: &[u32], since_ms: Option<i64>, limit: u32) -> FlowLog {
        let all = self.records();
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        ports.dedup();
        let own = ports.iter().filter_map(|port| all.ports.get(port)).flatten();
        let mut wanted: Vec<&Logged> =
            own.filter(|record| since_ms.is_none_or(|since| record.end_ms >= since)).collect();
        wanted.sort_by_key(|record| std::cmp::Reverse(record.end_ms));
        let mut left = ANSWER - AROUND;
        let fitting = wanted.iter().take(limit as usize).map_while(|record| {
            let size = serde_json::to_string(record).map_or(ANSWER, |text| text.len() + 1);
            left = left.checked_sub(size)?;
            Some(())
        });
        let fitting = fitting.count();
        let left_out = (wanted.len() - fitting) as u64;
        FlowLog { records: wanted.into_iter().take(fitting).cloned().collect(), left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_log::line::tests::record;
    use mizar_wire::ask::Answer;
    use mizar_wire::log::{Ended, READ};
    use mizar_wire::trace::RULES;
    use std::io;
    use uuid::Uuid;

    fn another(port: u32, n: u16) -> Logged {
        Logged { source_port: n, ..record(port, i64::from(n), Some(Ended::Closed)) }
    }

    fn ends(log: &FlowLog) -> Vec<i64> {
        log.records.iter().map(|record| record.end_ms).collect()
    }

    #[test]
    fn the_youngest_records_come_first_as_many_as_are_wanted() {
        let recent = Recent::default();
        (0..10).for_each(|n| recent.add(another(7, n)));
        recent.add(another(8, 99));
        let log = recent.read(&[7, 7, 9], None, 3);
        assert_eq!((ends(&log), log.left_out), (vec![9, 8, 7], 7));
        assert_eq!(ends(&recent.read(&[7], Some(8), 100)), [9, 8]);
        assert_eq!(recent.read(&[9], None, 1), FlowLog::default());
    }

    #[test]
    fn of_a_flow_that_goes_on_the_last_record_is_kept() {
        let recent = Recent::default();
        for end in [5, 6] {
            recent.add(record(7, end, None));
        }
        recent.add(another(7, 1));
        assert_eq!(ends(&recent.read(&[7], None, 10)), [6, 1]);
        recent.add(record(7, 9, Some(Ended::Closed)));
        assert_eq!(ends(&recent.read(&[7], None, 10)), [9, 1]);
    }

    #[test]
    fn a_busy_port_takes_nobodys_place() {
        let recent = Recent::default();
        recent.add(another(1, 1));
        for port in 2..60 {
            (0..OF_PORT as u16 + 10).for_each(|n| recent.add(another(port, n)));
        }
        assert_eq!(recent.records().held, MOST);
        assert_eq!(ends(&recent.read(&[1], None, 10)), [1]);
        assert!(recent.read(&[2], None, READ).records.len() >= MOST / 60);
    }

    #[test]
    fn an_answer_is_no_longer_than_it_may_be() {
        let recent = Recent::default();
        let rules = Some(vec![Uuid::from_u128(u128::MAX); RULES]);
        (0..500).for_each(|n| recent.add(Logged { rules: rules.clone(), ..another(7, n) }));
        let log = recent.read(&[7], None, READ);
        let answer = Answer::FlowLog(log.clone()).to_value();
        assert!(answer.to_string().len() <= ANSWER && log.left_out > 0 && log.records.len() > 100);
        assert!(Answer::from_value(answer).is_ok());
    }

    #[test]
    fn an_agent_knows_what_the_last_one_wrote() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut files = Files::new(dir.path(), 1 << 20, 1);
        let records: Vec<Logged> = [0, 2, 1].map(|n| another(7, n)).into();
        let lines: Vec<String> = records.iter().map(|record| Line::of(record, "h1", None, None).text()).collect();
        files.append(&lines[..2])?;
        files.beside().append(&lines[2..])?;
        let recent = Recent::of(&files);
        assert_eq!((ends(&recent.read(&[7], None, 10)), recent.counts()), (vec![2, 1, 0], (0, 0)));
        Ok(())
    }
}
