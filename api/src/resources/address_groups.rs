//! Address groups: ranges with a name, for rules of security groups.

use crate::frame::action::{Action, Input};
use crate::frame::attribute::Attribute;
use crate::frame::decode::{Decode, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain, shared_filter};
use crate::frame::stored::Stored as _;
use crate::frame::tx::Tx;
use crate::{column, standard, stored};
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use futures::FutureExt;
use futures::future::BoxFuture;
use ipnet::IpNet;
use mizar_db::resources::policy;
use mizar_domain::security_group::parse_prefix;
use mizar_domain::text::Name;
use serde_json::Value;
use std::collections::BTreeSet;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// An address group.
    pub struct AddressGroup in address_groups: owned {
        name: String as Text,
        description: String as Text,
        addresses: Vec<String> as Array<Text>,
    }
}

/// Ranges that one group may hold: a rule with it becomes as many entries of the data plane.
const ADDRESSES_MAX: usize = 1000;

/// An address or a range, of either version.
struct Range(IpNet);

impl Decode for Range {
    fn decode(value: &Value) -> Result<Self, String> {
        let net = value.as_str().and_then(|text| parse_prefix(text).ok());
        net.map(|net| Self(net.trunc())).ok_or_else(|| format!("'{}' is not a valid IP subnet.", shown(value)))
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::String).examples(["10.0.0.0/24"]).into()
    }
}

/// As they are stored: without host bits, in order, each once.
fn texts(ranges: Vec<Range>) -> BTreeSet<String> {
    ranges.into_iter().map(|Range(net)| net.to_string()).collect()
}

fn bounded(addresses: BTreeSet<String>) -> Result<Vec<String>, Fault> {
    if addresses.len() > ADDRESSES_MAX {
        let count = addresses.len();
        return Err(Fault::invalid("addresses", format!("{count} exceed the {ADDRESSES_MAX} of a group")));
    }
    Ok(addresses.into_iter().collect())
}

/// The answer for a group that is not there, or not to be seen.
pub fn missing(id: &str) -> Fault {
    Fault::not_found("AddressGroupNotFound", format!("Address group {id} could not be found."))
}

type Attr = Attribute<Item<AddressGroup>>;

impl Plain for AddressGroup {
    type More = ();

    const SINGULAR: &'static str = "address_group";
    const PLURAL: &'static str = "address_groups";
    const PATH: &'static str = "address-groups";
    const KIND: &'static str = "AddressGroup";
    const NOT_FOUND: &'static str = "AddressGroupNotFound";
    const QUOTA: Option<&'static str> = Some("address_group");
    const SHARED_AS: Option<&'static str> = Some("address_group");
    const EXTENSIONS: &'static [Extension] = &[
        Extension::new("address-group", "Address group", "Ranges with a name, for rules."),
        Extension::new("rbac-address-group", "Shared address groups", "Groups may be shared by RBAC."),
    ];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<AddressGroup>, address_groups, AddressGroup: id name);
        all.push(column!(Item<AddressGroup>, address_groups, AddressGroup, description: String as Name).writable());
        all.extend(standard!(Item<AddressGroup>, address_groups, AddressGroup: project));
        all.extend([
            Attr::shown("addresses", Vec::<Range>::schema, |group, out| out.put(&group.row.addresses))
                .about("Changed by add_addresses and remove_addresses.")
                .post(),
            Attr::shown("shared", bool::schema, |group, out| out.put(&group.shared))
                .about("With the caller's project, or with everybody, by RBAC.")
                .filter_in(shared_filter::<AddressGroup>),
        ]);
        all.extend(standard!(Item<AddressGroup>, address_groups, AddressGroup: revision times));
        all
    }

    fn actions() -> Vec<Action<Item<Self>>> {
        let inputs = || vec![Input::required::<Vec<Range>>("addresses")];
        vec![
            Action { inputs: inputs(), ..Action::put("add_addresses", "Add addresses", add_addresses) },
            Action { inputs: inputs(), ..Action::put("remove_addresses", "Remove addresses", remove_addresses) },
        ]
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let name: Option<Name> = fields.optional("name")?;
        let description: Option<Name> = fields.optional("description")?;
        Ok(Self {
            name: name.unwrap_or_default().into_string(),
            description: description.unwrap_or_default().into_string(),
            addresses: bounded(texts(fields.optional("addresses")?.unwrap_or_default()))?,
            ..Self::new(fields)?
        })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)?;
        fields.over("description", &mut self.description)
    }

    /// The groups whose rules name it, before itself: whoever makes a rule holds its group's row
    /// when he asks for this one.
    async fn before_lock(conn: &mut AsyncPgConnection, id: Uuid) -> Result<(), Fault> {
        policy::lock_naming_addresses(conn, id).await?;
        Ok(())
    }

    async fn after_create(tx: &mut Tx<'_>, rows: &[Self]) -> Result<(), Fault> {
        Ok(policy::publish_addresses(tx.conn, rows.iter().map(|row| row.id).collect()).await?)
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        Ok(policy::readdress(tx.conn, old.row.id, &old.row.addresses, None).await?)
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        let users = [
            "security_group_rules_remote_address_group_id_fkey",
            "default_security_group_rules_remote_address_group_id_fkey",
        ];
        users.contains(&constraint).then(|| {
            let message = format!("Address group {} is in use on one or more security group rules.", row.id);
            Fault::conflict("AddressGroupInUse", message)
        })
    }
}

