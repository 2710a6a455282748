//! What an update says about one attribute.

/// An attribute of an update. JSON knows three cases (absent, null, a value); `Option<Option<T>>`
/// leaves readers to guess which layer means which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not mentioned: stays as it is.
    #[default]
    Keep,
    /// `null`: is taken away.
    Clear,
    /// Gets this value.
    Set(T),
}

impl<T> Patch<T> {
    /// The attribute after the update, given what it was.
    pub fn over(self, old: Option<T>) -> Option<T> {
        match self {
            Self::Keep => old,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// The same of another type.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Keep => Patch::Keep,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(change(value)),
        }
    }

    /// Whether the update mentions the attribute.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

#[cfg(test)]
mod tests {
    use super::Patch;

    #[test]
    fn a_patch_keeps_clears_or_sets() {
        assert_eq!(Patch::Keep.over(Some(1)), Some(1));
        assert_eq!(Patch::Clear.over(Some(1)), None);
        assert_eq!(Patch::Set(2).over(Some(1)), Some(2));
        assert_eq!(Patch::Set(2).over(None), Some(2));
        assert_eq!(Patch::Set(2).map(|n| n + 1), Patch::Set(3));
        assert_eq!(Patch::Clear.map(|n: i32| n + 1), Patch::Clear);
    }
}
