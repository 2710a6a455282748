//! The subnets that a router joins.

use crate::advice;
use crate::api::CallError;
use crate::fault::Fault;
use crate::resource::declared;
use crate::signed::{Posted, Signed};
use actix_web::HttpResponse;
use actix_web::web::Path;
use serde_json::json;

/// Joins a subnet to a router, or takes one away.
pub async fn change(posted: Posted<Signed>, path: Path<String>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    super::may_write(&signed)?;
    let router = super::id(&path)?;
    let (action, subnet) = (sent.need("action")?, sent.need("subnet_id")?);
    sent.end()?;
    let verb = match action.as_str() {
        "add" => "add_router_interface",
        "remove" => "remove_router_interface",
        other => return Err(Fault::Bad(format!("`{other}` is not an action"))),
    };
    let subnet = super::id(&subnet).map_err(|_| Fault::Bad("choose a subnet".into()))?;
    let of = declared("routers");
    let at = format!("{}/{verb}", of.api_of(&router));
    let sentence = match signed.calls.put(&at, Some(&json!({"subnet_id": subnet})), None).await {
        Ok(_) if verb.starts_with("add") => "Joined the subnet to the router.".to_owned(),
        Ok(_) => "Took the subnet off the router.".to_owned(),
        Err(CallError::Refused(refused)) if matches!(refused.status, 400 | 403 | 409) => {
            let help = advice::what_to_do(&refused).map(|help| format!(" {help}")).unwrap_or_default();
            return Ok(super::not_done(&signed, refused.message + &help, &of.page_of(&router)));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(super::done(&signed, sentence, &of.page_of(&router)))
}
