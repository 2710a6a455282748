//! RBAC policies: whom an object is shared with (Neutron's `rbac-policies`).
//!
//! What a policy does is in `mizar_db::sharing`: it enters every query of a resource that names its
//! `SHARED_AS`. Here stand the rules of who may make one, and when it is still needed.

use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, one_of, plain, words};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::Tx;
use crate::{column, standard, stored};
use diesel::sql_types::{Array, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension as _, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use mizar_db::listing::{self, Visibility};
use mizar_db::resources::l3::{self, NOBODY};
use mizar_db::resources::network::{self, Hold};
use mizar_db::resources::qos::QOS_POLICY;
use mizar_db::sharing::{EXTERNAL, SHARED};
use serde_json::Value;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A policy.
    pub struct RbacPolicy in rbac_policies: owned {
        object_type: String as Text,
        object_id: Uuid as Uuid,
        target_project: Option<Uuid> as Nullable<Uuid>,
        action: String as Text,
    }
}

/// What can be shared. A resource that names a `SHARED_AS` has its line here.
struct Sharable {
    object_type: &'static str,
    table: &'static str,
    /// Error type of an object that is not there.
    not_found: &'static str,
    /// Where objects of others refer to it.
    used_by: &'static [Use],
}

/// Objects that need what a policy allows.
struct Use {
    /// What they are.
    what: &'static str,
    /// A table with their `project_id`.
    table: &'static str,
    /// Its column that names the shared object.
    column: &'static str,
    /// The actions any one of which lets a project have them.
    by: &'static [&'static str],
}

const fn shared(what: &'static str, table: &'static str, column: &'static str) -> Use {
    Use { what, table, column, by: &[SHARED] }
}

/// Who sees an external network may have his routers' outside there, however he came to see it.
const fn outside(what: &'static str, table: &'static str, column: &'static str) -> Use {
    Use { what, table, column, by: &[SHARED, EXTERNAL] }
}

const SHARABLE: &[Sharable] = &[
    Sharable {
        object_type: "address_group",
        table: "address_groups",
        not_found: "AddressGroupNotFound",
        used_by: &[shared("rules", "security_group_rules", "remote_address_group_id")],
    },
    Sharable {
        object_type: "address_scope",
        table: "address_scopes",
        not_found: "AddressScopeNotFound",
        used_by: &[shared("subnetpools", "subnetpools", "address_scope_id")],
    },
    Sharable {
        object_type: "network",
        table: "networks",
        not_found: "NetworkNotFound",
        // Ports of gateways and floating IPs belong to nobody: whose router or floating IP it is counts.
        used_by: &[
            shared("ports", "ports", "network_id"),
            shared("subnets", "subnets", "network_id"),
            outside("routers", "routers", "gateway_network_id"),
            outside("floating IPs", "floatingips", "floating_network_id"),
        ],
    },
    Sharable {
        object_type: QOS_POLICY,
        table: "qos_policies",
        not_found: "QosPolicyNotFound",
        used_by: &[
            shared("networks", "networks", "qos_policy_id"),
            shared("ports", "(SELECT * FROM port_qos_policies JOIN ports ON id = port_id)", "qos_policy_id"),
            shared("floating IPs", "floatingips", "qos_policy_id"),
            shared("routers", "routers", "gateway_qos_policy_id"),
        ],
    },
    Sharable {
        object_type: "security_group",
        table: "security_groups",
        not_found: "SecurityGroupNotFound",
        used_by: &[
            shared("ports", "(SELECT * FROM port_security_groups JOIN ports ON id = port_id)", "security_group_id"),
            shared("rules", "security_group_rules", "remote_group_id"),
        ],
    },
    Sharable {
        object_type: "subnetpool",
        table: "subnetpools",
        not_found: "SubnetPoolNotFound",
        used_by: &[shared("subnets", "subnets", "subnetpool_id")],
    },
];

fn sharable(object_type: &str) -> Option<&'static Sharable> {
    SHARABLE.iter().find(|sharable| sharable.object_type == object_type)
}

/// A name of [`SHARABLE`].
struct ObjectType(String);

impl Decode for ObjectType {
    fn decode(value: &Value) -> Result<Self, String> {
        one_of(value, names(), |name| name).map(|name| Self(name.to_owned()))
    }

    fn schema() -> RefOr<Schema> {
        words(names())
    }
}

fn names() -> Vec<&'static str> {
    SHARABLE.iter().map(|sharable| sharable.object_type).collect()
}

/// What the target may do.
struct Permission(String);

impl Decode for Permission {
    fn decode(value: &Value) -> Result<Self, String> {
        one_of(value, [SHARED, EXTERNAL], |action| action).map(|action| Self(action.to_owned()))
    }

    fn schema() -> RefOr<Schema> {
        words([SHARED, EXTERNAL])
    }
}

/// A project, or `*` for all.
struct Target(Option<Uuid>);

