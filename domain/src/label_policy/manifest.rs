//! Reads a NetworkPolicy as it is written for Kubernetes.
//!
//! Defaults and refusals are those of its API server (validation and defaulting of
//! networking.k8s.io/v1): `policyTypes` missing or empty is Ingress, and Egress too if there are egress
//! rules; a protocol is TCP unless it says another; `endPort` needs a port that is a number. What the
//! API server keeps for itself (`status`, and of the metadata all but name and namespace) is passed
//! over; anything else that it does not know either is refused, by its place.
//!
//! A port that is a name is refused: ports of containers have names there, here there are none.

use super::{Is, NAMESPACE_NAME, Peer, Policy, Ports, Requirement, Rule, Selector};
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is wrong with a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Such as `spec.ingress[0].from[1].ipBlock.cidr`; empty: the whole.
    pub place: String,
    /// For people.
    pub reason: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.place, self.reason) }
    }
}

impl std::error::Error for ManifestError {}

/// Rules of one direction, peers of one rule, ports of one rule, exceptions of one block: so many.
const LIST_MAX: usize = 1000;

/// A value, and its place in the manifest.
#[derive(Clone)]
struct At<'v> {
    value: &'v Value,
    place: String,
}

impl<'v> At<'v> {
    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, ManifestError> {
        Err(ManifestError { place: self.place.clone(), reason: reason.into() })
    }

    fn object(&self) -> Result<&'v Map<String, Value>, ManifestError> {
        match self.value {
            Value::Object(members) => Ok(members),
            _ => self.wrong("is no object"),
        }
    }

    /// The members of an object that may have these alone. `null` is as good as nothing.
    fn members<const N: usize>(&self, known: [&str; N]) -> Result<[Option<At<'v>>; N], ManifestError> {
        let members = self.object()?;
        if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
            return self.below(unknown, &Value::Null).wrong("is not known");
        }
        let member = |name: &str| members.get(name).filter(|value| !value.is_null());
        Ok(known.map(|name| member(name).map(|value| self.below(name, value))))
    }

    fn below(&self, name: &str, value: &'v Value) -> Self {
        let place = if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) };
        Self { value, place }
    }

    fn list(&self) -> Result<impl Iterator<Item = At<'v>> + '_, ManifestError> {
        let Value::Array(all) = self.value else { return self.wrong("is no list") };
        if all.len() > LIST_MAX {
            return self.wrong(format!("has {} elements, and may have {LIST_MAX}", all.len()));
        }
        let element = |(index, value)| At { value, place: format!("{}[{index}]", self.place) };
        Ok(all.iter().enumerate().map(element))
    }

    /// Every element, read; of nothing, nothing.
    fn each<T>(of: Option<Self>, read: impl Fn(&Self) -> Result<T, ManifestError>) -> Result<Vec<T>, ManifestError> {
        of.map_or(Ok(Vec::new()), |list| list.list()?.map(|element| read(&element)).collect())
    }

    fn text(&self) -> Result<&'v str, ManifestError> {
        self.value.as_str().map_or_else(|| self.wrong("is no text"), Ok)
    }

    fn is(&self, wanted: &str) -> Result<(), ManifestError> {
        if self.text()? == wanted { Ok(()) } else { self.wrong(format!("is not {wanted}")) }
    }
}

fn required<'v>(of: &At<'v>, name: &str, member: Option<At<'v>>) -> Result<At<'v>, ManifestError> {
    member.map_or_else(|| of.below(name, &Value::Null).wrong("is missing"), Ok)
}

