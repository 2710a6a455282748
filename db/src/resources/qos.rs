//! QoS policies as other objects meet them: their rules, of whatever kind, and who has a policy.

use crate::statement::statement;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{Array, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_domain::qos::{Rule, RuleKind};
use uuid::Uuid;

/// Policies are shared as this.
pub const QOS_POLICY: &str = "qos_policy";

type RuleColumns = (SqlUuid, SqlUuid, Text, Nullable<Text>, Integer, Nullable<Integer>);

statement! {
    RulesOf { policies: Vec<Uuid> as Array<SqlUuid> } -> RuleColumns
    {
        "SELECT qos_policy_id, id, kind, direction, amount, burst FROM qos_rules WHERE qos_policy_id = ANY("
        policies ") ORDER BY created_at, id"
    }
}

statement! {
    /// Keeps a policy from being deleted, and from being taken away from those it is shared with.
    Keep { policy: Uuid as SqlUuid } -> SqlUuid
    { "SELECT id FROM qos_policies WHERE id = " policy " FOR KEY SHARE" }
}

statement! {
    DefaultOf { project: Uuid as SqlUuid } -> SqlUuid
    { "SELECT id FROM qos_policies WHERE is_default AND project_id = " project " FOR KEY SHARE" }
}

statement! {
    UserOf { policy: Uuid as SqlUuid } -> (Text, SqlUuid)
    {
        "WITH asked AS (SELECT " policy "::uuid AS policy) \
         SELECT 'network', n.id FROM networks n JOIN asked ON n.qos_policy_id = policy \
         UNION ALL SELECT 'port', p.port_id FROM port_qos_policies p JOIN asked ON p.qos_policy_id = policy \
         UNION ALL SELECT 'floatingip', f.id FROM floatingips f JOIN asked ON f.qos_policy_id = policy \
         UNION ALL SELECT 'router', r.id FROM routers r JOIN asked ON r.gateway_qos_policy_id = policy LIMIT 1"
    }
}

statement! {
    GivePorts { ports: Vec<Uuid> as Array<SqlUuid>, policies: Vec<Uuid> as Array<SqlUuid> } -> SqlUuid
    {
        "INSERT INTO port_qos_policies (port_id, qos_policy_id) SELECT * FROM unnest(" ports "::uuid[], " policies
        "::uuid[]) ON CONFLICT (port_id) DO UPDATE SET qos_policy_id = excluded.qos_policy_id"
    }
}

statement! {
    TakeFromPort { port: Uuid as SqlUuid } -> SqlUuid
    { "DELETE FROM port_qos_policies WHERE (port_id = " port ")" }
}

/// The rules of policies, the oldest first.
pub async fn rules(conn: &mut AsyncPgConnection, policies: Vec<Uuid>) -> QueryResult<Vec<Rule>> {
    type Columns = (Uuid, Uuid, String, Option<String>, i32, Option<i32>);
    let rows: Vec<Columns> = RulesOf { policies }.load(conn).await?;
    let rule = |(policy, id, kind, direction, amount, burst): Columns| {
        let unknown = || Error::DeserializationError(format!("'{kind}' is no kind of QoS rules").into());
        let kind = RuleKind::named(&kind).ok_or_else(unknown)?;
        Ok(Rule { policy: policy.into(), id, kind, direction, amount, burst })
    };
    rows.into_iter().map(rule).collect()
}

/// Keeps a policy as it is to others until the end of the transaction.
pub async fn keep(conn: &mut AsyncPgConnection, policy: Uuid) -> QueryResult<()> {
    Keep { policy }.execute(conn).await.map(drop)
}

/// The policy that new networks of a project have. It stays until the end of the transaction.
pub async fn default_of(conn: &mut AsyncPgConnection, project: Uuid) -> QueryResult<Option<Uuid>> {
    DefaultOf { project }.get_result(conn).await.optional()
}

/// Something that has a policy: its kind and id.
pub async fn user_of(conn: &mut AsyncPgConnection, policy: Uuid) -> QueryResult<Option<(String, Uuid)>> {
    UserOf { policy }.get_result(conn).await.optional()
}

/// Gives a port a policy, another one, or takes it away.
pub async fn set_of_port(conn: &mut AsyncPgConnection, port: Uuid, policy: Option<Uuid>) -> QueryResult<()> {
    match policy {
        Some(policy) => give_ports(conn, vec![port], vec![policy]).await,
        None => TakeFromPort { port }.execute(conn).await.map(drop),
    }
}

/// Gives each port its policy.
pub async fn give_ports(conn: &mut AsyncPgConnection, ports: Vec<Uuid>, policies: Vec<Uuid>) -> QueryResult<()> {
    GivePorts { ports, policies }.execute(conn).await.map(drop)
}
