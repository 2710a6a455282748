//! Styles and scripts: in the program itself, under addresses that change with what they hold, so that
//! browsers keep them for ever. `static/VENDORED.md` says whose they are.

use actix_web::HttpResponse;
use actix_web::http::header;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    body: &'static [u8],
    url: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    macro_rules! asset {
        ($name:literal, $kind:literal) => {{
            let body: &[u8] = include_bytes!(concat!("../static/", $name));
            let digest = Sha256::digest(body);
            let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            Asset { name: $name, kind: $kind, body, url: format!("/static/{digest}/{}", $name) }
        }};
    }
    vec![
        asset!("pico.min.css", "text/css; charset=utf-8"),
        asset!("app.css", "text/css; charset=utf-8"),
        asset!("htmx.min.js", "text/javascript; charset=utf-8"),
        asset!("hx-sse.min.js", "text/javascript; charset=utf-8"),
        asset!("app.js", "text/javascript; charset=utf-8"),
        asset!("icon.svg", "image/svg+xml"),
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
        .body(asset.body);
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
