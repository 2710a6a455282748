//! Takes out what lets one in: by the name of what it is, and by its looks.

use serde_json::{Map, Value};

/// Put where something was.
const GONE: &str = "[redacted]";

/// Parts of names whose values are secrets.
const NAMES: [&str; 8] = ["password", "passwd", "secret", "token", "authorization", "cookie", "private", "credential"];

/// Names that are keys of something else than locks; all other `key`s are secrets.
const HARMLESS_KEYS: [&str; 3] = ["sort_key", "signing_keys", "primary_key"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.iter().any(|part| name.contains(part)) || (name.ends_with("_key") && !HARMLESS_KEYS.contains(&name.as_str()))
}

/// A value without secrets.
pub fn value(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, inner): (String, Value)| {
                let inner = if is_secret(&name) && !inner.is_boolean() && !inner.is_null() {
                    GONE.into()
                } else {
                    self::value(inner)
                };
                (name, inner)
            };
            Value::Object(members.into_iter().map(member).collect::<Map<_, _>>())
        }
        Value::Array(elements) => elements.into_iter().map(self::value).collect(),
        Value::String(string) => Value::String(text(&string)),
        other => other,
    }
}

/// A text, such as a log, without secrets.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY") {
            in_key = true;
            out += GONE;
            out.push('\n');
        }
        if !in_key {
            out += &redact_line(line);
        }
        if line.contains("-----END ") {
            in_key = false;
        }
    }
    out
}

/// What follows a secret's name and `=` or `:`; and what looks like a token or a URL's password.
fn redact_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    // After a secret's name: how many words are its value. `Authorization: Bearer x` has two.
    let mut gone = 0;
    while !rest.is_empty() {
        let is_word = |c: char| !c.is_whitespace() && !"=\"',;{}[]()&?".contains(c) && c != ':';
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            let separator = rest.chars().next().expect("it is not empty");
            // The end of a field is the end of its value, however short it was.
            if ",;&}\n".contains(separator) {
                gone = 0;
            }
            out.push(separator);
            rest = &rest[separator.len_utf8()..];
            continue;
        }
        let assigns = after.trim_start_matches(['"', '\'']).trim_start_matches(' ').starts_with(['=', ':']);
        if gone > 0 {
            out += GONE;
            let scheme = ["bearer", "basic"].contains(&word.to_ascii_lowercase().as_str());
            gone = if scheme { 1 } else { gone - 1 };
        } else if looks_secret(word) {
            out += GONE;
        } else {
            out += word;
            if assigns && is_secret(word) {
                gone = 1;
            }
        }
        rest = after;
        // `postgres://user:password@host`
        if let Some(tail) = rest.strip_prefix("://") {
            let authority = tail.split(['/', ' ', '"', '\n']).next().unwrap_or_default();
            if let Some((user, host)) = authority.rsplit_once('@') {
                let user = user.split(':').next().unwrap_or_default();
                out += &format!("://{user}:{GONE}@{host}");
                rest = &tail[authority.len()..];
            }
        }
    }
    out
}

/// Fernet and JSON Web Tokens.
fn looks_secret(word: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    (word.starts_with("gAAAAA") || (word.starts_with("eyJ") && word.contains('.')))
        && word.len() > 10
        && word.chars().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_go_by_name_at_any_depth() {
        let dirty = json!({"hosts": [{"name": "h1", "cluster_key": "ab", "auth": {"Password": "x", "user": "u"}}],
            "token": null, "signing_keys": "ok", "note": "see X-Auth-Token: eyJhbGciOi.J9.abc"});
        let clean = value(dirty);
        assert_eq!(
            clean["hosts"][0],
            json!({"name": "h1", "cluster_key": GONE, "auth": {"Password": GONE, "user": "u"}})
        );
        assert_eq!((&clean["token"], &clean["signing_keys"]), (&Value::Null, &json!("ok")));
        assert!(!clean.to_string().contains("eyJ"), "{clean}");
    }

    #[test]
    fn secrets_go_from_lines_and_the_rest_stays() {
        for (line, clean) in [
            ("OS_PASSWORD=hunter2 host=h1", "OS_PASSWORD=[redacted] host=h1"),
            ("{\"password\": \"hunter2\", \"user\": \"u\"}", "{\"password\": \"[redacted]\", \"user\": \"u\"}"),
            ("Authorization: Bearer abc.def next", "Authorization: [redacted] [redacted] next"),
            ("connect postgres://u:hunter2@db:5432/mizar now", "connect postgres://u:[redacted]@db:5432/mizar now"),
            ("took eyJhbGciOiJFUzI1NiJ9.e30.AAAA here", "took [redacted] here"),
            ("password=&user=u", "password=&user=u"),
            ("fe80::1 of 02:00:5e:00:53:01 is token free", "fe80::1 of 02:00:5e:00:53:01 is token free"),
        ] {
            assert_eq!(text(line), clean);
        }
    }

    #[test]
    fn private_keys_go_whole() {
        let dirty = "before\n-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----\nafter\n";
        assert_eq!(text(dirty), "before\n[redacted]\nafter\n");
    }
}
