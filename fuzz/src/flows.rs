//! One flow, and whatever happens to it: packets of either end, answers of bouncers, time.

use crate::input::Input;
use mizar_abi::maps::{ANYBODY, Flow, State, flow_flag};
use mizar_packet::flow::{self, Admission, Now, Peer};

/// Twice as many events as any story needs.
const EVENTS: usize = 64;
const STATES: [u8; 5] =
    [State::NewOut as u8, State::NewIn as u8, State::Est as u8, State::Closing as u8, State::Denied as u8];

fn peer(input: &mut Input<'_>) -> Peer {
    Peer {
        host: [172, 16, 0, input.byte() % 4],
        vni: input.few(),
        identity: if input.flag() { ANYBODY } else { input.few() + 10 },
        generation: input.few(),
        ep: input.few(),
    }
}

fn admission(input: &mut Input<'_>, stateless: bool) -> Admission {
    let bits = input.byte();
    Admission {
        ep_id: 5,
        cookie: input.few(),
        stamp: input.few(),
        routed: bits & 1 != 0,
        opens: bits & 2 != 0,
        reply_only: bits & 4 != 0,
        no_egress: bits & 8 != 0,
        stateless,
    }
}

pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut now = Now { s: 1_000_000, ms: input.long() };
    let proto = [6, 17, 1][input.few() as usize % 3];
    // Of its port: are the groups stateless, and is the flow counted for the log?
    let (stateless, logged) = (input.flag(), if input.flag() { flow_flag::LOGGED } else { 0 });
    let mut flow = match input.few() {
        0 => Flow::default(),
        flags => flow::request(5, input.few(), [0, flow_flag::I_INIT, flow_flag::NEED_ID, 65][flags as usize], 1, &now),
    };
    flow.flags |= logged;
    for _ in 0..EVENTS {
        if input.is_empty() {
            return;
        }
        let before = flow;
        let event = input.byte() % 10;
        match event {
            0 => {
                let passed = u32::from(input.short());
                now = Now { s: now.s + passed / 1_000, ms: now.ms.wrapping_add(passed) };
            }
            1 => flow::try_again(&mut flow, &now),
            2 => {
                flow::touch(&mut flow, input.byte(), input.flag(), &now);
                let closed = before.state == State::Est as u8 && flow.state == State::Closing as u8;
                assert!(closed || flow.state == before.state, "a packet makes of {before:?} {flow:?}");
            }
            3 => flow::ask_again(&mut flow, &now),
            4 => {
                let admission = admission(&mut input, stateless);
                let anew = flow::begins_anew(&flow, admission.opens);
                enters(&mut flow, &admission, &peer(&mut input), &now);
                if anew && flow.state == State::NewIn as u8 {
                    assert_eq!(flow.flags & flow_flag::LOGGED, 0, "what was decided of {before:?} is no other flow's");
                    flow.flags |= logged;
                }
            }
            5 => acknowledged(&mut flow, &mut input, stateless, &now),
            6 => flow::confirm(&mut flow),
            7 => closes(&mut flow, input.flag()),
            8 => flow::denied(&mut flow, &now),
            _ => introduced(&mut flow, &mut input, &now),
        }
        judge(&before, &flow, event, proto, &now);
        assert_eq!(flow.flags & flow_flag::LOGGED, logged, "event {event} takes {before:?} out of the log, or into it");
        let let_in = flow.flags & !before.flags & flow_flag::R_INIT != 0;
        assert!(!stateless || !let_in || event == 4, "event {event} of {before:?}: no rule lets anything in");
    }
}

/// What holds after every event.
fn judge(before: &Flow, flow: &Flow, event: u8, proto: u8, now: &Now) {
    assert!(flow.state == before.state || STATES.contains(&flow.state), "{before:?} became {flow:?}");
    assert_eq!(flow.tcp & !7, 0, "{flow:?}");
    assert!(!flow::is_established(flow) || flow.peer_host != [0; 4], "{flow:?} is established with nobody");
    // By time alone nothing comes back.
    let later = Now { s: now.s + 3_600, ms: now.ms.wrapping_add(3_600_000) };
    let over = !flow::is_live(flow, proto, now);
    assert!(!over || !flow::is_live(flow, proto, &later), "{flow:?} is over, and lives later");
    if flow.state == State::Denied as u8 {
        let later = Now { s: now.s, ms: flow.since_ms.wrapping_add(flow::DENIED_MS) };
        assert!(!flow::is_live(flow, proto, &later), "{flow:?} is denied for longer than that");
    }
    // Who waits for a verdict has so much time, and gets no more by sending.
    let waits = |flow: &Flow| flow::is_unconfirmed(flow) || flow::is_unidentified(flow);
    let alive = |flow: &Flow| STATES[..4].contains(&flow.state);
    let begins_again = event == 4 && flow.state == State::NewIn as u8 && before.state != State::NewIn as u8;
    if waits(before) && waits(flow) && alive(before) && alive(flow) && !begins_again {
        assert_eq!(flow.since_ms, before.since_ms, "{before:?} waits longer as {flow:?}");
    }
}

