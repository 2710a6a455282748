//! GET /v3.

use crate::app::App;
use crate::frame::handlers::method_not_allowed;
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

/// Routes.
pub fn mount(config: &mut ServiceConfig) {
    let resource = web::resource(["/v3", "/v3/"]).default_service(web::to(method_not_allowed));
    config.service(resource.get(show));
}

/// The version that we speak.
pub fn version(url: &str) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{url}/v3/")}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

async fn show(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok().json(json!({"version": version(&app.settings.public_url)}))
}
