//! A change of the rules of a security group, as somebody proposes it: which rules come, which go, or all that
//! there shall be.

use crate::frame::action::{self, Input};
use crate::frame::caller::Caller;
use crate::frame::context::Context;
use crate::frame::decode::{Decode, plain, shown};
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::openapi::parts::request;
use crate::resources::address_groups::{self, AddressGroup};
use crate::resources::security_groups::{self, SecurityGroup};
use crate::resources::security_rule;
use diesel_async::AsyncPgConnection;
use mizar_db::listing;
use mizar_db::resources::preview;
use mizar_domain::model::AddressGroup as Addresses;
use mizar_domain::policy::{Numbers, Rule};
use mizar_domain::security_group::{self, Direction};
use mizar_domain::text::Name;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

/// Rules of a request: as many as a group may be expected to have.
const RULES: usize = 1_000;

/// A rule as it is sent, not looked into yet.
struct Proposed(Value);

impl Decode for Proposed {
    fn decode(value: &Value) -> Result<Self, String> {
        match value {
            Value::Object(_) => Ok(Self(value.clone())),
            other => Err(format!("'{}' is not a dictionary.", shown(other))),
        }
    }

    fn schema() -> RefOr<Schema> {
        request(attributes())
    }
}

/// What a rule may say, as when it is made.
fn attributes() -> Vec<Input> {
    vec![
        Input::required::<Direction>("direction"),
        Input { name: "ethertype", required: false, schema: security_rule::ethertype_schema },
        Input::optional::<Option<Name>>("protocol"),
        Input::optional::<Option<i32>>("port_range_min"),
        Input::optional::<Option<i32>>("port_range_max"),
        Input::optional::<Option<Name>>("remote_ip_prefix"),
        Input::optional::<Option<Uuid>>("remote_group_id"),
        Input::optional::<Option<Uuid>>("remote_address_group_id"),
    ]
}

/// How many; the bound stands beside the use of it.
struct Count(usize);

impl Decode for Count {
    fn decode(value: &Value) -> Result<Self, String> {
        let number = i64::decode(value)?;
        let (most, _) = super::preview::LIMIT;
        let fits = usize::try_from(number).ok().filter(|count| (1..=most).contains(count));
        fits.map(Self).ok_or_else(|| format!("'{number}' is not between 1 and {most}"))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(1)).maximum(Some(super::preview::LIMIT.0 as f64)).into()
    }
}

/// For so long hosts are asked.
struct Seconds(u64);

impl Decode for Seconds {
    fn decode(value: &Value) -> Result<Self, String> {
        let most = super::preview::WAIT_S;
        let number = i64::decode(value)?;
        let fits = u64::try_from(number).ok().filter(|seconds| (1..=most).contains(seconds));
        fits.map(Self).ok_or_else(|| format!("'{number}' is not between 1 and {most}"))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).minimum(Some(1)).maximum(Some(super::preview::WAIT_S as f64)).into()
    }
}

/// What may be sent.
pub fn inputs() -> Vec<Input> {
    vec![
        Input::optional::<Vec<Proposed>>("add"),
        Input::optional::<Vec<Uuid>>("remove"),
        Input::optional::<Vec<Proposed>>("rules"),
        Input::optional::<Count>("limit"),
        Input::optional::<Uuid>("marker"),
        Input::optional::<Seconds>("wait_seconds"),
    ]
}

/// What is proposed, and of which ports it is asked.
pub struct Change {
    /// These come.
    add: Vec<security_group::Rule>,
    /// Which go; `None`: all of those that there are.
    remove: Option<BTreeSet<Uuid>>,
    /// Ports of the answer at most.
    pub limit: usize,
    /// Only ports after this one.
    pub marker: Option<Uuid>,
    /// So long hosts are asked; those that have not answered then are silent.
    pub patience: Duration,
}

