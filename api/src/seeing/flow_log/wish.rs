//! Which records of a flow log are wanted, and which page of them.

use crate::frame::fault::Fault;
use crate::frame::query::parameters;
use crate::seeing::reach::WITH_PORTS;
use chrono::DateTime;
use ipnet::IpNet;
use mizar_domain::security_group::Protocol;
use mizar_wire::log::{Direction, Logged, READ, Verdict};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::IpAddr;

/// Records of an answer at most, and without a `limit`.
pub const LIMIT: (u32, u32) = (READ, 100);

/// What has been told: all records that are younger, and so many of this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    end_ms: i64,
    told: usize,
}

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let (end_ms, told) = text.split_once('.')?;
        let marker = Self { end_ms: end_ms.parse().ok()?, told: told.parse().ok()? };
        (marker.to_string() == text).then_some(marker)
    }
}

impl Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.end_ms, self.told)
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Wish {
    limit: u32,
    /// Hosts leave out what is older.
    pub since_ms: Option<i64>,
    verdict: Option<Verdict>,
    direction: Option<Direction>,
    protocol: Option<u8>,
    remote: Option<IpNet>,
    port: Option<u16>,
    marker: Option<Marker>,
}

impl Wish {
    /// Reads a query string; what it does not know is refused by name.
    pub fn parse(query: &str) -> Result<Self, Fault> {
        let (limit, since_ms, verdict, direction, protocol) = (LIMIT.1, None, None, None, None);
        let mut wish = Self { limit, since_ms, verdict, direction, protocol, remote: None, port: None, marker: None };
        let pairs = parameters(query)?;
        let mut said = BTreeSet::new();
        for (name, value) in &pairs {
            let wrong = |reason: &str| Fault::bad_query(format!("{name}: '{value}' is {reason}"));
            if !said.insert(name) {
                return Err(Fault::bad_query(format!("{name}: it is given twice")));
            }
            match name.as_str() {
                "limit" => {
                    let one = value.parse().ok().filter(|limit: &u32| *limit > 0);
                    wish.limit = one.ok_or_else(|| wrong("no number above 0"))?.min(LIMIT.0);
                }
                "since" => {
                    let time = DateTime::parse_from_rfc3339(value);
                    let time = time.map_err(|_| wrong("no time of RFC 3339, such as 2026-01-31T08:00:00Z"))?;
                    wish.since_ms = Some(time.timestamp_millis());
                }
                "verdict" => {
                    let one = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == value);
                    wish.verdict = Some(one.ok_or_else(|| wrong("neither accept nor deny"))?);
                }
                "direction" => {
                    let one = Direction::ALL.into_iter().find(|direction| direction.as_str() == value);
                    wish.direction = Some(one.ok_or_else(|| wrong("neither egress nor ingress"))?);
                }
                "protocol" => {
                    let known = Protocol::parse(value).ok().flatten().map(|known| known.number);
                    wish.protocol = Some(known.ok_or_else(|| wrong("no protocol"))?);
                }
                "remote_address" => {
                    let address = value.parse().map(|address: IpAddr| IpNet::from(address));
                    let remote = address.or_else(|_| value.parse::<IpNet>());
                    wish.remote = Some(remote.map_err(|_| wrong("no address and no prefix, such as 10.0.0.0/24"))?);
                }
                "port_number" => {
                    let one = value.parse().ok().filter(|port: &u16| *port > 0);
                    wish.port = Some(one.ok_or_else(|| wrong("not between 1 and 65535"))?);
                }
                "marker" => {
                    let marker = Marker::parse(value);
                    wish.marker = Some(marker.ok_or_else(|| wrong("no `next_marker` of an answer"))?);
                }
                _ => return Err(Fault::bad_query(format!("there is no parameter '{name}'"))),
            }
        }
        match (wish.port, wish.protocol) {
            (Some(_), Some(protocol)) if !WITH_PORTS.contains(&protocol) => {
                Err(Fault::bad_query(format!("port_number: protocol {protocol} has none")))
            }
            _ => Ok(wish),
        }
    }

    /// Records that a host is asked for: all it has, where not simply the youngest are wanted.
    pub fn of_hosts(&self) -> u32 {
        let Self { verdict, direction, protocol, remote, port, marker, .. } = self;
        let is_plain = verdict.is_none() && direction.is_none() && protocol.is_none();
        match is_plain && remote.is_none() && port.is_none() && marker.is_none() {
            true => self.limit,
            false => READ,
        }
    }

    /// Whether a record is such as is wanted, on whichever page.
    pub fn wants(&self, logged: &Logged) -> bool {
        let remote = match logged.direction {
            Direction::Egress => logged.destination,
            Direction::Ingress => logged.source,
        };
        // Those of ICMP are made of the id of a question.
        let ports = [logged.source_port, logged.destination_port];
        let ports = ports.iter().filter(|_| WITH_PORTS.contains(&logged.protocol));
        self.verdict.is_none_or(|verdict| logged.verdict == verdict)
            && self.direction.is_none_or(|direction| logged.direction == direction)
            && self.protocol.is_none_or(|protocol| logged.protocol == protocol)
            && self.remote.is_none_or(|wanted| wanted.contains(&remote))
            && self.port.is_none_or(|port| ports.into_iter().any(|own| *own == port))
    }

    /// The page of these records, the youngest first; how many are beyond it; and after what the next page begins, if there
    /// is one. `hosts_have_more`: some have left out records.
    pub fn page<T>(
        &self,
        mut found: Vec<(Logged, T)>,
        hosts_have_more: bool,
    ) -> (Vec<(Logged, T)>, u64, Option<Marker>) {
        // All of it, so that records of one moment have an order, which a marker counts in.
        found.sort_by_key(|(Logged { end_ms, start_ms, protocol, source, destination, .. }, _)| {
            (Reverse(*end_ms), Reverse(*start_ms), *protocol, *source, *destination)
        });
        let younger = |found: &[(Logged, T)], than: i64| found.partition_point(|(logged, _)| logged.end_ms > than);
        let begin = self.marker.map_or(0, |Marker { end_ms, told }| {
            let before = younger(&found, end_ms);
            let of_moment = found[before..].partition_point(|(logged, _)| logged.end_ms >= end_ms);
            before + told.min(of_moment)
        });
        let end = found.len().min(begin + self.limit as usize);
        let beyond = found.len() - end;
        // A host that was asked for all it has would not have more to say.
        let is_more = beyond > 0 || (hosts_have_more && self.of_hosts() < READ);
        let last = (end > begin).then(|| found[end - 1].0.end_ms);
        let next = last.map(|end_ms| Marker { end_ms, told: end - younger(&found, end_ms) });
        found.truncate(end);
        (found.split_off(begin), beyond as u64, next.filter(|_| is_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_wire::log::Ended;

    fn record(end_ms: i64, source_port: u16) -> Logged {
        Logged {
            port: 7,
            start_ms: 0,
            end_ms,
            direction: Direction::Ingress,
            source: [10, 0, 0, 9].into(),
            destination: [10, 0, 0, 5].into(),
            protocol: 6,
            source_port,
            destination_port: 443,
            judged: 443,
            verdict: Verdict::Deny,
            reason: Some("policy".into()),
            decided_by: None,
            rules: None,
            packets_out: 0,
            bytes_out: 0,
            packets_in: 1,
            bytes_in: 60,
            ended: Some(Ended::Denied),
        }
    }

    fn wish(query: &str) -> Wish {
        Wish::parse(query).expect(query)
    }

    #[test]
    fn a_record_is_wanted_that_is_all_that_was_asked_for() {
        let tcp = record(1, 40_000);
        let ping = Logged { protocol: 1, source_port: 443, destination_port: 443, ..record(1, 0) };
        let opened = Logged { direction: Direction::Egress, verdict: Verdict::Accept, ..record(1, 40_000) };
        for (query, wanted) in [
            ("", [true, true, true]),
            ("verdict=deny", [true, true, false]),
            ("verdict=accept&direction=egress", [false, false, true]),
            ("direction=ingress", [true, true, false]),
            ("protocol=tcp", [true, false, true]),
            ("protocol=1", [false, true, false]),
            ("remote_address=10.0.0.9", [true, true, false]),
            ("remote_address=10.0.0.5/32", [false, false, true]),
            ("remote_address=10.0.0.0/24&verdict=deny", [true, true, false]),
            ("remote_address=2001:db8::/32", [false, false, false]),
            ("port_number=443", [true, false, true]),
            ("port_number=40000", [true, false, true]),
            ("port_number=444", [false, false, false]),
        ] {
            assert_eq!([&tcp, &ping, &opened].map(|one| wish(query).wants(one)), wanted, "{query}");
        }
    }

    #[test]
    fn what_is_not_possible_is_refused_by_name() {
        for (query, named) in [
            ("verdict=maybe", "verdict"),
            ("verdict=", "verdict"),
            ("verdict=deny&verdict=accept", "twice"),
            ("direction=up", "direction"),
            ("protocol=256", "protocol"),
            ("remote_address=here", "remote_address"),
            ("port_number=0", "port_number"),
            ("port_number=443&protocol=icmp", "has none"),
            ("marker=5", "marker"),
            ("marker=5.%2B1", "marker"),
            ("colour=red", "colour"),
        ] {
            let fault = Wish::parse(query).expect_err(query);
            assert!(format!("{fault:?}").contains(named), "{query}: {fault:?}");
        }
    }

    #[test]
    fn hosts_are_asked_for_all_they_have_where_not_simply_the_youngest_are_wanted() {
        for (query, asked) in [("limit=3", 3), ("", 100), ("limit=3&verdict=deny", READ), ("limit=3&marker=5.1", READ)]
        {
            assert_eq!(wish(query).of_hosts(), asked, "{query}");
        }
    }

    #[test]
    fn pages_hold_every_record_once_also_those_of_one_moment() {
        let all = || [5, 9, 5, 7, 5, 5, 2].map(|end_ms| (record(end_ms, 1), ()));
        let mut ends = Vec::new();
        let mut query = "limit=2&verdict=deny".to_owned();
        loop {
            let (page, beyond, next) = wish(&query).page(all().into(), false);
            ends.push(page.iter().map(|(one, ())| one.end_ms).collect::<Vec<_>>());
            assert_eq!(beyond as usize, 7 - ends.concat().len());
            let Some(next) = next else { break };
            query = format!("limit=2&verdict=deny&marker={next}");
        }
        assert_eq!(ends, [vec![9, 7], vec![5, 5], vec![5, 5], vec![2]]);
        let (page, ..) = wish("marker=1.0").page(all().into(), false);
        assert!(page.is_empty());
    }

    #[test]
    fn there_is_a_next_page_where_hosts_have_more_that_they_were_not_asked_for() {
        let next = |query: &str| wish(query).page(vec![(record(5, 1), ())], true).2.is_some();
        assert!(next("limit=1"));
        assert!(!next("limit=1&verdict=deny"), "it was asked for all it has");
        assert!(wish("limit=1").page(Vec::<(Logged, ())>::new(), true).2.is_none());
    }
}
