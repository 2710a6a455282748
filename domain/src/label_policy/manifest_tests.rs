//! Manifests: what they mean, and what is wrong with those that mean nothing.

use super::*;
use crate::label_policy::Labels;
use serde_json::json;

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "n"}, "spec": spec})
}

fn is_in(key: &str, value: &str) -> Requirement {
    Requirement { key: key.into(), is: Is::In(BTreeSet::from([value.into()])) }
}

/// The example of the documentation of Kubernetes.
#[test]
fn the_example_of_the_documentation_is_understood() {
    let manifest = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "test-network-policy", "namespace": "default", "annotations": {"a": "b"}},
        "spec": {
            "podSelector": {"matchLabels": {"role": "db"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{
                "from": [
                    {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                    {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                    {"podSelector": {"matchLabels": {"role": "frontend"}}},
                ],
                "ports": [{"protocol": "TCP", "port": 6379}],
            }],
            "egress": [{
                "to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
                "ports": [{"protocol": "UDP", "port": 32000, "endPort": 32768}],
            }],
        },
    });
    let block = |cidr: &str, except: &[&str]| Peer::Block {
        cidr: cidr.parse().unwrap(),
        except: except.iter().map(|net| net.parse().unwrap()).collect(),
    };
    let labels = |key: &str, value: &str| Some(Selector(vec![is_in(key, value)]));
    let ingress = Rule {
        peers: vec![
            block("172.17.0.0/16", &["172.17.1.0/24"]),
            Peer::Ports { namespaces: labels("project", "myproject"), ports: None },
            Peer::Ports { namespaces: None, ports: labels("role", "frontend") },
        ],
        ports: vec![Ports { protocol: 6, first: 6379, last: 6379 }],
    };
    let egress =
        Rule { peers: vec![block("10.0.0.0/24", &[])], ports: vec![Ports { protocol: 17, first: 32000, last: 32768 }] };
    let wanted = Policy {
        name: "test-network-policy".into(),
        namespace: "default".into(),
        ports: Selector(vec![is_in("role", "db")]),
        ingress: Some(vec![ingress]),
        egress: Some(vec![egress]),
    };
    assert_eq!(read(&manifest), Ok(wanted));
}

#[test]
fn types_that_are_not_named_follow_from_the_rules() {
    let of = |spec: Value| {
        let policy = read(&policy(spec)).unwrap();
        (policy.ingress.map(|rules| rules.len()), policy.egress.map(|rules| rules.len()))
    };
    assert_eq!(of(json!({"podSelector": {}})), (Some(0), None), "nothing may come in");
    assert_eq!(of(json!({"podSelector": {}, "egress": [{}]})), (Some(0), Some(1)));
    assert_eq!(of(json!({"podSelector": {}, "egress": []})), (Some(0), None));
    assert_eq!(of(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]})), (None, Some(0)));
    assert_eq!(of(json!({"podSelector": {}, "policyTypes": [], "ingress": [{}]})), (Some(1), None));
}

#[test]
fn what_is_not_said_of_a_port_is_its_default() {
    let ports = |ports: Value| {
        let spec = json!({"podSelector": {}, "ingress": [{"ports": ports}]});
        read(&policy(spec)).unwrap().ingress.unwrap().remove(0).ports
    };
    let all = [json!({}), json!({"protocol": "SCTP"}), json!({"port": 80})];
    let read = ports(json!(all));
    assert_eq!(read[0], Ports { protocol: 6, first: 0, last: 65535 });
    assert_eq!(read[1], Ports { protocol: 132, first: 0, last: 65535 });
    assert_eq!(read[2], Ports { protocol: 6, first: 80, last: 80 });
}

