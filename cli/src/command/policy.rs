//! Label policies: manifests of Kubernetes' NetworkPolicy, applied as they are.

use super::cloud::query;
use super::failure::{Exit, Problem};
use super::render::{Format, Output};
use crate::client::Api;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

const PATH: &str = "/v2.0/label-policies";

/// Verbs of `policy`.
#[derive(Subcommand)]
pub enum Verb {
    /// Make policies what the manifests of a file say.
    #[command(after_help = "Example:\n  mizar policy apply -f deny-all.yaml")]
    Apply {
        /// YAML or JSON, any number of documents and lists; `-`: standard input.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List label policies.
    #[command(after_help = "Example:\n  mizar policy list --namespace shop")]
    List {
        /// Only of this namespace.
        #[arg(short, long)]
        namespace: Option<String>,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show the manifest of a policy.
    #[command(after_help = "Example:\n  mizar policy show deny-all --namespace shop -o json")]
    Show {
        #[command(flatten)]
        policy: Named,
        /// How to write it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "yaml")]
        output: Format,
    },
    /// Delete a policy.
    #[command(after_help = "Example:\n  mizar policy delete deny-all --namespace shop")]
    Delete {
        #[command(flatten)]
        policy: Named,
    },
}

/// How to write a list.
#[derive(Args)]
pub struct Shown {
    /// How to write it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Only this attribute; may be repeated.
    #[arg(short, long, value_name = "ATTRIBUTE")]
    column: Vec<String>,
}

/// Which policy.
#[derive(Args)]
pub struct Named {
    /// Its name.
    name: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

/// Does what the verb says; tells of what is done before all is.
pub fn run(api: &Api, verb: Verb, tell: impl FnMut(&str) -> Result<()>) -> Result<String> {
    match verb {
        Verb::Apply { file } => {
            let manifests = manifests(&file)?;
            apply_all(&manifests, |manifest| apply(api, manifest), tell)?;
            Ok(String::new())
        }
        Verb::List { namespace, shown } => {
            let all = list(api, namespace.map(|namespace| ("namespace", namespace)))?;
            Output::new(shown.output, shown.column).list(&all, &["namespace", "name", "id"])
        }
        Verb::Show { policy, output } => {
            let found = find(api, &policy.namespace, &policy.name)?;
            Output::new(output, Vec::new()).object(&found["manifest"])
        }
        Verb::Delete { policy } => {
            let found = find(api, &policy.namespace, &policy.name)?;
            api.delete(&at(&found)?)?;
            Ok(String::new())
        }
    }
}

fn list(api: &Api, filters: impl IntoIterator<Item = (&'static str, String)>) -> Result<Vec<Value>> {
    let answer = api.get(&format!("{PATH}?{}", query(filters)))?;
    answer["label_policies"].as_array().cloned().context("the answer has no list `label_policies`")
}

fn at(policy: &Value) -> Result<String> {
    Ok(format!("{PATH}/{}", policy["id"].as_str().context("the answer has a policy without id")?))
}

fn look(api: &Api, namespace: &str, name: &str) -> Result<Option<Value>> {
    Ok(list(api, [("namespace", namespace.to_owned()), ("name", name.to_owned())])?.into_iter().next())
}

fn find(api: &Api, namespace: &str, name: &str) -> Result<Value> {
    let missing = || Problem::new(Exit::NotFound, format!("there is no label policy {namespace}/{name}")).into();
    look(api, namespace, name)?.ok_or_else(missing)
}

fn usage(reason: String) -> anyhow::Error {
    Problem::new(Exit::Usage, reason).into()
}

/// The documents of a file. JSON is YAML too.
fn manifests(file: &Path) -> Result<Vec<Value>> {
    let name = file.display();
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| usage(format!("{name}: {error}")))?;
    documents(&text).map_err(|error| usage(format!("{name}: {error}")))
}

/// The documents of a text, and in the place of a list what it lists: `kubectl get -o yaml` writes one.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut manifests = Vec::new();
    for document in all.into_iter().filter(|document| !document.is_null()) {
        unlist(document, "", &mut manifests)?;
    }
    if manifests.is_empty() { Err("holds no manifest".into()) } else { Ok(manifests) }
}

/// Adds a manifest, or those of a list in its place, `at` which each of them is.
fn unlist(mut document: Value, at: &str, manifests: &mut Vec<Value>) -> Result<(), String> {
    let kind = document["kind"].as_str().unwrap_or_default();
    if !["List", "NetworkPolicyList"].contains(&kind) {
        let named = document["metadata"]["name"].is_string();
        manifests.push(document);
        return if named { Ok(()) } else { Err(format!("{at}metadata.name: is missing")) };
    }
    // The elements of a list of one kind need not say it.
    let common = (kind == "NetworkPolicyList").then(|| document["apiVersion"].clone());
    let Value::Array(items) = document["items"].take() else { return Err(format!("{at}items: is no list")) };
    for (place, mut item) in items.into_iter().enumerate() {
        let at = format!("{at}items[{place}].");
        let Value::Object(members) = &mut item else { return Err(format!("{at}metadata.name: is missing")) };
        if let Some(version) = &common {
            members.entry("apiVersion").or_insert_with(|| version.clone());
            members.entry("kind").or_insert_with(|| json!("NetworkPolicy"));
        }
        unlist(item, &at, manifests)?;
    }
    Ok(())
}

/// Applies them in order, and tells of each: the first that fails ends it, and does not take back the others.
fn apply_all(
    manifests: &[Value],
    apply: impl Fn(&Value) -> Result<String>,
    mut tell: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    manifests.iter().try_for_each(|manifest| tell(&apply(manifest)?))
}

/// Makes a policy, or changes it; says which, as Kubernetes' tools do. What the manifest says is for
/// the API to judge, but its name must be known here.
fn apply(api: &Api, manifest: &Value) -> Result<String> {
    let metadata = &manifest["metadata"];
    let name = metadata["name"].as_str().ok_or_else(|| usage("metadata.name: is missing".into()))?;
    let namespace = metadata["namespace"].as_str().unwrap_or("default");
    let body = json!({"label_policy": {"manifest": manifest}});
    let done = match look(api, namespace, name)? {
        None => {
            api.post(PATH, &body)?;
            "created"
        }
        Some(found) => {
            let before = found["revision_number"].clone();
            let kept = &found["manifest"];
            if ["apiVersion", "kind", "spec"].iter().all(|member| kept[member] == manifest[member]) {
                "unchanged"
            } else {
                let after = api.put(&at(&found)?, Some(&body))?;
                if after["label_policy"]["revision_number"] == before { "unchanged" } else { "configured" }
            }
        }
    };
    Ok(format!("networkpolicy {namespace}/{name} {done}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_any_number_of_documents_in_yaml_or_json() {
        let names = |text: &str| -> Vec<String> {
            let all = documents(text).expect("documents");
            all.iter().map(|one| one["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(names("---\nmetadata:\n  name: a\n---\nmetadata:\n  name: b\n---\n"), ["a", "b"]);
        assert_eq!(names(r#"{"metadata": {"name": "c"}}"#), ["c"]);
        assert!(documents("---\n").is_err());
        assert!(documents("a: [").is_err());
    }

    #[test]
    fn a_list_stands_for_what_it_lists() {
        let policy = |name: &str| {
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name}, "spec": {"podSelector": {}}})
        };
        let written = "apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n\
            - apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata: {name: a}\n  spec: {podSelector: {}}\n\
            - apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: networking.k8s.io/v1\n    \
            kind: NetworkPolicy\n    metadata: {name: b}\n    spec: {podSelector: {}}\n";
        assert_eq!(documents(written).expect("documents"), [policy("a"), policy("b")]);
        let answered = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicyList", "items": [
            {"metadata": {"name": "c"}, "spec": {"podSelector": {}}}, policy("d")]});
        assert_eq!(documents(&answered.to_string()).expect("documents"), [policy("c"), policy("d")]);
        let fails = |list: Value| documents(&list.to_string()).expect_err("no manifests");
        assert_eq!(fails(json!({"kind": "List", "items": []})), "holds no manifest");
        assert_eq!(fails(json!({"kind": "List"})), "items: is no list");
        let nested = json!({"kind": "List", "items": [policy("a"), {"kind": "List", "items": [policy("b"), {}]}]});
        assert_eq!(fails(nested), "items[1].items[1].metadata.name: is missing");
        assert_eq!(fails(json!({"kind": "List", "items": [1]})), "items[0].metadata.name: is missing");
        assert_eq!(fails(json!({"spec": {}})), "metadata.name: is missing");
    }

    #[test]
    fn what_was_applied_before_a_failure_is_told() {
        let told = std::cell::RefCell::new(Vec::new());
        let apply = |manifest: &Value| manifest.as_str().map(str::to_owned).context("no text");
        let tell = |line: &str| {
            told.borrow_mut().push(line.to_owned());
            Ok(())
        };
        let failed = apply_all(&[json!("a"), json!("b"), json!(1), json!("c")], apply, tell);
        assert_eq!(failed.expect_err("the third").to_string(), "no text");
        assert_eq!(told.into_inner(), ["a", "b"]);
    }

    #[test]
    fn labels_that_look_like_other_things_stay_texts_where_they_are_quoted() {
        let read = documents("metadata: {name: a}\nspec:\n  a: \"yes\"\n  b: \"1\"\n  port: 80\n")
            .expect("a document")
            .remove(0);
        assert_eq!(read["spec"], json!({"a": "yes", "b": "1", "port": 80}));
    }
}
