//! Generic list queries: filter, sort and page any table by typed predicates.
//!
//! A table's row says once which rows a caller may see ([`Listed::visible_to`]); every query
//! starts from there, so no listing can forget tenancy. Filters and sort keys are values that a
//! resource's attribute map holds; this module puts them together. Paging is by key (marker), not
//! by offset: a page costs the same at the end of a million rows as at the beginning, and rows
//! that come and go meanwhile shift nothing.

use diesel::Table;
use diesel::expression::BoxableExpression;
use diesel::expression::expression_types::NotSelectable;
use diesel::expression_methods::BoolExpressionMethods;
use diesel::pg::Pg;
use diesel::query_dsl::methods::{FilterDsl, LimitDsl, ThenOrderDsl};
use diesel::sql_types::{Bool, Nullable};
use diesel_async::methods::LoadQuery;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::collections::BTreeSet;
use std::str::FromStr;
use uuid::Uuid;

/// A WHERE term over `T`. Always nullable, so that `=` on a nullable column fits.
pub type Predicate<T> = Box<dyn BoxableExpression<T, Pg, SqlType = Nullable<Bool>>>;

/// An ORDER BY term over `T`.
pub type Ordering<T> = Box<dyn BoxableExpression<T, Pg, SqlType = NotSelectable>>;

/// Whose rows a request may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Everyone's: an administrator.
    All,
    /// Those of one project, and what others share with it.
    Project(Uuid),
    /// None: a token without a project.
    Nothing,
}

/// A row type that can be listed.
pub trait Listed: Sized + Send + Sync + 'static {
    /// Its table.
    type Table: Table + 'static;
    /// The boxed select of `Self` from it:
    /// `IntoBoxed<'static, Select<Table, AsSelect<Self, Pg>>, Pg>`.
    type Rows: FilterDsl<Predicate<Self::Table>, Output = Self::Rows>
        + ThenOrderDsl<Ordering<Self::Table>, Output = Self::Rows>
        + LimitDsl<Output = Self::Rows>
        + LoadQuery<'static, AsyncPgConnection, Self>
        + Send;

    /// The rows that a caller may see. The only place where tenancy enters a query.
    fn visible_to(view: Visibility) -> Self::Rows;

    /// `id = $1`.
    fn by_id(id: Uuid) -> Predicate<Self::Table>;

    /// `id = ANY ($1)`.
    fn by_ids(ids: Vec<Uuid>) -> Predicate<Self::Table>;

    /// Its id.
    fn id(&self) -> Uuid;

    /// Whose it is; `None`: nobody's but the operators'.
    fn project(&self) -> Option<Uuid>;

    /// Its revision.
    fn revision(&self) -> i64;
}

/// Which way a key sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// Small first.
    Asc,
    /// Large first.
    Desc,
}

impl Dir {
    /// The other way: how a page before its marker is read.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Asc => Self::Desc,
            Self::Desc => Self::Asc,
        }
    }
}

/// How to sort by one column, and where a marker stands in that order. Made by [`sort_key!`].
///
/// [`sort_key!`]: crate::sort_key
pub struct SortKey<R: Listed> {
    /// ORDER BY.
    pub order: fn(Dir) -> Ordering<R::Table>,
    /// Same value as the marker.
    pub tied: fn(&R) -> Predicate<R::Table>,
    /// Value after the marker's.
    pub after: fn(&R, Dir) -> Predicate<R::Table>,
}

impl<R: Listed> Clone for SortKey<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Listed> Copy for SortKey<R> {}

/// A list query, checked and typed.
pub struct Listing<R: Listed> {
    /// All must hold.
    pub filters: Vec<Predicate<R::Table>>,
    /// In order of weight; the last must be unique, or pages would lose rows.
    pub sorts: Vec<(SortKey<R>, Dir)>,
    /// Only rows after this one.
    pub marker: Option<R>,
    /// At most so many.
    pub limit: Option<i64>,
}

