//! What groups say, and what passes then.

use crate::groups::Probe::{Ping, Udp};
use crate::groups::Remote::{Addresses, Group, Net};
use crate::groups::{ANN, API, BOB, CAT, Case, DNS, HTTP, HTTPS, OPEN, OUT, WEB, egress, ingress};

/// The clients' half of the first subnet.
const CLIENTS: &str = "10.1.0.128/25";
/// That half but for Ann's address.
const NOT_ANN: &[&str] = &[
    "10.1.0.128/31",
    "10.1.0.131/32",
    "10.1.0.132/30",
    "10.1.0.136/29",
    "10.1.0.144/28",
    "10.1.0.160/27",
    "10.1.0.192/26",
];

/// Only the server is filtered; the others let everything pass.
const SERVER: [&[&str]; 4] = [&["tested"], &["open"], &["open"], &["open"]];
/// Only Ann is.
const CLIENT: [&[&str]; 4] = [&["open"], &["tested"], &["open"], &["open"]];

/// Rules of each kind, one after the other.
pub const DIRECTIONS: &[Case] = &[
    Case {
        name: "ingress from a range of addresses",
        groups: &[("open", OPEN), ("tested", &[ingress("tcp").with(Net(CLIENTS)), egress("any")])],
        ports: SERVER,
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (WEB, CAT, HTTP), (CAT, ANN, Ping)],
        fails: &[(CAT, WEB, HTTP), (ANN, WEB, Ping), (BOB, WEB, DNS)],
    },
    Case {
        name: "ingress from a range with an exception",
        groups: &[("open", OPEN), ("tested", &[ingress("any").with(Addresses(NOT_ANN)), egress("any")])],
        ports: SERVER,
        passes: &[(BOB, WEB, HTTP), (BOB, WEB, DNS), (BOB, WEB, Ping), (WEB, ANN, HTTP)],
        fails: &[(ANN, WEB, HTTP), (ANN, WEB, DNS), (ANN, WEB, Ping), (CAT, WEB, HTTP)],
    },
    Case {
        name: "egress to a range of addresses",
        groups: &[("open", OPEN), ("tested", &[ingress("any"), egress("any").with(Net("10.1.0.0/25"))])],
        ports: CLIENT,
        passes: &[(ANN, WEB, HTTP), (ANN, WEB, Ping), (BOB, ANN, HTTP), (CAT, ANN, DNS)],
        fails: &[(ANN, BOB, HTTP), (ANN, CAT, DNS), (ANN, BOB, Ping)],
    },
    Case {
        name: "egress to a range with an exception",
        groups: &[
            ("open", OPEN),
            ("tested", &[ingress("any"), egress("tcp").with(Addresses(&["10.1.0.0/25", "10.2.0.0/24"]))]),
        ],
        ports: CLIENT,
        passes: &[(ANN, WEB, HTTP), (ANN, CAT, HTTPS), (BOB, ANN, HTTP)],
        fails: &[(ANN, BOB, HTTP), (ANN, WEB, DNS), (ANN, CAT, Ping)],
    },
    Case {
        name: "ingress from ports with a group",
        groups: &[("open", OPEN), ("friend", OUT), ("tested", &[ingress("any").with(Group("friend")), egress("any")])],
        ports: [&["tested"], &["open", "friend"], &["open"], &["friend"]],
        passes: &[(ANN, WEB, HTTP), (ANN, WEB, DNS), (CAT, WEB, Ping), (CAT, WEB, HTTPS)],
        fails: &[(BOB, WEB, HTTP), (BOB, WEB, Ping), (WEB, CAT, HTTP)],
    },
    Case {
        name: "egress to ports with a group",
        groups: &[("open", OPEN), ("friend", OPEN), ("tested", &[ingress("any"), egress("any").with(Group("friend"))])],
        ports: [&["friend"], &["tested"], &["open"], &["open", "friend"]],
        passes: &[(ANN, WEB, HTTP), (ANN, WEB, DNS), (ANN, CAT, Ping), (BOB, ANN, HTTP)],
        fails: &[(ANN, BOB, HTTP), (ANN, BOB, DNS), (ANN, BOB, Ping)],
    },
    Case {
        name: "ingress to a port",
        groups: &[("open", OPEN), ("tested", &[ingress("tcp").ports(80, 80), egress("any")])],
        ports: SERVER,
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(ANN, WEB, HTTPS), (BOB, WEB, DNS), (CAT, WEB, Ping)],
    },
    Case {
        name: "egress to a range of ports",
        groups: &[
            ("open", OPEN),
            ("tested", &[ingress("any"), egress("tcp").ports(79, 442), egress("udp").ports(1, 100)]),
        ],
        ports: CLIENT,
        passes: &[(ANN, WEB, HTTP), (ANN, CAT, HTTP), (ANN, BOB, DNS)],
        fails: &[(ANN, WEB, HTTPS), (ANN, BOB, API), (ANN, CAT, Udp(123)), (ANN, WEB, Ping)],
    },
    Case {
        name: "ingress of a type of ICMP",
        groups: &[
            ("open", OPEN),
            ("tested", &[ingress("icmp").kind(8), egress("any")]),
            ("other", &[ingress("icmp").kind(13), egress("any")]),
        ],
        ports: [&["tested"], &["other"], &["open"], &["open"]],
        passes: &[(BOB, WEB, Ping), (CAT, WEB, Ping), (WEB, BOB, Ping)],
        fails: &[(BOB, ANN, Ping), (WEB, ANN, Ping), (BOB, WEB, HTTP)],
    },
    Case {
        name: "all is denied by default",
        groups: &[("open", OPEN)],
        ports: [&[], &["open"], &["open"], &[]],
        passes: &[(ANN, BOB, HTTP), (BOB, ANN, DNS)],
        fails: &[(ANN, WEB, HTTP), (WEB, ANN, HTTP), (CAT, WEB, Ping), (WEB, CAT, DNS), (BOB, CAT, HTTPS)],
    },
    Case {
        name: "all is allowed by default",
        groups: &[("open", OPEN)],
        ports: [&["open"]; 4],
        passes: &[(ANN, WEB, HTTP), (WEB, ANN, HTTPS), (CAT, WEB, Ping), (WEB, CAT, DNS), (BOB, CAT, API)],
        fails: &[],
    },
];

