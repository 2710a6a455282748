//! How full the maps of a host's programs are, for operators: what there is no room for is not forwarded, or not judged
//! as it should be.

use super::{ask, named};
use crate::app::App;
use crate::cloud::at;
use crate::exchange::Unanswered;
use crate::frame::caller::Access;
use crate::frame::context::Context;
use crate::frame::fault::Fault;
use crate::operator::hosts;
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig};
use mizar_wire::ask::{Answer, Fill, Question};
use serde_json::{Value, json};

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    config.service(at("/v2.0/mizar/hosts/{host}/maps").get(of_host));
}

/// Asks a host.
async fn fills(app: &App, host: i32) -> Result<Vec<Fill>, Unanswered> {
    match ask(app, host, &Question::Maps {}).await? {
        Answer::Maps(fills) => Ok(fills),
        _ => Err(Unanswered::Beside),
    }
}

/// The fullest first.
fn view(mut fills: Vec<Fill>) -> Vec<Value> {
    // As shares, without dividing: a/b before c/d if a*d is more than c*b.
    let part = |one: &Fill, other: &Fill| u64::from(one.entries) * u64::from(other.most);
    fills.sort_by(|a, b| part(b, a).cmp(&part(a, b)).then_with(|| a.map.cmp(&b.map)));
    fills.iter().map(|Fill { map, entries, most }| json!({"map": map, "entries": entries, "most": most})).collect()
}

async fn of_host(app: Data<App>, context: Context, path: Path<String>) -> Result<HttpResponse, Fault> {
    if !context.caller.has(Access::Admin) {
        return Err(Fault::forbidden("get_host_maps"));
    }
    let mut conn = app.pool.get().await?;
    let host = hosts::found(&mut conn, &context, named(&path)).await?;
    drop(conn);
    let told = match host.alive {
        true => fills(&app, host.row.number).await.map_err(|error| error.to_string()),
        // Nobody is kept waiting for an answer that will not come.
        false => Err("its agent was not heard of within the lease".to_owned()),
    };
    let error = told.as_ref().err().cloned();
    let maps = json!({"host": host.row.name, "error": error, "maps": view(told.unwrap_or_default())});
    Ok(HttpResponse::Ok().json(json!({ "maps": maps })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_map_comes_first() {
        let fill = |map: &str, entries, most| Fill { map: map.into(), entries, most };
        let shown = view(vec![fill("EP", 0, 8), fill("ADDR", 0, 4), fill("CIDR", 5, 10), fill("HOSTS", 3, 4)]);
        let maps: Vec<_> = shown.iter().filter_map(|one| one["map"].as_str()).collect();
        assert_eq!(maps, ["HOSTS", "CIDR", "ADDR", "EP"]);
        let whole = view(vec![fill("POLICY", u32::MAX, u32::MAX), fill("EP", 1, 2)]);
        assert_eq!(whole[0], json!({"map": "POLICY", "entries": u32::MAX, "most": u32::MAX}));
    }
}
