//! The column of a port's attributes that no query asks for.

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Jsonb;
use mizar_domain::port_extras::PortExtras;
use serde_json::Value;

/// [`PortExtras`] as `jsonb`.
#[derive(Clone, Debug, Default, PartialEq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Jsonb)]
pub struct Extras(pub PortExtras);

impl FromSql<Jsonb, Pg> for Extras {
    fn from_sql(bytes: PgValue<'_>) -> deserialize::Result<Self> {
        let document = <Value as FromSql<Jsonb, Pg>>::from_sql(bytes)?;
        Ok(Self(serde_json::from_value(document)?))
    }
}

impl ToSql<Jsonb, Pg> for Extras {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let document = serde_json::to_value(&self.0)?;
        <Value as ToSql<Jsonb, Pg>>::to_sql(&document, &mut out.reborrow())
    }
}
