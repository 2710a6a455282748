//! Whether roles can be placed at present, and why not.

use crate::app::App;
use crate::frame::caller::{Access, Caller};
use crate::frame::fault::Fault;
use crate::frame::handlers::method_not_allowed;
use crate::frame::query::parameters;
use crate::frame::standard::time;
use actix_web::web::ServiceConfig;
use actix_web::{HttpRequest, HttpResponse, web};
use mizar_db::placement::condition::{self, Condition, State};
use serde_json::{Value, json};

/// No scheduler leads, so nothing is judged.
const UNLED: &str = "unled";

/// What `state` may say.
pub const STATES: [&str; 4] = [State::Normal.name(), State::Frozen.name(), State::Nobody.name(), UNLED];

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(
        web::resource(["/v2.0/mizar/placement", "/v2.0/mizar/placement.json"])
            .default_service(web::to(method_not_allowed))
            .route(web::get().to(show)),
    );
}

fn view(condition: &Condition) -> Value {
    let Condition { state, since, hosts, led } = condition;
    let frozen = || {
        format!(
            "{} hosts fell silent together: this may be an outage of the database, the API or a switch, so nothing \
             is moved until they return, or until believe_gone_s is set on those that are really gone",
            hosts.len()
        )
    };
    let (state, reason) = match state.as_str() {
        _ if !led => (UNLED, "no scheduler leads: roles stay as they are, whatever is lost".to_owned()),
        state if state == State::Frozen.name() => (State::Frozen.name(), frozen()),
        state if state == State::Nobody.name() => {
            (State::Nobody.name(), "no live host may hold transit roles: look at their labels".to_owned())
        }
        _ => (State::Normal.name(), String::new()),
    };
    json!({ "state": state, "reason": reason, "since": led.then(|| time(*since)), "hosts": hosts })
}

async fn show(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Fault> {
    if !caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_mizar_placement"));
    }
    if let Some((parameter, _)) = parameters(request.query_string())?.into_iter().next() {
        return Err(Fault::bad_request(format!("['{parameter}'] is invalid attribute for filtering")));
    }
    let mut conn = app.pool.get().await?;
    let condition = condition::read(&mut conn).await?;
    Ok(HttpResponse::Ok().json(json!({ "placement": view(&condition) })))
}
