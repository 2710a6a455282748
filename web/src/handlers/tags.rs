//! Tags of an object.

use crate::api::CallError;
use crate::fault::Fault;
use crate::signed::{Posted, Signed};
use actix_web::HttpResponse;
use actix_web::web::Path;

/// Adds a tag, or takes one away.
pub async fn change(posted: Posted<Signed>, path: Path<(String, String)>) -> Result<HttpResponse, Fault> {
    let Posted { signed, mut sent } = posted;
    let (kind, id) = path.into_inner();
    let resource = super::kind(&signed, &kind)?;
    if !resource.verbs.tags {
        return Err(Fault::NotFound);
    }
    super::may_write(&signed)?;
    let (add, remove) = (sent.take("add")?, sent.take("remove")?);
    sent.end()?;
    let id = super::id(&id)?;
    let (tag, adds) = match (add, remove) {
        (Some(tag), None) => (tag.trim().to_owned(), true),
        (None, Some(tag)) => (tag, false),
        _ => return Err(Fault::Bad("add one tag, or remove one".into())),
    };
    let page = resource.page_of(&id);
    let is_path =
        !tag.is_empty() && tag.chars().count() <= 255 && !tag.contains(['/', ',']) && tag != "." && tag != "..";
    if !is_path {
        let sentence = "A tag has 1 to 255 characters, and no slash and no comma.".into();
        return Ok(super::not_done(&signed, sentence, &page));
    }
    let encoded: String = form_urlencoded::byte_serialize(tag.as_bytes()).collect::<String>().replace('+', "%20");
    let at = format!("{}/tags/{encoded}", resource.api_of(&id));
    let outcome = if adds { signed.calls.put(&at, None, None).await.map(drop) } else { signed.calls.delete(&at).await };
    let sentence = match outcome {
        Ok(()) if adds => format!("Added tag {tag}."),
        Ok(()) => format!("Removed tag {tag}."),
        Err(CallError::Refused(refused)) if matches!(refused.status, 400 | 403 | 409) => {
            return Ok(super::not_done(&signed, refused.message, &page));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(super::done(&signed, sentence, &page))
}
