//! What rules of security groups and the templates of such rules have in common: how a rule is
//! read from a body, its columns, its attributes.

use crate::frame::decode::{Decode, plain, shown};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use mizar_domain::security_group::{Direction, Ethertype, Protocol, Remote, Rule, RuleError, parse_prefix};
use mizar_domain::text::Name;
use serde_json::Value;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

impl Decode for Direction {
    fn decode(value: &Value) -> Result<Self, String> {
        let word = value.as_str().ok_or_else(|| format!("'{}' is not in ['ingress', 'egress']", shown(value)))?;
        word.parse()
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).enum_values(Some(Self::ALL.map(Self::as_str))).into()
    }
}

/// A number, or a text that may be one: clients send both.
struct Word(String);

impl Decode for Word {
    fn decode(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => Ok(Self(number.to_string())),
            other => Name::decode(other).map(|text| Self(text.into_string())),
        }
    }

    fn schema() -> RefOr<Schema> {
        Name::schema()
    }
}

pub fn ethertype_schema() -> RefOr<Schema> {
    plain(Type::String).enum_values(Some(Ethertype::ALL.map(Ethertype::as_str))).into()
}

fn optional<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    let word = fields.optional::<Option<Word>>(name)?.flatten();
    word.map(|Word(text)| parse(&text)).transpose()
}

/// The id of another object. What is no id names nothing.
pub fn reference(
    fields: &mut Fields<'_>,
    name: &'static str,
    missing: fn(&str) -> Fault,
) -> Result<Option<Uuid>, Fault> {
    optional(fields, name, |text| Uuid::try_parse(text).map_err(|_| missing(text)))
}

/// The rule in a body. The remote group is read by the caller: templates name groups differently.
pub fn decode(fields: &mut Fields<'_>, group: Option<Uuid>) -> Result<Rule, Fault> {
    let port = |text: &str| text.parse::<i32>().map_err(|_| RuleError::Port(text.to_owned()).into());
    let prefix = |text: &str| {
        if text.is_empty() { Ok(None) } else { parse_prefix(text).map(Some).map_err(Fault::from) }
    };
    let rule = Rule {
        direction: fields.required("direction")?,
        ethertype: optional(fields, "ethertype", |text| Ok(text.parse::<Ethertype>()?))?.unwrap_or_default(),
        protocol: optional(fields, "protocol", |text| Ok(Protocol::parse(text)?))?.flatten(),
        low: optional(fields, "port_range_min", port)?,
        high: optional(fields, "port_range_max", port)?,
        remote: Remote {
            prefix: optional(fields, "remote_ip_prefix", prefix)?.flatten(),
            group,
            addresses: reference(fields, "remote_address_group_id", super::address_groups::missing)?,
        },
    };
    Ok(rule.checked()?)
}

/// A row that holds a rule.
pub trait RuleRow {
    /// Stores the rule in the columns.
    fn set(&mut self, rule: &Rule);
    /// The rule in the columns.
    fn rule(&self) -> Result<Rule, Fault>;
}

/// [`RuleRow`] of a row with the columns of a rule.
macro_rules! rule_row {
    ($row:ty) => {
        impl $crate::resources::security_rule::RuleRow for $row {
            fn set(&mut self, rule: &mizar_domain::security_group::Rule) {
                self.direction = rule.direction.as_str().into();
                self.ethertype = rule.ethertype.as_str().into();
                self.protocol = rule.protocol.as_ref().map(|protocol| protocol.text.clone());
                self.protocol_number = rule.protocol.as_ref().map(|protocol| protocol.number.into());
                self.port_range_min = rule.low;
                self.port_range_max = rule.high;
                self.remote_ip_prefix = rule.remote.prefix;
                self.normalized_cidr = rule.normalized_cidr();
                self.remote_group_id = rule.remote.group;
                self.remote_address_group_id = rule.remote.addresses;
            }

            fn rule(&self) -> Result<mizar_domain::security_group::Rule, $crate::frame::fault::Fault> {
                use mizar_domain::security_group::{Protocol, Remote, Rule};
                let corrupt = || {
                    let message = format!("rule {} holds what cannot be read", self.id);
                    $crate::frame::fault::Fault::internal(message)
                };
                let protocol = self.protocol.as_deref().map(Protocol::parse).transpose();
                Ok(Rule {
                    direction: self.direction.parse().map_err(|_| corrupt())?,
                    ethertype: self.ethertype.parse().map_err(|_| corrupt())?,
                    protocol: protocol.map_err(|_| corrupt())?.flatten(),
                    low: self.port_range_min,
                    high: self.port_range_max,
                    remote: Remote {
                        prefix: self.remote_ip_prefix,
                        group: self.remote_group_id,
                        addresses: self.remote_address_group_id,
                    },
                })
            }
        }
    };
}
pub(crate) use rule_row;

