//! Label policies: manifests of Kubernetes, and what becomes of flows while they and labels change.

use crate::bed::{Bed, PATIENCE};
use crate::groups::Probe::Ping;
use crate::groups::{ANN, API, BOB, CAT, DNS, HTTP, HTTPS, OPEN, Stage, Talk, Try, WEB};
use crate::harness::Scenario;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    ("the_recipes_of_kubernetes_policies_hold_for_manifests", manifests),
    ("a_label_or_a_policy_that_goes_ends_its_flows_and_no_others", labels_change),
];

/// A recipe: its name, its policies with their namespaces, what passes and what does not.
type Recipe<'a> = (&'static str, &'a [(&'static str, Value)], &'a [Try], &'a [Try]);

/// Web and Ann are in namespace `default`, Bob and Cat in `other`; all security groups let everything
/// pass.
fn labelled<'a>(bed: &'a Bed) -> Result<Stage<'a>> {
    let mut stage = Stage::new(bed)?;
    stage.set(&[("open", OPEN)], [&["open"]; 4])?;
    let other = json!({"team": "operations"});
    stage.label(WEB, &json!({"namespace": "default", "labels": {"app": "web", "role": "db"}}))?;
    stage.label(ANN, &json!({"namespace": "default", "labels": {"app": "bookstore", "role": "search"}}))?;
    stage.label(BOB, &json!({"namespace": "other", "namespace_labels": other, "labels": {"type": "monitoring"}}))?;
    stage.label(CAT, &json!({"namespace": "other", "namespace_labels": other}))?;
    bed.settle()?;
    Ok(stage)
}