/// Keeps groups from being deleted, and from being taken away from those they are shared with.
pub async fn keep(conn: &mut AsyncPgConnection, ids: &BTreeSet<Uuid>) -> QueryResult<()> {
    if !ids.is_empty() {
        let these = address_groups::table.filter(address_groups::id.eq_any(ids)).order(address_groups::id);
        let _there: Vec<Uuid> = these.select(address_groups::id).for_key_share().load(conn).await?;
    }
    Ok(())
}

/// `'10.0.0.1/32', '10.0.0.2/32'`.
fn listed<'s>(addresses: impl Iterator<Item = &'s String>) -> String {
    addresses.map(|address| format!("'{address}'")).collect::<Vec<_>>().join(", ")
}

fn add_addresses<'t>(
    tx: &'t mut Tx<'_>,
    group: Item<AddressGroup>,
    body: &'t mut Fields<'_>,
) -> BoxFuture<'t, Result<Value, Fault>> {
    async move {
        let new = texts(body.required("addresses")?);
        let old: BTreeSet<String> = group.row.addresses.iter().cloned().collect();
        let twice = listed(new.intersection(&old));
        if !twice.is_empty() {
            let message = format!("Addresses {twice} already exist in the address group {}.", group.row.id);
            return Err(Fault::refused(400, "AddressesAlreadyExist", message));
        }
        store(tx, group.row, old.into_iter().chain(new).collect()).await
    }
    .boxed()
}

fn remove_addresses<'t>(
    tx: &'t mut Tx<'_>,
    group: Item<AddressGroup>,
    body: &'t mut Fields<'_>,
) -> BoxFuture<'t, Result<Value, Fault>> {
    async move {
        let gone = texts(body.required("addresses")?);
        let old: BTreeSet<String> = group.row.addresses.iter().cloned().collect();
        let unknown = listed(gone.difference(&old));
        if !unknown.is_empty() {
            let message = format!("Addresses {unknown} not found in the address group {}.", group.row.id);
            return Err(Fault::not_found("AddressesNotFound", message));
        }
        store(tx, group.row, old.difference(&gone).cloned().collect()).await
    }
    .boxed()
}

async fn store(tx: &mut Tx<'_>, row: AddressGroup, addresses: BTreeSet<String>) -> Result<Value, Fault> {
    let addresses = bounded(addresses)?;
    policy::readdress(tx.conn, row.id, &row.addresses, Some(&addresses)).await?;
    AddressGroup::store(tx.conn, &AddressGroup { addresses, ..row }).await?;
    Ok(Value::Null)
}