/// A column that may be null, of a rule.
macro_rules! rule_column {
    ($object:ty, $table:ident, $row:ty, $column:ident: $value:ty as $schema:ty, $least:literal => $kind:ty) => {
        rule_column!(@filter $object, $table, $row, $column as $schema, $least => $kind,
            mizar_db::one_of!($table::$column: $value))
    };
    ($object:ty, $table:ident, $row:ty, $column:ident: prefix) => {
        $crate::frame::attribute::Attribute::<$object>::shown(
            stringify!($column),
            <Option<mizar_domain::text::Name> as $crate::frame::decode::Decode>::schema,
            |o, out| out.put(&o.row.$column.map(|net| net.to_string())),
        )
        .filter(|raw| {
            use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
            let nets = raw.iter().filter_map(|text| mizar_domain::security_group::parse_prefix(text).ok());
            Ok(Box::new($table::$column.eq_any(nets.collect::<Vec<ipnet::IpNet>>()).nullable()))
        })
        .sort(mizar_db::sort_by!(
            $row,
            concat!("COALESCE(", stringify!($table), ".", stringify!($column), "::inet, '0.0.0.0/0')") =>
                diesel::sql_types::Inet,
            |row| row.$column.unwrap_or_default()
        ))
    };
    (@filter $object:ty, $table:ident, $row:ty, $column:ident as $schema:ty, $least:literal => $kind:ty, $filter:expr) => {
        $crate::frame::attribute::Attribute::<$object>::shown(
            stringify!($column),
            <Option<$schema> as $crate::frame::decode::Decode>::schema,
            |o, out| out.put(&o.row.$column),
        )
        .filter($filter)
        .sort(mizar_db::sort_by!(
            $row,
            concat!("COALESCE(", stringify!($table), ".", stringify!($column), ", ", $least, ")") => $kind,
            |row| row.$column.clone().unwrap_or($crate::resources::security_rule::Least::LEAST)
        ))
    };
}
pub(crate) use rule_column;

/// What stands for null in the order of a list.
pub trait Least {
    /// The same in the database's words.
    const LEAST: Self;
}

impl Least for String {
    const LEAST: Self = Self::new();
}

impl Least for i32 {
    const LEAST: Self = -1;
}

impl Least for Uuid {
    const LEAST: Self = Self::nil();
}

/// The attributes of a rule, without its remote group.
macro_rules! rule_attributes {
    ($object:ty, $table:ident, $row:ty) => {{
        use $crate::frame::attribute::Attribute;
        use $crate::resources::security_rule::{ethertype_schema, rule_column};
        use diesel::sql_types;
        use mizar_db::{one_of, sort_key};
        use mizar_domain::text::Name;
        vec![
            $crate::column!($object, $table, $row, direction: String as mizar_domain::security_group::Direction)
                .required(),
            Attribute::<$object>::shown("ethertype", ethertype_schema, |o, out| out.put(&o.row.ethertype))
                .post()
                .filter(one_of!($table::ethertype: String))
                .sort(sort_key!($row, $table::ethertype, |row| row.ethertype.clone())),
            rule_column!($object, $table, $row, protocol: String as Name, "''" => sql_types::Text)
                .about("By name or number; null: any.")
                .post(),
            rule_column!($object, $table, $row, port_range_min: i32 as i32, "-1" => sql_types::Int4)
                .about("First port, or type of ICMP.")
                .post(),
            rule_column!($object, $table, $row, port_range_max: i32 as i32, "-1" => sql_types::Int4)
                .about("Last port, or code of ICMP.")
                .post(),
            rule_column!($object, $table, $row, remote_ip_prefix: prefix).post(),
            rule_column!($object, $table, $row, remote_address_group_id: uuid::Uuid as uuid::Uuid,
                "'00000000-0000-0000-0000-000000000000'" => sql_types::Uuid)
                .post(),
        ]
    }};
}
pub(crate) use rule_attributes;
