//! Rows of plain resources and their statements.

use super::attribute::AttributeMap;
use super::plain::{Item, Plain};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use mizar_db::listing::Listed;
use std::future::Future;
use uuid::Uuid;

/// A row that the frame inserts, changes and deletes. Implemented by [`stored!`].
///
/// [`stored!`]: crate::stored
pub trait Stored: Listed + Clone + Default {
    /// Name of its table.
    const TABLE: &'static str;
    /// `table.id`, as SQL names it.
    const ID: &'static str;
    /// Whether each row belongs to a project.
    const OWNED: bool;

    /// Its attributes, made once.
    fn map() -> &'static AttributeMap<Item<Self>>
    where
        Self: Plain;

    /// Inserts rows; returns them in their order, with what the database adds.
    fn insert(conn: &mut AsyncPgConnection, rows: &[Self]) -> impl Future<Output = QueryResult<Vec<Self>>> + Send;

    /// Stores a changed row; its revision rises.
    fn store(conn: &mut AsyncPgConnection, row: &Self) -> impl Future<Output = QueryResult<Self>> + Send;

    /// Deletes a row.
    fn erase(conn: &mut AsyncPgConnection, id: Uuid) -> impl Future<Output = QueryResult<()>> + Send;

    /// Locks a row against other writers.
    fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> impl Future<Output = QueryResult<Option<()>>> + Send;
}