fn enters(flow: &mut Flow, admission: &Admission, peer: &Peer, now: &Now) {
    let before = *flow;
    let enters = flow::enters(flow, admission, peer, now);
    if !enters {
        assert_eq!(*flow, before, "what does not enter changes nothing");
        assert!(admission.reply_only, "an admitted packet of {before:?} does not enter");
        return;
    }
    if admission.stateless && admission.reply_only {
        // A verdict of former rules, about what rules let in before: it is asked again.
        let asked = admission.stamp == 0 && before.flags & flow_flag::R_INIT != 0;
        assert!(asked, "an answer enters {before:?} without a rule: {admission:?}");
    }
    if !admission.reply_only {
        assert!(flow::knows_peer(flow), "{flow:?} after an admission");
    }
    if admission.reply_only && admission.stamp != 0 {
        assert!(before.flags & flow_flag::I_INIT != 0, "a reply to what nobody asked: {before:?}");
        assert_eq!(flow.flags & flow_flag::R_INIT, before.flags & flow_flag::R_INIT, "a reply opens {before:?}");
    }
    if admission.reply_only {
        assert!(before.state != State::Denied as u8, "a reply to what was denied: {before:?}");
    }
}

/// The peer's host says who the other side is now: that, and nothing of the way or of who opened the flow.
fn introduced(flow: &mut Flow, input: &mut Input<'_>, now: &Now) {
    let (before, peer) = (*flow, peer(input));
    let asks = flow::introduced(flow, &peer, now);
    let another = flow.peer_identity != before.peer_identity;
    assert!(!another || flow.peer_identity == peer.identity, "{before:?} is shown {peer:?} and believes {flow:?}");
    if another && before.peer_identity != ANYBODY {
        assert_eq!((flow.out_epoch, flow.in_epoch), (0, 0), "{before:?}: what was said of another counts");
    }
    assert!(!asks || flow.flags & flow_flag::R_INIT != 0, "{flow:?}: bouncers are asked about its own flow");
    assert!(!asks || flow.in_epoch == 0, "{flow:?}: bouncers are asked about what they said");
    let rest = |flow: &Flow| (flow.state, flow.flags, flow.cookie, flow.peer_host, flow.peer_vni, flow.generation);
    assert_eq!(rest(flow), rest(&before), "an introduction tells no way");
}

fn acknowledged(flow: &mut Flow, input: &mut Input<'_>, stateless: bool, now: &Now) {
    let before = *flow;
    let cookie = input.few();
    // Where groups are stateless nobody vouches for what was let in but bouncers.
    let (peer, as_reply) = (peer(input), input.flag() && !stateless);
    let taken = flow::acknowledged(flow, cookie, &peer, as_reply, now);
    if cookie != before.cookie {
        assert!(!taken, "another's cookie");
    }
    if taken {
        assert!(flow::is_established(flow) || flow::is_unidentified(flow), "{flow:?} is acknowledged");
    } else {
        assert_eq!(*flow, before, "what is not taken changes nothing");
    }
}

fn closes(flow: &mut Flow, ours: bool) {
    let (before, init) = (*flow, if ours { flow_flag::I_INIT } else { flow_flag::R_INIT });
    let other = (flow_flag::I_INIT | flow_flag::R_INIT) & !init;
    let goes_on = flow::closes(flow, init);
    assert_eq!(goes_on, before.flags & other != 0, "{before:?} goes on by its other side alone");
    assert_eq!(flow.flags & init, if goes_on { 0 } else { before.flags & init }, "{before:?}");
}

/// Asked, answered, closed; and asked by the other side.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0, 0, 0, 9, 0, 0, 1, 1, 2, 5, 2, 1, 0, 0, 0, 0, 0, 2, 1, 1, 2, 1, 0, 8],
        vec![0, 0, 0, 9, 1, 1, 1, 0, 4, 2, 1, 3, 1, 0, 0, 0, 0, 6, 3, 4, 4, 1, 0, 1, 0, 0, 0, 0, 7, 1],
    ]
}
