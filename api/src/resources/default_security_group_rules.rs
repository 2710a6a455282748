//! The rules that new security groups start with: an operator's, for the default groups of
//! projects, for the groups that tenants make, or both.

use super::security_rule::{self, RuleRow as _, rule_attributes, rule_row};
use super::{address_groups, address_groups::AddressGroup, security_groups, security_groups::SecurityGroup};
use crate::frame::attribute::Attribute;
use crate::frame::decode::Decode as _;
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::Operations;
use crate::frame::tx::Tx;
use crate::{column, flag, standard, stored};
use diesel::sql_types::Bool;
use diesel::{IntoSql as _, NullableExpressionMethods as _, QueryDsl as _, SelectableHelper as _};
use diesel_async::RunQueryDsl as _;
use mizar_db::listing::{self, Predicate, Visibility};
use mizar_domain::security_group::RuleKey;
use mizar_domain::text::Name;
use uuid::Uuid;

stored! {
    /// A rule that new security groups start with.
    pub struct DefaultRule in default_security_group_rules: common {
        description: String as Text,
        direction: String as Text,
        ethertype: String as Text,
        protocol: Option<String> as Nullable<Text>,
        protocol_number: Option<i16> as Nullable<Int2>,
        port_range_min: Option<i32> as Nullable<Int4>,
        port_range_max: Option<i32> as Nullable<Int4>,
        remote_ip_prefix: Option<ipnet::IpNet> as Nullable<Inet>,
        normalized_cidr: Option<ipnet::IpNet> as Nullable<Cidr>,
        remote_parent: bool as Bool,
        remote_group_id: Option<Uuid> as Nullable<Uuid>,
        remote_address_group_id: Option<Uuid> as Nullable<Uuid>,
        used_in_default_sg: bool as Bool,
        used_in_non_default_sg: bool as Bool,
    }
}

rule_row!(DefaultRule);

/// In `remote_group_id`: the members of the new group itself.
const PARENT: &str = "PARENT";

/// In the place of the parent's id, where rules are compared: no group has it.
const PARENT_ID: Uuid = Uuid::max();

type Attr = Attribute<Item<DefaultRule>>;

impl DefaultRule {
    fn remote(&self) -> Option<String> {
        if self.remote_parent { Some(PARENT.into()) } else { self.remote_group_id.map(|id| id.to_string()) }
    }

    fn key(&self) -> Result<RuleKey, Fault> {
        let mut rule = self.rule()?;
        rule.remote.group = rule.remote.group.or(self.remote_parent.then_some(PARENT_ID));
        Ok(rule.key())
    }

    /// Whether one group would get both.
    const fn meets(&self, other: &Self) -> bool {
        self.used_in_default_sg && other.used_in_default_sg
            || self.used_in_non_default_sg && other.used_in_non_default_sg
    }
}

fn exists(id: Uuid) -> Fault {
    let message = format!("Default Security group rule already exists. Rule id is {id}.");
    Fault::conflict("DefaultSecurityGroupRuleExists", message)
}

fn remote_filter(raw: &[String]) -> Result<Predicate<default_security_group_rules::table>, String> {
    use diesel::{BoolExpressionMethods as _, ExpressionMethods as _};
    let parent = raw.iter().any(|text| text == PARENT);
    let ids: Vec<Uuid> = listing::parse_all(raw);
    let of_parent = default_security_group_rules::remote_parent
        .eq(true)
        .and(default_security_group_rules::remote_parent.eq(parent));
    Ok(Box::new(of_parent.nullable().or(default_security_group_rules::remote_group_id.eq_any(ids).nullable())))
}

impl Plain for DefaultRule {
    type More = ();

