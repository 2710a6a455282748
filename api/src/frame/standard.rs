//! Attributes that nearly every resource has.

use super::decode::{Decode, plain};
use chrono::{DateTime, SecondsFormat, Utc};
use utoipa::openapi::schema::{KnownFormat, OneOfBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// As Neutron writes times: UTC, whole seconds, `Z`.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The same with milliseconds, for what is not made by commands.
pub fn precise_time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Schema of [`time`].
pub fn time_schema() -> RefOr<Schema> {
    plain(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
}

/// Schema of what may be null. Generators of clients understand a list of types, and few a choice
/// between a schema and null.
pub fn nullable(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) if object.enum_values.is_none() => {
            if let SchemaType::Type(kind) = object.schema_type {
                object.schema_type = SchemaType::from_iter([kind, Type::Null]);
            }
            RefOr::T(Schema::Object(object))
        }
        other => OneOfBuilder::new().item(other).item(plain(Type::Null)).into(),
    }
}

/// Schema of a project's id: Keystone's form, 32 hexadecimal digits.
pub fn project_schema() -> RefOr<Schema> {
    plain(Type::String).pattern(Some("^[0-9a-f]{32}$")).into()
}

/// Schema of any text.
pub fn text_schema() -> RefOr<Schema> {
    plain(Type::String).into()
}

/// Schema of a list of ids.
pub fn ids_schema() -> RefOr<Schema> {
    Vec::<uuid::Uuid>::schema()
}

/// The tags named by `tags=a,b`, repeated or not.
pub fn split_tags(raw: &[String]) -> Vec<String> {
    raw.iter().flat_map(|tags| tags.split(',')).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// Attributes that many resources share: `standard!(Network, networks, NetworkRow: id name …)`, of
/// an object that has the columns in `row`. The parts, in the order in which answers shall hold
/// them: `id`, `name`, `description`, `project` (project_id and tenant_id), `revision`, `times`
/// (created_at and updated_at), `tags` (and the filters on them).
#[macro_export]
macro_rules! standard {
    ($object:ty, $table:ident, $row:ty: $($part:ident)+) => {{
        let mut all: Vec<$crate::frame::attribute::Attribute<$object>> = Vec::new();
        $(all.extend($crate::standard!(@$part $object, $table, $row));)+
        all
    }};
    (@id $object:ty, $table:ident, $row:ty) => {
        [$crate::column!($object, $table, $row, id: uuid::Uuid)]
    };
    (@name $object:ty, $table:ident, $row:ty) => {
        [$crate::column!($object, $table, $row, name: String as mizar_domain::text::Name).writable()]
    };
    (@description $object:ty, $table:ident, $row:ty) => {
        [$crate::column!($object, $table, $row, description: String as mizar_domain::text::Name, unsorted).writable()]
    };
    (@project $object:ty, $table:ident, $row:ty) => {{
        use $crate::frame::attribute::Attribute;
        use $crate::frame::standard::project_schema;
        use mizar_db::{one_of, sort_key};
        [
            Attribute::<$object>::shown("project_id", project_schema, |o, out| out.put(&o.row.project_id.simple()))
                .post()
                .filter(one_of!($table::project_id: uuid::Uuid))
                .sort(sort_key!($row, $table::project_id, |row| row.project_id)),
            Attribute::<$object>::shown("tenant_id", project_schema, |o, out| out.put(&o.row.project_id.simple()))
                .about("The same as project_id.")
                .post()
                .filter(one_of!($table::project_id: uuid::Uuid))
                .sort(sort_key!($row, $table::project_id, |row| row.project_id)),
        ]
    }};
    (@revision $object:ty, $table:ident, $row:ty) => {
        [$crate::column!($object, $table, $row, revision_number: i64, unsorted)]
    };
    (@times $object:ty, $table:ident, $row:ty) => {{
        use $crate::frame::attribute::Attribute;
        use $crate::frame::standard::{time, time_schema};
        [
            Attribute::<$object>::shown("created_at", time_schema, |o, out| out.put(&time(o.row.created_at))),
            Attribute::<$object>::shown("updated_at", time_schema, |o, out| out.put(&time(o.row.updated_at))),
        ]
    }};
    (@tags $object:ty, $table:ident, $row:ty) => {{
        use $crate::frame::attribute::Attribute;
        use $crate::frame::decode::Decode as _;
        use $crate::frame::standard::{split_tags, text_schema};
        use diesel::{NullableExpressionMethods as _, PgArrayExpressionMethods as _};
        [
            Attribute::<$object>::shown("tags", Vec::<mizar_domain::text::Tag>::schema, |o, out| out.put(&o.row.tags))
                .post()
                .filter(|raw| Ok(Box::new($table::tags.contains(split_tags(raw)).nullable()))),
            Attribute::<$object>::hidden("tags-any", text_schema)
                .filter(|raw| Ok(Box::new($table::tags.overlaps_with(split_tags(raw)).nullable()))),
            Attribute::<$object>::hidden("not-tags", text_schema)
                .filter(|raw| Ok(Box::new(diesel::dsl::not($table::tags.contains(split_tags(raw))).nullable()))),
            Attribute::<$object>::hidden("not-tags-any", text_schema)
                .filter(|raw| Ok(Box::new(diesel::dsl::not($table::tags.overlaps_with(split_tags(raw))).nullable()))),
        ]
    }};
}

/// The attribute of a column, shown, filtered and sorted by:
/// `column!(Item<AddressScope>, address_scopes, AddressScope, ip_version: i16)`. `as Type` names
/// another [`Decode`] for its schema, `unsorted` leaves sorting out (a column that may be null, or
/// a text without the collation "C").
#[macro_export]
macro_rules! column {
    ($object:ty, $table:ident, $row:ty, $column:ident : $value:ty) => {
        $crate::column!($object, $table, $row, $column: $value as $value)
    };
    ($object:ty, $table:ident, $row:ty, $column:ident : $value:ty, unsorted) => {
        $crate::column!($object, $table, $row, $column: $value as $value, unsorted)
    };
    ($object:ty, $table:ident, $row:ty, $column:ident : $value:ty as $schema:ty) => {
        $crate::column!($object, $table, $row, $column: $value as $schema, unsorted)
            .sort(mizar_db::sort_key!($row, $table::$column, |row| row.$column.clone()))
    };
    ($object:ty, $table:ident, $row:ty, $column:ident : $value:ty as $schema:ty, unsorted) => {
        $crate::frame::attribute::Attribute::<$object>::shown(
            stringify!($column),
            <$schema as $crate::frame::decode::Decode>::schema,
            |o, out| out.put(&o.row.$column),
        )
        .filter(mizar_db::one_of!($table::$column: $value))
    };
}
