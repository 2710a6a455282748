//! Statements that diesel's builder cannot say, prepared once per connection.
//!
//! `diesel::sql_query` prepares its text anew at every execution: a second round trip and a
//! parse, which the tail (200 times a second) and every command would pay. What [`statement!`]
//! makes is a query like the builder's own: typed, bound, cached by its type.
//!
//! A prepared statement is planned anew at each execution as long as PostgreSQL expects to gain by
//! knowing the values, and the length of an array is such a value: planning then costs more than the
//! rest. Statements of commands hide it where it matters: `unnest((SELECT $1))` is planned once.

/// `statement!(Name { bind: RustType as SqlType } -> (RowSqlTypes) { "sql" bind "sql" })`: a query
/// whose text is the literals with a placeholder for each bind, in the order in which they stand.
macro_rules! statement {
    (
        $(#[$doc:meta])*
        $name:ident { $($field:ident : $rust:ty as $sql:ty),* $(,)? } -> $row:ty
        { $first:literal $($bind:ident $text:literal)* }
    ) => {
        $(#[$doc])*
        #[derive(diesel::query_builder::QueryId)]
        pub(crate) struct $name {
            $(pub(crate) $field: $rust,)*
        }

        impl diesel::query_builder::Query for $name {
            type SqlType = $row;
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                out.push_sql($first);
                $(
                    self.$bind(out.reborrow())?;
                    out.push_sql($text);
                )*
                Ok(())
            }
        }

        impl $name {
            $(
                fn $field<'b>(
                    &'b self,
                    mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
                ) -> diesel::QueryResult<()> {
                    out.push_bind_param::<$sql, _>(&self.$field)
                }
            )*
        }
    };
}
pub(crate) use statement;
