//! Security groups. What they come to for the data plane is written by `mizar_db::resources::policy`.
//!
//! A project has one default group, made when somebody first lists groups or rules, makes a group,
//! or makes a port that names none.

use super::security_group_rules::{self, SecurityGroupRule};
use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::Decode as _;
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain, shared_filter};
use crate::frame::resource::{Context, Operations};
use crate::frame::tx::Tx;
use crate::openapi::parts::named;
use crate::{flag, standard, stored};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use mizar_db::listing;
use mizar_db::resources::policy;
use mizar_db::resources::security_group::{
    DEFAULT_NAME, SECURITY_GROUP, SECURITY_GROUP_RULE, add_templates, ensure_defaults,
};
use mizar_db::schema::port_security_groups;
use mizar_domain::text::{Name, Tags};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::openapi::schema::Array;
use uuid::Uuid;

stored! {
    /// A security group.
    pub struct SecurityGroup in security_groups: owned {
        name: String as Text,
        description: String as Text,
        stateful: bool as Bool,
        is_default: bool as Bool,
        tags: Vec<String> as Array<Text>,
    }
}

type Attr = Attribute<Item<SecurityGroup>>;

/// The answer for a group that is not there, or not to be seen.
pub fn missing(id: &str) -> Fault {
    Fault::not_found("SecurityGroupNotFound", format!("Security group {id} does not exist"))
}

fn in_use(id: Uuid) -> Fault {
    Fault::conflict("SecurityGroupInUse", format!("Security Group {id} in use."))
}

/// A name that a tenant may give: the default group is ours to make.
fn checked(name: Name) -> Result<String, Fault> {
    if name.as_str().eq_ignore_ascii_case(DEFAULT_NAME) {
        return Err(Fault::conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists."));
    }
    Ok(name.into_string())
}

impl Plain for SecurityGroup {
    /// Its rules.
    type More = Vec<Item<SecurityGroupRule>>;

    const SINGULAR: &'static str = SECURITY_GROUP;
    const PLURAL: &'static str = "security_groups";
    const PATH: &'static str = "security-groups";
    const KIND: &'static str = "SecurityGroup";
    const NOT_FOUND: &'static str = "SecurityGroupNotFound";
    const OPERATIONS: Operations = Operations::TENANT;
    const QUOTA: Option<&'static str> = Some(SECURITY_GROUP);
    const SHARED_AS: Option<&'static str> = Some(SECURITY_GROUP);
    const LAZY: bool = true;
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new("security-group", "security-group", "Ports have security groups."),
        Extension::new("stateful-security-group", "Stateful security group", "Groups may be stateless."),
        Extension::new("rbac-security-groups", "Shared security groups", "Groups may be shared by RBAC."),
        Extension::new(
            "security-groups-shared-filtering",
            "Security group filtering on the shared field",
            "shared=… finds groups.",
        ),
    ];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<SecurityGroup>, security_groups, SecurityGroup: id name description project);
        all.extend([
            Attr::shown("stateful", bool::schema, |group, out| out.put(&group.row.stateful))
                .about(
                    "Answers to what may pass may pass too, on every port that has any such group. Not changed while ports use \
                     the group.",
                )
                .writable()
                .filter(flag!(security_groups::stateful)),
            Attr::shown("shared", bool::schema, |group, out| out.put(&group.shared))
                .about("With the caller's project, or with everybody, by RBAC.")
                .filter_in(shared_filter::<SecurityGroup>),
            Attr::shown(
                "security_group_rules",
                || Array::new(named("SecurityGroupRule")).into(),
                |group, out| security_group_rules::put_all(&group.more, out),
            ),
        ]);
        all.extend(standard!(Item<SecurityGroup>, security_groups, SecurityGroup: revision times tags));
        all
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let name: Option<Name> = fields.optional("name")?;
        let description: Option<Name> = fields.optional("description")?;
        Ok(Self {
            name: checked(name.unwrap_or_default())?,
            description: description.unwrap_or_default().into_string(),
            stateful: fields.optional("stateful")?.unwrap_or(true),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        match fields.optional::<Name>("name")? {
            Some(name) if name.as_str() != self.name => {
                if self.is_default {
                    let message = "Updating default security group not allowed.";
                    return Err(Fault::conflict("SecurityGroupCannotUpdateDefault", message));
                }
                self.name = checked(name)?;
            }
            _ => {}
        }
        self.stateful = fields.optional("stateful")?.unwrap_or(self.stateful);
        fields.over("description", &mut self.description)
    }

    async fn more(conn: &mut AsyncPgConnection, _: &Context, rows: &[Self]) -> QueryResult<Vec<Self::More>> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut of_group: BTreeMap<Uuid, Self::More> = BTreeMap::new();
        for row in security_group_rules::of_groups(conn, &ids).await? {
            of_group.entry(row.security_group_id).or_default().push(Item { row, shared: false, more: () });
        }
        Ok(ids.iter().map(|id| of_group.remove(id).unwrap_or_default()).collect())
    }

    async fn before_list(tx: &mut Tx<'_>) -> Result<(), Fault> {
        ensure_own_default(tx).await
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        let projects: BTreeSet<Uuid> = rows.iter().map(|row| row.project_id).collect();
        Ok(ensure_defaults(tx.conn, &mut tx.ledger, &projects).await?)
    }

    async fn after_create(tx: &mut Tx<'_>, rows: &[Self]) -> Result<(), Fault> {
        Ok(add_templates(tx.conn, &mut tx.ledger, rows.iter().map(|row| row.id).collect()).await?)
    }

    async fn before_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &mut Self) -> Result<(), Fault> {
        if old.row.stateful == new.stateful {
            return Ok(());
        }
        let ports = port_security_groups::table.filter(port_security_groups::security_group_id.eq(new.id));
        let used: bool = diesel::select(diesel::dsl::exists(ports)).get_result(tx.conn).await?;
        if used { Err(in_use(new.id)) } else { Ok(()) }
    }

    async fn after_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &Self) -> Result<(), Fault> {
        if old.row.stateful == new.stateful {
            return Ok(());
        }
        Ok(policy::restate(tx.conn, new.id).await?)
    }

    /// Rules of other groups that name this one go with it, as in Neutron. That ports have it is
    /// found by their foreign key.
    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        if old.row.is_default && !tx.context.caller.has(Access::Admin) {
            let message = "Insufficient rights for removing default security group.";
            return Err(Fault::conflict("SecurityGroupCannotRemoveDefault", message));
        }
        let naming = policy::lock_naming(tx.conn, old.row.id).await?;
        policy::forget(tx.conn, old.row.id, &naming).await?;
        for (rule, project) in security_group_rules::delete_with(tx.conn, old.row.id).await? {
            tx.record("delete", SECURITY_GROUP_RULE, rule, Some(project), json!({}));
            tx.charge(project, SECURITY_GROUP_RULE, -1);
        }
        raise(tx.conn, &naming).await?;
        Ok(())
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        let users =
            ["port_security_groups_security_group_id_fkey", "default_security_group_rules_remote_group_id_fkey"];
        users.contains(&constraint).then(|| in_use(row.id))
    }
}

