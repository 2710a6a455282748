//! Attributes that nearly every resource has.

use super::decode::{Decode, plain};
use chrono::{DateTime, SecondsFormat, Utc};
use utoipa::openapi::schema::{KnownFormat, OneOfBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

/// As Neutron writes times: UTC, whole seconds, `Z`.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
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

/// id, name, description, project_id, tenant_id, revision, times and tags of a resource whose
/// object has them in `row`: `standard!(Network, networks, NetworkRow)`. Evaluates to the attributes before
/// the resource's own, and those after.
#[macro_export]
macro_rules! standard {
    ($object:ty, $table:ident, $row:ty) => {{
        use $crate::frame::attribute::Attribute;
        use $crate::frame::decode::Decode as _;
        use $crate::frame::standard as s;
        use mizar_db::{one_of, sort_key};
        use mizar_domain::text::{Name, Tag};
        use diesel::{NullableExpressionMethods as _, PgArrayExpressionMethods as _};

        let before = vec![
            Attribute::<$object>::shown("id", uuid::Uuid::schema, |o, out| out.put(&o.row.id))
                .filter(one_of!($table::id: uuid::Uuid))
                .sort(sort_key!($row, $table::id, |row| row.id)),
            Attribute::<$object>::shown("name", Name::schema, |o, out| out.put(&o.row.name))
                .writable()
                .filter(one_of!($table::name: String))
                .sort(sort_key!($row, $table::name, |row| row.name.clone())),
            Attribute::<$object>::shown("description", Name::schema, |o, out| out.put(&o.row.description))
                .writable()
                .filter(one_of!($table::description: String)),
            Attribute::<$object>::shown("project_id", s::project_schema, |o, out| out.put(&o.row.project_id.simple()))
                .post()
                .filter(one_of!($table::project_id: uuid::Uuid))
                .sort(sort_key!($row, $table::project_id, |row| row.project_id)),
            Attribute::<$object>::shown("tenant_id", s::project_schema, |o, out| out.put(&o.row.project_id.simple()))
                .about("The same as project_id.")
                .post()
                .filter(one_of!($table::project_id: uuid::Uuid))
                .sort(sort_key!($row, $table::project_id, |row| row.project_id)),
        ];
        let after = vec![
            Attribute::<$object>::shown("revision_number", i64::schema, |o, out| out.put(&o.row.revision_number))
                .filter(one_of!($table::revision_number: i64)),
            Attribute::<$object>::shown("created_at", s::time_schema, |o, out| out.put(&s::time(o.row.created_at))),
            Attribute::<$object>::shown("updated_at", s::time_schema, |o, out| out.put(&s::time(o.row.updated_at))),
            Attribute::<$object>::shown("tags", Vec::<Tag>::schema, |o, out| out.put(&o.row.tags))
                .post()
                .filter(|raw| Ok(Box::new($table::tags.contains(s::split_tags(raw)).nullable()))),
            Attribute::<$object>::hidden("tags-any", s::text_schema)
                .filter(|raw| Ok(Box::new($table::tags.overlaps_with(s::split_tags(raw)).nullable()))),
            Attribute::<$object>::hidden("not-tags", s::text_schema)
                .filter(|raw| Ok(Box::new(diesel::dsl::not($table::tags.contains(s::split_tags(raw))).nullable()))),
            Attribute::<$object>::hidden("not-tags-any", s::text_schema)
                .filter(|raw| Ok(Box::new(diesel::dsl::not($table::tags.overlaps_with(s::split_tags(raw))).nullable()))),
        ];
        (before, after)
    }};
}
