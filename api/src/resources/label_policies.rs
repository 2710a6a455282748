//! Label policies: a manifest of Kubernetes' NetworkPolicy, as it is. What they come to for the data
//! plane is written by `mizar_db::resources::label_policy`.

use crate::frame::attribute::Attribute;
use crate::frame::decode::{Decode, plain, shown};
use crate::frame::extension::Extension;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::plain::{Item, Plain};
use crate::frame::tx::Tx;
use crate::{column, standard, stored};
use mizar_db::resources::label_policy::{self, Change};
use mizar_domain::label_policy::{Labels, Policy, limits, manifest};
use mizar_domain::text::Name;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

stored! {
    /// A label policy.
    pub struct LabelPolicy in label_policies: owned {
        name: String as Text,
        namespace: String as Text,
        manifest: serde_json::Value as Jsonb,
    }
}

/// Bytes of a manifest, as it is kept: every host with a labelled port of the project holds all of them.
const MANIFEST_MAX: usize = 16 * 1024;

/// A manifest, and what it says. How long it may be is asked when it is new: what is stored already may be said again.
#[derive(Clone, Debug)]
struct Manifest {
    policy: Policy,
    kept: Value,
}

impl Decode for Manifest {
    fn decode(value: &Value) -> Result<Self, String> {
        let policy = manifest::read(value).map_err(|error| error.to_string())?;
        // What the reader passes over is nobody's here: annotations, managed fields, a status.
        let kept = json!({
            "apiVersion": value["apiVersion"],
            "kind": value["kind"],
            "metadata": {"name": policy.name, "namespace": policy.namespace},
            "spec": value["spec"],
        });
        Ok(Self { policy, kept })
    }

    fn schema() -> RefOr<Schema> {
        let text = |only: &str| plain(Type::String).enum_values(Some([only]));
        let object = || ObjectBuilder::new().schema_type(Type::Object);
        let metadata = object()
            .property("name", plain(Type::String).max_length(Some(253)).examples(["deny-all"]))
            .property("namespace", plain(Type::String).max_length(Some(63)).examples(["shop"]))
            .required("name");
        let spec =
            object().description(Some("As networking.k8s.io/v1 has it; ports by number.")).required("podSelector");
        object()
            .property("apiVersion", text("networking.k8s.io/v1"))
            .property("kind", text("NetworkPolicy"))
            .property("metadata", metadata)
            .property("spec", spec.property("podSelector", object()))
            .required("apiVersion")
            .required("kind")
            .required("metadata")
            .required("spec")
            .into()
    }
}

impl Manifest {
    /// Refuses what is too much for hosts.
    fn check(&self) -> Result<(), Fault> {
        if length(&self.kept) > MANIFEST_MAX {
            let message = format!("without what is not kept of it, it is longer than {MANIFEST_MAX} bytes");
            return Err(Fault::invalid("manifest", message));
        }
        limits::check(&self.policy).map_err(|error| Fault::invalid("manifest", error))
    }
}

fn length(manifest: &Value) -> usize {
    manifest.to_string().len()
}

/// Labels that a port, or its namespace, may have.
const LABELS_MAX: usize = 64;

/// Bytes of names and values of the labels of a port and its namespace: whoever may name the port in a
/// rule holds them.
const LABELS_BYTES_MAX: usize = 2048;

impl Decode for Labels {
    fn decode(value: &Value) -> Result<Self, String> {
        let labels: Self =
            serde_json::from_value(value.clone()).map_err(|error| format!("'{}': {error}", shown(value)))?;
        manifest::check_labels(&labels).map_err(|error| error.to_string())?;
        Ok(labels)
    }

    fn schema() -> RefOr<Schema> {
        let text = || plain(Type::String).max_length(Some(63));
        let map = || {
            let values = AdditionalProperties::RefOr(RefOr::T(Schema::Object(text().build())));
            ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(values))
        };
        let object = ObjectBuilder::new().schema_type(Type::Object);
        object
            .property("namespace", text().examples(["shop"]))
            .property("namespace_labels", map())
            .property("labels", map().examples([json!({"app": "web"})]))
            .required("namespace")
            .into()
    }
}

/// Refuses new labels of a port that are too much for hosts.
pub(super) fn check_labels(labels: &Labels) -> Result<(), Fault> {
    let refused = |reason: String| Err(Fault::invalid("mizar:labels", reason));
    if labels.labels.len().max(labels.namespace_labels.len()) > LABELS_MAX {
        return refused(format!("there are more than {LABELS_MAX}"));
    }
    let all = labels.labels.iter().chain(&labels.namespace_labels);
    if all.map(|(key, value)| key.len() + value.len()).sum::<usize>() > LABELS_BYTES_MAX {
        return refused(format!("they are longer than {LABELS_BYTES_MAX} bytes together"));
    }
    Ok(())
}

