//! A resource of the control plane alone: one table, its attributes, and hooks for its rules.
//!
//! [`stored!`] makes the row and its statements, [`Plain`] is what the author writes, and
//! [`Item`] is the [`Resource`] that the frame makes of both.
//!
//! [`stored!`]: crate::stored

use super::action::Action;
use super::attribute::{Attribute, AttributeMap};
use super::extension::Extension;
use super::fault::Fault;
use super::fields::Fields;
use super::parent::Parent;
use super::query::any_flag;
use super::resource::{Context, Operations, Resource};
use super::stored::Stored;
use super::tx::{Above, Tx};
use diesel::sql_types::Bool;
use diesel::{BoolExpressionMethods as _, IntoSql as _, NullableExpressionMethods as _, QueryResult};
use diesel_async::AsyncPgConnection;
use mizar_db::listing::Predicate;
use mizar_db::resources::violated;
use mizar_db::sharing;
use std::collections::BTreeSet;
use std::future::Future;
use uuid::Uuid;

/// A resource that is one table. Implemented on its row.
pub trait Plain: Stored {
    /// What answers need that the row does not hold; `()` if nothing.
    type More: Default + Send + Sync + 'static;

    /// See [`Resource::SINGULAR`].
    const SINGULAR: &'static str;
    /// See [`Resource::PLURAL`].
    const PLURAL: &'static str;
    /// See [`Resource::PATH`].
    const PATH: &'static str = Self::PLURAL;
    /// See [`Resource::KIND`].
    const KIND: &'static str;
    /// See [`Resource::NOT_FOUND`].
    const NOT_FOUND: &'static str;
    /// See [`Resource::OPERATIONS`].
    const OPERATIONS: Operations = Operations::UNTAGGED;
    /// See [`Resource::QUOTA`].
    const QUOTA: Option<&'static str> = None;
    /// See [`Resource::NAMES_OWNER`].
    const NAMES_OWNER: bool = true;
    /// See [`Resource::EXTENSIONS`].
    const EXTENSIONS: &'static [Extension] = &[];
    /// See [`Resource::LAZY`].
    const LAZY: bool = false;
    /// See [`Resource::PARENT`].
    const PARENT: Option<Parent<Item<Self>>> = None;
    /// See [`Resource::PAGE`].
    const PAGE: Option<usize> = None;
    /// Object type of the policies that share it. The map then has an attribute `shared`; where it
    /// may be written, the frame does that.
    const SHARED_AS: Option<&'static str> = None;

    /// Its attributes.
    fn attributes() -> Vec<Attribute<Item<Self>>>;

    /// See [`Resource::actions`].
    fn actions() -> Vec<Action<Item<Self>>> {
        Vec::new()
    }

    /// See [`Resource::tags`].
    fn tags(&self) -> &[String] {
        &[]
    }

    /// The rows that a project sees: its own and those shared with it. Of what belongs to no project, all
    /// where it lies below an object, since who gets there sees that object; else none, unless the
    /// resource says which.
    fn visible(project: Uuid) -> Predicate<Self::Table>
    where
        Self::Table: 'static,
    {
        let own: Predicate<Self::Table> = if Self::OWNED {
            sharing::owned(Self::TABLE, project)
        } else {
            Box::new(Self::PARENT.is_some().into_sql::<Bool>().nullable())
        };
        match Self::SHARED_AS {
            Some(object_type) => Box::new(own.or(sharing::shared_with(Self::ID, object_type, project))),
            None => own,
        }
    }

    /// A new row: `Ok(Self { name: fields.optional("name")?…, ..Self::new(fields)? })`.
    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault>;

    /// Changes the row as an update says.
    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault>;

    /// See [`Resource::resolve`].
    fn resolve(
        _conn: &mut AsyncPgConnection,
        _above: Option<Above>,
        raw: &str,
    ) -> impl Future<Output = QueryResult<Option<Uuid>>> + Send {
        std::future::ready(Ok(Uuid::try_parse(raw).ok()))
    }

