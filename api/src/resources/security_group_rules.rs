//! Rules of security groups. A rule belongs to its group's project, and is never changed but for
//! its description: clients delete it and make another.

use super::security_groups::{self, SecurityGroup};
use super::security_rule::{self, RuleRow as _, rule_attributes, rule_column, rule_row};
use super::{address_groups, address_groups::AddressGroup};
use crate::frame::attribute::{Attribute, Json, write_object};
use crate::frame::decode::Decode as _;
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::stored::Stored as _;
use crate::frame::tx::Tx;
use crate::{column, flag, standard, stored};
use diesel::{
    BoolExpressionMethods as _, ExpressionMethods as _, PgExpressionMethods as _, QueryDsl as _, QueryResult,
    SelectableHelper as _,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use mizar_db::listing::{self, Predicate};
use mizar_db::resources::policy;
use mizar_db::resources::security_group::{SECURITY_GROUP, SECURITY_GROUP_RULE};
use mizar_db::sharing;
use mizar_domain::security_group::RuleKey;
use mizar_domain::text::Name;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

stored! {
    /// A rule of a security group.
    pub struct SecurityGroupRule in security_group_rules: owned {
        security_group_id: Uuid as Uuid,
        belongs_to_default_sg: bool as Bool,
        description: String as Text,
        direction: String as Text,
        ethertype: String as Text,
        protocol: Option<String> as Nullable<Text>,
        protocol_number: Option<i16> as Nullable<Int2>,
        port_range_min: Option<i32> as Nullable<Int4>,
        port_range_max: Option<i32> as Nullable<Int4>,
        remote_ip_prefix: Option<ipnet::IpNet> as Nullable<Inet>,
        normalized_cidr: Option<ipnet::IpNet> as Nullable<Cidr>,
        remote_group_id: Option<Uuid> as Nullable<Uuid>,
        remote_address_group_id: Option<Uuid> as Nullable<Uuid>,
    }
}

rule_row!(SecurityGroupRule);

type Attr = Attribute<Item<SecurityGroupRule>>;

fn exists(id: Uuid) -> Fault {
    let message = format!("Security group rule already exists. Rule id is {id}.");
    Fault::conflict("SecurityGroupRuleExists", message)
}

impl Plain for SecurityGroupRule {
    type More = ();

    const SINGULAR: &'static str = "security_group_rule";
    const PLURAL: &'static str = "security_group_rules";
    const PATH: &'static str = "security-group-rules";
    const KIND: &'static str = "SecurityGroupRule";
    const NOT_FOUND: &'static str = "SecurityGroupRuleNotFound";
    const QUOTA: Option<&'static str> = Some(SECURITY_GROUP_RULE);
    // It is whose its group is.
    const NAMES_OWNER: bool = false;
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new(
            "security-groups-normalized-cidr",
            "Normalized CIDR of rules",
            "normalized_cidr shows the prefix without host bits.",
        ),
        Extension::new(
            "security-groups-remote-address-group",
            "Remote address groups",
            "Rules name the other side by address group.",
        ),
        Extension::new(
            "security-groups-rules-belongs-to-default-sg",
            "Rules of default groups",
            "belongs_to_default_sg tells and filters rules of default groups.",
        ),
    ];
    const LAZY: bool = true;

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<SecurityGroupRule>, security_group_rules, SecurityGroupRule:
            id project description);
        all.push(
            column!(Item<SecurityGroupRule>, security_group_rules, SecurityGroupRule, security_group_id: Uuid)
                .required(),
        );
        all.extend(rule_attributes!(Item<SecurityGroupRule>, security_group_rules, SecurityGroupRule));
        all.extend([
            rule_column!(Item<SecurityGroupRule>, security_group_rules, SecurityGroupRule,
                remote_group_id: Uuid as Uuid, "'00000000-0000-0000-0000-000000000000'" => diesel::sql_types::Uuid)
            .post(),
            rule_column!(Item<SecurityGroupRule>, security_group_rules, SecurityGroupRule, normalized_cidr: prefix),
            Attr::shown("belongs_to_default_sg", bool::schema, |rule, out| out.put(&rule.row.belongs_to_default_sg))
                .filter(flag!(security_group_rules::belongs_to_default_sg)),
        ]);
        all.extend(standard!(Item<SecurityGroupRule>, security_group_rules, SecurityGroupRule: revision times));
        all
    }

    /// Those of its own groups, and of the groups shared with it.
    fn visible(project: Uuid) -> Predicate<security_group_rules::table> {
        let group = "security_group_rules.security_group_id";
        Box::new(sharing::owned(Self::TABLE, project).or(sharing::shared_with(group, SECURITY_GROUP, project)))
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let missing = security_groups::missing;
        let group: Option<Uuid> = security_rule::reference(fields, "security_group_id", missing)?;
        let remote = security_rule::reference(fields, "remote_group_id", missing)?;
        let description: Option<Name> = fields.optional("description")?;
        let mut row = Self {
            security_group_id: group.ok_or_else(|| Fault::invalid("security_group_id", "it may not be null"))?,
            description: description.unwrap_or_default().into_string(),
            ..Self::new(fields)?
        };
        row.set(&security_rule::decode(fields, remote)?);
        Ok(row)
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("description", &mut self.description)
    }

    async fn before_list(tx: &mut Tx<'_>) -> Result<(), Fault> {
        security_groups::ensure_own_default(tx).await
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        let groups: BTreeSet<Uuid> = rows.iter().map(|row| row.security_group_id).collect();
        if groups.len() > 1 {
            let message = "Only allowed to update rules for one security profile at a time";
            return Err(Fault::refused(400, "SecurityGroupNotSingleGroupRules", message));
        }
        for id in groups {
            let group = security_groups::find_own(tx, id, "create_security_group_rule").await?;
            if rows.len() > 1 {
                let more = BTreeMap::from([(group.project_id, rows.len() as i64)]);
                tx.foresee(SECURITY_GROUP_RULE, &more).await?;
            }
            // Its row stays locked: rules of one group are made one after the other.
            if security_groups::raise(tx.conn, &[id]).await? == 0 {
                return Err(security_groups::missing(&id.to_string()));
            }
            for row in rows.iter_mut() {
                row.project_id = group.project_id;
                row.belongs_to_default_sg = group.is_default;
            }
            check_once(tx, id, rows).await?;
        }
        check_remotes(tx, rows).await
    }

    async fn after_create(tx: &mut Tx<'_>, rows: &[Self]) -> Result<(), Fault> {
        let made = rows.iter().map(|row| row.id).collect();
        match rows.first() {
            Some(row) => Ok(policy::widen(tx.conn, row.security_group_id, &made).await?),
            None => Ok(()),
        }
    }

    async fn after_update(tx: &mut Tx<'_>, _: &Item<Self>, new: &Self) -> Result<(), Fault> {
        security_groups::raise(tx.conn, &[new.security_group_id]).await?;
        Ok(())
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        let group = old.row.security_group_id;
        security_groups::raise(tx.conn, &[group]).await?;
        Ok(policy::narrow(tx.conn, &[group], |rule| rule.id == old.row.id).await?)
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        let named = |id: Option<Uuid>| id.unwrap_or_default().to_string();
        match constraint {
            "security_group_rules_once" => Some(exists(row.id)),
            "security_group_rules_remote_group_id_fkey" => Some(security_groups::missing(&named(row.remote_group_id))),
            "security_group_rules_remote_address_group_id_fkey" => {
                Some(address_groups::missing(&named(row.remote_address_group_id)))
            }
            _ => None,
        }
    }
}

