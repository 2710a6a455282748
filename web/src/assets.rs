//! Styles and scripts: in the program itself, under addresses that change with what they hold, so that
//! browsers keep them for ever. `static/VENDORED.md` says whose they are.

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentEncoding};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    body: Vec<u8>,
    /// Compressed once, as hard as it goes: anybody can ask for it, any number of times.
    packed: Vec<u8>,
    url: String,
}

impl Asset {
    /// One file of several, which are read as if they were one.
    fn new(name: &'static str, kind: &'static str, parts: &[&[u8]]) -> Self {
        let body = parts.join(b"\n".as_slice());
        let digest: String = Sha256::digest(&body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let packed = packed(&body).expect("memory can be written to");
        Self { name, kind, body, packed, url: format!("/static/{digest}/{name}") }
    }
}

fn packed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body)?;
    encoder.finish()
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    // htmx begins as soon as the event loop turns. In a file of its own, it would begin without its extension
    // wherever that comes later over the line, and such a page would never follow anything.
    let scripts: [&[u8]; 3] = [
        include_bytes!("../static/htmx.min.js"),
        include_bytes!("../static/hx-sse.min.js"),
        include_bytes!("../static/app.js"),
    ];
    // Only pages with a chart load these.
    let chart: [&[u8]; 2] = [include_bytes!("../static/uPlot.iife.min.js"), include_bytes!("../static/chart.js")];
    vec![
        Asset::new("pico.min.css", "text/css; charset=utf-8", &[include_bytes!("../static/pico.min.css")]),
        Asset::new("app.css", "text/css; charset=utf-8", &[include_bytes!("../static/app.css")]),
        Asset::new("app.js", "text/javascript; charset=utf-8", &scripts),
        Asset::new("chart.css", "text/css; charset=utf-8", &[include_bytes!("../static/uPlot.min.css")]),
        Asset::new("chart.js", "text/javascript; charset=utf-8", &chart),
        Asset::new("icon.svg", "image/svg+xml", &[include_bytes!("../static/icon.svg")]),
    ]
});

/// The address of an asset; templates ask for those that there are.
pub fn url(name: &str) -> &'static str {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    &asset.unwrap_or_else(|| panic!("there is no asset `{name}`")).url
}

/// Answers with the asset at an address of this build; others were of another one. `accepts` is what the
/// browser says it can unpack.
pub fn serve(path: &str, accepts: &str) -> Option<HttpResponse> {
    let asset = ASSETS.iter().find(|asset| asset.url == path)?;
    // What a browser takes with a weight of 0, it refuses.
    let takes = |coding: &str| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().trim_start_matches("q=").parse() == Ok(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    };
    let (coding, body) = match accepts.split(',').any(takes) {
        true => (ContentEncoding::Gzip, asset.packed.as_slice()),
        false => (ContentEncoding::Identity, asset.body.as_slice()),
    };
    let response = HttpResponse::Ok()
        .content_type(asset.kind)
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((header::VARY, "accept-encoding"))
        // Said even where it is none, so that nothing compresses it on the way out.
        .insert_header((header::CONTENT_ENCODING, coding.as_str()))
        .body(body);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::{BodySize, MessageBody as _};

    #[test]
    fn an_asset_is_served_at_its_address_alone() {
        let url = url("app.css");
        assert_eq!(serve(url, "").map(|answer| answer.status().as_u16()), Some(200));
        assert!(serve("/static/0000000000000000/app.css", "").is_none());
        assert!(serve("/static/../Cargo.toml", "").is_none());
    }

    #[test]
    fn an_asset_is_packed_for_who_can_unpack_it() {
        let coding = |accepts: &str| {
            let answer = serve(url("app.js"), accepts).expect("it is there");
            let length = match answer.body().size() {
                BodySize::Sized(length) => length,
                other => panic!("{other:?}"),
            };
            let coding = answer.headers().get(header::CONTENT_ENCODING).and_then(|coding| coding.to_str().ok());
            (coding.unwrap_or_default().to_owned(), length)
        };
        let (plain, whole) = coding("br");
        let (gzip, packed) = coding("br, GZIP;q=0.5, deflate");
        assert_eq!((plain.as_str(), gzip.as_str()), ("identity", "gzip"));
        assert!(packed * 2 < whole, "{packed} of {whole}");
        assert_eq!(coding("gzip;q=0, *").0, "identity");
    }

    #[test]
    fn a_page_weighs_little() {
        let packed = |chart: bool| -> usize {
            let loaded = ASSETS.iter().filter(|asset| chart || !asset.name.starts_with("chart."));
            loaded.map(|asset| asset.packed.len()).sum()
        };
        assert!(packed(false) < 60_000, "{} bytes; a page and what it loads shall stay below 150 kB", packed(false));
        assert!(packed(true) < 90_000, "{} bytes with a chart", packed(true));
    }
}