impl Decode for Target {
    fn decode(value: &Value) -> Result<Self, String> {
        if value.as_str() == Some("*") {
            return Ok(Self(None));
        }
        Uuid::decode(value).map(|project| Self(Some(project)))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).pattern(Some(r"^(\*|[0-9a-f]{32})$")).into()
    }
}

fn target(project: Option<Uuid>) -> String {
    project.map_or_else(|| "*".to_owned(), |project| project.simple().to_string())
}

/// Only administrators share with everybody.
fn may_target(fields: &Fields<'_>, verb: &str, Target(project): Target) -> Result<Option<Uuid>, Fault> {
    if project.is_none() && !fields.caller.has(Access::Admin) {
        return Err(Fault::forbidden(format!("{verb}_rbac_policy:target_tenant")));
    }
    Ok(project)
}

#[derive(QueryableByName)]
struct Owner {
    #[diesel(sql_type = SqlUuid)]
    project_id: Uuid,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    used: bool,
}

impl RbacPolicy {
    /// Locks the object, so that nobody begins to use it meanwhile; whose it is.
    /// Only of objects that `whose` covers: who may not change an object does not lock it.
    async fn hold_object(&self, conn: &mut AsyncPgConnection, whose: Visibility) -> Result<Option<Uuid>, Fault> {
        let Some(kind) = sharable(&self.object_type) else { return Ok(None) };
        if kind.table == "networks" {
            // Commands on ports and subnets lock their network this way, not by its row.
            let held = network::lock(conn, whose, &[self.object_id], Hold::Alone).await?;
            return Ok(held.get(&self.object_id).map(|network| network.project_id));
        }
        let owner = match whose {
            Visibility::All => None,
            Visibility::Project(project) => Some(project),
            Visibility::Nothing => return Ok(None),
        };
        let statement = format!(
            "SELECT project_id FROM {} WHERE id = $1 AND ($2 IS NULL OR project_id = $2) FOR UPDATE",
            kind.table
        );
        let statement = sql_query(statement).bind::<SqlUuid, _>(self.object_id).bind::<Nullable<SqlUuid>, _>(owner);
        let found: Option<Owner> = statement.get_result(conn).await.optional()?;
        Ok(found.map(|owner| owner.project_id))
    }

    /// Refuses to take a policy away through which somebody uses the object.
    async fn refuse_if_used(&self, tx: &mut Tx<'_>, owner: Uuid) -> Result<(), Fault> {
        let Some(what) = used_by_others(tx, self, owner).await? else { return Ok(()) };
        let (id, object) = (self.id, self.object_id);
        Err(in_use(object, format!("{what} of policy {id}'s target use it.")))
    }
}

fn in_use(object: Uuid, details: String) -> Fault {
    let message = format!(
        "RBAC policy on object {object} cannot be removed because other objects depend on it. Details: {details}"
    );
    Fault::conflict("RbacPolicyInUse", message)
}

