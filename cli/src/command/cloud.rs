//! Finding objects by what people call them, and lists of any length.

use super::failure::{Exit, Problem};
use super::resource::{Kind, Opt, Pair, Resource};
use super::{render::printable, tables};
use crate::client::{Api, refused_status};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Objects of a page. More would make the first byte late, fewer the whole.
const PAGE: usize = 500;

/// An object of a list as the API wrote it, or an error that says which list was not understood.
fn elements(mut answer: Value, members: &str) -> Result<Vec<Value>> {
    match answer[members].take() {
        Value::Array(elements) => Ok(elements),
        _ => anyhow::bail!("the answer has no list `{members}`"),
    }
}

/// `name=value&…` with both escaped.
pub fn query<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let separator = if text.is_empty() { "" } else { "&" };
        text += &format!("{separator}{}={}", escape(name.as_ref()), escape(value.as_ref()));
    }
    text
}

/// A part of a path or query: what is unreserved by RFC 3986 stays.
pub fn escape(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Which objects, in which order, how many.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Attributes and their values.
    pub filters: Vec<(String, String)>,
    /// `(attribute, asc|desc)`.
    pub sort: Vec<(String, &'static str)>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// All objects that are wanted, page by page.
pub fn list(api: &Api, resource: &Resource, wanted: &Wanted) -> Result<Vec<Value>> {
    list_at(api, resource, resource.path, wanted)
}

/// The same, where the list is at this path.
pub fn list_at(api: &Api, resource: &Resource, path: &str, wanted: &Wanted) -> Result<Vec<Value>> {
    let members = resource.members;
    if !resource.paged {
        let mut all = elements(api.get(&format!("{path}?{}", query(wanted.filters.iter().cloned())))?, members)?;
        for (attribute, direction) in wanted.sort.iter().rev() {
            let known = all.first().is_none_or(|first| first.get(attribute).is_some());
            if !known {
                return Err(Problem::new(Exit::Usage, format!("--sort: there is no attribute `{attribute}`")).into());
            }
            all.sort_by(|a, b| {
                let order = super::render::cell(&a[attribute]).cmp(&super::render::cell(&b[attribute]));
                if *direction == "desc" { order.reverse() } else { order }
            });
        }
        all.truncate(wanted.limit.unwrap_or(usize::MAX));
        return Ok(all);
    }
    let mut pairs: Vec<(String, String)> = wanted.filters.clone();
    for (attribute, direction) in &wanted.sort {
        pairs.push(("sort_key".into(), attribute.clone()));
        pairs.push(("sort_dir".into(), (*direction).into()));
    }
    let mut all: Vec<Value> = Vec::new();
    loop {
        let page = wanted.limit.map_or(PAGE, |limit| PAGE.min(limit - all.len()));
        let mut pairs = pairs.clone();
        pairs.push(("limit".into(), page.to_string()));
        if let Some(last) = all.last() {
            pairs.push(("marker".into(), last["id"].as_str().context("an object without id")?.into()));
        }
        let answer = api.get(&format!("{path}?{}", query(pairs)))?;
        // The server may have a smaller page of its own: it says whether there is more.
        let links = answer[format!("{members}_links")].as_array().cloned().unwrap_or_default();
        let more = links.iter().any(|link| link["rel"] == "next");
        let got = elements(answer, members)?;
        let ended = got.is_empty() || !more;
        all.extend(got);
        if ended || wanted.limit.is_some_and(|limit| all.len() >= limit) {
            return Ok(all);
        }
    }
}

/// The object of that id or name.
pub fn find(api: &Api, resource: &Resource, name: &str) -> Result<Value> {
    find_at(api, resource, resource.path, name)
}

/// The same, where the list is at this path.
pub fn find_at(api: &Api, resource: &Resource, path: &str, name: &str) -> Result<Value> {
    let by_path = |name: &str| -> Result<Value> {
        let mut answer = api.get(&format!("{path}/{}", escape(name)))?;
        Ok(answer[resource.member].take())
    };
    let is_id = Uuid::try_parse(name).is_ok();
    if resource.found_by_server || is_id || resource.key.is_none() {
        match by_path(name) {
            // It may be a name that looks like an id.
            Err(error) if is_id && is_missing(&error) && resource.key.is_some() && !resource.found_by_server => {}
            Err(error) if is_missing(&error) => return Err(missing(resource, name).into()),
            found => return found,
        }
    }
    let key = resource.key.context("no key")?;
    let wanted = Wanted { filters: vec![(key.into(), name.into())], limit: Some(2), ..Wanted::default() };
    let mut found = list_at(api, resource, path, &wanted)?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            let problem = Problem::new(Exit::Usage, format!("several objects are called `{name}`"));
            let list =
                format!("give an id: `mizar {} list --filter '{key}={}'` shows them", resource.noun, printable(name));
            Err(problem.hint(list).into())
        }
        (None, _) => Err(missing(resource, name).into()),
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    refused_status(error) == Some(404)
}

fn missing(resource: &Resource, name: &str) -> Problem {
    let problem = Problem::new(Exit::NotFound, format!("there is no {} `{name}`", resource.noun));
    let parent = resource.parent.map_or(String::new(), |(_, word)| format!(" {word}"));
    problem.hint(format!("`mizar {} list{parent}` shows what there is", resource.noun))
}

/// The id of the object of that id or name.
pub fn id(api: &Api, resource: &Resource, name: &str) -> Result<String> {
    let object = find(api, resource, name)?;
    Ok(object["id"].as_str().context("an object without id")?.to_owned())
}

/// The id of the project of that id or name. Names are looked up by who may list projects.
pub fn project(api: &Api, name: &str) -> Result<String> {
    if Uuid::try_parse(name).is_ok() {
        return Ok(name.to_owned());
    }
    let found = api.get(&format!("/v3/projects?{}", query([("name", name)])));
    let answer = found.map_err(|error| match refused_status(&error) {
        Some(403) => {
            let problem = Problem::new(Exit::Forbidden, "only administrators may look up projects by name");
            problem.hint("give the project's id").into()
        }
        _ => error,
    })?;
    match answer["projects"].as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one["id"].as_str().context("a project without id")?.to_owned()),
        Some([]) => Err(Problem::new(Exit::NotFound, format!("there is no project `{name}`")).into()),
        _ => Err(Problem::new(Exit::Usage, format!("several projects are called `{name}`")).hint("give an id").into()),
    }
}

