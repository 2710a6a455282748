//! Who is signed in. Sessions live in this process only: the browser holds a random name for one, and
//! neither the token nor the password. A restart ends them all, and the next page says so.
//!
//! A session is for one project. Choosing another makes a new session, with a new name: a form of the
//! old one, left open in another window, is refused instead of acting in the wrong project.

use crate::api::Grant;
use chrono::Utc;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Semaphore, watch};

/// So many may be signed in at once; who comes after that takes the place of whose session ends first.
const SESSIONS: usize = 10_000;

/// So many sessions may a user have; another takes the place of the one of the same user that ends first.
/// So nobody can sign others out by signing in often.
const OF_USER: usize = 32;

/// So many pages of a user follow changes at once.
const STREAMS: usize = 32;

/// Sentences of a session that wait for their pages; those of pages that never come are pushed out.
const NOTICES: usize = 16;

/// Bytes of a secret.
const SECRET: usize = 32;

/// What a session's name and its forms are guarded by.
#[derive(Clone)]
pub struct Secret([u8; SECRET]);

impl Secret {
    /// A new one.
    pub fn draw() -> Self {
        Self(rand::random())
    }

    /// As text.
    pub fn text(&self) -> String {
        hex(&self.0)
    }

    /// As text that is another each time, so that compressed pages do not give it away bit by bit
    /// (BREACH): a random pad, and the secret under it.
    pub fn masked(&self) -> String {
        let pad: [u8; SECRET] = rand::random();
        let mut under = self.0;
        under.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
        hex(&pad) + &hex(&under)
    }

    /// Whether `text` is this secret, masked. Takes the same time whatever it is.
    pub fn is_masked_as(&self, text: &str) -> bool {
        let Some(bytes) = unhex::<{ SECRET * 2 }>(text) else { return false };
        let (pad, under) = bytes.split_at(SECRET);
        let differences =
            pad.iter().zip(under).zip(self.0).fold(0, |all, ((pad, under), own)| all | (pad ^ under ^ own));
        differences == 0
    }

    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// A sentence for the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What is read.
    pub sentence: String,
    /// It says what was not done.
    pub refuses: bool,
}

/// Somebody who is signed in.
pub struct Session {
    /// The token, and what it is for.
    pub grant: Grant,
    /// What a form must bring.
    pub csrf: Secret,
    /// Pages of the user that may follow changes now: all sessions of a user share these.
    pub streams: Arc<Semaphore>,
    closed: watch::Sender<bool>,
    /// By the page that they are for.
    notices: Mutex<Vec<(String, Notice)>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("grant", &self.grant).finish_non_exhaustive()
    }
}

