//! Questions to a host: what it sees of a port, where it would send a packet, which flows there are.
//!
//! What nobody keeps in a database because only one host knows it, and only now, is asked of that host when somebody
//! wants to know. Agents open no port for that: they fetch questions by a long poll of their own, beside the one
//! for desired state, on the same listener with the same certificates:
//! - `POST /agent/v1/hosts/{name}/questions`: [`Poll`] -> [`Questions`]
//!
//! A poll carries the answers to what earlier polls brought. A question is repeated until it is answered or its time
//! is over, so a lost answer costs a round, and a question may be read twice: all of them only look, but [`Question::Watch`],
//! which is named and acts once.
//!
//! Questions and answers travel as JSON values, because a host may be older or younger than the API: what an agent does not
//! understand it refuses by its id, and goes on; so what is new here needs no new version of the protocol.

use crate::live::{self, PASSED, Passed, WAIT_MS};
use crate::log::{Logged, READ};
use crate::trace::{self, RULES};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::net::IpAddr;
use uuid::Uuid;

/// Longest wait of a poll, seconds.
pub const WAIT_S: u32 = 30;
/// Questions that one poll brings at most, and answers that one carries.
pub const BATCH: usize = 16;
/// Bytes of an answer as JSON.
pub const ANSWER: usize = 256 << 10;
/// Ports that one question may name.
pub const PORTS: usize = 100;
/// Maps that one answer may name.
pub const MAPS: usize = 64;
/// Characters of a map's name.
pub const MAP: usize = 32;
/// Characters of a text in an answer; none of them steers a terminal.
pub const TEXT: usize = 300;

/// A long poll for questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// [`crate::sync::PROTOCOL`].
    pub protocol: u32,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Seconds to wait for a question, at most [`WAIT_S`].
    pub wait_s: u32,
    /// Answers to questions of earlier polls.
    pub answers: Vec<Answered>,
}

