//! The map of a project: where everything stands in the picture. Pure: from objects to places.
//!
//! Columns are fixed (outside, routers, networks, subnets, ports), so that a map is read like a table; what
//! belongs together stands together, and whoever has parts stands in the middle of them. Operators see the
//! ports of a subnet by the hosts that they are on.

use crate::api::Query;
use crate::cell::{Link, link_to};
use crate::resource::declared;
use crate::resource::text::{plain, short};
use serde_json::Value;
use std::collections::BTreeMap;

/// A group of more than so many is drawn as one.
const GROUP: usize = 30;

/// Width of a node, and from one column to the next.
const WIDTH: usize = 190;
const COLUMN: usize = 240;

/// Height of a node, and from one row to the next.
const HEIGHT: usize = 26;
const ROW: usize = 34;

/// Above the first row stand the headlines.
const TOP: usize = 40;

/// Letters that a node has room for.
const LETTERS: usize = 24;

/// Columns from left to right, and what one of their nodes is.
const COLUMNS: [(&str, &str); 5] =
    [("External", "outside"), ("Routers", "router"), ("Networks", "network"), ("Subnets", "subnet"), ("Ports", "port")];

/// What stands between subnets and ports for operators.
const HOSTS: (&str, &str) = ("Hosts", "host");

/// What the map is made of.
#[derive(Debug, Default)]
pub struct Objects {
    /// Networks that routers have as their outside, whoever owns them.
    pub outside: Vec<Value>,
    /// Networks of the project.
    pub networks: Vec<Value>,
    /// Subnets.
    pub subnets: Vec<Value>,
    /// Ports, those of routers too.
    pub ports: Vec<Value>,
    /// There are more ports than these, so that no group of them is known whole.
    pub cut: bool,
    /// Ports are shown by their hosts.
    pub by_host: bool,
    /// Routers.
    pub routers: Vec<Value>,
}

/// A box of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number; edges name it.
    pub number: usize,
    /// Its column.
    pub column: usize,
    /// Where it leads, and what it is called.
    pub link: Link,
    /// What fits into the box.
    pub short: String,
    /// What more is known: a range, an address.
    pub more: String,
    /// Class of its state.
    pub tone: &'static str,
    /// Row of its middle, in halves, so that one can stand between two rows.
    half: usize,
    /// Numbers of what it is joined with, however far: what lights up with it.
    pub with: String,
}

impl Node {
    /// Left edge.
    pub fn x(&self) -> usize {
        self.column * COLUMN + 1
    }

    /// Upper edge.
    pub fn y(&self) -> usize {
        TOP + self.half * ROW / 2
    }

    /// Where its text stands.
    pub fn text_y(&self) -> usize {
        self.y() + HEIGHT * 2 / 3
    }
}

/// A line of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// From the right side of this one.
    pub from: usize,
    /// To the left side of that one.
    pub to: usize,
    /// The line, in the words of SVG.
    pub path: String,
}

/// A picture.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// Boxes.
    pub nodes: Vec<Node>,
    /// Lines.
    pub edges: Vec<Edge>,
    /// There is a column of hosts.
    by_host: bool,
}

impl Map {
    /// Width of a box.
    pub const BOX: (usize, usize) = (WIDTH, HEIGHT);

    /// Width of the whole.
    pub fn width(&self) -> usize {
        // One more on each side for the line around a box.
        COLUMN * (self.columns().count() - 1) + WIDTH + 2
    }

    /// Height of the whole.
    pub fn height(&self) -> usize {
        self.nodes.iter().map(|node| node.y() + ROW).max().unwrap_or(TOP + ROW)
    }

    fn columns(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (ports, others) = (COLUMNS[COLUMNS.len() - 1], &COLUMNS[..COLUMNS.len() - 1]);
        others.iter().copied().chain(self.by_host.then_some(HOSTS)).chain([ports])
    }