/// No two rules of a group let the same packets pass.
async fn check_once(tx: &mut Tx<'_>, group: Uuid, rows: &[SecurityGroupRule]) -> Result<(), Fault> {
    let there = of_groups(tx.conn, &[group]).await?;
    let mut known: BTreeMap<RuleKey, Uuid> = BTreeMap::new();
    for row in &there {
        known.insert(row.rule()?.key(), row.id);
    }
    for row in rows {
        if let Some(id) = known.insert(row.rule()?.key(), row.id) {
            let in_request = rows.iter().any(|row| row.id == id);
            let twice =
                || Fault::conflict("DuplicateSecurityGroupRuleInPost", "Duplicate Security Group Rule in POST.");
            return Err(if in_request { twice() } else { exists(id) });
        }
    }
    Ok(())
}

/// The groups that rules name as the other side must be visible.
async fn check_remotes(tx: &mut Tx<'_>, rows: &[SecurityGroupRule]) -> Result<(), Fault> {
    let groups: BTreeSet<Uuid> = rows.iter().filter_map(|row| row.remote_group_id).collect();
    // Nobody takes away meanwhile what is shared with the caller.
    security_groups::keep(tx.conn, &groups).await?;
    for id in groups {
        let found = listing::find::<SecurityGroup>(tx.conn, tx.context.view, None, id).await?;
        found.ok_or_else(|| security_groups::missing(&id.to_string()))?;
    }
    let groups: BTreeSet<Uuid> = rows.iter().filter_map(|row| row.remote_address_group_id).collect();
    address_groups::keep(tx.conn, &groups).await?;
    for id in groups {
        let found = listing::find::<AddressGroup>(tx.conn, tx.context.view, None, id).await?;
        found.ok_or_else(|| address_groups::missing(&id.to_string()))?;
    }
    Ok(())
}

/// The rules of groups, the oldest first.
pub async fn of_groups(conn: &mut AsyncPgConnection, groups: &[Uuid]) -> QueryResult<Vec<SecurityGroupRule>> {
    security_group_rules::table
        .filter(security_group_rules::security_group_id.eq_any(groups))
        .order((security_group_rules::created_at, security_group_rules::id))
        .select(SecurityGroupRule::as_select())
        .load(conn)
        .await
}

/// Deletes the rules of a group and those that name it as the other side; returns which, and whose they were.
pub async fn delete_with(conn: &mut AsyncPgConnection, group: Uuid) -> QueryResult<Vec<(Uuid, Uuid)>> {
    let rules = security_group_rules::table.filter(
        security_group_rules::security_group_id
            .eq(group)
            .or(security_group_rules::remote_group_id.is_not_distinct_from(group)),
    );
    let gone = (security_group_rules::id, security_group_rules::project_id);
    diesel::delete(rules).returning(gone).get_results(conn).await
}

/// Writes rules as their group shows them.
pub fn put_all(rules: &[Item<SecurityGroupRule>], out: &mut Json) {
    let map = SecurityGroupRule::map();
    let selection: Vec<_> = map.iter().filter_map(|attribute| Some((attribute.name, attribute.show?))).collect();
    out.raw("[");
    for (place, rule) in rules.iter().enumerate() {
        if place > 0 {
            out.raw(",");
        }
        write_object(rule, &selection, out);
    }
    out.raw("]");
}
