//! A cursor is a PostgreSQL snapshot: the set of transactions that its holder has seen.

use std::fmt;
use std::str::FromStr;

/// A `pg_snapshot`: transactions below `xmin` are seen, those from `xmax` on are not, and of
/// those between all but the ones that were running.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    xmin: i64,
    xmax: i64,
    /// Sorted.
    running: Vec<i64>,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is 'xmin:xmax:xip,...' with rising numbers from xmin to below xmax")]
pub struct CursorError;

/// More than any server's `max_connections`: what is longer was not made by one.
const MOST_RUNNING: usize = 10_000;

impl Cursor {
    /// The first transaction that may not be seen. A cursor is stale once tombstones from here on
    /// have been collected.
    pub fn xmin(&self) -> i64 {
        self.xmin
    }

    /// The first transaction that had not begun.
    pub fn xmax(&self) -> i64 {
        self.xmax
    }

    /// Transactions below `xmax` that were running, in order.
    pub fn running(&self) -> &[i64] {
        &self.running
    }

    /// Whether what the transaction wrote is known to the holder. A row whose `xid` is not seen
    /// is new to it.
    pub fn sees(&self, xid: i64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// Whether everything that `other` sees is seen by this one too. Of two snapshots of one
    /// primary this holds one way or the other.
    pub fn covers(&self, other: &Self) -> bool {
        // Not seen here: our running ones, and all from our xmax on. None may be seen there.
        let hidden = self.running.iter().all(|&xid| !other.sees(xid));
        hidden && (self.xmax >= other.xmax || other.sees_none_from(self.xmax))
    }

    /// Whether every transaction from `xid` to below `xmax` was running.
    fn sees_none_from(&self, xid: i64) -> bool {
        let from = self.running.partition_point(|&running| running < xid);
        xid >= self.xmin && (self.running.len() - from) as i64 == self.xmax - xid
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (n, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    /// Strict, as PostgreSQL's own input is: the text comes from agents and goes into a cast.
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(running), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CursorError);
        };
        let (xmin, xmax) = (number(xmin)?, number(xmax)?);
        let running = match running {
            "" => Vec::new(),
            list => list.split(',').take(MOST_RUNNING + 1).map(number).collect::<Result<Vec<_>, _>>()?,
        };
        let rising = running.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = running.first().is_none_or(|&xid| xid >= xmin) && running.last().is_none_or(|&xid| xid < xmax);
        if xmin < 1 || xmax < xmin || !rising || !inside || running.len() > MOST_RUNNING {
            return Err(CursorError);
        }
        Ok(Self { xmin, xmax, running })
    }
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Result<i64, CursorError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CursorError);
    }
    text.parse().map_err(|_| CursorError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(text: &str) -> Cursor {
        text.parse().expect("a cursor")
    }

    #[test]
    fn running_and_later_transactions_are_new() {
        let at = cursor("10:20:10,15");
        assert_eq!((9..=20).filter(|&xid| at.sees(xid)).collect::<Vec<_>>(), [9, 11, 12, 13, 14, 16, 17, 18, 19]);
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in [
            "",
            "1:2",
            "1:2:3",
            "2:1:",
            "0:1:",
            "1:5:3,2",
            "1:5:2,2",
            "3:5:2",
            "+1:2:",
            "1:2:,",
            "1:2::",
            "a:b:",
            "1:99999999999999999999:",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(CursorError), "{text}");
        }
    }

    #[test]
    fn a_cursor_with_a_gap_that_was_running_covers_the_earlier_one() {
        assert!(cursor("8:8:").covers(&cursor("8:10:8,9")));
        assert!(!cursor("8:8:").covers(&cursor("8:10:8")));
    }

    fn any_cursor() -> impl Strategy<Value = Cursor> {
        (1i64..12, proptest::collection::btree_set(1i64..14, 0..6), 0i64..6).prop_map(|(xmin, running, more)| {
            let xmax = running.last().map_or(xmin, |&last| (last + 1).max(xmin)) + more;
            let running = running.into_iter().filter(|&xid| xid >= xmin).collect();
            Cursor { xmin, xmax, running }
        })
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_is_written(at in any_cursor()) {
            prop_assert_eq!(at.to_string().parse::<Cursor>(), Ok(at));
        }

        #[test]
        fn covering_is_seeing_all_that_the_other_sees(a in any_cursor(), b in any_cursor()) {
            let all = (0..30).all(|xid| a.sees(xid) || !b.sees(xid));
            prop_assert_eq!(a.covers(&b), all);
        }
    }
}
