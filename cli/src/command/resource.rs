//! What a resource is to the command line: data. [`tables`](super::tables) has one of these for each
//! noun; [`tree`](super::tree) makes arguments of it, and the verbs act on it.

/// A noun of the command line.
#[derive(Debug)]
pub struct Resource {
    /// As it is typed: `security-group`.
    pub noun: &'static str,
    /// As it is called in texts, with its article: `a security group`.
    pub a: &'static str,
    /// Member of a body with one object.
    pub member: &'static str,
    /// Member of a body with a list.
    pub members: &'static str,
    /// Path of the list.
    pub path: &'static str,
    /// The noun of the object that it is a part of, and as its argument is called; `{}` in [`Self::path`] is that one's
    /// id.
    pub parent: Option<(&'static str, &'static str)>,
    /// By what an object is named when it is not by its id; `None`: only by its id.
    pub key: Option<&'static str>,
    /// The server finds an object of this path by its key itself.
    pub found_by_server: bool,
    /// The list comes in pages, sorted by the server.
    pub paged: bool,
    /// Its objects have tags.
    pub tags: bool,
    /// `--wait`: it goes to ACTIVE or ERROR.
    pub waits: bool,
    /// Columns of a list.
    pub columns: &'static [&'static str],
    /// And those of `--long`.
    pub long: &'static [&'static str],
    /// What can be given to it.
    pub options: &'static [Opt],
    /// What can be done with it.
    pub verbs: &'static [Verb],
}

/// A verb, with the arguments of its example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Lists.
    List(&'static str),
    /// Shows one.
    Show(&'static str),
    /// Makes one.
    Create(&'static str),
    /// Changes one.
    Set(&'static str),
    /// Takes something away from one.
    Unset(&'static str),
    /// Deletes any number.
    Delete(&'static str),
    /// Does something else to one.
    Act(&'static Act),
}

/// A verb of one noun alone, that is one call on the object.
#[derive(Debug, PartialEq, Eq)]
pub struct Act {
    /// As it is typed.
    pub name: &'static str,
    /// For `--help`.
    pub about: &'static str,
    /// What follows the object's path.
    pub path: &'static str,
    /// What can be given: one of these, and only one.
    pub options: &'static [Opt],
    /// The arguments of its example.
    pub example: &'static str,
}

/// How an option's word becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// A whole number.
    Integer,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Two flags: the first is true, the second false. In [`Kind::Pairs`]: these words.
    Switch(&'static str, &'static str),
    /// Name or id of an object of this noun.
    Ref(&'static str),
    /// The same; of which noun says the option named first, by these words.
    RefOf(&'static str, &'static [(&'static str, &'static str)]),
    /// Name or id of a project.
    Project,
    /// The same, or `*`: every one.
    Projects,
    /// `KEY=VALUE,KEY=VALUE`: an object with these members.
    Pairs(&'static [Pair]),
}

/// A member of [`Kind::Pairs`]: the word, the member, and how it is read.
pub type Pair = (&'static str, &'static str, Kind);

/// Something that can be given to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opt {
    /// `--flag`.
    pub flag: &'static str,
    /// The attribute.
    pub field: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// For `--help`.
    pub help: &'static str,
    /// Taken by `create`.
    pub create: bool,
    /// Taken by `set`.
    pub set: bool,
    /// Taken by `list`.
    pub filter: bool,
    /// `create` wants it.
    pub required: bool,
    /// `create` takes it without its flag.
    pub positional: bool,
    /// May be repeated; the attribute is a list. `set` adds to it.
    pub many: bool,
    /// What `create` sends without it.
    pub default: Option<&'static str>,
    /// What `unset` leaves of it.
    pub empty: Option<Empty>,
    /// Paths of the calls that add to the list and take from it, where the attribute itself cannot be written later.
    pub by: Option<(&'static str, &'static str)>,
}

/// Nothing, as an attribute has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// `""`
    Text,
    /// `null`
    Null,
}

impl Opt {
    /// For `create` and `set`.
    pub const fn new(flag: &'static str, field: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            flag,
            field,
            kind,
            help,
            create: true,
            set: true,
            filter: false,
            required: false,
            positional: false,
            many: false,
            default: None,
            empty: None,
            by: None,
        }
    }

    /// Only for `create`.
    pub const fn fixed(self) -> Self {
        Self { set: false, ..self }
    }

    /// Only for `set`.
    pub const fn later(self) -> Self {
        Self { create: false, ..self }
    }

    /// Only for `list`.
    pub const fn only_filter(self) -> Self {
        Self { create: false, set: false, filter: true, ..self }
    }

    /// For `list` too.
    pub const fn filter(self) -> Self {
        Self { filter: true, ..self }
    }

    /// `create` wants it.
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// `create` takes it without its flag.
    pub const fn positional(self) -> Self {
        Self { positional: true, ..self }
    }

    /// A list.
    pub const fn many(self) -> Self {
        Self { many: true, ..self }
    }

    /// A list that calls of its own make longer and shorter.
    pub const fn many_by(self, add: &'static str, remove: &'static str) -> Self {
        Self { many: true, by: Some((add, remove)), ..self }
    }

    /// Without it `create` sends this.
    pub const fn default(self, word: &'static str) -> Self {
        Self { default: Some(word), ..self }
    }

    /// `unset` leaves this of it.
    pub const fn empty(self, empty: Empty) -> Self {
        Self { empty: Some(empty), ..self }
    }
}
