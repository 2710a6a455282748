//! An API that answers every question with what `openapi/mizar.json` says of it: an example of each schema, always the same.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Schemas in schemas.
const DEPTH: usize = 12;

/// Starts it; it lives as long as the tests. Its base is told.
pub fn start() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base = format!("http://{}", listener.local_addr()?);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi/mizar.json"))?;
    let (document, own): (Value, String) = (serde_json::from_str(&text)?, base.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever asks says what went wrong.
            if let Err(error) = stream.map_err(Into::into).and_then(|stream| serve(&document, &own, &stream)) {
                eprintln!("{error:#}");
            }
        }
    });
    Ok(base)
}

fn serve(document: &Value, base: &str, stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().context("a method")?, words.next().context("a path")?);
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let (status, body) = match path {
        "/v3/auth/tokens" => ("201 Created", token(base)),
        _ => match answer(document, method, path) {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", json!({"NeutronError": {"type": "NotFound", "message": path, "detail": ""}})),
        },
    };
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status}\r\nX-Subject-Token: t\r\nConnection: close\r\nContent-Type: application/json\r\n");
    let mut stream = stream;
    Ok(stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?)
}

fn token(base: &str) -> Value {
    let endpoint = json!({"interface": "public", "region": "one", "region_id": "one", "url": base});
    json!({"token": {"project": {"id": id("project"), "name": "red"},
        "catalog": [{"type": "network", "endpoints": [endpoint]}]}})
}

/// The documented answer at a path.
fn answer(document: &Value, method: &str, path: &str) -> Option<Value> {
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.trim_start_matches('/').split('/').collect();
        let fit = parts.len() == segments.len()
            && parts.iter().zip(&segments).all(|(part, segment)| part.starts_with('{') || part == segment);
        fit.then(|| parts.iter().filter(|part| part.starts_with('{')).count())
    };
    let paths = document["paths"].as_object()?.iter();
    let found = paths.filter_map(|(template, item)| Some((fits(template)?, item)));
    let (_, item) = found.min_by_key(|(open, _)| *open)?;
    let responses = item[method.to_ascii_lowercase()]["responses"].as_object()?;
    let (_, response) = responses.iter().find(|(status, _)| status.starts_with('2'))?;
    Some(example(document, "", &response["content"]["application/json"]["schema"], DEPTH))
}

/// An id that is made of what it is of.
fn id(of: &str) -> String {
    let hash =
        of.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("6f1c2f60-0000-4000-8000-{:012x}", hash & 0xffff_ffff_ffff)
}

/// An example of a schema that stands under this name.
fn example(document: &Value, name: &str, schema: &Value, depth: usize) -> Value {
    // There is no other page, and nothing within itself for ever.
    if depth == 0 || name == "next_marker" {
        return Value::Null;
    }
    if name.ends_with("_links") {
        return json!([]);
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect("what is named is there");
        return example(document, name, schema, depth - 1);
    }
    if let Some(one) = schema["enum"].as_array().or(schema["examples"].as_array()).and_then(|all| all.first()) {
        return one.clone();
    }
    if let Some(all) = schema["allOf"].as_array() {
        let parts = all.iter().map(|part| example(document, name, part, depth - 1));
        return Value::Object(parts.filter_map(|part| part.as_object().cloned()).flatten().collect());
    }
    for word in ["oneOf", "anyOf"] {
        let is_something = |one: &&Value| one["type"] != "null";
        if let Some(one) = schema[word].as_array().and_then(|all| all.iter().find(is_something)) {
            return example(document, name, one, depth - 1);
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| **kind != "null").cloned().unwrap_or_default(),
        kind => kind.clone(),
    };
    match kind.as_str() {
        Some("boolean") => json!(true),
        Some("integer" | "number") => number(name),
        Some("array") => json!([example(document, name, &schema["items"], depth - 1)]),
        Some("string") => json!(text(name, schema)),
        _ => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let of = |(name, schema): (&String, &Value)| (name.clone(), example(document, name, schema, depth - 1));
            Value::Object(properties.map(of).collect::<Map<_, _>>())
        }
    }
}

fn number(name: &str) -> Value {
    match name {
        "protocol" => json!(6),
        _ if name.contains("port") => json!(443),
        _ => json!(7),
    }
}

fn text(name: &str, schema: &Value) -> String {
    match schema["format"].as_str() {
        Some("uuid") => return id(name),
        Some("date-time") => return "2026-01-31T08:00:00Z".into(),
        Some("ipv4") => return "10.0.0.5".into(),
        _ => {}
    }
    match name {
        "id" => id(name),
        "source" | "destination" | "gateway_ip" => "10.0.0.5".into(),
        "cidr" | "prefix" | "remote_ip_prefix" => "10.0.0.0/24".into(),
        _ if name.ends_with("_id") => id(name),
        _ if name.contains("mac_address") => "fa:16:3e:00:00:01".into(),
        _ if name.contains("address") => "10.0.0.5".into(),
        "" => "word".into(),
        _ => name.replace('_', " "),
    }
}
