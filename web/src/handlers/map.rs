//! The map of a project, as a picture and as a table of the same.

use crate::api::Query;
use crate::fault::Fault;
use crate::map::{Map, Objects};
use crate::page::{self, Fragment, Frame};
use crate::resource::declared;
use crate::signed::Signed;
use actix_web::HttpResponse;
use askama::Template;
use std::collections::BTreeSet;

/// With more ports than these, subnets are drawn with one box for theirs.
const PORTS: usize = 1_000;

#[derive(Template)]
#[template(path = "picture.html")]
struct Picture {
    map: Map,
}

#[derive(Template)]
#[template(path = "map.html")]
struct Page {
    frame: Frame,
    picture: Fragment,
}

/// The picture.
pub async fn fragment(signed: &Signed) -> Result<Fragment, Fault> {
    let project = || Query::new().with("project_id", &signed.project.id);
    let list = |kind: &'static str, query: Query| async move {
        let of = declared(kind);
        let query = query.with("sort_key", "name").with("sort_dir", "asc");
        signed.calls.list(of.api, of.plural, &query).await
    };
    let by_host = signed.session.is_admin();
    let host = by_host.then_some("binding:host_id");
    let fields = ["id", "name", "status", "fixed_ips", "device_owner", "device_id"].into_iter().chain(host);
    let (networks, subnets, mut ports, routers) = futures::try_join!(
        list("networks", project()),
        list("subnets", project()),
        list("ports", project().with_each("fields", fields.clone()).with("limit", PORTS + 1)),
        list("routers", project()),
    )?;
    let cut = ports.len() > PORTS;
    if cut {
        // Those of routers say what is joined, and there are few of them.
        let interfaces = project().with("device_owner", "network:router_interface").with_each("fields", fields);
        ports = list("ports", interfaces).await?;
    }
    let outside: BTreeSet<&str> =
        routers.iter().filter_map(|router| router["external_gateway_info"]["network_id"].as_str()).collect();
    let outside = match outside.is_empty() {
        true => Vec::new(),
        false => list("networks", Query::new().with_each("id", outside)).await?,
    };
    Fragment::of(
        "map",
        &Picture { map: Map::of(&Objects { outside, networks, subnets, ports, routers, cut, by_host }) },
    )
}

/// The page.
pub async fn page(signed: Signed) -> Result<HttpResponse, Fault> {
    let picture = fragment(&signed).await?;
    page::ok(&Page { frame: Frame::new(&signed, "Map", "/map").following("/map", [&picture]), picture })
}