    /// What other tables say about rows, in their order: one query for all.
    fn more(
        _conn: &mut AsyncPgConnection,
        _context: &Context,
        rows: &[Self],
    ) -> impl Future<Output = QueryResult<Vec<Self::More>>> + Send {
        std::future::ready(Ok(rows.iter().map(|_| Self::More::default()).collect()))
    }

    /// See [`Resource::before_list`].
    fn before_list(_tx: &mut Tx<'_>) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// Locks that everybody takes before that of the row.
    fn before_lock(_conn: &mut AsyncPgConnection, _id: Uuid) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// Checks and completes new rows before they are inserted.
    fn before_create(_tx: &mut Tx<'_>, _rows: &mut [Self]) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// What follows from a create.
    fn after_create(_tx: &mut Tx<'_>, _rows: &[Self]) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// Checks and completes an update of a locked row.
    fn before_update(
        _tx: &mut Tx<'_>,
        _old: &Item<Self>,
        _new: &mut Self,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// What follows from an update.
    fn after_update(
        _tx: &mut Tx<'_>,
        _old: &Item<Self>,
        _new: &Self,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// Whether a locked row may stop being shared with everybody, as it just did.
    fn after_unsharing(_tx: &mut Tx<'_>, _row: &Self) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// Whether a locked row may be deleted; deletes what goes with it.
    fn before_delete(_tx: &mut Tx<'_>, _old: &Item<Self>) -> impl Future<Output = Result<(), Fault>> + Send {
        std::future::ready(Ok(()))
    }

    /// What an insert or update that breaks a constraint means to the client; `None`: a mistake of
    /// ours, 500.
    fn violation(_constraint: &str, _row: &Self) -> Option<Fault> {
        None
    }
}

/// An object of a [`Plain`] resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<R: Plain> {
    /// The row.
    pub row: R,
    /// With the caller's project or with everybody.
    pub shared: bool,
    /// What other tables say.
    pub more: R::More,
}

/// A row to be inserted or stored, and what was sent about sharing it.
#[derive(Clone, Debug)]
pub struct Draft<R> {
    row: R,
    shared: Option<bool>,
}

fn refused<R: Plain>(error: diesel::result::Error, row: &R) -> Fault {
    violated(&error).and_then(|name| R::violation(name, row)).unwrap_or_else(|| error.into())
}

fn shared_wish<R: Plain>(fields: &mut Fields<'_>) -> Result<Option<bool>, Fault> {
    if R::SHARED_AS.is_some() { fields.optional("shared") } else { Ok(None) }
}

impl<R: Plain> Item<R> {
    async fn completed(
        conn: &mut AsyncPgConnection,
        context: &Context,
        rows: Vec<R>,
        shared: &BTreeSet<Uuid>,
    ) -> QueryResult<Vec<Self>> {
        let more = R::more(conn, context, &rows).await?;
        let items = rows.into_iter().zip(more);
        Ok(items.map(|(row, more)| Self { shared: shared.contains(&row.id()), row, more }).collect())
    }
}

impl<R: Plain> Resource for Item<R> {
    type Row = R;
    type Create = Draft<R>;
    type Update = Draft<R>;
    type Held = ();

    const SINGULAR: &'static str = R::SINGULAR;
    const PLURAL: &'static str = R::PLURAL;
    const PATH: &'static str = R::PATH;
    const KIND: &'static str = R::KIND;
    const NOT_FOUND: &'static str = R::NOT_FOUND;
    const TABLE: &'static str = R::TABLE;
    const OPERATIONS: Operations = R::OPERATIONS;
    const QUOTA: Option<&'static str> = R::QUOTA;
    const NAMES_OWNER: bool = R::NAMES_OWNER;
    const EXTENSIONS: &'static [Extension] = R::EXTENSIONS;
    const LAZY: bool = R::LAZY;
    const PARENT: Option<Parent<Self>> = R::PARENT;
    const PAGE: Option<usize> = R::PAGE;

    fn map() -> &'static AttributeMap<Self> {
        R::map()
    }

    fn actions() -> Vec<Action<Self>> {
        R::actions()
    }

    fn row(&self) -> &R {
        &self.row
    }

    fn tags(&self) -> &[String] {
        self.row.tags()
    }

    fn decode_create(fields: &mut Fields<'_>) -> Result<Draft<R>, Fault> {
        let shared = shared_wish::<R>(fields)?;
        Ok(Draft { row: R::create(fields)?, shared })
    }

    fn decode_update(fields: &mut Fields<'_>, old: &Self) -> Result<Draft<R>, Fault> {
        let shared = shared_wish::<R>(fields)?;
        let mut row = old.row.clone();
        row.update(fields)?;
        Ok(Draft { row, shared })
    }

    async fn resolve(conn: &mut AsyncPgConnection, above: Option<Above>, raw: &str) -> QueryResult<Option<Uuid>> {
        R::resolve(conn, above, raw).await
    }

    async fn complete(conn: &mut AsyncPgConnection, context: &Context, rows: Vec<R>) -> QueryResult<Vec<Self>> {
        let shared = match R::SHARED_AS {
            Some(object_type) => {
                let ids: Vec<Uuid> = rows.iter().map(R::id).collect();
                sharing::shared_among(conn, object_type, &ids, context.caller.project()).await?
            }
            None => BTreeSet::new(),
        };
        Self::completed(conn, context, rows, &shared).await
    }

    async fn before_list(tx: &mut Tx<'_>) -> Result<(), Fault> {
        R::before_list(tx).await
    }

    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<()>, Fault> {
        R::before_lock(conn, id).await?;
        Ok(R::lock(conn, id).await?)
    }

    async fn create(tx: &mut Tx<'_>, commands: &[Draft<R>]) -> Result<Vec<Self>, Fault> {
        let mut rows: Vec<R> = commands.iter().map(|draft| draft.row.clone()).collect();
        R::before_create(tx, &mut rows).await?;
        let made = R::insert(tx.conn, &rows).await.map_err(|error| refused(error, &rows[0]))?;
        let mut shared = BTreeSet::new();
        for (row, draft) in made.iter().zip(commands) {
            if let (Some(object_type), Some(true), Some(project)) = (R::SHARED_AS, draft.shared, row.project()) {
                sharing::share_with_all(tx.conn, &mut tx.ledger, object_type, row.id(), project, true).await?;
                shared.insert(row.id());
            }
        }
        R::after_create(tx, &made).await?;
        Ok(Self::completed(tx.conn, tx.context, made, &shared).await?)
    }

    async fn update(tx: &mut Tx<'_>, (): (), old: Self, draft: &Draft<R>) -> Result<Self, Fault> {
        let mut row = draft.row.clone();
        R::before_update(tx, &old, &mut row).await?;
        let row = R::store(tx.conn, &row).await.map_err(|error| refused(error, &row))?;
        if let (Some(object_type), Some(shared), Some(project)) = (R::SHARED_AS, draft.shared, row.project()) {
            sharing::share_with_all(tx.conn, &mut tx.ledger, object_type, row.id(), project, shared).await?;
            if old.shared && !shared {
                R::after_unsharing(tx, &row).await?;
            }
        }
        R::after_update(tx, &old, &row).await?;
        Self::complete(tx.conn, tx.context, vec![row])
            .await?
            .pop()
            .ok_or_else(|| Self::missing(&old.row.id().to_string()))
    }

    async fn delete(tx: &mut Tx<'_>, (): (), old: Self) -> Result<(), Fault> {
        R::before_delete(tx, &old).await?;
        if let Some(object_type) = R::SHARED_AS {
            sharing::forget(tx.conn, &mut tx.ledger, object_type, old.row.id()).await?;
        }
        R::erase(tx.conn, old.row.id()).await.map_err(|error| refused(error, &old.row))
    }
}

/// `shared=true` in a list query: `Attr::shown("shared", …).filter_in(shared_filter::<AddressScope>)`.
pub fn shared_filter<R: Plain>(context: &Context, raw: &[String]) -> Result<Predicate<R::Table>, String>
where
    R::Table: 'static,
{
    let object_type = R::SHARED_AS.unwrap_or_default();
    any_flag(raw, |flag| sharing::told_shared(R::ID, object_type, context.caller.project(), flag))
}