impl Change {
    /// Reads it, strictly.
    pub fn decode(caller: &Caller, body: &Value) -> Result<Self, Fault> {
        let mut fields = action::open(&inputs(), Some("preview"), caller, body)?;
        let add: Option<Vec<Proposed>> = fields.optional("add")?;
        let remove: Option<Vec<Uuid>> = fields.optional("remove")?;
        let whole: Option<Vec<Proposed>> = fields.optional("rules")?;
        let limit = fields.optional("limit")?.map_or(super::preview::LIMIT.1, |Count(limit)| limit);
        let marker = fields.optional("marker")?;
        let wait_s = fields.optional("wait_seconds")?.map_or(super::preview::WAIT_S, |Seconds(seconds)| seconds);
        fields.done()?;
        let (name, proposed, remove) = match (whole, add, remove) {
            (Some(whole), None, None) => ("rules", whole, None),
            (Some(_), ..) => {
                let reason = "it is all rules that the group shall have: 'add' and 'remove' do not stand beside it";
                return Err(Fault::invalid("rules", reason));
            }
            (None, None, None) => {
                return Err(Fault::bad_request("Which change? 'add' and 'remove' say it, or 'rules'"));
            }
            (None, add, remove) => {
                let remove: BTreeSet<Uuid> = remove.into_iter().flatten().collect();
                ("add", add.unwrap_or_default(), Some(remove))
            }
        };
        if proposed.len() > RULES {
            return Err(Fault::invalid(name, format!("{} rules are more than {RULES}", proposed.len())));
        }
        let add = proposed.iter().map(|Proposed(rule)| read(caller, rule)).collect::<Result<_, _>>()?;
        Ok(Self { add, remove, limit, marker, patience: Duration::from_secs(wait_s) })
    }

    /// The rules that the group would have, and the address groups that new ones name.
    pub async fn rules(
        &self,
        conn: &mut AsyncPgConnection,
        context: &Context,
        old: &[Rule],
    ) -> Result<(Vec<Rule>, Vec<Addresses>), Fault> {
        let remove = self.remove.as_ref();
        if let Some(unknown) = remove.into_iter().flatten().find(|id| old.iter().all(|rule| rule.id != **id)) {
            return Err(Fault::invalid("remove", format!("the group has no rule {unknown}")));
        }
        let stays = |rule: &&Rule| remove.is_some_and(|remove| !remove.contains(&rule.id));
        let mut rules: Vec<Rule> = old.iter().filter(stays).copied().collect();
        let groups: BTreeSet<Uuid> = self.add.iter().filter_map(|rule| rule.remote.group).collect();
        if let Some(id) = listing::first_unseen::<SecurityGroup>(conn, context.view, &groups).await? {
            return Err(security_groups::missing(&id.to_string()));
        }
        let addresses: BTreeSet<Uuid> = self.add.iter().filter_map(|rule| rule.remote.addresses).collect();
        if let Some(id) = listing::first_unseen::<AddressGroup>(conn, context.view, &addresses).await? {
            return Err(address_groups::missing(&id.to_string()));
        }
        let groups = preview::group_numbers(conn, &groups).await?;
        let addresses = preview::address_groups(conn, &addresses).await?;
        for rule in &self.add {
            let numbers = Numbers {
                group: rule.remote.group.and_then(|id| groups.get(&id).copied()),
                addresses: rule.remote.addresses.and_then(|id| addresses.get(&id).map(|group| group.number)),
            };
            // What was deleted meanwhile lets nothing pass.
            rules.extend(Rule::of(Uuid::nil(), rule, numbers));
        }
        Ok((rules, addresses.into_values().collect()))
    }
}

fn read(caller: &Caller, rule: &Value) -> Result<security_group::Rule, Fault> {
    let mut fields: Fields<'_> = action::open(&attributes(), None, caller, rule)?;
    let group = security_rule::reference(&mut fields, "remote_group_id", security_groups::missing)?;
    let rule = security_rule::decode(&mut fields, group)?;
    fields.done()?;
    Ok(rule)
}
