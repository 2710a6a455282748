//! Rules of QoS policies. Each kind is a resource below its policy, and most are reachable by their
//! own id too (Neutron's aliases); the kinds are in `qos_rule_kinds`, here is what they share.
//!
//! Whoever writes a rule holds its policy's row, so what is checked about all its rules together
//! stays true.

use super::qos_policies::QosPolicy;
use crate::frame::attribute::AttributeMap;
use crate::frame::decode::{Decode, one_of, plain, shown, words};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::parent;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::{Context, Operations, Resource, Tx};
use diesel::{BoolExpressionMethods as _, QueryResult};
use diesel_async::AsyncPgConnection;
use mizar_db::listing::{self, Predicate, Visibility};
use mizar_db::resources::qos::{self, QOS_POLICY};
use mizar_db::sharing;
use mizar_domain::qos::Rule;
use serde_json::Value;
use std::convert::Infallible;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// A number of kilobits or thousands of packets, as `integer` holds it.
pub struct Rate(pub i32);

impl Decode for Rate {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        match i32::try_from(number) {
            Ok(rate) if rate >= 0 => Ok(Self(rate)),
            _ if number < 0 => Err(format!("'{number}' is too small - must be at least '0'")),
            _ => Err(format!("'{number}' is too large - must be no larger than '{}'", i32::MAX)),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(0)).maximum(Some(i32::MAX)).into()
    }
}

/// Code points that Neutron takes: those that RFCs name.
const DSCP_MARKS: [i32; 21] = [0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 46, 48, 56];

/// A DSCP mark.
pub struct Dscp(pub i32);

impl Decode for Dscp {
    fn decode(value: &Value) -> Result<Self, String> {
        let mark = i64::decode(value)?;
        let known = DSCP_MARKS.into_iter().find(|known| i64::from(*known) == mark);
        known.map(Self).ok_or_else(|| format!("'{}' is not in {DSCP_MARKS:?}", shown(value)))
    }

    fn schema() -> RefOr<Schema> {
        let about = format!("One of {DSCP_MARKS:?}.");
        plain(Type::Integer).minimum(Some(0)).maximum(Some(56)).description(Some(about)).into()
    }
}

/// The direction of a rule, as the port's machine sees it; with `ANY` also both at once.
pub struct Direction<const ANY: bool>(pub String);

impl<const ANY: bool> Direction<ANY> {
    const WORDS: &'static [&'static str] = if ANY { &["any", "egress", "ingress"] } else { &["egress", "ingress"] };
}

impl<const ANY: bool> Default for Direction<ANY> {
    fn default() -> Self {
        Self("egress".into())
    }
}

impl<const ANY: bool> Decode for Direction<ANY> {
    fn decode(value: &Value) -> Result<Self, String> {
        one_of(value, Self::WORDS.iter().copied(), |word| word).map(|word| Self(word.to_owned()))
    }

    fn schema() -> RefOr<Schema> {
        words(Self::WORDS.iter().copied())
    }
}

/// A row of one kind of rules.
pub trait KindOfRule: Plain<More = ()> {
    /// As the domain sees it.
    fn rule(&self) -> Rule;
}

/// The rules that a project sees: those of the policies that it sees. `policy` is the column that
/// holds the policy's id.
pub fn visible<T: 'static>(policy: &'static str, project: Uuid) -> Predicate<T> {
    let own: Predicate<T> = sharing::below_own(policy, "qos_policies", project);
    Box::new(own.or(sharing::shared_with(policy, QOS_POLICY, project)))
}

/// Refuses rules that cannot stand beside those of their policy, or each other.
pub async fn check<R: KindOfRule>(tx: &mut Tx<'_>, rows: &[R]) -> Result<(), Fault> {
    let new: Vec<Rule> = rows.iter().map(KindOfRule::rule).collect();
    // All of one request are of one policy: the path names it.
    let policies = new.first().map(|rule| rule.policy.uuid()).into_iter().collect();
    let mut known = qos::rules(tx.conn, policies).await?;
    for rule in new {
        rule.check(&known)?;
        known.push(rule);
    }
    Ok(())
}

