//! What somebody has chosen for this browser. It is kept in a cookie of its own: it is the browser's and not
//! the account's, it outlives sessions, and it holds no secret.

/// Name of the cookie.
pub const COOKIE: &str = "mizar-preferences";

/// Words of the cookie; what is not there is as usual.
const STILL: &str = "still";
const NO_SLASH: &str = "no-slash";

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// Pages follow changes. Text that changes by itself makes reading hard for some (WCAG 2.2.2).
    pub follows: bool,
    /// `/` goes to the search. Who speaks to the computer may not want keys of one letter (WCAG 2.1.4).
    pub slash: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { follows: true, slash: true }
    }
}

impl Preferences {
    /// Reads the cookie; words of other versions are passed over.
    pub fn parse(text: &str) -> Self {
        let has = |word: &str| text.split('.').any(|own| own == word);
        Self { follows: !has(STILL), slash: !has(NO_SLASH) }
    }

    /// The text of the cookie.
    pub fn text(self) -> String {
        let words = [(STILL, self.follows), (NO_SLASH, self.slash)];
        words.into_iter().filter(|(_, usual)| !usual).map(|(word, _)| word).collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_read_again() {
        for follows in [true, false] {
            for slash in [true, false] {
                let chosen = Preferences { follows, slash };
                assert_eq!(Preferences::parse(&chosen.text()), chosen);
            }
        }
        for other in ["", "x", "stillness.no", "..", "\u{1f600}"] {
            assert_eq!(Preferences::parse(other), Preferences::default(), "{other}");
        }
    }
}