/// Runs a list query.
pub async fn list<R: Listed>(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    listing: Listing<R>,
) -> diesel::QueryResult<Vec<R>> {
    let mut rows = R::visible_to(view);
    // A connection keeps every statement that it prepared. Of filters and sort keys clients make
    // millions of statements, which would fill the database's memory: only the plain list is kept.
    if !listing.filters.is_empty() || listing.sorts.len() > 1 {
        rows = rows.filter(Box::new(diesel::dsl::sql::<Nullable<Bool>>("TRUE")) as Predicate<R::Table>);
    }
    for filter in listing.filters {
        rows = rows.filter(filter);
    }
    if let Some(marker) = &listing.marker
        && let Some(after) = after_marker(&listing.sorts, marker)
    {
        rows = rows.filter(after);
    }
    for (key, dir) in &listing.sorts {
        rows = rows.then_order_by((key.order)(*dir));
    }
    if let Some(limit) = listing.limit {
        rows = rows.limit(limit);
    }
    rows.load(conn).await
}

/// One row by id, if the caller may see it and it is `within` a parent, if one is given.
pub async fn find<R: Listed>(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    within: Option<Predicate<R::Table>>,
    id: Uuid,
) -> diesel::QueryResult<Option<R>> {
    let mut query = R::visible_to(view).filter(R::by_id(id));
    if let Some(within) = within {
        query = query.filter(within);
    }
    let mut rows: Vec<R> = query.load(conn).await?;
    Ok(rows.pop())
}

/// The first of `ids` that the caller does not see, if there is one.
pub async fn first_unseen<R: Listed>(
    conn: &mut AsyncPgConnection,
    view: Visibility,
    ids: &BTreeSet<Uuid>,
) -> diesel::QueryResult<Option<Uuid>> {
    let rows: Vec<R> = R::visible_to(view).filter(R::by_ids(ids.iter().copied().collect())).load(conn).await?;
    let seen: BTreeSet<Uuid> = rows.iter().map(Listed::id).collect();
    Ok(ids.difference(&seen).next().copied())
}

/// `(k1 after) OR (k1 tied AND ((k2 after) OR (k2 tied AND …)))`.
fn after_marker<R: Listed>(keys: &[(SortKey<R>, Dir)], marker: &R) -> Option<Predicate<R::Table>> {
    let ((last, dir), rest) = keys.split_last()?;
    Some(rest.iter().rev().fold((last.after)(marker, *dir), |inner, (key, dir)| {
        Box::new((key.after)(marker, *dir).or((key.tied)(marker).and(inner)))
    }))
}

/// The values that can be of the column's type: what cannot equals no row, as in Neutron
/// (`GET /ports?id=not-a-uuid` is an empty list, not an error).
pub fn parse_all<V: FromStr>(raw: &[String]) -> Vec<V> {
    raw.iter().filter_map(|text| text.parse().ok()).collect()
}

/// `one_of!(ports::name: String)`: a filter function, `?name=a&name=b` to `name = ANY ('{a,b}')`.
///
/// A macro only because diesel keeps `AsInExpression` private, so that `eq_any` cannot be called
/// in a generic function.
#[macro_export]
macro_rules! one_of {
    ($column:path : $value:ty) => {
        |raw: &[String]| {
            use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
            Ok(Box::new($column.eq_any($crate::listing::parse_all::<$value>(raw)).nullable()))
        }
    };
}

