//! A network, a subnet of the default pool and a router to the default outside, for projects that
//! describe none: made by the first who asks for it, as Neutron does.
//!
//! What is made is what the caller could have made by himself: the same rules, rights, quotas and audit
//! events, in one transaction. Afterwards it is his like any other.

use super::at;
use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::frame::fields::Fields;
use crate::frame::handlers::{create_within, delete_within};
use crate::frame::hold::hold_within;
use crate::frame::plain::Item;
use crate::frame::query::parameters;
use crate::frame::resource::Resource as _;
use crate::frame::tx::{Tx, transaction};
use crate::resources::subnet_allocation;
use crate::resources::subnets::Subnet;
use crate::resources::{router_actions, routers::Router};
use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use futures::FutureExt as _;
use mizar_db::identity::{Named, projects};
use mizar_db::listing::Visibility;
use mizar_db::resources::auto_topology::{self, Topology};
use mizar_db::resources::l3;
use mizar_db::resources::network::Network;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The value of `fields` that asks whether one could be made.
pub const DRY_RUN: &str = "dry-run";

/// What is answered in place of an id then.
pub const PASSED: &str = "dry-run=pass";

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/auto-allocated-topology/{project}").get(show).delete(delete));
}

/// The project that a path names; clients without one say `None`. Others' are for administrators.
fn project(caller: &Caller, raw: &str, rule: &str, access: Access) -> Result<Uuid, Fault> {
    let raw = raw.strip_suffix(".json").unwrap_or(raw);
    let named = if raw == "None" { caller.project() } else { Uuid::try_parse(raw).ok() };
    let own = named.is_some() && named == caller.project() && Network::OPERATIONS.allow(caller, access);
    match named {
        Some(project) if own || caller.has(Access::Admin) => Ok(project),
        None if caller.has(Access::Admin) => Err(no_such_project(raw)),
        _ => Err(Fault::forbidden(rule)),
    }
}

fn no_such_project(named: &str) -> Fault {
    Fault::not_found("ProjectNotFound", format!("Project {named} could not be found."))
}

fn answer(id: &Value, project: Uuid) -> HttpResponse {
    let project = project.simple();
    HttpResponse::Ok().json(json!({"auto_allocated_topology": {"id": id, "project_id": project, "tenant_id": project}}))
}

fn failure(reason: &str) -> Fault {
    Fault::conflict("AutoAllocationFailure", format!("Deployment error: {reason}."))
}