/// What an option's word means.
pub fn value(api: &Api, opt: &Opt, word: &str) -> Result<Value> {
    Ok(match opt.kind {
        Kind::Pairs(known) => Value::Object(members(api, opt.flag, known, word)?),
        kind => alone(api, opt.flag, kind, word)?,
    })
}

/// What `KEY=VALUE,KEY=VALUE` means, after `--flag`.
pub fn members(api: &Api, flag: &str, known: &[Pair], word: &str) -> Result<Map<String, Value>> {
    let mut members = Map::new();
    for part in word.split(',') {
        let parsed = part.split_once('=').and_then(|(key, value)| {
            known.iter().find(|(known, ..)| *known == key).map(|(_, member, kind)| (*member, *kind, value))
        });
        let Some((member, kind, value)) = parsed else {
            let keys: Vec<_> = known.iter().map(|(key, ..)| format!("{key}=…")).collect();
            let message = format!("--{flag}: `{part}` is none of {}", keys.join(", "));
            return Err(Problem::new(Exit::Usage, message).hint("several are joined by commas").into());
        };
        if members.insert(member.to_owned(), alone(api, flag, kind, value)?).is_some() {
            return Err(Problem::new(Exit::Usage, format!("--{flag}: `{part}`: twice")).into());
        }
    }
    Ok(members)
}

/// The same, of what has no members.
fn alone(api: &Api, flag: &str, kind: Kind, word: &str) -> Result<Value> {
    let wrong = |wanted: &str| Problem::new(Exit::Usage, format!("--{flag}: `{word}` is not {wanted}"));
    Ok(match kind {
        Kind::Text | Kind::OneOf(_) => json!(word),
        Kind::Integer => json!(word.parse::<i64>().map_err(|_| wrong("a whole number"))?),
        Kind::Switch(on, off) if [on, off].contains(&word) => json!(word == on),
        Kind::Switch(on, off) => return Err(wrong(&format!("{on} or {off}")).into()),
        Kind::Ref(noun) => json!(id(api, tables::of(noun), word)?),
        Kind::Projects if word == "*" => json!(word),
        Kind::Project | Kind::Projects => json!(project(api, word)?),
        Kind::RefOf(..) | Kind::Pairs(_) => unreachable!("is resolved before, or has members"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_addresses_is_escaped() {
        assert_eq!(
            query([("name", "a&b=c d/é"), ("binding:host_id", "h-1.x_~")]),
            "name=a%26b%3Dc%20d%2F%C3%A9&binding%3Ahost_id=h-1.x_~"
        );
        assert_eq!(escape("../hosts?x"), "..%2Fhosts%3Fx");
    }

    #[test]
    fn pairs_are_checked_before_anything_is_sent() {
        let nobody = crate::client::Credentials::new("u", "p", "w");
        let api = Api::new("http://127.0.0.1:1", nobody).expect("a client");
        let opt = Opt::new(
            "pool",
            "allocation_pools",
            Kind::Pairs(&[("start", "first", Kind::Text), ("end", "last", Kind::Integer)]),
            "",
        );
        let good = value(&api, &opt, "start=10.0.0.2,end=9").expect("both are known");
        assert_eq!(good, json!({"first": "10.0.0.2", "last": 9}));
        for bad in ["start", "from=1", "start=1,start=2", "end=nine", ""] {
            let error = value(&api, &opt, bad).expect_err(bad);
            assert_eq!(super::super::failure::exit_of(&error), Exit::Usage, "{bad}: {error:#}");
        }
    }
}