/// What the rows of [`Listed`](crate::listing::Listed) tables have in common, for use in the `impl`:
/// `listed_by!(ports: project_id)`, `listed_by!(hosts)` of what is nobody's. Who sees them is the row's own to say.
macro_rules! listed_by {
    (@project $row:ident) => {
        None
    };
    (@project $row:ident $project:ident) => {
        Some($row.$project)
    };
    ($table:ident $(: $project:ident)?) => {
        type Table = $table::table;
        type Rows = diesel::dsl::IntoBoxed<
            'static,
            diesel::dsl::Select<$table::table, diesel::dsl::AsSelect<Self, diesel::pg::Pg>>,
            diesel::pg::Pg,
        >;

        fn by_id(id: uuid::Uuid) -> $crate::listing::Predicate<Self::Table> {
            use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
            Box::new($table::id.eq(id).nullable())
        }

        fn by_ids(ids: Vec<uuid::Uuid>) -> $crate::listing::Predicate<Self::Table> {
            use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
            Box::new($table::id.eq_any(ids).nullable())
        }

        fn id(&self) -> uuid::Uuid {
            self.id
        }

        fn project(&self) -> Option<uuid::Uuid> {
            $crate::listing::listed_by!(@project self $($project)?)
        }

        fn revision(&self) -> i64 {
            self.revision_number
        }
    };
}
pub(crate) use listed_by;

/// `sort_key!(PortRow, ports::name, |row| row.name.clone())`. The column must be NOT NULL; a text
/// column must have the collation "C", so that the database's order is that of its `>`.
#[macro_export]
macro_rules! sort_key {
    ($row:ty, $column:path, |$marker:ident| $value:expr) => {{
        use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
        $crate::listing::SortKey::<$row> {
            order: |dir| match dir {
                $crate::listing::Dir::Asc => Box::new($column.asc()),
                $crate::listing::Dir::Desc => Box::new($column.desc()),
            },
            tied: |$marker| Box::new($column.eq($value).nullable()),
            after: |$marker, dir| match dir {
                $crate::listing::Dir::Asc => Box::new($column.gt($value).nullable()),
                $crate::listing::Dir::Desc => Box::new($column.lt($value).nullable()),
            },
        }
    }};
}

/// What all rows have the same, so that it orders nothing: `sort_same!(HostRow)`.
#[macro_export]
macro_rules! sort_same {
    ($row:ty) => {
        $crate::sort_by!($row, "''::text" => diesel::sql_types::Text, |_row| "")
    };
}

/// An id that may be null, and then comes first: `sort_id!(SubnetRow, "subnets.subnetpool_id", |row| row.subnetpool_id)`.
#[macro_export]
macro_rules! sort_id {
    ($row:ty, $column:literal, |$marker:ident| $value:expr) => {
        $crate::sort_by!(
            $row,
            concat!("COALESCE(", $column, ", '00000000-0000-0000-0000-000000000000'::uuid)") => diesel::sql_types::Uuid,
            |$marker| $value.unwrap_or_default()
        )
    };
}

/// The same of an address.
#[macro_export]
macro_rules! sort_address {
    ($row:ty, $column:literal, |$marker:ident| $value:expr) => {
        $crate::sort_by!(
            $row,
            concat!("COALESCE(", $column, ", '0.0.0.0'::inet)") => diesel::sql_types::Inet,
            |$marker| $value.unwrap_or(ipnet::IpNet::V4(ipnet::Ipv4Net::from(std::net::Ipv4Addr::UNSPECIFIED)))
        )
    };
}

/// The same of an expression, for columns that may be null: `sort_by!(RuleRow, "COALESCE(rules.protocol, '')" =>
/// Text, |row| row.protocol.clone().unwrap_or_default())`.
#[macro_export]
macro_rules! sort_by {
    ($row:ty, $sql:expr => $kind:ty, |$marker:ident| $value:expr) => {{
        use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
        $crate::listing::SortKey::<$row> {
            order: |dir| match dir {
                $crate::listing::Dir::Asc => Box::new(diesel::dsl::sql::<$kind>($sql).asc()),
                $crate::listing::Dir::Desc => Box::new(diesel::dsl::sql::<$kind>($sql).desc()),
            },
            tied: |$marker| Box::new(diesel::dsl::sql::<$kind>($sql).eq($value).nullable()),
            after: |$marker, dir| match dir {
                $crate::listing::Dir::Asc => Box::new(diesel::dsl::sql::<$kind>($sql).gt($value).nullable()),
                $crate::listing::Dir::Desc => Box::new(diesel::dsl::sql::<$kind>($sql).lt($value).nullable()),
            },
        }
    }};
}