/// What projects that only this policy lets in, and that are not the owner's, use the object for.
async fn used_by_others(tx: &mut Tx<'_>, policy: &RbacPolicy, owner: Uuid) -> Result<Option<&'static str>, Fault> {
    let used_by = sharable(&policy.object_type).map_or(&[][..], |kind| kind.used_by);
    for Use { what, table, column, by } in used_by.iter().filter(|used| used.by.contains(&policy.action.as_str())) {
        let statement = format!(
            "SELECT EXISTS (SELECT FROM {table} u WHERE u.{column} = $1 AND u.project_id NOT IN ($2, $7) \
             AND ($3 IS NULL OR u.project_id = $3) AND NOT EXISTS (SELECT FROM rbac_policies o \
             WHERE o.object_type = $4 AND o.object_id = $1 AND o.id <> $5 AND o.action = ANY($6) \
             AND (o.target_project IS NULL OR o.target_project = u.project_id))) AS used"
        );
        let answer: Answer = sql_query(statement)
            .bind::<SqlUuid, _>(policy.object_id)
            .bind::<SqlUuid, _>(owner)
            .bind::<Nullable<SqlUuid>, _>(policy.target_project)
            .bind::<Text, _>(&policy.object_type)
            .bind::<SqlUuid, _>(policy.id)
            .bind::<Array<Text>, _>(*by)
            .bind::<SqlUuid, _>(NOBODY)
            .get_result(tx.conn)
            .await?;
        if answer.used {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// Refuses to stop sharing an object with everybody while somebody uses it whom no other policy lets
/// in. The policy for everybody is gone already, and the object is locked.
pub async fn refuse_if_others_use(
    tx: &mut Tx<'_>,
    object_type: &str,
    object_id: Uuid,
    owner: Uuid,
) -> Result<(), Fault> {
    let action = SHARED.to_owned();
    let gone = RbacPolicy { object_type: object_type.to_owned(), object_id, action, ..RbacPolicy::default() };
    match used_by_others(tx, &gone, owner).await? {
        Some(what) => Err(in_use(object_id, format!("{what} of other projects use it."))),
        None => Ok(()),
    }
}

type Attr = Attribute<Item<RbacPolicy>>;

impl Plain for RbacPolicy {
    type More = ();

    const SINGULAR: &'static str = "rbac_policy";
    const PLURAL: &'static str = "rbac_policies";
    const PATH: &'static str = "rbac-policies";
    const KIND: &'static str = "RbacPolicy";
    const NOT_FOUND: &'static str = "RbacPolicyNotFound";
    const QUOTA: Option<&'static str> = Some("rbac_policy");
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new("rbac-policies", "RBAC Policies", "Objects are shared with projects."),
        Extension::new("rbac-address-scope", "Address scope RBAC", "Address scopes are shared with projects."),
    ];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<RbacPolicy>, rbac_policies, RbacPolicy: id project);
        all.extend([
            column!(Item<RbacPolicy>, rbac_policies, RbacPolicy, object_type: String as ObjectType, unsorted)
                .required(),
            column!(Item<RbacPolicy>, rbac_policies, RbacPolicy, object_id: Uuid).required(),
            Attr::shown("target_tenant", Target::schema, |policy, out| out.put(&target(policy.row.target_project)))
                .about("The project that it is shared with; * is every project, for administrators only.")
                .required()
                .put()
                .filter(|raw| {
                    use diesel::{BoolExpressionMethods as _, ExpressionMethods as _};
                    use diesel::{IntoSql as _, NullableExpressionMethods as _};
                    let all = raw.iter().any(|text| text == "*");
                    let all = all.into_sql::<Bool>().and(rbac_policies::target_project.is_null());
                    let named = mizar_db::listing::parse_all::<Uuid>(raw);
                    Ok(Box::new(all.nullable().or(rbac_policies::target_project.eq_any(named))))
                }),
            column!(Item<RbacPolicy>, rbac_policies, RbacPolicy, action: String as Permission, unsorted).required(),
        ]);
        all
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let ObjectType(object_type) = fields.required("object_type")?;
        let Permission(action) = fields.required("action")?;
        let target = fields.required("target_tenant")?;
        if action == EXTERNAL && object_type != "network" {
            return Err(Fault::invalid("action", format!("'{EXTERNAL}' is for networks only")));
        }
        if action == EXTERNAL && !fields.caller.has(Access::Admin) {
            return Err(Fault::forbidden("create_rbac_policy:action"));
        }
        Ok(Self {
            object_id: fields.required("object_id")?,
            target_project: may_target(fields, "create", target)?,
            object_type,
            action,
            ..Self::new(fields)?
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        if let Some(target) = fields.optional("target_tenant")? {
            self.target_project = may_target(fields, "update", target)?;
        }
        Ok(())
    }

    /// The object before its policy, as whoever deletes the object does.
    async fn before_lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<(), Fault> {
        let policy: Option<Self> = listing::find(conn, Visibility::All, None, id).await?;
        match policy {
            Some(policy) => policy.hold_object(conn, Visibility::All).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// The object must be there, and the caller's own. What is not to be seen is not there.
    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        // Locks of several objects are taken in one order.
        let mut order: Vec<&Self> = rows.iter().collect();
        order.sort_by_key(|policy| policy.object_id);
        for policy in order {
            if policy.hold_object(tx.conn, tx.context.caller.own()).await?.is_none() {
                let kind = sharable(&policy.object_type).map_or("RbacPolicyNotFound", |kind| kind.not_found);
                let (kind_of, id) = (&policy.object_type, policy.object_id);
                return Err(Fault::not_found(kind, format!("{kind_of} {id} could not be found.")));
            }
        }
        Ok(())
    }

    async fn before_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &mut Self) -> Result<(), Fault> {
        match old.row.hold_object(tx.conn, Visibility::All).await? {
            Some(owner) if new.target_project != old.row.target_project => old.row.refuse_if_used(tx, owner).await,
            _ => Ok(()),
        }
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        match old.row.hold_object(tx.conn, Visibility::All).await? {
            Some(owner) => old.row.refuse_if_used(tx, owner).await?,
            None => return Ok(()),
        }
        if old.row.action == EXTERNAL {
            let RbacPolicy { id, object_id, .. } = old.row;
            // Without any such policy the network is nobody's outside any more, not even its owner's.
            if l3::is_outside_by(tx.conn, object_id, id).await? {
                let details =
                    format!("routers or floating IPs use the network, which only policy {id} makes external.");
                return Err(in_use(object_id, details));
            }
            network::closing(tx.conn, object_id, id).await?;
        }
        Ok(())
    }

    fn violation(constraint: &str, _: &Self) -> Option<Fault> {
        (constraint == "rbac_policies_once")
            .then(|| Fault::conflict("DuplicateRbacPolicy", "An RBAC policy already exists with those values."))
    }
}