/// Of github.com/ahmetb/kubernetes-network-policy-recipes, whose manifests these are but for names.
fn manifests(bed: &Bed) -> Result<()> {
    let stage = labelled(bed)?;
    let web = json!({"matchLabels": {"app": "web"}});
    let from = |peers: Value| json!({"podSelector": web, "ingress": [{"from": peers}]});
    let tcp = |port: u16| json!([{"protocol": "TCP", "port": port}]);
    let names = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]);
    let of_web = [(ANN, WEB, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping)];
    let of_ann = [(ANN, WEB, HTTP), (ANN, BOB, HTTPS), (ANN, CAT, Ping)];
    let recipes: &[Recipe<'_>] = &[
        ("no policy", &[], &[of_web, of_ann].concat(), &[]),
        (
            "deny all traffic to an application",
            &[("default", json!({"podSelector": web, "ingress": []}))],
            &[(WEB, ANN, HTTP), (ANN, BOB, HTTP)],
            &of_web,
        ),
        (
            "limit traffic to an application",
            &[("default", from(json!([{"podSelector": {"matchLabels": {"app": "bookstore"}}}])))],
            &[(ANN, WEB, HTTP), (ANN, WEB, Ping)],
            &[(BOB, WEB, HTTP), (CAT, WEB, HTTP)],
        ),
        (
            "allow all traffic to an application, whatever else is denied",
            &[
                ("default", json!({"podSelector": {}, "ingress": []})),
                ("default", json!({"podSelector": web, "ingress": [{}]})),
            ],
            &of_web,
            &[(WEB, ANN, HTTP), (BOB, ANN, HTTP)],
        ),
        (
            "deny all traffic in a namespace that is not on a list",
            &[("default", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))],
            &[(BOB, CAT, HTTP), (WEB, CAT, HTTP)],
            &[(ANN, WEB, HTTP), (WEB, ANN, HTTP), (BOB, ANN, DNS)],
        ),
        (
            "deny all traffic from other namespaces",
            &[("default", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}))],
            &[(ANN, WEB, HTTP), (WEB, ANN, DNS), (BOB, CAT, HTTP)],
            &[(BOB, WEB, HTTP), (CAT, ANN, Ping)],
        ),
        (
            "allow traffic to an application from all namespaces",
            &[
                ("default", json!({"podSelector": {}, "ingress": []})),
                ("default", from(json!([{"namespaceSelector": {}}]))),
            ],
            &of_web,
            &[(CAT, ANN, HTTP)],
        ),
        (
            "allow all traffic from a namespace",
            &[("default", from(json!([{"namespaceSelector": {"matchLabels": {"team": "operations"}}}])))],
            &[(BOB, WEB, HTTP), (CAT, WEB, DNS)],
            &[(ANN, WEB, HTTP)],
        ),
        (
            "allow traffic from some pods in another namespace",
            &[(
                "default",
                from(json!([{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}},
                    "podSelector": {"matchLabels": {"type": "monitoring"}},
                }])),
            )],
            &[(BOB, WEB, HTTP)],
            &[(CAT, WEB, HTTP), (ANN, WEB, HTTP)],
        ),
        (
            "allow traffic from external clients",
            &[("default", json!({"podSelector": web, "ingress": [{"ports": tcp(80), "from": []}]}))],
            &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
            &[(ANN, WEB, HTTPS), (CAT, WEB, Ping)],
        ),
        (
            "allow traffic only to a port of an application",
            &[(
                "default",
                json!({"podSelector": web, "ingress": [{
                    "ports": tcp(5000),
                    "from": [{"podSelector": {"matchLabels": {"role": "search"}}}],
                }]}),
            )],
            &[(ANN, WEB, API)],
            &[(ANN, WEB, HTTP), (BOB, WEB, API)],
        ),
        (
            "allow traffic using several selectors",
            &[(
                "default",
                from(json!([
                    {"podSelector": {"matchExpressions": [{"key": "role", "operator": "In", "values": ["search"]}]}},
                    {"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "type", "operator": "Exists"}]}},
                ])),
            )],
            &[(ANN, WEB, HTTP), (BOB, WEB, HTTP)],
            &[(CAT, WEB, HTTP)],
        ),
        (
            "allow traffic from addresses with an exception",
            &[("default", from(json!([{"ipBlock": {"cidr": "10.1.0.0/24", "except": ["10.1.0.130/32"]}}])))],
            &[(BOB, WEB, HTTP), (BOB, WEB, Ping)],
            &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        ),
        (
            "deny egress traffic from an application, but for names",
            &[(
                "default",
                json!({"podSelector": {"matchLabels": {"app": "bookstore"}}, "policyTypes": ["Egress"],
                    "egress": [{"ports": names}]}),
            )],
            &[(ANN, WEB, DNS), (ANN, CAT, DNS), (BOB, ANN, HTTP)],
            &of_ann,
        ),
        (
            "deny all egress traffic from a namespace that is not on a list",
            &[("default", json!({"podSelector": {}, "policyTypes": ["Egress"]}))],
            &[(BOB, WEB, HTTP), (CAT, ANN, Ping)],
            &[of_ann[0], of_ann[1], (WEB, CAT, DNS)],
        ),
        (
            "deny external egress traffic",
            &[(
                "default",
                json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
                    {"ports": names}, {"to": [{"namespaceSelector": {"matchLabels": {
                        "kubernetes.io/metadata.name": "default"}}}]},
                ]}),
            )],
            &[(ANN, WEB, HTTP), (WEB, ANN, Ping), (ANN, CAT, DNS)],
            &[(ANN, CAT, HTTP), (WEB, BOB, Ping)],
        ),
        (
            "allow egress traffic to a range of ports of some addresses",
            &[(
                "default",
                json!({"podSelector": {"matchLabels": {"app": "bookstore"}}, "policyTypes": ["Egress"], "egress": [{
                    "to": [{"ipBlock": {"cidr": "10.1.0.0/25"}}],
                    "ports": [{"port": 79, "endPort": 442}],
                }]}),
            )],
            &[(ANN, WEB, HTTP), (WEB, ANN, HTTPS)],
            &[(ANN, WEB, HTTPS), (ANN, BOB, HTTP), (ANN, CAT, HTTP)],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, policies, passes, fails) in recipes {
        let place = |(place, (namespace, spec)): (usize, &(&'static str, Value))| {
            (*namespace, format!("policy-{place}"), spec.clone())
        };
        let named: Vec<_> = policies.iter().enumerate().map(place).collect();
        let named: Vec<_> = named.iter().map(|(space, name, spec)| (*space, name.as_str(), spec.clone())).collect();
        stage.policies(&named).with_context(|| format!("preparing: {name}"))?;
        wrong.extend(stage.check(passes, fails).err().map(|error| format!("{name}: {error}")));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// As `kubectl get networkpolicy -o yaml` writes it: nobody reaches the web.
const CLOSED: &str = r#"# The friends of yesterday.
apiVersion: v1
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy"}
    creationTimestamp: "2026-11-02T10:20:30Z"
    generation: 3
    name: friends
    namespace: default
    resourceVersion: "4711"
    uid: 6b1f0a3e-6a0c-4a4c-9f0e-0d6f5a1f2b3c
  spec:
    podSelector:
      matchLabels:
        app: web
    policyTypes:
    - Ingress
kind: List
metadata:
  resourceVersion: ""
"#;

fn labels_change(bed: &Bed) -> Result<()> {
    let stage = labelled(bed)?;
    let spec = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"friend": "yes"}}}]},
        {"from": [{"ipBlock": {"cidr": "10.1.0.131/32"}}]},
    ]});
    stage.policies(&[("default", "friends", spec)])?;
    stage.check(&[(BOB, WEB, DNS)], &[(ANN, WEB, DNS), (CAT, WEB, HTTP)])?;
    stage.label(ANN, &json!({"namespace": "default", "labels": {"friend": "yes"}}))?;
    stage.label(CAT, &json!({"namespace": "other", "labels": {"friend": "yes"}}))?;
    bed.settle()?;
    stage.check(&[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (CAT, WEB, HTTP)], &[])?;

    let web = SocketAddr::new(stage.ends[WEB].address()?, 53);
    let goes = Talk::start(&stage.ends[ANN], web)?;
    let stays = Talk::start(&stage.ends[CAT], web)?;
    ensure!(goes.answers_within(PATIENCE) && stays.answers_within(PATIENCE), "a friend's flow does not begin");
    stage.label(ANN, &json!({"namespace": "default"}))?;
    bed.settle()?;
    let last = goes.ends()?;
    ensure!(last < Duration::from_secs(10), "a flow went on for {last:?} after its port was a friend");
    ensure!(stays.answers_within(PATIENCE), "the other friend's flow ended");
    stage.check(&[(CAT, WEB, HTTP), (BOB, WEB, HTTP)], &[(ANN, WEB, HTTP)])?;

    // In its place, without a moment in which there is none.
    let said = stage.apply(CLOSED)?;
    ensure!(said == "networkpolicy default/friends configured\n", "{said}");
    bed.settle()?;
    let last = stays.ends()?;
    ensure!(last < Duration::from_secs(10), "a flow went on for {last:?} without a rule");
    stage.check(&[(WEB, BOB, HTTP)], &[(CAT, WEB, HTTP), (BOB, WEB, HTTP)])?;
    // Without a policy its security groups count again.
    stage.policies(&[])?;
    stage.check(&[(ANN, WEB, HTTP), (CAT, WEB, Ping)], &[])
}
