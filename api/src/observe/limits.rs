//! How much one caller may ask for.
//!
//! A token bucket per project for everything that carries a token, one per address for logins that
//! failed, one per address for tokens that nobody knows where another service is asked about them, and one
//! per user for the tokens it gets. All as GCRA (ITU-T I.371): one instant per key, the time at which its bucket is
//! full again, so a bucket costs 40 bytes and nothing has to fill it. A replica counts by itself:
//! behind a balancer a project may have the rate once per replica, and no request waits for a
//! counter that others share.
//!
//! Logins that succeed, and tokens that are known, give their share back: a cloud's services all log in from one address,
//! while whoever guesses passwords mostly fails. For a token who makes us ask pays ([`Toll`]), and not who waits for
//! the same answer. IPv6 addresses count by /64, which is what one
//! customer of a provider has.
//!
//! Buckets that are full again are forgotten when the table is full; if none is, its newcomers
//! share one bucket. So the tables never grow beyond [`KEYS`], whatever addresses are forged.

use actix_web::HttpRequest;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What is allowed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that a project may make in a second, for long; 0: any number.
    pub project_per_s: u32,
    /// Logins that may fail in a minute from one address; 0: any number.
    pub failed_logins_per_min: u32,
    /// Tokens that a Keystone does not know, in a minute from one address; 0: any number.
    pub unknown_tokens_per_min: u32,
    /// Tokens that a user may get in a minute; 0: any number.
    pub tokens_per_min: u32,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            project_per_s: 2_000,
            failed_logins_per_min: 60,
            unknown_tokens_per_min: 300,
            tokens_per_min: 600,
            body_bytes: 1 << 20,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Buckets of one table.
const KEYS: usize = 65_536;

/// Seconds' worth of requests that a project may make at once.
const PROJECT_BURST_S: u32 = 5;

/// Buckets that leak at one rate, one for each key.
struct Buckets<K> {
    /// Between two requests at the allowed rate; `None`: no limit.
    period: Option<Duration>,
    /// How far ahead of time a bucket may be.
    burst: Duration,
    /// When each bucket is full again; a missing one is full. `None` = what no room was left for.
    full_at: Mutex<HashMap<Option<K>, Instant>>,
    keys: usize,
}

impl<K: Hash + Eq> Buckets<K> {
    fn new(rate: u32, per: Duration, burst: u32, keys: usize) -> Self {
        let period = (rate > 0).then(|| per / rate);
        let burst = period.unwrap_or_default() * burst.max(1);
        Self { period, burst, full_at: Mutex::new(HashMap::new()), keys }
    }

    /// Takes one token; if there is none, says when there is.
    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let Some(period) = self.period else { return Ok(()) };
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Some(key);
        if full_at.len() >= self.keys && !full_at.contains_key(&key) {
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= self.keys {
                key = None;
            }
        }
        let at = full_at.entry(key).or_insert(now);
        let next = (*at).max(now) + period;
        match next.checked_duration_since(now + self.burst) {
            Some(early) if !early.is_zero() => Err(early),
            _ => {
                *at = next;
                Ok(())
            }
        }
    }

    /// Gives a token back.
    fn give_back(&self, key: K) {
        let Some(period) = self.period else { return };
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Some(key);
        let place = if full_at.contains_key(&key) { key } else { None };
        if let Some(at) = full_at.get_mut(&place) {
            *at = at.checked_sub(period).unwrap_or(*at);
        }
    }
}

/// What it costs somebody to make us ask another service about a token.
#[derive(Clone)]
pub struct Toll {
    buckets: Arc<Buckets<IpAddr>>,
    from: Option<IpAddr>,
}

impl Toll {
    /// Pays ahead, or says when to come again.
    pub fn pay(&self) -> Result<Paid, Duration> {
        if let Some(from) = self.from {
            self.buckets.take(from, Instant::now())?;
        }
        Ok(Paid { toll: self.clone(), kept: false })
    }
}

/// What was paid for a question; given back with this value, whatever becomes of the question.
pub struct Paid {
    toll: Toll,
    kept: bool,
}

impl Paid {
    /// The token is nobody's.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        if let Some(from) = self.toll.from.filter(|_| !self.kept) {
            self.toll.buckets.give_back(from);
        }
    }
}

/// The tables of a server.
pub struct Limiter {
    projects: Buckets<Uuid>,
    logins: Buckets<IpAddr>,
    unknown: Arc<Buckets<IpAddr>>,
    tokens: Buckets<Uuid>,
    trusted_proxies: Vec<IpAddr>,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("trusted_proxies", &self.trusted_proxies).finish_non_exhaustive()
    }
}

impl Limiter {
    /// With all buckets full.
    pub fn new(limits: &Limits) -> Self {
        let per_s = limits.project_per_s;
        let (failures, unknown) = (limits.failed_logins_per_min, limits.unknown_tokens_per_min);
        Self {
            projects: Buckets::new(per_s, Duration::from_secs(1), per_s.saturating_mul(PROJECT_BURST_S), KEYS),
            logins: Buckets::new(failures, Duration::from_secs(60), failures, KEYS),
            unknown: Arc::new(Buckets::new(unknown, Duration::from_secs(60), unknown, KEYS)),
            tokens: Buckets::new(limits.tokens_per_min, Duration::from_secs(60), limits.tokens_per_min, KEYS),
            trusted_proxies: limits.trusted_proxies.clone(),
        }
    }

    /// One request of a project, or when to come again.
    pub fn project(&self, project: Uuid) -> Result<(), Duration> {
        self.projects.take(project, Instant::now())
    }

