//! Segments: in which form networks exist. Each has one, a VNI, for as long as it is there; so a
//! segment has its network's id, and only the network is written.

use crate::frame::attribute::Attribute;
use crate::frame::caller::Access;
use crate::frame::decode::Decode;
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::resource::Operations;
use crate::frame::standard::text_schema;
use crate::resources::networks::{GENEVE, vni_schema};
use crate::{column, standard, stored};
use diesel::sql_types::Bool;
use diesel::{IntoSql as _, NullableExpressionMethods as _};
use mizar_db::{one_of, sort_key, sort_same};
use mizar_domain::text::Name;
use uuid::Uuid;

stored! {
    /// A network as its segment.
    pub struct Segment in networks: bare {
        vni: i32 as Int4,
        revision_number: i64 as Int8,
        created_at: chrono::DateTime<chrono::Utc> as Timestamptz,
        updated_at: chrono::DateTime<chrono::Utc> as Timestamptz,
    }
}

type Attr = Attribute<Item<Segment>>;

/// A filter on what is the same of all.
fn same(fits: bool) -> Result<mizar_db::listing::Predicate<networks::table>, String> {
    Ok(Box::new(fits.into_sql::<Bool>().nullable()))
}

impl Plain for Segment {
    type More = ();

    const SINGULAR: &'static str = "segment";
    const PLURAL: &'static str = "segments";
    const KIND: &'static str = "Segment";
    const NOT_FOUND: &'static str = "SegmentNotFound";
    const OPERATIONS: Operations = Operations { read: Access::Admin, ..Operations::READ_ONLY };
    // Segments cannot be made, which the alias promises.
    const EXTENSIONS: &'static [Extension] =
        &[Extension::stored_only("segment", "Segment", "Networks show in which form they exist.")];

    fn attributes() -> Vec<Attr> {
        let mut all = vec![
            column!(Item<Segment>, networks, Segment, id: Uuid).about("The network's."),
            Attr::shown("network_id", Uuid::schema, |segment, out| out.put(&segment.row.id))
                .filter(one_of!(networks::id: Uuid))
                .sort(sort_key!(Segment, networks::id, |row| row.id)),
            Attr::shown("name", Option::<Name>::schema, |_, out| out.put(&None::<&str>))
                .about("Always null.")
                .sort(sort_same!(Segment)),
            Attr::shown("description", text_schema, |_, out| out.put("")).about("Always empty."),
            Attr::shown("network_type", text_schema, |_, out| out.put(GENEVE))
                .filter(|raw| same(raw.iter().any(|kind| kind == GENEVE)))
                .sort(sort_same!(Segment)),
            Attr::shown("physical_network", Option::<Name>::schema, |_, out| out.put(&None::<&str>))
                .about("Always null.")
                .filter(|_| same(false))
                .sort(sort_same!(Segment)),
            Attr::shown("segmentation_id", vni_schema, |segment, out| out.put(&segment.row.vni))
                .about("The VNI.")
                .filter(one_of!(networks::vni: i32))
                .sort(sort_key!(Segment, networks::vni, |row| row.vni)),
        ];
        all.extend(standard!(Item<Segment>, networks, Segment: revision times));
        all
    }

    fn create(_: &mut Fields<'_>) -> Result<Self, Fault> {
        Err(Fault::method_not_allowed())
    }

    fn update(&mut self, _: &mut Fields<'_>) -> Result<(), Fault> {
        Err(Fault::method_not_allowed())
    }
}
