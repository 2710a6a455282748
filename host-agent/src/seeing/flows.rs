//! The flows of ports, as the tables of this host have them.
//!
//! Whoever opened a flow says which rules decide about it, and which number they judge: what the programs themselves
//! would ask (`mizar_packet::policy`) is told with each, so that nobody else reads keys.

use mizar_abi::Address;
use mizar_abi::maps::{self, FlowKey, State, flow_flag};
use mizar_packet::flow::{Now, is_live};
use mizar_packet::policy::{received, sent};
use mizar_wire::ask::{ANSWER, Flow, FlowState, Flows};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

/// Bytes of an answer that what is around the flows may take.
const AROUND: usize = 64;

/// Of all flows of the host those of these ports.
pub fn read(all: &[(FlowKey, maps::Flow)], ports: &[u32], now: &Now) -> Flows {
    let ports: BTreeSet<u32> = ports.iter().copied().collect();
    let own = all.iter().filter(|(key, flow)| ports.contains(&flow.ep_id) && is_live(flow, key.vni_proto as u8, now));
    let mut flows: Vec<Flow> = own.filter_map(|(key, flow)| told(key, flow, now)).collect();
    flows.sort_by_key(|flow| (flow.idle_s, flow.port, flow.local_port, flow.remote, flow.remote_port));
    let mut left = ANSWER - AROUND;
    let fitting = flows.iter().map_while(|flow| {
        let size = serde_json::to_string(flow).map_or(ANSWER, |text| text.len() + 1);
        left = left.checked_sub(size)?;
        Some(())
    });
    let fitting = fitting.count();
    let left_out = (flows.len() - fitting) as u64;
    flows.truncate(fitting);
    Flows { flows, left_out }
}

fn told(key: &FlowKey, flow: &maps::Flow, now: &Now) -> Option<Flow> {
    let opened = |flag: u8, number: u16| (flow.flags & flag != 0).then_some(number);
    Some(Flow {
        port: flow.ep_id,
        local: address(key.local),
        remote: address(key.remote),
        protocol: key.vni_proto as u8,
        local_port: key.lport,
        remote_port: key.rport,
        state: state(flow.state)?,
        egress: opened(flow_flag::I_INIT, sent(key, 0, 0).port),
        ingress: opened(flow_flag::R_INIT, received(key, 0, 0).port),
        peer: flow.peer_identity,
        // Another processor may have written a moment later than `now` was read.
        idle_s: now.s.saturating_sub(flow.last_seen),
    })
}

/// `None`: an entry that is being made.
pub(super) fn state(number: u8) -> Option<FlowState> {
    Some(match number {
        n if n == State::NewOut as u8 => FlowState::Requested,
        n if n == State::NewIn as u8 => FlowState::Admitted,
        n if n == State::Est as u8 => FlowState::Established,
        n if n == State::Closing as u8 => FlowState::Closing,
        n if n == State::Denied as u8 => FlowState::Denied,
        _ => return None,
    })
}

/// As people write it.
pub(super) fn address(bytes: Address) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizar_abi::mapped;
    use mizar_wire::ask::Answer;

    const NOW: Now = Now { s: 1000, ms: 1_000_000 };

    fn entry(protocol: u8, (lport, rport): (u16, u16), flags: u8, age: u32) -> (FlowKey, maps::Flow) {
        let key = FlowKey {
            vni_proto: 5000 << 8 | u32::from(protocol),
            local: mapped([10, 0, 0, 5]),
            remote: mapped([10, 0, 0, 9]),
            lport,
            rport,
        };
        let flow = maps::Flow {
            state: State::Est as u8,
            flags,
            ep_id: 7,
            peer_identity: 3,
            last_seen: NOW.s - age,
            ..maps::Flow::default()
        };
        (key, flow)
    }

    #[test]
    fn a_flow_says_who_opened_it_and_what_rules_judge() {
        let both = flow_flag::I_INIT | flow_flag::R_INIT;
        let all = [
            entry(6, (443, 40_000), flow_flag::R_INIT, 2),
            entry(6, (40_000, 22), flow_flag::I_INIT, 1),
            entry(17, (53, 53), both, 3),
            // An echo that the port sends has its id as the port's own port, and one above it as the other.
            entry(1, (77, 78), flow_flag::I_INIT, 0),
            // A request that can only be a reply: nobody is known to have opened it.
            entry(47, (0, 0), 0, 4),
        ];
        let got = read(&all, &[7], &NOW);
        let seen: Vec<_> =
            got.flows.iter().map(|flow| (flow.protocol, flow.egress, flow.ingress, flow.idle_s)).collect();
        let expected = [
            (1, Some(0x0800), None, 0),
            (6, Some(22), None, 1),
            (6, None, Some(443), 2),
            (17, Some(53), Some(53), 3),
            (47, None, None, 4),
        ];
        assert_eq!((seen.as_slice(), got.left_out), (expected.as_slice(), 0));
        let https = &got.flows[2];
        assert_eq!((https.local.to_string().as_str(), https.remote.to_string().as_str()), ("10.0.0.5", "10.0.0.9"));
        assert_eq!(
            (https.local_port, https.remote_port, https.state, https.peer),
            (443, 40_000, FlowState::Established, 3)
        );
    }

    #[test]
    fn neither_other_ports_flows_nor_those_whose_time_is_over_are_told() {
        let (key, flow) = entry(17, (53, 40_000), flow_flag::R_INIT, 0);
        let other = maps::Flow { ep_id: 8, ..flow };
        let denied = maps::Flow { state: State::Denied as u8, since_ms: NOW.ms - 500, ..flow };
        let over = maps::Flow { since_ms: NOW.ms - 1_500, ..denied };
        let all = [(key, other), (key, denied), (key, over), entry(17, (53, 1), flow_flag::R_INIT, 600)];
        let got = read(&all, &[7], &NOW);
        assert_eq!(got.flows.iter().map(|flow| flow.state).collect::<Vec<_>>(), [FlowState::Denied]);
    }

    #[test]
    fn an_answer_holds_the_youngest_and_says_how_many_there_are_beside() {
        let all: Vec<_> = (0..60_000).map(|n| entry(6, (443, n), flow_flag::R_INIT, u32::from(n) / 100)).collect();
        let got = read(&all, &[7], &NOW);
        let answer = Answer::Flows(got.clone()).to_value().to_string();
        assert!((ANSWER * 9 / 10..=ANSWER).contains(&answer.len()), "{} bytes", answer.len());
        assert_eq!(got.flows.len() as u64 + got.left_out, 60_000);
        assert!(got.flows.iter().all(|flow| flow.idle_s <= 20), "{:?}", got.flows.last());
    }
}