    /// A token for a user, or when to come again.
    pub fn token(&self, user: Uuid) -> Result<(), Duration> {
        self.tokens.take(user, Instant::now())
    }

    /// A login that may fail, or when to come again.
    pub fn login(&self, from: IpAddr) -> Result<(), Duration> {
        self.logins.take(from, Instant::now())
    }

    /// It did not fail.
    pub fn login_succeeded(&self, from: IpAddr) {
        self.logins.give_back(from);
    }

    /// What it costs to send a token that nobody may know.
    pub fn toll(&self, request: &HttpRequest) -> Toll {
        Toll { buckets: Arc::clone(&self.unknown), from: self.address(request) }
    }

    /// Whose address counts: the peer's, or, if that is a proxy of ours, what the proxy says.
    /// `None` where there is no peer (tests without a socket).
    pub fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = canonical(request.peer_addr()?.ip());
        if !self.trusted_proxies.contains(&peer) {
            return Some(block(peer));
        }
        // Each proxy appends whom it saw; the last that is no proxy of ours is the client.
        let forwarded = request.headers().get_all("X-Forwarded-For").filter_map(|value| value.to_str().ok());
        // What no proxy of ours can have written says nothing, nor does anything left of it.
        let seen: Vec<Option<IpAddr>> = forwarded.flat_map(|list| list.split(',')).map(forwarded_address).collect();
        let client = seen.into_iter().rev().find(|seen| seen.is_none_or(|it| !self.trusted_proxies.contains(&it)));
        Some(block(client.flatten().unwrap_or(peer)))
    }
}

/// An entry of `X-Forwarded-For`; some proxies write the port too.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(canonical)
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The /64 of an IPv6 address.
fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_allows_its_burst_then_its_rate() {
        let buckets = Buckets::new(10, SECOND, 5, 100);
        let start = Instant::now();
        for _ in 0..5 {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        let wait = buckets.take("a", start).expect_err("the burst is used up");
        assert_eq!(wait, SECOND / 10);
        assert_eq!(buckets.take("b", start), Ok(()), "another key has its own");
        assert_eq!(buckets.take("a", start + wait), Ok(()));
        assert!(buckets.take("a", start + wait).is_err());
        let later = start + 60 * SECOND;
        let taken = (0..10).filter(|_| buckets.take("a", later).is_ok()).count();
        assert_eq!(taken, 5, "rest does not add to the burst");
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let buckets = Buckets::new(1, SECOND, 2, 100);
        let now = Instant::now();
        for _ in 0..20 {
            assert_eq!(buckets.take("a", now), Ok(()));
            buckets.give_back("a");
        }
    }

    #[test]
    fn what_was_paid_for_a_question_is_kept_only_if_the_token_is_nobodys() {
        let limiter = Limiter::new(&Limits { unknown_tokens_per_min: 2, ..Limits::default() });
        let request = TestRequest::default().peer_addr("192.0.2.9:1".parse().expect("an address")).to_http_request();
        let toll = limiter.toll(&request);
        for _ in 0..20 {
            drop(toll.pay().expect("given back"));
        }
        toll.pay().expect("the first").keep();
        toll.pay().expect("the second").keep();
        assert!(toll.pay().is_err());
    }

    #[test]
    fn a_rate_of_zero_limits_nothing() {
        let buckets = Buckets::new(0, SECOND, 1, 1);
        assert!((0..1000).all(|_| buckets.take(1, Instant::now()).is_ok()));
    }

    #[test]
    fn however_many_keys_come_the_table_stays_bounded_and_old_ones_keep_their_bucket() {
        let buckets = Buckets::new(1, SECOND, 1, 8);
        let now = Instant::now();
        for key in 0..1000 {
            let _ = buckets.take(key, now);
        }
        assert!(buckets.full_at.lock().expect("unpoisoned").len() <= 9);
        assert!(buckets.take(0, now).is_err(), "the first keys are still remembered");
        assert!(buckets.take(5000, now).is_err(), "newcomers share a bucket that is empty");
        assert!(buckets.take(5000, now + 2 * SECOND).is_ok(), "full buckets make room");
    }

    #[test]
    fn a_proxy_of_ours_is_believed_and_nobody_else() {
        let limits = Limits { trusted_proxies: vec!["192.0.2.1".parse().expect("an address")], ..Limits::default() };
        let limiter = Limiter::new(&limits);
        let address = |peer: &str, forwarded: &str| {
            let request = TestRequest::default().peer_addr(format!("{peer}:1").parse().expect("an address"));
            let request = request.insert_header(("X-Forwarded-For", forwarded)).to_http_request();
            limiter.address(&request).expect("a peer").to_string()
        };
        assert_eq!(address("192.0.2.9", "10.0.0.1"), "192.0.2.9");
        assert_eq!(address("192.0.2.1", "10.0.0.1, 198.51.100.7"), "198.51.100.7");
        assert_eq!(address("192.0.2.1", "198.51.100.7, 192.0.2.1"), "198.51.100.7");
        assert_eq!(address("192.0.2.1", "nonsense"), "192.0.2.1");
        assert_eq!(address("192.0.2.1", "10.0.0.1, 198.51.100.7:5044"), "198.51.100.7");
        assert_eq!(address("192.0.2.1", "10.0.0.1, [2001:db8:1:2::7]:5044"), "2001:db8:1:2::");
        assert_eq!(address("192.0.2.1", "10.0.0.1, unknown"), "192.0.2.1", "what stands left of it is anybody's");
        assert_eq!(address("[2001:db8:1:2:3:4:5:6]", ""), "2001:db8:1:2::");
        assert_eq!(address("[::ffff:192.0.2.9]", ""), "192.0.2.9");
    }
}