    /// Headlines and where they stand.
    pub fn heads(&self) -> Vec<(usize, &'static str)> {
        self.columns().enumerate().map(|(column, (name, _))| (column * COLUMN, name)).collect()
    }

    /// Columns with what one of their nodes is.
    pub fn kinds(&self) -> Vec<(usize, &'static str)> {
        self.columns().enumerate().map(|(column, (_, one))| (column, one)).collect()
    }

    /// Nodes of a column, from above.
    pub fn column(&self, column: usize) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.iter().filter(|node| node.column == column).collect();
        nodes.sort_by_key(|node| node.half);
        nodes
    }

    /// What a node is joined with in the next column.
    pub fn right_of(&self, number: usize) -> Vec<&Node> {
        self.edges.iter().filter(|edge| edge.from == number).map(|edge| &self.nodes[edge.to]).collect()
    }

    /// The picture of these objects.
    pub fn of(objects: &Objects) -> Self {
        let by_host = objects.by_host && !objects.cut;
        let mut drawing = Drawing { map: Self { by_host, ..Self::default() }, ..Drawing::default() };
        drawing.networks(objects);
        drawing.routers(objects);
        drawing.finish()
    }
}

#[derive(Default)]
struct Drawing {
    map: Map,
    joined: Vec<(usize, usize)>,
    rows: usize,
    /// By id.
    subnets: BTreeMap<String, usize>,
}

fn tone(object: &Value) -> &'static str {
    match object["status"].as_str() {
        Some("ACTIVE") => "good",
        Some("BUILD") => "wait",
        Some("ERROR") => "bad",
        _ => "off",
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LETTERS {
        return text.to_owned();
    }
    text.chars().take(LETTERS - 1).chain(['\u{2026}']).collect()
}

impl Drawing {
    fn node(&mut self, column: usize, link: Link, more: String, tone: &'static str) -> usize {
        let number = self.map.nodes.len();
        let short = shortened(&link.text);
        self.map.nodes.push(Node { number, column, link, short, more, tone, half: 0, with: String::new() });
        number
    }

    fn object(&mut self, column: usize, kind: &'static str, object: &Value, more: String, tone: &'static str) -> usize {
        self.node(column, link_to(declared(kind), object), more, tone)
    }

    /// Puts a node into the next free row.
    fn leaf(&mut self, number: usize) {
        self.map.nodes[number].half = self.rows * 2;
        self.rows += 1;
    }

    /// Puts a node into the middle of the rows since `first`, or into the next one if there is none.
    fn over(&mut self, number: usize, first: usize) {
        if self.rows == first {
            self.leaf(number);
        } else {
            self.map.nodes[number].half = first + self.rows - 1;
        }
    }

    /// Several drawn as one.
    fn group(&mut self, column: usize, from: usize, text: String, href: String) {
        let node = self.node(column, Link { href, text }, String::new(), "off");
        self.joined.push((from, node));
        self.leaf(node);
    }

    fn networks(&mut self, objects: &Objects) {
        for network in objects.networks.iter().take(GROUP) {
            let first = self.rows;
            let node = self.object(2, "networks", network, String::new(), tone(network));
            let subnets: Vec<&Value> =
                objects.subnets.iter().filter(|subnet| subnet["network_id"] == network["id"]).collect();
            for subnet in subnets.iter().take(GROUP) {
                self.subnet(objects, node, subnet);
            }
            if subnets.len() > GROUP {
                let href = format!("/subnets?network_id={}", plain(&network["id"]));
                self.group(3, node, format!("{} more subnets", subnets.len() - GROUP), href);
            }
            self.over(node, first);
        }
        if objects.networks.len() > GROUP {
            let text = format!("{} more networks", objects.networks.len() - GROUP);
            let node = self.node(2, Link { href: "/networks".into(), text }, String::new(), "off");
            self.leaf(node);
        }
    }

