//! QoS policies: names for rules that networks, ports and floating IPs may have. Managers make them for
//! their project; operators share them with others.

use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::Decode;
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain, shared_filter};
use crate::frame::resource::{Context, Operations, Tx};
use crate::frame::standard::text_schema;
use crate::resources::rbac_policies::refuse_if_others_use;
use crate::{flag, standard, stored};
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;
use mizar_db::resources::qos::{self, QOS_POLICY};
use mizar_domain::qos::Rule;
use mizar_domain::text::{Name, Tags};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::{Array, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A QoS policy.
    pub struct QosPolicy in qos_policies: owned {
        name: String as Text,
        description: String as Text,
        is_default: bool as Bool,
        tags: Vec<String> as Array<Text>,
    }
}

/// A rule as its policy shows it.
fn shown(rule: &Rule) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), json!(rule.id));
    object.insert("qos_policy_id".into(), json!(rule.policy.uuid()));
    object.insert("type".into(), json!(rule.kind.as_str()));
    object.insert(rule.kind.amount().into(), json!(rule.amount));
    if let Some(name) = rule.kind.burst() {
        object.insert(name.into(), json!(rule.burst));
    }
    if let Some(direction) = &rule.direction {
        object.insert("direction".into(), json!(direction));
    }
    Value::Object(object)
}

fn rules_schema() -> RefOr<Schema> {
    let rule = ObjectBuilder::new().schema_type(Type::Object).property("id", Uuid::schema());
    let rule = rule.property("qos_policy_id", Uuid::schema()).property("type", text_schema());
    Array::new(rule.required("id").required("qos_policy_id").required("type")).into()
}

const EXTENSIONS: &[Extension] = &[
    Extension::stored_only("qos", "Quality of Service", "Policies with rules, for networks and ports."),
    Extension::stored_only("qos-default", "QoS default policy", "New networks of a project have its default policy."),
    Extension::stored_only("qos-fip", "Floating IP QoS", "Floating IPs have policies."),
    Extension::stored_only("qos-port-network-policy", "QoS network policy of ports", "Ports show their network's."),
];

type Attr = Attribute<Item<QosPolicy>>;

impl Plain for QosPolicy {
    type More = Vec<Value>;

    const SINGULAR: &'static str = "policy";
    const PLURAL: &'static str = "policies";
    const PATH: &'static str = "qos/policies";
    const KIND: &'static str = "QosPolicy";
    const NOT_FOUND: &'static str = "QosPolicyNotFound";
    const OPERATIONS: Operations = Operations { tags: true, ..Operations::MANAGED };
    const SHARED_AS: Option<&'static str> = Some(QOS_POLICY);
    const EXTENSIONS: &'static [Extension] = EXTENSIONS;

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<QosPolicy>, qos_policies, QosPolicy: id name description project);
        all.extend([
            Attr::shown("rules", rules_schema, |policy, out| out.put(&policy.more))
                .about("Made and changed below the policy."),
            Attr::shown("is_default", bool::schema, |policy, out| out.put(&policy.row.is_default))
                .about("New networks of the project have it; one a project.")
                .writable()
                .filter(flag!(qos_policies::is_default)),
            Attr::shown("shared", bool::schema, |policy, out| out.put(&policy.shared))
                .about("Every project may use it.")
                .writable()
                .sent_by(Access::Admin)
                .filter_in(shared_filter::<QosPolicy>),
        ]);
        all.extend(standard!(Item<QosPolicy>, qos_policies, QosPolicy: revision times tags));
        all
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            name: fields.optional::<Name>("name")?.unwrap_or_default().into_string(),
            description: fields.optional::<Name>("description")?.unwrap_or_default().into_string(),
            is_default: fields.optional("is_default")?.unwrap_or(false),
            tags: fields.optional::<Tags>("tags")?.unwrap_or_default().into_vec(),
            ..Self::new(fields)?
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)?;
        fields.over("description", &mut self.description)?;
        self.is_default = fields.optional("is_default")?.unwrap_or(self.is_default);
        Ok(())
    }

    async fn more(conn: &mut AsyncPgConnection, _: &Context, rows: &[Self]) -> QueryResult<Vec<Vec<Value>>> {
        let rules = qos::rules(conn, rows.iter().map(|row| row.id).collect()).await?;
        let of = |row: &Self| rules.iter().filter(|rule| rule.policy.uuid() == row.id).map(shown).collect();
        Ok(rows.iter().map(of).collect())
    }

    async fn after_unsharing(tx: &mut Tx<'_>, row: &Self) -> Result<(), Fault> {
        refuse_if_others_use(tx, QOS_POLICY, row.id, row.project_id).await
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        let policy = old.row.id;
        match qos::user_of(tx.conn, policy).await? {
            Some((kind, id)) => {
                Err(Fault::conflict("QosPolicyInUse", format!("QoS Policy {policy} is used by {kind} {id}.")))
            }
            None => Ok(()),
        }
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        (constraint == "qos_policies_default").then(|| {
            let message = format!("A default QoS policy exists for project {}.", row.project_id.simple());
            Fault::conflict("QoSPolicyDefaultAlreadyExists", message)
        })
    }
}