/// The topology of a project, which is made if there is none.
async fn show(
    app: Data<App>,
    context: Context,
    path: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Fault> {
    const RULE: &str = "get_auto_allocated_topology";
    let project = project(&context.caller, &path, RULE, Access::Reader)?;
    let query = parameters(request.query_string())?;
    if let Some((name, _)) = query.iter().find(|(name, _)| name != "fields") {
        return Err(Fault::bad_request(format!("['{name}'] is invalid attribute for filtering")));
    }
    let context = Arc::new(context);
    if query.iter().any(|(_, field)| field == DRY_RUN) {
        transaction(&app, &context, move |tx| async move { requirements(tx, project).await.map(|_| ()) }.boxed())
            .await?;
        return Ok(answer(&json!(PASSED), project));
    }
    if !query.is_empty() {
        return Err(Fault::bad_query("Bad auto_allocate request: Unrecognized field."));
    }
    let known = auto_topology::find(&mut *app.pool.get().await?, project).await?;
    let network = match known {
        Some(topology) => topology.network,
        None if !Network::OPERATIONS.allow(&context.caller, Access::Writer) => return Err(Fault::forbidden(RULE)),
        None => make_in_turn(&app, &context, project).await?,
    };
    Ok(answer(&json!(network), project))
}

/// How long a turn to make a topology is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the topology of a project if it can be made. Those that make one take turns, [`TURNS`](crate::app::TURNS) at
/// once in a process, and wait without a connection: what one of them waits for (others who make the same, who
/// changes the external network) keeps nobody else from the database. Of what is refused most is refused before.
async fn make_in_turn(app: &App, context: &Arc<Context>, project: Uuid) -> Result<Uuid, Fault> {
    if app.authority.embedded().is_some() && context.caller.project() != Some(project) {
        let named = Named::Id(project);
        let found = projects::find(&mut *app.pool.get().await?, &named).await?;
        found.ok_or_else(|| no_such_project(&project.simple().to_string()))?;
    }
    transaction(app, context, move |tx| foresee(tx, project).boxed()).await?;
    let turn = tokio::time::timeout(PATIENCE, app.topologies.acquire()).await;
    let _turn = turn.map_err(|_| Fault::unavailable("too many topologies are being made"))?.map_err(Fault::internal)?;
    transaction(app, context, move |tx| make(tx, project).boxed()).await
}

/// Refuses what could not be made anyway, before anything is locked.
async fn foresee(tx: &mut Tx<'_>, project: Uuid) -> Result<(), Fault> {
    if auto_topology::find(tx.conn, project).await?.is_some() {
        return Ok(());
    }
    requirements(tx, project).await?;
    for resource in ["network", "subnet", "router", "port"] {
        tx.foresee(resource, &BTreeMap::from([(project, 1)])).await?;
    }
    Ok(())
}

/// The default outside and the default pool, as the project sees them: an administrator gives it nothing that it
/// could not have taken.
async fn requirements(tx: &mut Tx<'_>, project: Uuid) -> Result<(Uuid, Uuid), Fault> {
    let view = Visibility::Project(project);
    let outside = auto_topology::outside(tx.conn, view).await?;
    let outside = outside.ok_or_else(|| failure("No default router:external network"))?;
    let pool = subnet_allocation::find_default(tx.conn, view).await?;
    Ok((outside, pool.ok_or_else(|| failure("No default subnetpools defined"))?))
}

fn body(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

async fn make(tx: &mut Tx<'_>, project: Uuid) -> Result<Uuid, Fault> {
    auto_topology::lock(tx.conn, project).await?;
    if let Some(topology) = auto_topology::find(tx.conn, project).await? {
        return Ok(topology.network);
    }
    let (outside, pool) = requirements(tx, project).await?;
    // The subnet late: from it to the commit the pool, which is everybody's, stays locked. Who gives the outside a subnet
    // of that pool takes the two the other way round: then PostgreSQL breaks the tie, and the loser runs again.
    let router = json!({"name": "auto_allocated_router", "project_id": project,
        "external_gateway_info": {"network_id": outside}});
    let router: Item<Router> = create_within(tx, body(router)).await?;
    let id = router.row.id;
    let network = json!({"name": "auto_allocated_network", "project_id": project});
    let network: Network = create_within(tx, body(network)).await?;
    let network = network.row.id;
    let subnet = json!({"name": "auto_allocated_subnet_v4", "project_id": project, "network_id": network,
        "ip_version": 4, "subnetpool_id": pool});
    let subnet: Subnet = create_within(tx, body(subnet)).await?;
    let by = json!({"subnet_id": subnet.row.id});
    tx.record("add_router_interface", Item::<Router>::SINGULAR, id, Some(project), by.clone());
    let context = tx.context;
    router_actions::add_interface(tx, router, &mut Fields::of_action(body(by), &context.caller)).await?;
    auto_topology::keep(tx.conn, project, network, id).await?;
    Ok(network)
}

/// Deletes the topology of a project with all that was made for it. Other ports on its network keep it, and so
/// do other networks behind its router.
async fn delete(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    let project = project(&context.caller, &path, "delete_auto_allocated_topology", Access::Writer)?;
    transaction(&app, &Arc::new(context), move |tx| remove(tx, project).boxed()).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn remove(tx: &mut Tx<'_>, project: Uuid) -> Result<(), Fault> {
    auto_topology::lock(tx.conn, project).await?;
    let Some(Topology { network, router }) = auto_topology::find(tx.conn, project).await? else { return Ok(()) };
    if let Some(id) = router {
        hold_within::<Item<Router>>(tx, id).await?;
        // What it leads to beside is not of the topology: it keeps the router, and all of this.
        for port in l3::interfaces_on(tx.conn, id, network).await? {
            let (_held, router) = hold_within::<Item<Router>>(tx, id).await?;
            let by = json!({ "port_id": port });
            tx.record("remove_router_interface", Item::<Router>::SINGULAR, id, Some(project), by.clone());
            let context = tx.context;
            router_actions::remove_interface(tx, router, &mut Fields::of_action(body(by), &context.caller)).await?;
        }
        delete_within::<Item<Router>>(tx, id).await?;
    }
    delete_within::<Network>(tx, network).await
}
