//! From JSON values to typed attributes, with Neutron's words for what is wrong, and the schema of
//! what is right: both stand in one place, so that the document cannot promise what the decoder
//! refuses.

use ipnet::IpNet;
use mizar_domain::cidr::Cidr;
use mizar_domain::mac::Mac;
use mizar_domain::text::{Tag, Tags, Text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use utoipa::openapi::schema::{Array, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// A type that an attribute can have.
pub trait Decode: Sized {
    /// Reads it; the error is the reason that the client reads.
    fn decode(value: &Value) -> Result<Self, String>;

    /// What a client may send.
    fn schema() -> RefOr<Schema>;
}

/// How a value appears in a message: short.
pub fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= 300 { text } else { text.chars().take(300).chain("...".chars()).collect() }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("'{}' is not a valid string.", shown(value)))
}

/// What a list has twice, if anything: the length of lists is the sender's choice.
pub fn first_repeated<T: Ord>(items: &[T]) -> Option<&T> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(*item))
}

/// That of `known` whose word the value is.
pub fn one_of<'w, T>(
    value: &Value,
    known: impl IntoIterator<Item = T, IntoIter: Clone>,
    word: impl Fn(T) -> &'w str,
) -> Result<T, String>
where
    T: Copy,
{
    let known = known.into_iter();
    let found = known.clone().find(|one| value.as_str() == Some(word(*one)));
    found.ok_or_else(|| format!("'{}' is not in {:?}", shown(value), known.map(word).collect::<Vec<_>>()))
}

/// Its schema.
pub fn words<'w>(known: impl IntoIterator<Item = &'w str>) -> RefOr<Schema> {
    plain(Type::String).enum_values(Some(known)).into()
}

/// A schema of a plain type.
pub fn plain(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

fn string(format: &str) -> RefOr<Schema> {
    plain(Type::String).format(Some(SchemaFormat::Custom(format.into()))).into()
}

impl<const MAX: usize> Decode for Text<MAX> {
    fn decode(value: &Value) -> Result<Self, String> {
        Self::new(text(value)?).map_err(|error| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).max_length(Some(MAX)).into()
    }
}

impl Decode for bool {
    /// Neutron takes the words of its command line too; and 0 and 1, which no client sends and the
    /// document does not allow.
    fn decode(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(flag) => Ok(*flag),
            Value::String(word) if word.eq_ignore_ascii_case("true") || word == "1" => Ok(true),
            Value::String(word) if word.eq_ignore_ascii_case("false") || word == "0" => Ok(false),
            other => Err(format!("'{}' cannot be converted to boolean", shown(other))),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Boolean).into()
    }
}

impl Decode for i64 {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(digits) => digits.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| format!("'{}' is not an integer", shown(value)))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))).into()
    }
}

impl Decode for i16 {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        Self::try_from(number).map_err(|_| format!("'{number}' is out of range"))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(i16::MIN)).maximum(Some(i16::MAX)).into()
    }
}

impl Decode for i32 {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        Self::try_from(number).map_err(|_| format!("'{number}' is out of range"))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(i32::MIN)).maximum(Some(i32::MAX)).into()
    }
}

impl Decode for u32 {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        Self::try_from(number).map_err(|_| format!("'{number}' should be non-negative and below 2^32"))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(0)).maximum(Some(4_294_967_295_i64)).into()
    }
}

impl Decode for Uuid {
    fn decode(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|_| format!("'{}' is not a valid UUID.", shown(value)))
    }

    fn schema() -> RefOr<Schema> {
        string("uuid")
    }
}

impl Decode for Mac {
    fn decode(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|_| format!("'{}' is not a valid MAC address.", shown(value)))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).pattern(Some("^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$")).into()
    }
}

impl Decode for Ipv4Addr {
    fn decode(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Ok(address),
            Ok(IpAddr::V6(_)) => Err(format!("'{text}' is an IPv6 address; the data plane does not carry IPv6 yet")),
            Err(_) => Err(format!("'{}' is not a valid IP address.", shown(value))),
        }
    }

    fn schema() -> RefOr<Schema> {
        string("ipv4")
    }
}

impl Decode for Cidr {
    fn decode(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|error: mizar_domain::cidr::CidrError| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).examples(["10.0.0.0/24"]).into()
    }
}

/// An IPv4 range in which host bits must not be set; any range, also `0.0.0.0/0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination(pub IpNet);

