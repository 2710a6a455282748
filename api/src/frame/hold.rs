//! The object that a request is about: found if the caller sees it; and, for whoever may write it, locked.

use super::action::Action;
use super::caller::{Access, Caller};
use super::context::Context;
use super::fault::Fault;
use super::place::Place;
use super::resource::Resource;
use super::tx::{Above, Tx};
use diesel_async::AsyncPgConnection;
use mizar_db::listing::{self, Listed};
use uuid::Uuid;

/// The object that a path means.
pub async fn resolve<R: Resource>(
    conn: &mut AsyncPgConnection,
    above: Option<Above>,
    raw: &str,
) -> Result<Uuid, Fault> {
    let name = raw.strip_suffix(".json").unwrap_or(raw);
    // PostgreSQL takes no NUL, and nothing has one in its name.
    let id = if name.contains('\0') { None } else { R::resolve(conn, above, name).await? };
    id.ok_or_else(|| R::missing(name))
}

/// The parent that the path names, if the resource is nested and the caller sees it.
pub(super) async fn above<R: Resource>(
    conn: &mut AsyncPgConnection,
    context: &Context,
    place: &Place,
) -> Result<Option<Above>, Fault> {
    match R::PARENT {
        Some(parent) => (parent.find)(conn, context, place.parent()).await.map(Some),
        None => Ok(None),
    }
}

/// One row that the caller sees.
async fn row<R: Resource>(
    conn: &mut AsyncPgConnection,
    context: &Context,
    above: Option<Above>,
    id: Uuid,
) -> Result<R::Row, Fault> {
    let within = R::PARENT.zip(above).map(|(parent, above)| (parent.within)(above.id));
    let row = listing::find::<R::Row>(conn, context.view, within, id).await?;
    row.ok_or_else(|| R::missing(&id.to_string()))
}

/// One object that the caller sees.
pub async fn find<R: Resource>(
    conn: &mut AsyncPgConnection,
    context: &Context,
    above: Option<Above>,
    id: Uuid,
) -> Result<R, Fault> {
    let row = row::<R>(conn, context, above, id).await?;
    R::complete(conn, context, vec![row]).await?.pop().ok_or_else(|| R::missing(&id.to_string()))
}

/// The object that a path names, if the caller sees it.
pub async fn find_at<R: Resource>(conn: &mut AsyncPgConnection, context: &Context, place: &Place) -> Result<R, Fault> {
    let above = above::<R>(conn, context, place).await?;
    let id = resolve::<R>(conn, above, place.id()).await?;
    find::<R>(conn, context, above, id).await
}

/// Whether the caller's roles, and his being the owner, allow a write.
pub(super) fn may_write<R: Resource>(
    caller: &Caller,
    access: Access,
    project: Option<Uuid>,
    rule: &str,
) -> Result<(), Fault> {
    let owned = project.is_some() && project == caller.project();
    if R::OPERATIONS.allow(caller, access) && (owned || R::OPERATIONS.anywhere(caller)) {
        Ok(())
    } else {
        Err(Fault::forbidden(rule))
    }
}

/// What is to be done to an object, and what that needs.
pub struct Right {
    access: Access,
    /// How a refusal names it: `update_port`.
    rule: String,
    /// That may be given to others than its owner too ([`Resource::may_be_deleted_by`]).
    deletes: bool,
}

impl Right {
    fn of<R: Resource>(verb: &str, access: Access) -> Self {
        Self { access, rule: format!("{verb}_{}", R::SINGULAR), deletes: false }
    }

    /// To change it.
    pub fn to_update<R: Resource>(access: Access) -> Self {
        Self::of::<R>("update", access)
    }

    /// To delete it.
    pub fn to_delete<R: Resource>(access: Access) -> Self {
        Self { deletes: true, ..Self::of::<R>("delete", access) }
    }

    /// To do this to it.
    pub fn to_act<R: Resource>(action: &Action<R>) -> Self {
        Self::of::<R>(action.name, action.access)
    }

    /// How a refusal names it.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// What a write wants.
pub struct Wish {
    /// Of which object.
    pub place: Place,
    /// To do what.
    pub right: Right,
    /// `If-Match`.
    pub revision: Option<i64>,
}

/// Locks an object and loads it, if the caller sees it and may change it.
pub async fn hold<R: Resource>(tx: &mut Tx<'_>, wish: &Wish) -> Result<(R::Held, R), Fault> {
    let above = above::<R>(tx.conn, tx.context, &wish.place).await?;
    let id = resolve::<R>(tx.conn, above, wish.place.id()).await?;
    let (held, old) = take::<R>(tx, above, id, &wish.right).await?;
    match wish.revision {
        Some(revision) if revision != old.row().revision() => Err(Fault::stale(revision)),
        _ => Ok((held, old)),
    }
}

/// The same of an id.
pub(super) async fn take<R: Resource>(
    tx: &mut Tx<'_>,
    above: Option<Above>,
    id: Uuid,
    Right { access, rule, deletes }: &Right,
) -> Result<(R::Held, R), Fault> {
    let (seen, caller) = (row::<R>(tx.conn, tx.context, above, id).await?, &tx.context.caller);
    let project = R::owner(tx.conn, &seen).await?.or(above.and_then(|above| above.project));
    if let Err(refused) = may_write::<R>(caller, *access, project, rule) {
        let may_ask = *deletes && R::OPERATIONS.allow(caller, *access);
        if !may_ask || !R::may_be_deleted_by(tx.conn, caller, &seen).await? {
            return Err(refused);
        }
    }
    tx.above = above;
    if let Some((parent, above)) = R::PARENT.zip(above) {
        (parent.hold)(tx.conn, above.id).await?;
    }
    let held = R::lock(tx.conn, id).await?.ok_or_else(|| R::missing(&id.to_string()))?;
    Ok((held, find::<R>(tx.conn, tx.context, above, id).await?))
}

/// Locks an object that another request of the caller's is about, if he sees it and may change it, and loads it.
pub async fn hold_within<R: Resource>(tx: &mut Tx<'_>, id: Uuid) -> Result<(R::Held, R), Fault> {
    take::<R>(tx, None, id, &Right::to_update::<R>(R::OPERATIONS.update.unwrap_or(Access::Admin))).await
}
