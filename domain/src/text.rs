//! Texts that tenants write: names, descriptions, tags.

use std::fmt;

/// Why a text is refused. `Display` is Neutron's wording of the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Too many characters.
    #[error("'{text}' exceeds maximum length of {max}.")]
    TooLong {
        /// What was given.
        text: String,
        /// Characters allowed.
        max: usize,
    },
    /// Where something must stand.
    #[error("'' Blank strings are not permitted")]
    Blank,
    /// PostgreSQL cannot store it, and no tenant needs it.
    #[error("a text may not contain the character NUL")]
    Nul,
}

/// A text of at most `MAX` characters without NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize>(String);

/// A name or a description.
pub type Name = Text<255>;

impl<const MAX: usize> Text<MAX> {
    /// Checks and wraps.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        if text.contains('\0') {
            return Err(TextError::Nul);
        }
        if text.chars().count() > MAX {
            return Err(TextError::TooLong { text, max: MAX });
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A word that a tenant sticks to an object, to find it again. Not empty; no comma, because
/// filters separate tags by commas.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Tags that one object may carry. Neutron leaves them unbounded; a row should not be.
pub const TAGS_MAX: usize = 64;

/// Why a tag, or a set of tags, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Its text is.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A comma would make it impossible to filter by.
    #[error("'{0}' contains a comma, which separates tags in filters")]
    Comma(String),
    /// More than [`TAGS_MAX`].
    #[error("{0} tags exceed the maximum of {TAGS_MAX}")]
    TooMany(usize),
    /// Written twice in one request.
    #[error("Duplicate items in the list: '{0}'")]
    Duplicate(String),
}

impl Tag {
    /// Checks and wraps.
    pub fn new(text: impl Into<String>) -> Result<Self, TagError> {
        let text = Text::<255>::new(text)?.into_string();
        if text.is_empty() {
            return Err(TextError::Blank.into());
        }
        if text.contains(',') {
            return Err(TagError::Comma(text));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tags of an object: sorted, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<String>);

impl Tags {
    /// From a request, where a tag written twice is a mistake.
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Result<Self, TagError> {
        let mut all: Vec<String> = tags.into_iter().map(|tag| tag.0).collect();
        if all.len() > TAGS_MAX {
            return Err(TagError::TooMany(all.len()));
        }
        all.sort_unstable();
        match all.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(TagError::Duplicate(pair[0].clone())),
            None => Ok(Self(all)),
        }
    }

    /// As stored.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_characters_and_not_bytes() {
        assert!(Name::new("ü".repeat(255)).is_ok());
        assert!(matches!(Name::new("u".repeat(256)), Err(TextError::TooLong { max: 255, .. })));
        assert_eq!(Name::new("a\0b"), Err(TextError::Nul));
    }

    #[test]
    fn tags_are_sorted_and_refused_when_double_empty_or_with_a_comma() {
        let tag = |text: &str| Tag::new(text).unwrap();
        assert_eq!(Tags::new([tag("b"), tag("a")]).unwrap().into_vec(), ["a", "b"]);
        assert_eq!(Tags::new([tag("a"), tag("a")]), Err(TagError::Duplicate("a".into())));
        assert_eq!(Tag::new(""), Err(TagError::Text(TextError::Blank)));
        assert_eq!(Tag::new("a,b"), Err(TagError::Comma("a,b".into())));
        assert_eq!(Tags::new((0..65).map(|n| tag(&n.to_string()))), Err(TagError::TooMany(65)));
    }
}