#[test]
fn whatever_is_wrong_is_named_by_its_place() {
    let ingress = |rule: Value| policy(json!({"podSelector": {}, "ingress": [rule]}));
    let from = |peer: Value| ingress(json!({"from": [peer]}));
    let ports = |port: Value| ingress(json!({"ports": [port]}));
    let select = |selector: Value| policy(json!({"podSelector": selector}));
    let expression = |expression: Value| select(json!({"matchExpressions": [expression]}));
    let mut other = policy(json!({"podSelector": {}}));
    other["kind"] = json!("Ingress");
    let mut old = policy(json!({"podSelector": {}}));
    old["apiVersion"] = json!("extensions/v1beta1");
    let mut nameless = policy(json!({"podSelector": {}}));
    nameless["metadata"] = json!({});
    let mut loud = policy(json!({"podSelector": {}}));
    loud["metadata"]["namespace"] = json!("Shop");
    let block = |cidr: &str, except: &[&str]| from(json!({"ipBlock": {"cidr": cidr, "except": except}}));
    let wrong = [
        (json!([]), ""),
        (other, "kind"),
        (old, "apiVersion"),
        (nameless, "metadata.name"),
        (loud, "metadata.namespace"),
        (policy(json!({})), "spec.podSelector"),
        (policy(json!({"podSelector": {}, "ingres": []})), "spec.ingres"),
        (policy(json!({"podSelector": {}, "ingress": {}})), "spec.ingress"),
        (policy(json!({"podSelector": {}, "policyTypes": ["ingress"]})), "spec.policyTypes[0]"),
        (ingress(json!({"to": []})), "spec.ingress[0].to"),
        (from(json!({})), "spec.ingress[0].from[0]"),
        (from(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}})), "spec.ingress[0].from[0].ipBlock"),
        (block("10.0.0.0", &[]), "spec.ingress[0].from[0].ipBlock.cidr"),
        (block("10.0.0.0/8", &["11.0.0.0/9"]), "spec.ingress[0].from[0].ipBlock.except[0]"),
        (block("10.0.0.0/8", &["10.0.0.0/9", "10.0.0.0/8"]), "spec.ingress[0].from[0].ipBlock.except[1]"),
        (ports(json!({"protocol": "ICMP"})), "spec.ingress[0].ports[0].protocol"),
        (ports(json!({"port": 0})), "spec.ingress[0].ports[0].port"),
        (ports(json!({"port": 65536})), "spec.ingress[0].ports[0].port"),
        (ports(json!({"port": "http"})), "spec.ingress[0].ports[0].port"),
        (ports(json!({"endPort": 9})), "spec.ingress[0].ports[0].endPort"),
        (ports(json!({"port": 10, "endPort": 9})), "spec.ingress[0].ports[0].endPort"),
        (select(json!({"matchLabels": {"a b": "c"}})), "spec.podSelector.matchLabels.a b"),
        (select(json!({"matchLabels": {"a": "-c"}})), "spec.podSelector.matchLabels.a"),
        (select(json!({"matchLabels": {"a": 1}})), "spec.podSelector.matchLabels.a"),
        (expression(json!({"key": "a"})), "spec.podSelector.matchExpressions[0].operator"),
        (expression(json!({"key": "a", "operator": "Is"})), "spec.podSelector.matchExpressions[0].operator"),
        (expression(json!({"key": "a", "operator": "In"})), "spec.podSelector.matchExpressions[0].values"),
        (
            expression(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
            "spec.podSelector.matchExpressions[0].values",
        ),
        (expression(json!({"key": "/a", "operator": "Exists"})), "spec.podSelector.matchExpressions[0].key"),
    ];
    for (manifest, place) in wrong {
        let error = read(&manifest).expect_err(place);
        assert_eq!(error.place, place, "{error}");
    }
}

#[test]
fn labels_of_a_port_are_checked_as_those_of_selectors() {
    let right = Labels { namespace: "shop".into(), namespace_labels: BTreeMap::new(), labels: BTreeMap::new() };
    let own = |key: &str, value: &str| Labels { labels: BTreeMap::from([(key.into(), value.into())]), ..right.clone() };
    assert_eq!(check_labels(&right), Ok(()));
    assert_eq!(check_labels(&own("example.com/app", "")), Ok(()));
    let place = |labels: &Labels| check_labels(labels).expect_err("it is wrong").place;
    assert_eq!(place(&Labels { namespace: String::new(), ..right.clone() }), "namespace");
    assert_eq!(place(&own("a/b/c", "")), "labels");
    assert_eq!(place(&own("a", "b/c")), "labels");
    let named = BTreeMap::from([(NAMESPACE_NAME.to_owned(), "other".to_owned())]);
    assert_eq!(place(&Labels { namespace_labels: named, ..right }), "namespace_labels");
}