/// As they are shown: all members.
pub(super) fn shown_labels(labels: Option<&Labels>) -> Value {
    let shown = |labels: &Labels| {
        let Labels { namespace, namespace_labels, labels } = labels;
        let map = |labels: &BTreeMap<String, String>| json!(labels);
        json!({"namespace": namespace, "namespace_labels": map(namespace_labels), "labels": map(labels)})
    };
    labels.map_or(Value::Null, shown)
}

type Attr = Attribute<Item<LabelPolicy>>;

impl LabelPolicy {
    /// What the stored manifest says.
    fn policy(&self) -> Result<Policy, Fault> {
        let corrupt = mizar_db::resources::Failure::Corrupt {
            kind: mizar_db::resources::ObjectKind::LabelPolicy,
            id: self.id,
            column: "manifest",
        };
        manifest::read(&self.manifest).map_err(|_| corrupt.into())
    }
}

impl Plain for LabelPolicy {
    type More = ();

    const SINGULAR: &'static str = "label_policy";
    const PLURAL: &'static str = "label_policies";
    const PATH: &'static str = "label-policies";
    const KIND: &'static str = "LabelPolicy";
    const NOT_FOUND: &'static str = "LabelPolicyNotFound";
    const QUOTA: Option<&'static str> = Some("label_policy");
    const EXTENSIONS: &'static [Extension] = &[Extension::new(
        "mizar-label-policies",
        "Label policies",
        "Ports have labels, by which Kubernetes' network policies select them.",
    )];

    fn attributes() -> Vec<Attr> {
        let mut all = standard!(Item<LabelPolicy>, label_policies, LabelPolicy: id);
        all.extend([
            column!(Item<LabelPolicy>, label_policies, LabelPolicy, name: String as Name),
            column!(Item<LabelPolicy>, label_policies, LabelPolicy, namespace: String as Name),
        ]);
        all.extend(standard!(Item<LabelPolicy>, label_policies, LabelPolicy: project));
        all.push(
            Attr::shown("manifest", Manifest::schema, |policy, out| out.put(&policy.row.manifest))
                .about("A NetworkPolicy of networking.k8s.io/v1. Its name and namespace stay.")
                .writable()
                .required(),
        );
        all.extend(standard!(Item<LabelPolicy>, label_policies, LabelPolicy: revision times));
        all
    }

    fn create(fields: &mut Fields<'_>) -> Result<Self, Fault> {
        let manifest: Manifest = fields.required("manifest")?;
        manifest.check()?;
        let Manifest { policy, kept } = manifest;
        Ok(Self { name: policy.name, namespace: policy.namespace, manifest: kept, ..Self::new(fields)? })
    }

    fn update(&mut self, fields: &mut Fields<'_>) -> Result<(), Fault> {
        if let Some(manifest) = fields.optional::<Manifest>("manifest")?.filter(|new| new.kept != self.manifest) {
            let Manifest { policy, .. } = &manifest;
            if (&policy.namespace, &policy.name) != (&self.namespace, &self.name) {
                let message = format!("metadata: it is {}/{}, and stays that", self.namespace, self.name);
                return Err(Fault::invalid("manifest", message));
            }
            manifest.check()?;
            self.manifest = manifest.kept;
        }
        Ok(())
    }

    async fn after_create(tx: &mut Tx<'_>, rows: &[Self]) -> Result<(), Fault> {
        let mut of_project: BTreeMap<Uuid, Vec<(Uuid, Policy)>> = BTreeMap::new();
        for row in rows {
            of_project.entry(row.project_id).or_default().push((row.id, row.policy()?));
        }
        for (project, policies) in of_project {
            let changes =
                policies.iter().map(|(id, policy)| Change { id: *id, old: None, new: Some(policy), is_longer: true });
            label_policy::change(tx.conn, project, &changes.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    async fn after_update(tx: &mut Tx<'_>, old: &Item<Self>, new: &Self) -> Result<(), Fault> {
        let (was, is) = (old.row.policy()?, new.policy()?);
        let is_longer = length(&new.manifest) > length(&old.row.manifest);
        if was != is || is_longer {
            let change = Change { id: new.id, old: Some(&was), new: Some(&is), is_longer };
            label_policy::change(tx.conn, new.project_id, &[change]).await?;
        }
        Ok(())
    }

    async fn before_delete(tx: &mut Tx<'_>, old: &Item<Self>) -> Result<(), Fault> {
        let row = &old.row;
        let change = Change { id: row.id, old: Some(&row.policy()?), new: None, is_longer: false };
        Ok(label_policy::change(tx.conn, row.project_id, &[change]).await?)
    }

    fn violation(constraint: &str, row: &Self) -> Option<Fault> {
        (constraint == "label_policies_name").then(|| {
            let message = format!("There is a label policy {}/{} already.", row.namespace, row.name);
            Fault::conflict("LabelPolicyExists", message)
        })
    }
}