    const SINGULAR: &'static str = "default_security_group_rule";
    const PLURAL: &'static str = "default_security_group_rules";
    const PATH: &'static str = "default-security-group-rules";
    const KIND: &'static str = "DefaultSecurityGroupRule";
    const NOT_FOUND: &'static str = "DefaultSecurityGroupRuleNotFound";
    const OPERATIONS: Operations = Operations { update: None, ..Operations::OPERATOR };
    const EXTENSIONS: &'static [Extension] = &[Extension::new(
        "security-groups-default-rules",
        "Default rules for security groups",
        "Operators choose the rules that new security groups start with.",
    )];

    /// They are everybody's.
    fn visible(_: Uuid) -> Predicate<default_security_group_rules::table> {
        Box::new(true.into_sql::<Bool>().nullable())
    }

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<DefaultRule>, default_security_group_rules, DefaultRule: id);
        all.push(
            column!(Item<DefaultRule>, default_security_group_rules, DefaultRule, description: String as Name, unsorted)
                .post(),
        );
        all.extend(rule_attributes!(Item<DefaultRule>, default_security_group_rules, DefaultRule));
        all.extend([
            Attr::shown("remote_group_id", Option::<Name>::schema, |rule, out| out.put(&rule.row.remote()))
                .about("PARENT: the members of the new group itself.")
                .post()
                .filter(remote_filter),
            Attr::shown("used_in_default_sg", bool::schema, |rule, out| out.put(&rule.row.used_in_default_sg))
                .about("Default groups of projects get it.")
                .post()
                .filter(flag!(default_security_group_rules::used_in_default_sg)),
            Attr::shown("used_in_non_default_sg", bool::schema, |rule, out| out.put(&rule.row.used_in_non_default_sg))
                .about("Groups that tenants make get it.")
                .post()
                .filter(flag!(default_security_group_rules::used_in_non_default_sg)),
        ]);
        all.extend(standard!(Item<DefaultRule>, default_security_group_rules, DefaultRule: revision times));
        all
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let remote: Option<Name> = fields.optional::<Option<Name>>("remote_group_id")?.flatten();
        let remote = remote.map(Name::into_string);
        let remote_parent = remote.as_deref() == Some(PARENT);
        let group = remote.filter(|_| !remote_parent);
        let group =
            group.map(|text| Uuid::try_parse(&text).map_err(|_| security_groups::missing(&text))).transpose()?;
        let description: Option<Name> = fields.optional("description")?;
        let mut row = Self {
            description: description.unwrap_or_default().into_string(),
            used_in_default_sg: fields.optional("used_in_default_sg")?.unwrap_or(false),
            used_in_non_default_sg: fields.optional("used_in_non_default_sg")?.unwrap_or(true),
            ..Self::new()
        };
        let mut rule = security_rule::decode(fields, group.or(remote_parent.then_some(PARENT_ID)))?;
        rule.remote.group = group;
        row.set(&rule);
        row.remote_parent = remote_parent;
        Ok(row)
    }

    fn update(&mut self, _: &mut Fields<'_>) -> Result<(), Fault> {
        Err(Fault::method_not_allowed())
    }

    async fn before_create(tx: &mut Tx<'_>, rows: &mut [Self]) -> Result<(), Fault> {
        let there: Vec<Self> = default_security_group_rules::table.select(Self::as_select()).load(tx.conn).await?;
        for (place, row) in rows.iter().enumerate() {
            let key = row.key()?;
            let same = |other: &Self| Ok::<bool, Fault>(other.meets(row) && other.key()? == key);
            for other in &rows[..place] {
                if same(other)? {
                    let message = "Duplicate Default Security Group Rule in POST.";
                    return Err(Fault::conflict("DuplicateDefaultSgRuleInPost", message));
                }
            }
            for other in &there {
                if same(other)? {
                    return Err(exists(other.id));
                }
            }
            if let Some(id) = row.remote_group_id {
                let found = listing::find::<SecurityGroup>(tx.conn, Visibility::All, None, id).await?;
                found.ok_or_else(|| security_groups::missing(&id.to_string()))?;
            }
            if let Some(id) = row.remote_address_group_id {
                let found = listing::find::<AddressGroup>(tx.conn, Visibility::All, None, id).await?;
                found.ok_or_else(|| address_groups::missing(&id.to_string()))?;
            }
        }
        Ok(())
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        let named = |id: Option<Uuid>| id.unwrap_or_default().to_string();
        match constraint {
            // Two operators at once.
            "default_security_group_rules_default" | "default_security_group_rules_other" => Some(exists(row.id)),
            "default_security_group_rules_remote_group_id_fkey" => {
                Some(security_groups::missing(&named(row.remote_group_id)))
            }
            "default_security_group_rules_remote_address_group_id_fkey" => {
                Some(address_groups::missing(&named(row.remote_address_group_id)))
            }
            _ => None,
        }
    }
}