/// Makes the default group of the caller's project, if there is none.
pub async fn ensure_own_default(tx: &mut Tx<'_>) -> Result<(), Fault> {
    let own: BTreeSet<Uuid> = tx.context.caller.project().into_iter().collect();
    Ok(ensure_defaults(tx.conn, &mut tx.ledger, &own).await?)
}

/// A group that the caller sees (404) and may change (403).
pub async fn find_own(tx: &mut Tx<'_>, id: Uuid, rule: &str) -> Result<SecurityGroup, Fault> {
    let group = listing::find::<SecurityGroup>(tx.conn, tx.context.view, None, id).await?;
    let group = group.ok_or_else(|| missing(&id.to_string()))?;
    let caller = &tx.context.caller;
    if caller.project() == Some(group.project_id) || caller.has(Access::Admin) {
        Ok(group)
    } else {
        Err(Fault::forbidden(rule))
    }
}

/// Locks groups and raises their revision; returns how many there are.
pub async fn raise(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<usize> {
    if ids.is_empty() {
        return Ok(0);
    }
    diesel::update(security_groups::table.filter(security_groups::id.eq_any(ids)))
        .set((
            security_groups::revision_number.eq(security_groups::revision_number + 1),
            security_groups::updated_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await
}

/// Keeps groups from being deleted, and from being taken away from those they are shared with.
pub async fn keep(conn: &mut AsyncPgConnection, ids: &BTreeSet<Uuid>) -> QueryResult<()> {
    if !ids.is_empty() {
        let these = security_groups::table.filter(security_groups::id.eq_any(ids)).order(security_groups::id);
        let _there: Vec<Uuid> = these.select(security_groups::id).for_key_share().load(conn).await?;
    }
    Ok(())
}