impl Session {
    /// A session by a grant.
    pub fn new(grant: Grant) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS));
        Self { grant, csrf: Secret::draw(), streams, closed: watch::Sender::new(false), notices: Mutex::default() }
    }

    /// Whether it was not closed, and its token still counts, by the clock.
    pub fn is_live(&self) -> bool {
        !*self.closed.borrow() && Utc::now() < self.grant.expires_at
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is this session's own, so it is not gone before.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Whether the user is an administrator here.
    pub fn is_admin(&self) -> bool {
        self.grant.roles.iter().any(|role| role == "admin")
    }

    /// Whether the user may change anything here.
    pub fn may_write(&self) -> bool {
        self.grant.roles.iter().any(|role| matches!(role.as_str(), "admin" | "manager" | "member" | "service"))
    }

    /// Leaves a sentence for the page at `path`, in place of the one that it has not shown yet. Other pages,
    /// of other windows, do not take it.
    pub fn notify(&self, path: &str, notice: Notice) {
        let mut notices = lock(&self.notices);
        notices.retain(|(own, _)| own != path);
        if notices.len() >= NOTICES {
            notices.remove(0);
        }
        notices.push((path.to_owned(), notice));
    }

    /// The sentence that was left for the page at `path`, once.
    pub fn take_notice(&self, path: &str) -> Option<Notice> {
        let mut notices = lock(&self.notices);
        let at = notices.iter().position(|(own, _)| own == path)?;
        Some(notices.remove(at).1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Everybody who is signed in. Names are kept as digests: a copy of this memory opens no session.
#[derive(Debug, Default)]
pub struct Sessions {
    by_name: Mutex<ByName>,
}

type ByName = HashMap<[u8; 32], Arc<Session>>;

fn ends_first<'s>(sessions: impl IntoIterator<Item = (&'s [u8; 32], &'s Arc<Session>)>) -> Option<[u8; 32]> {
    sessions.into_iter().min_by_key(|(_, session)| session.grant.expires_at).map(|(name, _)| *name)
}

/// Takes one away; pages that follow changes by it end.
fn remove(sessions: &mut ByName, name: &[u8; 32]) {
    if let Some(session) = sessions.remove(name) {
        session.closed.send_replace(true);
    }
}

fn digest(name: &Secret) -> [u8; 32] {
    Sha256::digest(name.0).into()
}

impl Sessions {
    /// Keeps a session; its name is for the browser alone.
    pub fn open(&self, mut session: Session) -> Secret {
        let name = Secret::draw();
        let mut sessions = lock(&self.by_name);
        sessions.retain(|_, session| session.is_live());
        let user = &session.grant.user.id;
        let own: Vec<_> = sessions.iter().filter(|(_, other)| other.grant.user.id == *user).collect();
        let streams = own.first().map(|(_, other)| Arc::clone(&other.streams));
        let first = if own.len() >= OF_USER {
            ends_first(own)
        } else if sessions.len() >= SESSIONS {
            ends_first(sessions.iter())
        } else {
            None
        };
        if let Some(first) = first {
            remove(&mut sessions, &first);
        }
        if let Some(streams) = streams {
            session.streams = streams;
        }
        sessions.insert(digest(&name), Arc::new(session));
        name
    }

    /// The session of that name, if it lives.
    pub fn find(&self, name: &str) -> Option<Arc<Session>> {
        let session = lock(&self.by_name).get(&digest(&Secret::parse(name)?)).cloned()?;
        session.is_live().then_some(session)
    }

    /// Forgets a session.
    pub fn close(&self, name: &str) {
        if let Some(name) = Secret::parse(name) {
            remove(&mut lock(&self.by_name), &digest(&name));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::Named;
    use chrono::TimeDelta;
    use futures::FutureExt as _;

    pub(crate) fn grant(roles: &[&str], seconds: i64) -> Grant {
        let named = |name: &str| Named { id: format!("{name}-id"), name: name.to_owned() };
        Grant {
            token: "token".into(),
            user: named("ann"),
            project: Some(named("red")),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            expires_at: Utc::now() + TimeDelta::seconds(seconds),
        }
    }

    #[test]
    fn a_session_is_found_by_its_name_until_it_is_closed() {
        let sessions = Sessions::default();
        let name = sessions.open(Session::new(grant(&["member"], 60))).text();
        assert_eq!(sessions.find(&name).expect("it is open").grant.user.name, "ann");
        for other in ["", "x", &name[1..], &Secret::draw().text(), &name.replace(&name[..2], "zz")] {
            assert!(sessions.find(other).is_none(), "{other}");
        }
        sessions.close(&name);
        assert!(sessions.find(&name).is_none());
    }

    #[test]
    fn a_session_ends_with_its_token() {
        let sessions = Sessions::default();
        let name = sessions.open(Session::new(grant(&["member"], 0))).text();
        assert!(sessions.find(&name).is_none());
        sessions.open(Session::new(grant(&["member"], 60)));
        assert_eq!(lock(&sessions.by_name).len(), 1, "what has ended is not kept");
    }

    fn of(user: &str, seconds: i64) -> Session {
        let named = Named { id: user.into(), name: user.into() };
        Session::new(Grant { user: named, ..grant(&["member"], seconds) })
    }

    #[test]
    fn who_signs_in_often_signs_out_nobody_else() {
        let sessions = Sessions::default();
        let other = sessions.open(of("bob", 60)).text();
        let first = sessions.open(of("ann", 300)).text();
        let soonest = sessions.open(of("ann", 200)).text();
        for _ in 2..=OF_USER {
            sessions.open(of("ann", 400));
        }
        assert_eq!(lock(&sessions.by_name).len(), OF_USER + 1);
        assert!(sessions.find(&soonest).is_none(), "the user's own that ends first makes room");
        assert!(sessions.find(&first).is_some() && sessions.find(&other).is_some());
    }

    #[tokio::test]
    async fn what_follows_a_session_ends_with_it() {
        let sessions = Sessions::default();
        let name = sessions.open(of("ann", 60)).text();
        let followed = sessions.find(&name).expect("it is open");
        assert!(followed.is_live());
        assert!(followed.closed().now_or_never().is_none());
        sessions.close(&name);
        assert!(!followed.is_live());
        followed.closed().now_or_never().expect("who waits is woken");
    }

    #[test]
    fn sessions_of_a_user_share_the_room_for_streams() {
        let sessions = Sessions::default();
        let session = |user| sessions.find(&sessions.open(of(user, 60)).text()).expect("it is open");
        let (one, two, other) = (session("ann"), session("ann"), session("bob"));
        assert!(Arc::ptr_eq(&one.streams, &two.streams));
        assert!(!Arc::ptr_eq(&one.streams, &other.streams));
    }

    #[test]
    fn a_masked_secret_is_another_text_each_time_and_is_known_again() {
        let secret = Secret::draw();
        let (first, second) = (secret.masked(), secret.masked());
        assert_ne!(first, second);
        assert!(secret.is_masked_as(&first) && secret.is_masked_as(&second));
        let wrong = [Secret::draw().masked(), secret.text(), String::new(), first[2..].to_owned(), first + "00"];
        assert!(wrong.iter().all(|text| !secret.is_masked_as(text)));
    }

    #[test]
    fn roles_say_what_is_offered() {
        let of = |roles| {
            let session = Session::new(grant(roles, 60));
            (session.is_admin(), session.may_write())
        };
        assert_eq!(of(&["admin"]), (true, true));
        assert_eq!(of(&["member", "reader"]), (false, true));
        assert_eq!(of(&["reader"]), (false, false));
        assert_eq!(of(&[]), (false, false));
    }

    #[test]
    fn a_notice_is_shown_once_by_the_page_that_it_is_for() {
        let session = Session::new(grant(&[], 60));
        let notice = |sentence: &str| Notice { sentence: sentence.into(), refuses: false };
        session.notify("/ports", notice("old"));
        session.notify("/ports", notice("done"));
        session.notify("/networks", notice("other"));
        assert_eq!(session.take_notice("/"), None);
        assert_eq!((session.take_notice("/ports"), session.take_notice("/ports")), (Some(notice("done")), None));
        for number in 0..NOTICES {
            session.notify(&number.to_string(), notice("x"));
        }
        assert_eq!(session.take_notice("/networks"), None, "what nobody looks at is not kept for ever");
    }

    #[test]
    fn nothing_that_is_logged_holds_a_token() {
        assert!(!format!("{:?}", Session::new(grant(&[], 60))).contains("token\""));
    }
}
