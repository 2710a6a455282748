//! Styles and scripts: in the program itself, under addresses that change with what they hold, so that
//! browsers keep them for ever. `static/VENDORED.md` says whose they are.

use actix_web::HttpResponse;
use actix_web::http::header;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    url: String,
}

impl Asset {
    /// One file of several, which are read as if they were one.
    fn new(name: &'static str, kind: &'static str, parts: &[&[u8]]) -> Self {
        let body = parts.join(b"\n".as_slice());
        let digest: String = Sha256::digest(&body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name, kind, body, url: format!("/static/{digest}/{name}") }
    }
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    // htmx begins as soon as the event loop turns. In a file of its own, it would begin without its extension
    // wherever that comes later over the line, and such a page would never follow anything.
    let scripts: [&[u8]; 3] = [
        include_bytes!("../static/htmx.min.js"),
        include_bytes!("../static/hx-sse.min.js"),
        include_bytes!("../static/app.js"),
    ];
    vec![
        Asset::new("pico.min.css", "text/css; charset=utf-8", &[include_bytes!("../static/pico.min.css")]),
        Asset::new("app.css", "text/css; charset=utf-8", &[include_bytes!("../static/app.css")]),
        Asset::new("app.js", "text/javascript; charset=utf-8", &scripts),
        Asset::new("icon.svg", "image/svg+xml", &[include_bytes!("../static/icon.svg")]),
    ]
});

/// The address of an asset; templates ask for those that there are.
pub fn url(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    &asset.unwrap_or_else(|| panic!("there is no asset `{name}`")).url
}

/// Answers with the asset at an address of this build; others were of another one.
pub fn serve(path: &str) -> Option<HttpResponse> {
    let asset = ASSETS.iter().find(|asset| asset.url == path)?;
    let response = HttpResponse::Ok()
        .content_type(asset.kind)
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(asset.body.as_slice());
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_served_at_its_address_alone() {
        let url = url("app.css");
        assert_eq!(serve(url).map(|answer| answer.status().as_u16()), Some(200));
        assert!(serve("/static/0000000000000000/app.css").is_none());
        assert!(serve("/static/../Cargo.toml").is_none());
    }

    #[test]
    fn a_page_weighs_little() {
        let whole: usize = ASSETS.iter().map(|asset| asset.body.len()).sum();
        assert!(whole < 170_000, "{whole} bytes before compression");
    }
}