    fn subnet(&mut self, objects: &Objects, network: usize, subnet: &Value) {
        let first = self.rows;
        let node = self.object(3, "subnets", subnet, plain(&subnet["cidr"]), "good");
        self.joined.push((network, node));
        self.subnets.insert(plain(&subnet["id"]), node);
        let own = |port: &&Value| {
            let ips = port["fixed_ips"].as_array().into_iter().flatten();
            !is_of_router(port) && ips.into_iter().any(|ip| ip["subnet_id"] == subnet["id"])
        };
        let ports: Vec<&Value> = objects.ports.iter().filter(own).collect();
        let list = format!("/ports?network_id={}", plain(&subnet["network_id"]));
        if objects.cut {
            self.group(4, node, "ports".into(), list);
        } else if objects.by_host {
            self.hosts(node, &ports, &list);
        } else {
            self.ports(4, node, &ports, list);
        }
        self.over(node, first);
    }

    /// Ports, joined with what has them.
    fn ports(&mut self, column: usize, from: usize, ports: &[&Value], list: String) {
        if ports.len() > GROUP {
            return self.group(column, from, format!("{} ports", ports.len()), list);
        }
        for port in ports {
            let addresses: Vec<String> =
                port["fixed_ips"].as_array().into_iter().flatten().map(|ip| plain(&ip["ip_address"])).collect();
            let leaf = self.object(column, "ports", port, addresses.join(", "), tone(port));
            self.joined.push((from, leaf));
            self.leaf(leaf);
        }
    }

    /// The hosts that ports of a subnet are on, each with its ports.
    fn hosts(&mut self, subnet: usize, ports: &[&Value], list: &str) {
        let mut by_host: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for port in ports {
            by_host.entry(port["binding:host_id"].as_str().unwrap_or_default()).or_default().push(port);
        }
        let number = by_host.len();
        for (host, ports) in by_host.iter().take(GROUP) {
            let first = self.rows;
            let query = Query::new().with("name", host);
            let (link, list) = match host.is_empty() {
                true => (Link { href: list.to_owned(), text: "no host".into() }, list.to_owned()),
                false => (
                    Link { href: query.after("/hosts"), text: (*host).to_owned() },
                    format!(
                        "{list}&{}",
                        Query::new().with("binding:host_id", host).with("all", 1).after("").trim_start_matches('?')
                    ),
                ),
            };
            let count = if ports.len() == 1 { "1 port".into() } else { format!("{} ports", ports.len()) };
            let node = self.node(4, link, count, "");
            self.joined.push((subnet, node));
            self.ports(5, node, ports, list);
            self.over(node, first);
        }
        if number > GROUP {
            self.group(4, subnet, format!("{} more hosts", number - GROUP), list.to_owned());
        }
    }

    /// Routers stand beside the networks of what they join, one in a row.
    fn routers(&mut self, objects: &Objects) {
        let mut wanted = Vec::new();
        for router in &objects.routers {
            let of_it = objects.ports.iter().filter(|port| is_of_router(port) && port["device_id"] == router["id"]);
            let ips = of_it.flat_map(|port| port["fixed_ips"].as_array().into_iter().flatten());
            let joins: Vec<usize> = ips.filter_map(|ip| self.subnets.get(ip["subnet_id"].as_str()?).copied()).collect();
            let mut networks: Vec<usize> = joins
                .iter()
                .filter_map(|subnet| self.joined.iter().find(|(_, to)| to == subnet))
                .map(|(from, _)| *from)
                .collect();
            networks.sort_unstable();
            networks.dedup();
            let middle =
                networks.iter().map(|network| self.map.nodes[*network].half).sum::<usize>() / networks.len().max(1);
            wanted.push((middle, router, networks));
        }
        wanted.sort_by_key(|(middle, ..)| *middle);
        let (mut next, mut next_outside) = (0, 0);
        let mut outsides: BTreeMap<String, usize> = BTreeMap::new();
        for (middle, router, networks) in wanted {
            let node = self.object(1, "routers", router, String::new(), tone(router));
            self.map.nodes[node].half = middle.max(next);
            next = self.map.nodes[node].half + 2;
            self.joined.extend(networks.into_iter().map(|network| (node, network)));
            let Some(outside) = router["external_gateway_info"]["network_id"].as_str() else { continue };
            let known = outsides.get(outside).copied();
            let number = known.unwrap_or_else(|| {
                let seen = objects.outside.iter().find(|network| network["id"] == outside);
                let link = match seen {
                    Some(network) => link_to(declared("networks"), network),
                    None => Link { href: declared("networks").page_of(outside), text: short(outside) },
                };
                let number = self.node(0, link, String::new(), seen.map_or("off", tone));
                self.map.nodes[number].half = middle.max(next_outside);
                next_outside = self.map.nodes[number].half + 2;
                number
            });
            outsides.insert(outside.to_owned(), number);
            self.joined.push((number, node));
        }
    }

