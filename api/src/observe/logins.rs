//! Guessing passwords is slow: logins that fail are limited by address.

use super::limits::Limiter;
use crate::app::App;
use crate::frame::fault::Fault;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError as _, web};

/// Whether a path, decoded as routes see it, takes a password for proof: tokens are had there, or the password is changed.
fn takes_password(path: &str) -> bool {
    path == "/v3/auth/tokens" || (path.starts_with("/v3/users/") && path.ends_with("/password"))
}

/// Takes a token of the address's bucket before the password is looked at, so that many attempts
/// at once do not all slip through, and gives it back unless the attempt was refused.
pub async fn limit_logins(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody + 'static>, Error> {
    let is_login = request.method() == Method::POST && takes_password(request.match_info().as_str());
    let app = request.app_data::<web::Data<App>>().cloned().filter(|_| is_login);
    let Some(app) = app else { return next.call(request).await.map(ServiceResponse::map_into_left_body) };
    let limiter: &Limiter = &app.limiter;
    let Some(from) = limiter.address(request.request()) else {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    };
    if let Err(wait) = limiter.login(from) {
        app.metrics.refused("failed_logins");
        tracing::warn!(%from, "too many failed logins");
        let refusal = Fault::too_many(wait).of_identity().error_response();
        return Ok(request.into_response(refusal).map_into_right_body());
    }
    let response = next.call(request).await?;
    if response.status() != StatusCode::UNAUTHORIZED {
        limiter.login_succeeded(from);
    }
    Ok(response.map_into_left_body())
}