impl Decode for Destination {
    fn decode(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        let range: IpNet = text.parse().map_err(|_| format!("'{}' is not a valid IP subnet.", shown(value)))?;
        if matches!(range, IpNet::V6(_)) {
            return Err(format!("'{text}' is an IPv6 range; the data plane does not carry IPv6 yet"));
        }
        if range.trunc() != range {
            return Err(format!("'{text}' isn't a recognized IP subnet cidr, '{}' is recommended", range.trunc()));
        }
        Ok(Self(range))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).examples(["0.0.0.0/0"]).into()
    }
}

impl Decode for Tag {
    fn decode(value: &Value) -> Result<Self, String> {
        Self::new(text(value)?).map_err(|error| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).min_length(Some(1)).max_length(Some(255)).pattern(Some("^[^,]+$")).into()
    }
}

impl Decode for Tags {
    fn decode(value: &Value) -> Result<Self, String> {
        Self::new(Vec::<Tag>::decode(value)?).map_err(|error| error.to_string())
    }

    fn schema() -> RefOr<Schema> {
        Vec::<Tag>::schema()
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| format!("'{}' is not a list", shown(value)))?;
        items.iter().map(T::decode).collect()
    }

    fn schema() -> RefOr<Schema> {
        Array::new(T::schema()).into()
    }
}

/// `null` means none.
impl<T: Decode> Decode for Option<T> {
    fn decode(value: &Value) -> Result<Self, String> {
        if value.is_null() { Ok(None) } else { T::decode(value).map(Some) }
    }

    fn schema() -> RefOr<Schema> {
        super::standard::nullable(T::schema())
    }
}

/// Whether a string anywhere in the value holds what PostgreSQL's jsonb cannot.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An object that only its writer understands. Bounded, because somebody must store it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opaque(pub serde_json::Map<String, Value>);

/// Bytes of an [`Opaque`]; Neutron's column has as many.
pub const OPAQUE_MAX: usize = 4095;

impl Decode for Opaque {
    fn decode(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or_else(|| format!("'{}' is not a dictionary.", shown(value)))?;
        if has_nul(value) {
            return Err("a text may not contain the character NUL".into());
        }
        if value.to_string().len() > OPAQUE_MAX {
            return Err(format!("it is longer than {OPAQUE_MAX} bytes"));
        }
        Ok(Self(fields.clone()))
    }

    fn schema() -> RefOr<Schema> {
        Object::builder().schema_type(Type::Object).into()
    }
}

/// The fields of a nested object, strictly: a field that is not asked for is refused.
pub struct Strict<'a> {
    fields: &'a serde_json::Map<String, Value>,
}

impl<'a> Strict<'a> {
    /// An object with no other fields than these.
    pub fn of(value: &'a Value, known: &[&str]) -> Result<Self, String> {
        let fields = value.as_object().ok_or_else(|| format!("'{}' is not a dictionary.", shown(value)))?;
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("Unexpected keys supplied: {name}.")),
            None => Ok(Self { fields }),
        }
    }

    /// A field that may be absent or null.
    pub fn optional<T: Decode>(&self, name: &str) -> Result<Option<T>, String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::decode(value).map(Some),
        }
    }

    /// A field that must be there.
    pub fn required<T: Decode>(&self, name: &str) -> Result<T, String> {
        self.optional(name)?.ok_or_else(|| format!("{name} is required"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn booleans_and_their_words_are_taken_and_numbers_are_not() {
        for yes in [json!(true), json!("True"), json!("1")] {
            assert_eq!(bool::decode(&yes), Ok(true));
        }
        for no in [json!(false), json!("false"), json!("0")] {
            assert_eq!(bool::decode(&no), Ok(false));
        }
        for neither in [json!(0), json!(1), json!(2), json!("yes"), json!(null), json!([])] {
            assert!(bool::decode(&neither).is_err());
        }
    }

    #[test]
    fn an_opaque_object_is_bounded_and_storable() {
        assert!(Opaque::decode(&json!({"a": {"b": [1, null]}})).is_ok());
        assert!(Opaque::decode(&json!([])).is_err());
        assert!(Opaque::decode(&json!({"a": ["\0"]})).is_err());
        assert!(Opaque::decode(&json!({"a\0": 1})).is_err());
        assert!(Opaque::decode(&json!({"a": "x".repeat(OPAQUE_MAX)})).is_err());
    }

    #[test]
    fn a_long_value_is_cut_in_messages() {
        assert!(shown(&json!("x".repeat(100_000))).len() < 400);
    }
}