/// Reads a manifest.
pub fn read(manifest: &Value) -> Result<Policy, ManifestError> {
    let whole = At { value: manifest, place: String::new() };
    let [version, kind, metadata, spec, _status] =
        whole.members(["apiVersion", "kind", "metadata", "spec", "status"])?;
    required(&whole, "apiVersion", version)?.is("networking.k8s.io/v1")?;
    required(&whole, "kind", kind)?.is("NetworkPolicy")?;
    let metadata = required(&whole, "metadata", metadata)?;
    let named = |name: &str| metadata.object().map(|all| all.get(name).map(|value| metadata.below(name, value)));
    let name = required(&metadata, "name", named("name")?)?;
    if !is_subdomain(name.text()?) {
        return name.wrong("is no name: lower case letters, digits, '-' and '.', at most 253");
    }
    let namespace = match named("namespace")? {
        Some(namespace) if !is_dns_label(namespace.text()?) => {
            return namespace.wrong("is no namespace: lower case letters, digits and '-', at most 63");
        }
        Some(namespace) => namespace.text()?,
        None => "default",
    };
    let (name, namespace) = (name.text()?.to_owned(), namespace.to_owned());
    let spec = required(&whole, "spec", spec)?;
    let [ports, ingress, egress, types] = spec.members(["podSelector", "ingress", "egress", "policyTypes"])?;
    let ports = selector(&required(&spec, "podSelector", ports)?)?;
    let ingress = At::each(ingress, |at| rule(at, "from"))?;
    let egress = At::each(egress, |at| rule(at, "to"))?;
    let (for_ingress, for_egress) = directions(types, !egress.is_empty())?;
    let (ingress, egress) = (for_ingress.then_some(ingress), for_egress.then_some(egress));
    Ok(Policy { name, namespace, ports, ingress, egress })
}

/// Whether it is about ingress, and about egress.
fn directions(types: Option<At<'_>>, has_egress: bool) -> Result<(bool, bool), ManifestError> {
    let named = At::each(types, |at| match at.text()? {
        "Ingress" => Ok((true, false)),
        "Egress" => Ok((false, true)),
        _ => at.wrong("is neither Ingress nor Egress"),
    })?;
    if named.is_empty() {
        return Ok((true, has_egress));
    }
    Ok(named.into_iter().fold((false, false), |(ingress, egress), (one, other)| (ingress || one, egress || other)))
}

fn rule(at: &At<'_>, peers: &str) -> Result<Rule, ManifestError> {
    let [of, ports] = at.members([peers, "ports"])?;
    Ok(Rule { peers: At::each(of, peer)?, ports: At::each(ports, port)? })
}

fn peer(at: &At<'_>) -> Result<Peer, ManifestError> {
    let [block, namespaces, ports] = at.members(["ipBlock", "namespaceSelector", "podSelector"])?;
    match (block, namespaces, ports) {
        (None, None, None) => at.wrong("names nobody: ipBlock, namespaceSelector or podSelector is needed"),
        (Some(block), None, None) => self::block(&block),
        (Some(block), ..) => block.wrong("stands alone, without selectors"),
        (None, namespaces, ports) => {
            let read = |at: Option<At<'_>>| at.map(|at| selector(&at)).transpose();
            Ok(Peer::Ports { namespaces: read(namespaces)?, ports: read(ports)? })
        }
    }
}

fn block(at: &At<'_>) -> Result<Peer, ManifestError> {
    let range = |at: &At<'_>| match at.text()?.parse::<IpNet>() {
        Ok(net) => Ok(net.trunc()),
        Err(_) => at.wrong("is no range of addresses"),
    };
    let [cidr, except] = at.members(["cidr", "except"])?;
    let cidr = range(&required(at, "cidr", cidr)?)?;
    let except = At::each(except, |at| {
        let hole = range(at)?;
        if cidr.contains(&hole) && cidr != hole { Ok(hole) } else { at.wrong(format!("is no part of {cidr}")) }
    })?;
    Ok(Peer::Block { cidr, except })
}

fn port(at: &At<'_>) -> Result<Ports, ManifestError> {
    let [protocol, port, end] = at.members(["protocol", "port", "endPort"])?;
    let protocol = match &protocol {
        None => 6,
        Some(at) => match at.text()? {
            "TCP" => 6,
            "UDP" => 17,
            "SCTP" => 132,
            _ => return at.wrong("is neither TCP, UDP nor SCTP"),
        },
    };
    let number = |at: &At<'_>| {
        let number = at.value.as_u64().and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number > 0).map_or_else(|| at.wrong("is no port, which is 1 to 65535"), Ok)
    };
    match (port, end) {
        (None, None) => Ok(Ports { protocol, first: 0, last: u16::MAX }),
        (None, Some(end)) => end.wrong("needs a port"),
        (Some(name), _) if name.value.is_string() => name.wrong("is a name, and ports have none here: give a number"),
        (Some(first), None) => {
            let first = number(&first)?;
            Ok(Ports { protocol, first, last: first })
        }
        (Some(first), Some(end)) => {
            let (first, last) = (number(&first)?, number(&end)?);
            if first <= last { Ok(Ports { protocol, first, last }) } else { end.wrong("is below the port") }
        }
    }
}

