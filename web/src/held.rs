//! What a page holds when it is made: its stream need not bring that again.
//!
//! The page's own address of the stream says it: when the page was made, and the digest of each of its parts. It is
//! believed for a moment only. Later the page may have been renewed by other means, or be one that the browser had kept.

use crate::api::Query;
use crate::page::Fragment;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// For so long: less than until a page first asks by itself (`POLL_MS` in `static/app.js`).
const FRESH_MS: i64 = 4_000;

/// When it was made, milliseconds of Unix time.
const MADE: &str = "made";

/// A part of it.
const HAS: &str = "has";

/// What tells a part's HTML from any other.
pub type Digest = [u8; 32];

/// The digest of a part.
pub fn digest(html: &str) -> Digest {
    Sha256::digest(html.as_bytes()).into()
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the address of the stream says, of a page that is made now of these parts.
pub fn said<'f>(parts: impl IntoIterator<Item = &'f Fragment>, now_ms: i64) -> Query {
    let parts = parts.into_iter().map(|part| format!("{}.{}", hex(&digest(&part.html)), part.id));
    Query::new().with(MADE, now_ms).with_each(HAS, parts)
}

/// The parts that whoever asks with this query has, by their ids.
pub fn parts(query: &Query, now_ms: i64) -> HashMap<String, Digest> {
    let made = query.get(MADE).and_then(|made| made.parse::<i64>().ok());
    if !made.is_some_and(|made| (0..FRESH_MS).contains(&now_ms.saturating_sub(made))) {
        return HashMap::new();
    }
    query.all(HAS).filter_map(part).collect()
}

fn part(text: &str) -> Option<(String, Digest)> {
    let (hex, id) = text.split_once('.')?;
    let mut digest = Digest::default();
    if hex.len() != 2 * digest.len() || !hex.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..hex.len()).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some((id.to_owned(), digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(id: &str) -> Fragment {
        Fragment { id: id.into(), html: format!("<p>{id}</p>") }
    }

    #[test]
    fn a_page_holds_its_parts_for_a_moment() {
        let all = [fragment("facts"), fragment("part-ports")];
        let query = Query::parse(&said(&all, 10_000).after("").replace('?', ""));
        let held = parts(&query, 10_000 + FRESH_MS - 1);
        assert_eq!(held.len(), 2);
        assert_eq!(held.get("part-ports"), Some(&digest("<p>part-ports</p>")));
        for late in [10_000 + FRESH_MS, 9_999, i64::MIN] {
            assert!(parts(&query, late).is_empty(), "{late}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_held() {
        let long = "0".repeat(64);
        for text in ["", "has=x", "has=.facts", &format!("has={long}"), &format!("has={}ö.facts", "0".repeat(62))] {
            assert!(parts(&Query::parse(&format!("made=5&{text}")), 5).is_empty(), "{text}");
        }
        assert!(parts(&Query::parse(&format!("made=soon&has={long}.facts")), 5).is_empty());
    }
}
