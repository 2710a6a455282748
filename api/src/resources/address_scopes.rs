//! Address scopes: subnet pools of one scope do not overlap, and what lies in it may be routed.

use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::{Decode, plain};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain, shared_filter};
use crate::{column, standard, stored};
use mizar_domain::text::Name;
use serde_json::Value;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{RefOr, Schema};

stored! {
    /// An address scope.
    pub struct AddressScope in address_scopes: owned {
        name: String as Text,
        ip_version: i16 as Int2,
    }
}

/// 4 or 6.
struct IpVersion(i16);

impl Decode for IpVersion {
    fn decode(value: &Value) -> Result<Self, String> {
        match i64::decode(value)? {
            4 => Ok(Self(4)),
            6 => Ok(Self(6)),
            other => Err(format!("'{other}' is not in [4, 6]")),
        }
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer).enum_values(Some([4, 6])).into()
    }
}

type Attr = Attribute<Item<AddressScope>>;

impl Plain for AddressScope {
    type More = ();

    const SINGULAR: &'static str = "address_scope";
    const PLURAL: &'static str = "address_scopes";
    const PATH: &'static str = "address-scopes";
    const KIND: &'static str = "AddressScope";
    const NOT_FOUND: &'static str = "AddressScopeNotFound";
    const QUOTA: Option<&'static str> = Some("address_scope");
    const SHARED_AS: Option<&'static str> = Some("address_scope");
    const EXTENSIONS: &'static [Extension] =
        &[Extension::new("address-scope", "Address scope", "Addresses of one scope do not overlap.")];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<AddressScope>, address_scopes, AddressScope: id name project);
        all.extend([
            column!(Item<AddressScope>, address_scopes, AddressScope, ip_version: i16 as IpVersion).required(),
            Attr::shown("shared", bool::schema, |scope, out| out.put(&scope.shared))
                .about("Every project may use it.")
                .writable()
                .sent_by(Access::Admin)
                .off_by_default()
                .filter_in(shared_filter::<AddressScope>),
        ]);
        all
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let IpVersion(ip_version) = fields.required("ip_version")?;
        let name: Option<Name> = fields.optional("name")?;
        Ok(Self { name: name.unwrap_or_default().into_string(), ip_version, ..Self::new(fields)? })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        fields.over("name", &mut self.name)
    }

    fn violation(constraint: &str, scope: &Self) -> Option<Fault> {
        let message = || {
            format!(
                "Unable to complete operation on address scope {}. There are one or more subnet pools in use on the \
                 address scope.",
                scope.id
            )
        };
        (constraint == "subnetpools_address_scope").then(|| Fault::conflict("AddressScopeInUse", message()))
    }
}