/// Declares a table, its row, and the statements of [`Stored`]:
///
/// ```ignore
/// stored! {
///     /// An address scope.
///     pub struct AddressScope in address_scopes: owned {
///         name: String as Text,
///         ip_version: i16 as Int2,
///         note: Option<String> as Nullable<Text>,
///     }
/// }
/// ```
///
/// `owned` adds `id`, `project_id`, `revision_number`, `created_at` and `updated_at`; `common` the
/// same without `project_id`; `bare` nothing but `id`, for what is never updated.
#[macro_export]
macro_rules! stored {
    ($(#[$doc:meta])* pub struct $row:ident in $table:ident: owned {
        $($column:ident : $rust:ty as $sql:ident $(< $inner:ident >)?),* $(,)?
    }) => {
        $crate::stored! { @make [$(#[$doc])*] $row $table owned true
            [project_id: uuid::Uuid as Uuid, $($column: $rust as $sql $(< $inner >)?,)*]
            [revision_number: i64 as Int8, created_at: chrono::DateTime<chrono::Utc> as Timestamptz,
             updated_at: chrono::DateTime<chrono::Utc> as Timestamptz,] }

        impl $row {
            /// A row of the project that the request means, with a new id.
            pub fn new(fields: &mut $crate::frame::fields::Fields<'_>) -> Result<Self, $crate::frame::fault::Fault> {
                Ok(Self { id: uuid::Uuid::new_v4(), project_id: fields.project()?, ..Self::default() })
            }
        }
    };
    ($(#[$doc:meta])* pub struct $row:ident in $table:ident: common {
        $($column:ident : $rust:ty as $sql:ident $(< $inner:ident >)?),* $(,)?
    }) => {
        $crate::stored! { @make [$(#[$doc])*] $row $table common false
            [$($column: $rust as $sql $(< $inner >)?,)*]
            [revision_number: i64 as Int8, created_at: chrono::DateTime<chrono::Utc> as Timestamptz,
             updated_at: chrono::DateTime<chrono::Utc> as Timestamptz,] }

        impl $row {
            /// A row with a new id.
            pub fn new() -> Self {
                Self { id: uuid::Uuid::new_v4(), ..Self::default() }
            }
        }
    };
    ($(#[$doc:meta])* pub struct $row:ident in $table:ident: bare {
        $($column:ident : $rust:ty as $sql:ident $(< $inner:ident >)?),* $(,)?
    }) => {
        $crate::stored! { @make [$(#[$doc])*] $row $table bare false
            [$($column: $rust as $sql $(< $inner >)?,)*] [] }
    };

    (@make [$(#[$doc:meta])*] $row:ident $table:ident $kind:ident $owned:literal
        [$($column:ident : $rust:ty as $sql:ident $(< $inner:ident >)?,)*]
        [$($kept:ident : $kept_rust:ty as $kept_sql:ident,)*]
    ) => {
        diesel::table! {
            $table (id) {
                id -> Uuid,
                $($column -> $sql $(< $inner >)?,)*
                $($kept -> $kept_sql,)*
            }
        }

        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, diesel::Queryable, diesel::Selectable)]
        #[diesel(table_name = $table, check_for_backend(diesel::pg::Pg))]
        pub struct $row {
            pub id: uuid::Uuid,
            $(pub $column: $rust,)*
            $(pub $kept: $kept_rust,)*
        }

        impl mizar_db::listing::Listed for $row {
            type Table = $table::table;
            type Rows = diesel::dsl::IntoBoxed<
                'static,
                diesel::dsl::Select<$table::table, diesel::dsl::AsSelect<Self, diesel::pg::Pg>>,
                diesel::pg::Pg,
            >;

            fn visible_to(view: mizar_db::listing::Visibility) -> Self::Rows {
                use diesel::{IntoSql as _, QueryDsl as _, SelectableHelper as _};
                use mizar_db::listing::Visibility;
                let all = diesel::QueryDsl::select($table::table, Self::as_select()).into_boxed();
                match view {
                    Visibility::All => all,
                    Visibility::Project(project) => {
                        diesel::QueryDsl::filter(all, <Self as $crate::frame::plain::Plain>::visible(project))
                    }
                    Visibility::Nothing => {
                        diesel::QueryDsl::filter(all, false.into_sql::<diesel::sql_types::Bool>())
                    }
                }
            }

            fn by_id(id: uuid::Uuid) -> mizar_db::listing::Predicate<Self::Table> {
                use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
                Box::new($table::id.eq(id).nullable())
            }

            fn by_ids(ids: Vec<uuid::Uuid>) -> mizar_db::listing::Predicate<Self::Table> {
                use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
                Box::new($table::id.eq_any(ids).nullable())
            }

            fn id(&self) -> uuid::Uuid {
                self.id
            }

            fn project(&self) -> Option<uuid::Uuid> {
                $crate::stored!(@project $kind self)
            }

            fn revision(&self) -> i64 {
                $crate::stored!(@revision $kind self)
            }
        }

        impl $crate::frame::stored::Stored for $row {
            const TABLE: &'static str = stringify!($table);
            const ID: &'static str = concat!(stringify!($table), ".id");
            const OWNED: bool = $owned;

            fn map() -> &'static $crate::frame::attribute::AttributeMap<$crate::frame::plain::Item<Self>> {
                use $crate::frame::attribute::AttributeMap;
                use $crate::frame::plain::{Item, Plain};
                static MAP: std::sync::LazyLock<AttributeMap<Item<$row>>> =
                    std::sync::LazyLock::new(|| AttributeMap::new(<$row as Plain>::attributes()));
                &MAP
            }

            async fn insert(
                conn: &mut diesel_async::AsyncPgConnection,
                rows: &[Self],
            ) -> diesel::QueryResult<Vec<Self>> {
                use diesel::{ExpressionMethods as _, SelectableHelper as _};
                let values: Vec<_> =
                    rows.iter().map(|row| ($table::id.eq(row.id), $($table::$column.eq(&row.$column),)*)).collect();
                let statement = diesel::insert_into($table::table).values(values).returning(Self::as_returning());
                let mut made: Vec<Self> = diesel_async::RunQueryDsl::get_results(statement, conn).await?;
                made.sort_by_key(|made| rows.iter().position(|row| row.id == made.id));
                Ok(made)
            }

            async fn store(conn: &mut diesel_async::AsyncPgConnection, row: &Self) -> diesel::QueryResult<Self> {
                use diesel::{ExpressionMethods as _, QueryDsl as _, SelectableHelper as _};
                let statement = diesel::update($table::table.find(row.id))
                    .set($crate::stored!(@set $kind $table row $($column)*))
                    .returning(Self::as_returning());
                diesel_async::RunQueryDsl::get_result(statement, conn).await
            }

            async fn erase(conn: &mut diesel_async::AsyncPgConnection, id: uuid::Uuid) -> diesel::QueryResult<()> {
                use diesel::QueryDsl as _;
                let statement = diesel::delete($table::table.find(id));
                diesel_async::RunQueryDsl::execute(statement, conn).await.map(|_| ())
            }

            async fn lock(
                conn: &mut diesel_async::AsyncPgConnection,
                id: uuid::Uuid,
            ) -> diesel::QueryResult<Option<()>> {
                use diesel::{OptionalExtension as _, QueryDsl as _};
                let statement = diesel::QueryDsl::select($table::table.find(id), $table::id).for_update();
                let locked: Option<uuid::Uuid> =
                    diesel_async::RunQueryDsl::get_result(statement, conn).await.optional()?;
                Ok(locked.map(|_| ()))
            }
        }
    };

    (@project owned $row:ident) => { Some($row.project_id) };
    (@project $other:ident $row:ident) => { None };
    (@revision bare $row:ident) => { 0 };
    (@revision $other:ident $row:ident) => { $row.revision_number };
    (@set bare $table:ident $row:ident $($column:ident)*) => { ($($table::$column.eq(&$row.$column),)*) };
    (@set $kind:ident $table:ident $row:ident $($column:ident)*) => {
        (
            $($table::$column.eq(&$row.$column),)*
            $table::revision_number.eq($table::revision_number + 1),
            $table::updated_at.eq(diesel::dsl::now),
        )
    };
}