/// The answer to a [`Poll`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Questions {
    /// Questions to this host that nobody has answered, the oldest first.
    pub questions: Vec<Asked>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Names it.
    pub id: Uuid,
    /// Milliseconds after which nobody waits for the answer any more.
    pub within_ms: u32,
    /// A [`Question`].
    pub question: Value,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The question's.
    pub id: Uuid,
    /// An [`Answer`].
    pub answer: Value,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// What the host dropped of these ports, by number; of none named: of all, the most first.
    Drops {
        /// At most [`PORTS`].
        ports: Vec<u32>,
    },
    /// What it would do with a packet.
    Trace(trace::Question),
    /// The flows that these ports have now.
    Flows {
        /// By number, at least one and at most [`PORTS`].
        ports: Vec<u32>,
    },
    /// What the host's flow log has of these ports.
    FlowLog {
        /// By number, at least one and at most [`PORTS`].
        ports: Vec<u32>,
        /// Only what ended, or was written, at this moment or later: milliseconds of Unix time.
        since_ms: Option<i64>,
        /// So many records at most, from 1 to [`READ`].
        limit: u32,
    },
    /// How full the maps of its programs are.
    Maps {},
    /// To mark one packet, and what the host did with it; the same question as often as one likes.
    Watch(live::Watch),
    /// What it did with a packet that bears a mark.
    Followed(live::Followed),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Question::Drops`].
    Drops(Vec<Dropped>),
    /// To [`Question::Trace`].
    Trace(trace::Answer),
    /// To [`Question::Flows`].
    Flows(Flows),
    /// To [`Question::FlowLog`].
    FlowLog(FlowLog),
    /// To [`Question::Maps`].
    Maps(Vec<Fill>),
    /// To [`Question::Watch`]: nothing until the packet has come.
    Watch(Option<Passed>),
    /// To [`Question::Followed`]: each time that it came by within the last minute, the oldest first.
    Followed(Vec<Passed>),
    /// There is none.
    Refused {
        /// Why, for people.
        reason: String,
        /// Why, for programs. Of questions that do more than look; hosts that are older do not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Cause>,
    },
}

/// Why a host does not do what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It does the like for the same port already.
    Conflict,
    /// It does the like as often as it may for one owner.
    Limit,
    /// It does the like as often as it may at all.
    Busy,
    /// What it is about is not here.
    Absent,
    /// It tried, and could not.
    Failed,
}

/// Records of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowLog {
    /// The youngest come first.
    pub records: Vec<Logged>,
    /// How many more there are, which the answer does not hold.
    pub left_out: u64,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// Name of the map: capital letters, digits and underscores, at most [`MAP`] of them.
    pub map: String,
    /// Entries that it has.
    pub entries: u32,
    /// How many there is room for; at least as many.
    pub most: u32,
}

impl Fill {
    /// A share can be made of it, and its name be read.
    fn fits(&self) -> bool {
        let Self { map, entries, most } = self;
        let of_names = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=MAP).contains(&map.len()) && map.bytes().all(of_names) && *most > 0 && entries <= most
    }
}

/// Packets of one port that were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropped {
    /// Number of the port; 0: of none that is known.
    pub port: u32,
    /// Name of the reason, which never changes its meaning.
    pub reason: String,
    /// What it means, for people.
    pub about: String,
    /// How many, since the host's tables were made.
    pub packets: u64,
    /// Bytes of them, with Ethernet headers.
    pub bytes: u64,
    /// The last ones: one of each processor, the youngest first.
    pub samples: Vec<Sample>,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When, by the host's clock: milliseconds of Unix time.
    pub at_ms: i64,
    /// Its headers, if they were read before it was dropped.
    pub packet: Option<Headers>,
}

/// What tells a packet apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// Source port; 0 where the protocol has none. Of ICMP both are made of the id.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
}

/// Flows of ports of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// Those that a packet passed last come first.
    pub flows: Vec<Flow>,
    /// How many more there are, which the answer does not hold.
    pub left_out: u64,
}

/// A flow as the host of one of its ends has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Number of the port.
    pub port: u32,
    /// The port's address.
    pub local: IpAddr,
    /// The other side's.
    pub remote: IpAddr,
    /// IP protocol.
    pub protocol: u8,
    /// The port's own port; of protocols without ports, 0. Of ICMP both are made of the id.
    pub local_port: u16,
    /// That of the other side.
    pub remote_port: u16,
    /// How far it is.
    pub state: FlowState,
    /// If the port opened it: what egress rules judge, the destination port, or type and code of an ICMP message
    /// as upper and lower byte.
    pub egress: Option<u16>,
    /// If the other side opened it: what ingress rules judge. Both may have.
    pub ingress: Option<u16>,
    /// Number of the set of groups that the other side showed; 0: of none, or not known.
    pub peer: u32,
    /// Seconds since its last packet.
    pub idle_s: u32,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// The port asked for the way, and was not answered yet.
    Requested,
    /// The other side was let in, and has not been answered directly yet.
    Admitted,
    /// Packets go straight from host to host.
    Established,
    /// Both sides have finished, or one has broken it off.
    Closing,
    /// It was refused less than a second ago.
    Denied,
}

impl FlowState {
    /// All, in the order of a flow's life.
    pub const ALL: [Self; 5] = [Self::Requested, Self::Admitted, Self::Established, Self::Closing, Self::Denied];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Admitted => "admitted",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Denied => "denied",
        }
    }
}

/// Why a question or an answer was not understood.
#[derive(Debug, thiserror::Error)]
pub enum NotUnderstood {
    /// It is nothing that this version knows.
    #[error("this version does not understand it")]
    Unknown(#[from] serde_json::Error),
    /// It is longer than it may be.
    #[error("{0} is longer than it may be")]
    Long(&'static str),
    /// It names nothing.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// It is longer than it may be, or not for people.
    #[error("a text is longer than it may be, or has characters that are not to be read")]
    Text,
}

/// What would steer the terminal on which a text is read, or turn its direction.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, NotUnderstood> {
    Ok(serde_json::from_value(value)?)
}

impl Question {
    /// As it travels.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("structs of numbers, strings and addresses always serialize")
    }

    /// Decodes one, strictly.
    pub fn from_value(value: Value) -> Result<Self, NotUnderstood> {
        let question: Self = read(value)?;
        match &question {
            Self::Drops { ports } | Self::Flows { ports } | Self::FlowLog { ports, .. } if ports.len() > PORTS => {
                Err(NotUnderstood::Long("the list of ports"))
            }
            Self::Flows { ports } | Self::FlowLog { ports, .. } if ports.is_empty() => {
                Err(NotUnderstood::Empty("the list of ports"))
            }
            Self::FlowLog { limit, .. } if *limit > READ => Err(NotUnderstood::Long("the list of records")),
            Self::FlowLog { limit: 0, .. } => Err(NotUnderstood::Empty("the list of records")),
            Self::Watch(watch) if watch.within_ms > WAIT_MS => Err(NotUnderstood::Long("the time to wait for")),
            Self::Drops { .. } | Self::Flows { .. } | Self::FlowLog { .. } => Ok(question),
            Self::Trace(_) | Self::Maps {} | Self::Watch(_) | Self::Followed(_) => Ok(question),
        }
    }
}

impl Answer {
    /// As it travels.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("structs of numbers, strings and addresses always serialize")
    }

    /// There is none, because of this; an error may quote anything, and be of any length.
    pub fn refused(reason: &str) -> Self {
        let readable = |c| if steers(c) { ' ' } else { c };
        Self::Refused { reason: reason.chars().take(TEXT).map(readable).collect(), cause: None }
    }

    /// The same, for a cause that programs know.
    pub fn refused_for(cause: Cause, reason: &str) -> Self {
        match Self::refused(reason) {
            Self::Refused { reason, .. } => Self::Refused { reason, cause: Some(cause) },
            other => other,
        }
    }

    /// Decodes one, strictly: an agent that was broken into must not fill the answers of the API, nor write to
    /// the terminals of those who read them.
    pub fn from_value(value: Value) -> Result<Self, NotUnderstood> {
        let answer: Self = read(value)?;
        let short = |text: &String| text.chars().count() <= TEXT && !text.contains(steers);
        let fits = match &answer {
            Self::Drops(drops) => drops.iter().all(|one| short(&one.reason) && short(&one.about)),
            Self::Trace(answer) => answer.fits(short),
            // It holds no text.
            Self::Flows(_) => true,
            Self::FlowLog(log) => {
                log.records.len() <= READ as usize
                    && log.records.iter().all(|one| {
                        one.reason.as_ref().is_none_or(short) && one.rules.as_ref().is_none_or(|r| r.len() <= RULES)
                    })
            }
            Self::Maps(maps) => maps.len() <= MAPS && maps.iter().all(Fill::fits),
            Self::Watch(passed) => passed.iter().all(|one| one.fits(short)),
            Self::Followed(passed) => passed.len() <= PASSED && passed.iter().all(|one| one.fits(short)),
            Self::Refused { reason, cause: _ } => short(reason),
        };
        if fits { Ok(answer) } else { Err(NotUnderstood::Text) }
    }
}
