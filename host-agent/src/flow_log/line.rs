//! A record as it stands in the file: a line of JSON, whose fields are those that docs/operator.md names.

use chrono::{DateTime, SecondsFormat};
use mizar_wire::log::{Decider, Direction, Ended, Logged, Verdict};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use uuid::Uuid;

/// ICMP: what rules judge is type and code.
const ICMP: u8 = 1;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A flow that has ended.
    Final,
    /// One that goes on.
    Interim,
    /// Flows that are not in the log.
    Lost,
}

/// A record of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    record: Kind,
    start: String,
    end: String,
    host: String,
    port_id: Option<Uuid>,
    port_number: u32,
    network_id: Option<Uuid>,
    direction: Direction,
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    sport: Option<u16>,
    dport: Option<u16>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    verdict: Verdict,
    reason: Option<String>,
    decided_by: Option<Decider>,
    rules: Option<Vec<Uuid>>,
    packets_out: u64,
    bytes_out: u64,
    packets_in: u64,
    bytes_in: u64,
    ended: Option<Ended>,
}

/// RFC 3339, in UTC.
fn time(unix_ms: i64) -> String {
    DateTime::from_timestamp_millis(unix_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Line {
    /// Of a record.
    pub fn of(logged: &Logged, host: &str, port_id: Option<Uuid>, network_id: Option<Uuid>) -> Self {
        let is_icmp = logged.protocol == ICMP;
        let [kind, code] = logged.judged.to_be_bytes();
        Self {
            record: if logged.ended.is_some() { Kind::Final } else { Kind::Interim },
            start: time(logged.start_ms),
            end: time(logged.end_ms),
            host: host.to_owned(),
            port_id,
            port_number: logged.port,
            network_id,
            direction: logged.direction,
            src: logged.source,
            dst: logged.destination,
            protocol: logged.protocol,
            sport: (!is_icmp).then_some(logged.source_port),
            dport: (!is_icmp).then_some(logged.destination_port),
            icmp_type: is_icmp.then_some(kind),
            icmp_code: is_icmp.then_some(code),
            verdict: logged.verdict,
            reason: logged.reason.clone(),
            decided_by: logged.decided_by,
            rules: logged.rules.clone(),
            packets_out: logged.packets_out,
            bytes_out: logged.bytes_out,
            packets_in: logged.packets_in,
            bytes_in: logged.bytes_in,
            ended: logged.ended,
        }
    }

    /// With its end.
    pub fn text(&self) -> String {
        text(self)
    }

    /// The record that a line is of, as far as one reads it; `None`: it is none.
    pub fn read(line: &str) -> Option<Logged> {
        let line: Self = serde_json::from_str(line).ok()?;
        let time = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis());
        let message = line.icmp_type.zip(line.icmp_code).map(|(kind, code)| u16::from_be_bytes([kind, code]));
        Some(Logged {
            port: line.port_number,
            start_ms: time(&line.start)?,
            end_ms: time(&line.end)?,
            direction: line.direction,
            source: line.src,
            destination: line.dst,
            protocol: line.protocol,
            source_port: line.sport.unwrap_or_default(),
            destination_port: line.dport.unwrap_or_default(),
            judged: message.or(line.dport).unwrap_or_default(),
            verdict: line.verdict,
            reason: line.reason,
            decided_by: line.decided_by,
            rules: line.rules,
            packets_out: line.packets_out,
            bytes_out: line.bytes_out,
            packets_in: line.packets_in,
            bytes_in: line.bytes_in,
            ended: line.ended,
        })
    }
}

/// Flows that the log lacks since the last such line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    record: Kind,
    end: String,
    host: String,
    lost: u64,
}

impl Lost {
    /// So many, until this moment.
    pub fn of(lost: u64, unix_ms: i64, host: &str) -> Self {
        Self { record: Kind::Lost, end: time(unix_ms), host: host.to_owned(), lost }
    }

    /// With its end.
    pub fn text(&self) -> String {
        text(self)
    }
}

fn text(line: &impl Serialize) -> String {
    let mut text = serde_json::to_string(line).expect("structs of numbers, strings and addresses always serialize");
    text.push('\n');
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(port: u32, end_ms: i64, ended: Option<Ended>) -> Logged {
        Logged {
            port,
            start_ms: 1_700_000_000_123,
            end_ms,
            direction: Direction::Egress,
            source: "10.0.0.5".parse().expect("an address"),
            destination: "10.0.0.9".parse().expect("an address"),
            protocol: 6,
            source_port: 40_000,
            destination_port: 443,
            judged: 443,
            verdict: Verdict::Accept,
            reason: None,
            decided_by: Some(Decider::Port),
            rules: Some(vec![Uuid::from_u128(7)]),
            packets_out: 3,
            bytes_out: 180,
            packets_in: 2,
            bytes_in: 3_000,
            ended,
        }
    }

    #[test]
    fn a_line_has_the_fields_that_are_documented() {
        let record = record(7, 1_700_000_060_000, Some(Ended::Closed));
        let text = Line::of(&record, "h1", Some(Uuid::from_u128(1)), None).text();
        let expected = concat!(
            r#"{"record":"final","start":"2023-11-14T22:13:20.123Z","end":"2023-11-14T22:14:20.000Z","host":"h1","#,
            r#""port_id":"00000000-0000-0000-0000-000000000001","port_number":7,"network_id":null,"direction":"egress","#,
            r#""src":"10.0.0.5","dst":"10.0.0.9","protocol":6,"sport":40000,"dport":443,"icmp_type":null,"icmp_code":null,"#,
            r#""verdict":"accept","reason":null,"decided_by":"port","rules":["00000000-0000-0000-0000-000000000007"],"#,
            r#""packets_out":3,"bytes_out":180,"packets_in":2,"bytes_in":3000,"ended":"closed"}"#,
            "\n",
        );
        assert_eq!(text, expected);
        assert_eq!(Line::read(&text), Some(record));
        let lost = Lost::of(12, 1_700_000_060_000, "h1").text();
        assert_eq!(lost, "{\"record\":\"lost\",\"end\":\"2023-11-14T22:14:20.000Z\",\"host\":\"h1\",\"lost\":12}\n");
        assert_eq!(Line::read(&lost), None);
    }

    #[test]
    fn of_icmp_type_and_code_are_written_instead_of_ports() {
        let ping = Logged { protocol: 1, judged: 0x0803, ..record(7, 1_700_000_060_000, None) };
        let text = Line::of(&ping, "h1", None, None).text();
        assert!(text.contains(r#""record":"interim""#), "{text}");
        assert!(text.contains(r#""sport":null,"dport":null,"icmp_type":8,"icmp_code":3"#), "{text}");
        assert_eq!(Line::read(&text).map(|read| read.judged), Some(0x0803));
    }
}