/// Of github.com/ahmetb/kubernetes-network-policy-recipes, in its words. A namespace is a group that all
/// ports of it have; "some pods of another namespace" is a group of both.
pub const RECIPES: &[Case] = &[
    Case {
        name: "deny all traffic to an application",
        groups: &[("open", OPEN), ("web", OUT)],
        ports: [&["web"], &["open"], &["open"], &["open"]],
        passes: &[(WEB, ANN, HTTP), (ANN, BOB, HTTP)],
        fails: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
    },
    Case {
        name: "limit traffic to an application",
        groups: &[
            ("open", OPEN),
            ("bookstore", &[]),
            ("api", &[ingress("any").with(Group("bookstore")), egress("any")]),
        ],
        ports: [&["api"], &["open", "bookstore"], &["open"], &["open"]],
        passes: &[(ANN, WEB, HTTP)],
        fails: &[(BOB, WEB, HTTP), (CAT, WEB, HTTP)],
    },
    Case {
        name: "allow all traffic to an application, whatever else is denied",
        groups: &[("open", OPEN), ("denied", OUT), ("web", &[ingress("any")])],
        ports: [&["denied", "web"], &["denied"], &["open"], &["open"]],
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping)],
        fails: &[(BOB, ANN, HTTP)],
    },
    Case {
        name: "deny all traffic in a namespace that is not on a list",
        groups: &[("namespace", OUT), ("listed", &[ingress("tcp").ports(80, 80).with(Group("namespace"))])],
        ports: [&["namespace", "listed"], &["namespace"], &["namespace"], &["namespace"]],
        passes: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(WEB, ANN, HTTP), (BOB, CAT, HTTP), (ANN, WEB, HTTPS)],
    },
    Case {
        name: "deny all traffic from other namespaces",
        groups: &[
            ("bar", &[ingress("any").with(Group("bar")), egress("any")]),
            ("foo", &[ingress("any").with(Group("foo")), egress("any")]),
        ],
        ports: [&["bar"], &["bar"], &["foo"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (WEB, ANN, Ping), (BOB, CAT, DNS)],
        fails: &[(BOB, WEB, HTTP), (CAT, ANN, HTTP), (WEB, CAT, Ping), (ANN, BOB, DNS)],
    },
    Case {
        name: "allow traffic to an application from all namespaces",
        groups: &[
            ("bar", &[ingress("any").with(Group("bar")), egress("any")]),
            ("foo", OUT),
            ("web", &[ingress("any")]),
        ],
        ports: [&["bar", "web"], &["bar"], &["foo"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(BOB, ANN, HTTP), (CAT, ANN, HTTP)],
    },
    Case {
        name: "allow all traffic from a namespace",
        groups: &[
            ("production", OUT),
            ("development", OUT),
            ("web", &[ingress("any").with(Group("production")), egress("any")]),
        ],
        ports: [&["web"], &["production"], &["development"], &["production"]],
        passes: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(BOB, WEB, HTTP)],
    },
    Case {
        name: "allow traffic from some pods in another namespace",
        groups: &[
            ("operations", OUT),
            ("monitoring", OUT),
            ("operations-monitoring", &[]),
            ("web", &[ingress("any").with(Group("operations-monitoring")), egress("any")]),
        ],
        ports: [&["web"], &["operations", "monitoring", "operations-monitoring"], &["operations"], &["monitoring"]],
        passes: &[(ANN, WEB, HTTP)],
        fails: &[(BOB, WEB, HTTP), (CAT, WEB, HTTP)],
    },
    Case {
        name: "allow traffic from external clients",
        groups: &[("foo", OUT), ("web", &[ingress("tcp").ports(80, 80).with(Net("0.0.0.0/0")), egress("any")])],
        ports: [&["web"], &["foo"], &["foo"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (CAT, WEB, HTTP)],
        fails: &[(ANN, WEB, API), (CAT, WEB, Ping)],
    },
    Case {
        name: "allow traffic only to a port of an application",
        groups: &[
            ("open", OPEN),
            ("monitoring", OUT),
            ("apiserver", &[ingress("tcp").ports(5000, 5000).with(Group("monitoring")), egress("any")]),
        ],
        ports: [&["apiserver"], &["monitoring"], &["open"], &["monitoring"]],
        passes: &[(ANN, WEB, API), (CAT, WEB, API)],
        fails: &[(ANN, WEB, HTTP), (CAT, WEB, HTTPS), (BOB, WEB, API)],
    },
    Case {
        name: "allow traffic using several selectors",
        groups: &[
            ("search", OUT),
            ("catalogue", OUT),
            ("open", OPEN),
            ("db", &[ingress("any").with(Group("search")), ingress("tcp").with(Group("catalogue")), egress("any")]),
        ],
        ports: [&["db"], &["search"], &["catalogue"], &["open"]],
        passes: &[(ANN, WEB, HTTP), (BOB, WEB, HTTPS), (ANN, WEB, Ping)],
        fails: &[(CAT, WEB, HTTP), (BOB, WEB, Ping)],
    },
    Case {
        name: "deny egress traffic from an application, but for names",
        groups: &[("open", OPEN), ("foo", &[ingress("any"), egress("udp").ports(53, 53), egress("tcp").ports(53, 53)])],
        ports: [&["open"], &["foo"], &["open"], &["open"]],
        passes: &[(ANN, WEB, DNS), (ANN, CAT, DNS), (BOB, ANN, HTTP)],
        fails: &[(ANN, WEB, HTTP), (ANN, CAT, Ping), (ANN, BOB, Udp(123))],
    },
    Case {
        name: "deny all egress traffic from a namespace that is not on a list",
        groups: &[("namespace", &[ingress("any")]), ("listed", &[egress("tcp").with(Group("namespace"))])],
        ports: [&["namespace"], &["namespace", "listed"], &["namespace"], &["namespace"]],
        passes: &[(ANN, WEB, HTTP), (ANN, CAT, HTTPS)],
        fails: &[(WEB, ANN, HTTP), (BOB, WEB, DNS), (CAT, WEB, Ping), (ANN, WEB, DNS)],
    },
    Case {
        name: "deny external egress traffic",
        groups: &[
            ("foo", &[ingress("any"), egress("udp").ports(53, 53), egress("any").with(Group("namespace"))]),
            ("namespace", OPEN),
        ],
        // Cat stands for the world outside.
        ports: [&["namespace"], &["foo"], &["namespace"], &["foo"]],
        passes: &[(ANN, WEB, HTTP), (ANN, BOB, Ping), (ANN, CAT, DNS)],
        fails: &[(ANN, CAT, HTTP), (ANN, CAT, Ping)],
    },
];