    fn finish(mut self) -> Map {
        let map = &mut self.map;
        map.edges = self
            .joined
            .iter()
            .map(|(from, to)| Edge { from: *from, to: *to, path: path(&map.nodes[*from], &map.nodes[*to]) })
            .collect();
        let right = reach(map.nodes.len(), self.joined.iter().copied());
        let left = reach(map.nodes.len(), self.joined.iter().map(|(from, to)| (*to, *from)));
        for (number, node) in map.nodes.iter_mut().enumerate() {
            let all: Vec<String> = right[number].iter().chain(&left[number]).map(usize::to_string).collect();
            node.with = all.join(" ");
        }
        self.map
    }
}

fn is_of_router(port: &Value) -> bool {
    port["device_owner"].as_str().is_some_and(|owner| owner.starts_with("network:router_"))
}

/// What each node leads to, over any number of edges in their direction.
fn reach(nodes: usize, edges: impl Iterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    edges.for_each(|(from, to)| next[from].push(to));
    let all = |start: usize| {
        let (mut seen, mut met, mut open) = (Vec::new(), vec![false; nodes], next[start].clone());
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut met[node], true) {
                seen.push(node);
                open.extend(&next[node]);
            }
        }
        seen
    };
    (0..nodes).map(all).collect()
}