fn selector(at: &At<'_>) -> Result<Selector, ManifestError> {
    let [labels, expressions] = at.members(["matchLabels", "matchExpressions"])?;
    let mut requirements = Vec::new();
    if let Some(labels) = labels {
        for (key, value) in labels.object()? {
            let at = labels.below(key, value);
            check_key(&at, key)?;
            requirements.push(Requirement { key: key.clone(), is: Is::In(BTreeSet::from([label_value(&at)?])) });
        }
    }
    requirements.extend(At::each(expressions, expression)?);
    Ok(Selector(requirements))
}

fn expression(at: &At<'_>) -> Result<Requirement, ManifestError> {
    let [key, operator, values] = at.members(["key", "operator", "values"])?;
    let key = required(at, "key", key)?;
    check_key(&key, key.text()?)?;
    let operator = required(at, "operator", operator)?;
    let values: BTreeSet<String> = At::each(values, label_value)?.into_iter().collect();
    let is = match (operator.text()?, values.is_empty()) {
        ("In", false) => Is::In(values),
        ("NotIn", false) => Is::NotIn(values),
        ("In" | "NotIn", true) => return at.below("values", &Value::Null).wrong("must name at least one value"),
        ("Exists", true) => Is::There,
        ("DoesNotExist", true) => Is::Absent,
        ("Exists" | "DoesNotExist", false) => return at.below("values", &Value::Null).wrong("must be empty"),
        _ => return operator.wrong("is neither In, NotIn, Exists nor DoesNotExist"),
    };
    Ok(Requirement { key: key.text()?.to_owned(), is })
}

fn check_key(at: &At<'_>, key: &str) -> Result<(), ManifestError> {
    if is_label_key(key) { Ok(()) } else { at.wrong(format!("'{key}' is no name of a label")) }
}

fn label_value(at: &At<'_>) -> Result<String, ManifestError> {
    let value = at.text()?;
    if is_label_value(value) { Ok(value.to_owned()) } else { at.wrong(format!("'{value}' is no value of a label")) }
}

/// Letters, digits, and between them `-`, `_` and `.`; at most 63.
fn is_label_part(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let ends = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().copied().all(inner)
}

/// A name, or a domain, `/` and a name.
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_label_part(name),
        None => is_label_part(key),
    }
}

/// A name, or nothing.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_part(value)
}

/// As the names of namespaces are (RFC 1123).
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let outer = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    bytes.len() <= 63 && outer(bytes.first()) && outer(bytes.last()) && bytes.iter().all(inner)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// What is wrong with the labels of a port, if anything.
pub fn check_labels(labels: &super::Labels) -> Result<(), ManifestError> {
    let wrong = |place: &str, reason: String| Err(ManifestError { place: place.to_owned(), reason });
    if !is_dns_label(&labels.namespace) {
        return wrong("namespace", format!("'{}' is no namespace", labels.namespace));
    }
    if labels.namespace_labels.contains_key(NAMESPACE_NAME) {
        return wrong("namespace_labels", format!("{NAMESPACE_NAME} is the name, which stands in namespace"));
    }
    let both: [(&str, &BTreeMap<String, String>); 2] =
        [("namespace_labels", &labels.namespace_labels), ("labels", &labels.labels)];
    for (place, labels) in both {
        if let Some(key) = labels.keys().find(|key| !is_label_key(key)) {
            return wrong(place, format!("'{key}' is no name of a label"));
        }
        if let Some(value) = labels.values().find(|value| !is_label_value(value)) {
            return wrong(place, format!("'{value}' is no value of a label"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