/// A kind of rules that are reached without naming their policy.
pub trait Aliased: KindOfRule {
    /// See [`Resource::SINGULAR`].
    const ALIAS: &'static str;
    /// See [`Resource::PLURAL`], also the path of Neutron's documentation.
    const ALIASES: &'static str;
    /// The path of Neutron's server.
    const ALIAS_PATH: &'static str;
    /// The path of Neutron's documentation.
    const ALIAS_ALSO: &'static str;
    /// See [`Resource::KIND`].
    const ALIAS_KIND: &'static str;
    /// See [`Resource::EXTENSIONS`].
    const ALIAS_EXTENSIONS: &'static [Extension];

    /// See [`Resource::map`].
    fn alias_map() -> &'static AttributeMap<Alias<Self>>;
}

/// A rule, reached by its own id.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias<R> {
    /// The row.
    pub row: R,
}

impl<R: Aliased> Resource for Alias<R> {
    type Row = R;
    type Create = Infallible;
    type Update = R;
    type Held = ();

    const SINGULAR: &'static str = R::ALIAS;
    const PLURAL: &'static str = R::ALIASES;
    const PATH: &'static str = R::ALIAS_PATH;
    const ALSO: Option<&'static str> = Some(R::ALIAS_ALSO);
    const KIND: &'static str = R::ALIAS_KIND;
    const NOT_FOUND: &'static str = R::NOT_FOUND;
    const TABLE: &'static str = R::TABLE;
    const OPERATIONS: Operations = Operations { create: None, ..Operations::MANAGED };
    const EXTENSIONS: &'static [Extension] = R::ALIAS_EXTENSIONS;

    fn map() -> &'static AttributeMap<Self> {
        R::alias_map()
    }

    fn row(&self) -> &R {
        &self.row
    }

    fn missing(id: &str) -> Fault {
        Item::<R>::missing(id)
    }

    fn decode_create(_: &mut Fields<'_>) -> Result<Infallible, Fault> {
        Err(Fault::method_not_allowed())
    }

    fn decode_update(fields: &mut Fields<'_>, old: &Self) -> Result<R, Fault> {
        let mut row = old.row.clone();
        row.update(fields)?;
        Ok(row)
    }

    async fn complete(_: &mut AsyncPgConnection, _: &Context, rows: Vec<R>) -> QueryResult<Vec<Self>> {
        Ok(rows.into_iter().map(|row| Self { row }).collect())
    }

    /// Its policy's owner.
    async fn owner(conn: &mut AsyncPgConnection, rule: &R) -> QueryResult<Option<Uuid>> {
        let policy: Option<QosPolicy> = listing::find(conn, Visibility::All, None, rule.rule().policy.uuid()).await?;
        Ok(policy.map(|policy| policy.project_id))
    }

    /// The policy first, as below it.
    async fn lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<Option<()>, Fault> {
        let rule: Option<R> = listing::find(conn, Visibility::All, None, id).await?;
        let Some(rule) = rule else { return Ok(None) };
        parent::hold::<Item<QosPolicy>>(conn, rule.rule().policy.uuid()).await?;
        Ok(R::lock(conn, id).await?)
    }

    async fn create(_: &mut Tx<'_>, _: &[Infallible]) -> Result<Vec<Self>, Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn update(tx: &mut Tx<'_>, (): (), _: Self, new: &R) -> Result<Self, Fault> {
        check(tx, std::slice::from_ref(new)).await?;
        Ok(Self { row: R::store(tx.conn, new).await? })
    }

    async fn delete(tx: &mut Tx<'_>, (): (), old: Self) -> Result<(), Fault> {
        Ok(R::erase(tx.conn, old.row.id()).await?)
    }
}