fn path(from: &Node, to: &Node) -> String {
    let (x1, y1) = (from.x() + WIDTH, from.y() + HEIGHT / 2);
    let (x2, y2) = (to.x(), to.y() + HEIGHT / 2);
    let middle = x1.midpoint(x2);
    format!("M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn objects(ports: usize) -> Objects {
        let port = |number: usize| {
            json!({"id": format!("p{number}"), "name": format!("port {number}"), "status": "ACTIVE", "network_id": "n1",
                "device_owner": "", "fixed_ips": [{"subnet_id": "s1", "ip_address": "10.0.0.5"}]})
        };
        let interface = json!({"id": "i", "name": "", "device_owner": "network:router_interface", "device_id": "r1",
            "fixed_ips": [{"subnet_id": "s1", "ip_address": "10.0.0.1"}]});
        Objects {
            outside: vec![json!({"id": "outside1", "name": "internet", "status": "ACTIVE"})],
            networks: vec![
                json!({"id": "n1", "name": "one", "status": "ACTIVE"}),
                json!({"id": "n2", "name": "empty", "status": "ACTIVE"}),
            ],
            subnets: vec![json!({"id": "s1", "name": "front", "network_id": "n1", "cidr": "10.0.0.0/24"})],
            ports: (0..ports).map(port).chain([interface]).collect(),
            cut: false,
            by_host: false,
            routers: vec![
                json!({"id": "r1", "name": "edge", "status": "DOWN", "external_gateway_info": {"network_id": "outside1"}}),
            ],
        }
    }

    fn named<'a>(map: &'a Map, name: &str) -> &'a Node {
        map.nodes.iter().find(|node| node.link.text == name).unwrap_or_else(|| panic!("no {name}"))
    }

    #[test]
    fn no_two_boxes_stand_in_one_place() {
        for ports in [0, 1, 2, 30, 31] {
            let map = Map::of(&objects(ports));
            let mut places = BTreeSet::new();
            for node in &map.nodes {
                assert!(places.insert((node.x(), node.y())), "{ports}: {node:?}");
            }
        }
    }

    #[test]
    fn what_has_parts_stands_in_their_middle() {
        let map = Map::of(&objects(3));
        let middle = named(&map, "port 1").y();
        assert_eq!((named(&map, "front").y(), named(&map, "one").y()), (middle, middle));
        assert!(named(&map, "empty").y() > named(&map, "port 2").y());
    }

    #[test]
    fn a_large_group_is_one_box_that_leads_to_the_list() {
        let map = Map::of(&objects(31));
        assert_eq!(map.column(4).len(), 1);
        assert_eq!(map.column(4)[0].link, Link { href: "/ports?network_id=n1".into(), text: "31 ports".into() });
        assert_eq!(Map::of(&objects(30)).column(4).len(), 30);
        let cut = Map::of(&Objects { cut: true, ..objects(3) });
        assert_eq!(cut.column(4).iter().map(|node| node.link.text.as_str()).collect::<Vec<_>>(), ["ports"]);
    }

    #[test]
    fn operators_see_ports_by_their_hosts() {
        let mut objects = Objects { by_host: true, ..objects(40) };
        for (number, port) in objects.ports.iter_mut().enumerate() {
            port["binding:host_id"] = json!(
                ["h1", "h2", ""][if number < 4 {
                    number % 2
                } else if number < 8 {
                    2
                } else {
                    1
                }]
            );
        }
        let map = Map::of(&objects);
        assert_eq!(map.heads().iter().map(|(_, name)| *name).collect::<Vec<_>>()[4..], ["Hosts", "Ports"]);
        let seen = |column| map.column(column).iter().map(|node| node.link.text.as_str()).collect::<Vec<_>>();
        assert_eq!(seen(4), ["no host", "h1", "h2"]);
        assert_eq!(seen(5), ["port 4", "port 5", "port 6", "port 7", "port 0", "port 2", "34 ports"]);
        assert_eq!(named(&map, "34 ports").link.href, "/ports?network_id=n1&binding%3Ahost_id=h2&all=1");
        assert_eq!(named(&map, "h1").link.href, "/hosts?name=h1");
        assert!(map.nodes.iter().all(|node| node.x() + WIDTH < map.width()));
        let cut = Map::of(&Objects { cut: true, ..objects });
        assert_eq!(cut.heads().len(), 5);
        assert_eq!(cut.column(4).iter().map(|node| node.link.text.as_str()).collect::<Vec<_>>(), ["ports"]);
    }

    #[test]
    fn what_is_connected_lights_up_together() {
        let map = Map::of(&objects(2));
        let with = |name: &str| {
            let numbers = named(&map, name).with.split(' ').filter_map(|number| number.parse::<usize>().ok());
            numbers.map(|number| map.nodes[number].link.text.clone()).collect::<BTreeSet<_>>()
        };
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(with("port 0"), of(&["front", "one", "edge", "internet"]));
        assert_eq!(with("front"), of(&["port 0", "port 1", "one", "edge", "internet"]));
        assert_eq!(with("empty"), of(&[]));
    }

    #[test]
    fn every_box_is_in_the_picture() {
        let map = Map::of(&objects(4));
        assert!(map.nodes.iter().all(|node| node.x() + WIDTH < map.width() && node.y() + HEIGHT < map.height()));
    }

    #[test]
    fn a_long_name_is_cut_for_the_box_alone() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"x".repeat(40)).chars().count(), LETTERS);
    }
}
