//! What goes wrong, as a page: what happened and what to do.

use crate::advice;
use crate::api::CallError;
use crate::page::Plain;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use askama::Template;

/// A request that does not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nobody is signed in, or not any more.
    #[error("sign in first")]
    SignIn,
    /// The user has several projects and has chosen none.
    #[error("choose a project first")]
    ChooseProject,
    /// Nothing is there, or nothing that this user may see.
    #[error("there is no such page, or it is not of this project")]
    NotFound,
    /// The form does not come from a page of this session.
    #[error("this form is not of the present session")]
    Forged,
    /// The request is not understood.
    #[error("{0}")]
    Bad(String),
    /// The user may not do that.
    #[error("{0}")]
    Forbidden(String),
    /// Too many pages follow changes already.
    #[error("too many pages of this session follow changes")]
    Crowded,
    /// The API gave nothing.
    #[error(transparent)]
    Call(CallError),
    /// A page could not be made.
    #[error("this page could not be made")]
    Render(#[from] askama::Error),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refused) if refused.status == 401 => Self::SignIn,
            CallError::Refused(refused) if refused.status == 404 => Self::NotFound,
            other => Self::Call(other),
        }
    }
}

impl From<std::convert::Infallible> for Fault {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Fault {
    /// What happened, in a line.
    fn headline(&self) -> &'static str {
        match self {
            Self::SignIn => "Sign in",
            Self::ChooseProject => "Choose a project",
            Self::NotFound => "Not found",
            Self::Forged => "Nothing was changed",
            Self::Bad(_) => "Not understood",
            Self::Forbidden(_) => "Not allowed",
            Self::Crowded => "Too many pages are open",
            Self::Call(CallError::Refused(_)) => "Refused",
            Self::Call(_) | Self::Render(_) => "Out of order",
        }
    }

    /// The page that says it.
    pub fn page(&self) -> Plain {
        Plain { title: self.headline().into(), sentence: format!("{self}"), help: self.help() }
    }

    /// What to do about it.
    fn help(&self) -> String {
        match self {
            Self::SignIn | Self::ChooseProject => String::new(),
            Self::NotFound => "Look at the address. What belongs to another project is shown to its members alone; \
                               it may also have been deleted meanwhile."
                .into(),
            Self::Forged => "You have signed in again or changed the project since that page was opened, or another \
                             site sent the form. Go back, reload the page, and send it again."
                .into(),
            Self::Bad(_) => "Go back and change what you asked for.".into(),
            Self::Forbidden(_) => "Ask an administrator of the project.".into(),
            Self::Crowded => "Close some; this one is renewed every few seconds meanwhile.".into(),
            Self::Call(CallError::Refused(refused)) => advice::what_to_do(refused).unwrap_or_default().into(),
            Self::Call(_) => "Try again in a moment. What is set up goes on working meanwhile.".into(),
            Self::Render(_) => "Tell whoever runs this dashboard; its log says more.".into(),
        }
    }
}

impl ResponseError for Fault {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::SignIn | Self::ChooseProject => StatusCode::SEE_OTHER,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Forged | Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Crowded => StatusCode::TOO_MANY_REQUESTS,
            Self::Call(CallError::Refused(refused)) => match refused.status {
                status @ 400..500 => StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
                _ => StatusCode::BAD_GATEWAY,
            },
            Self::Call(_) => StatusCode::BAD_GATEWAY,
            Self::Render(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            // The guard adds from where (crate::guard): this does not know the request.
            Self::SignIn => return HttpResponse::SeeOther().insert_header((header::LOCATION, "/login")).finish(),
            Self::ChooseProject => {
                return HttpResponse::SeeOther().insert_header((header::LOCATION, "/projects")).finish();
            }
            Self::Call(CallError::Unreachable(why) | CallError::NotUnderstood(why)) => {
                tracing::warn!(why, "the API did not answer");
            }
            Self::Call(CallError::Refused(refused)) if refused.status >= 500 => {
                tracing::warn!(status = refused.status, kind = refused.kind, "the API failed: {refused}");
            }
            Self::Render(error) => tracing::error!(%error, "a page could not be made"),
            _ => {}
        }
        match self.page().render() {
            Ok(html) => HttpResponse::build(self.status_code()).content_type("text/html; charset=utf-8").body(html),
            Err(_) => HttpResponse::build(self.status_code()).finish(),
        }
    }
}
