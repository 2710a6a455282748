//! What the verbs do, for every resource.

use super::cloud::{self, Wanted};
use super::failure::{Exit, Problem};
use super::render::Output;
use super::resource::{Act, Empty, Kind, Opt, Resource, Verb};
use super::tree::{many, many_if_known, words};
use super::{tables, wait};
use crate::client::{Api, refused_status};
use anyhow::{Context, Result};
use clap::ArgMatches;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// How often a change is tried that somebody else's came before.
const TRIES: u32 = 5;

/// Does what the verb says; the text is for standard output.
pub fn run(api: &Api, resource: &Resource, verb: &str, matches: &ArgMatches) -> Result<String> {
    let path = match resource.parent {
        None => resource.path.to_owned(),
        Some((noun, _)) => {
            let name = matches.get_one::<String>("parent").expect("is required");
            resource.path.replace("{}", &cloud::escape(&cloud::id(api, tables::of(noun), name)?))
        }
    };
    let call = Call { api, resource, path, matches };
    match verb {
        "list" => call.list(),
        "show" => call.settled(call.find(call.object())?),
        "create" => call.create(),
        "set" => call.set(),
        "unset" => call.unset(),
        "delete" => call.delete(),
        other => {
            let act = resource.verbs.iter().find_map(|verb| match verb {
                Verb::Act(act) if act.name == other => Some(*act),
                _ => None,
            });
            call.act(act.expect("clap knows no other verb"))
        }
    }
}

struct Call<'a> {
    api: &'a Api,
    resource: &'a Resource,
    /// Of the list.
    path: String,
    matches: &'a ArgMatches,
}

impl Call<'_> {
    fn object(&self) -> &str {
        self.matches.get_one::<String>("object").expect("is required")
    }

    fn find(&self, name: &str) -> Result<Value> {
        cloud::find_at(self.api, self.resource, &self.path, name)
    }

    /// The option with its kind, which another option may decide.
    fn resolved(&self, opt: &Opt) -> Result<Opt> {
        let Kind::RefOf(by, nouns) = opt.kind else { return Ok(*opt) };
        let word = many_if_known(self.matches, by).pop();
        let Some(word) = word else { return Ok(Opt { kind: Kind::Text, ..*opt }) };
        let noun = nouns.iter().find(|(known, _)| *known == word).map(|(_, noun)| *noun);
        let noun = noun.with_context(|| format!("--{by} {word}: the command line knows no noun of it"))?;
        Ok(Opt { kind: Kind::Ref(noun), ..*opt })
    }

    fn list(&self) -> Result<String> {
        let mut wanted =
            Wanted { limit: self.matches.get_one::<u32>("limit").map(|n| *n as usize), ..Wanted::default() };
        for opt in self.resource.options.iter().filter(|opt| opt.filter) {
            for value in self.values(opt)? {
                match value {
                    Value::Object(members) => {
                        let pair = |(member, value): (String, Value)| {
                            (opt.field.to_owned(), format!("{member}={}", value.as_str().unwrap_or_default()))
                        };
                        wanted.filters.extend(members.into_iter().map(pair));
                    }
                    Value::String(text) => wanted.filters.push((opt.field.into(), text)),
                    other => wanted.filters.push((opt.field.into(), other.to_string())),
                }
            }
        }
        let tags = many_if_known(self.matches, "tag");
        if !tags.is_empty() {
            wanted.filters.push(("tags".into(), tags.join(",")));
        }
        for word in many(self.matches, "filter") {
            let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            wanted.filters.push(
                pair.ok_or_else(|| Problem::new(Exit::Usage, format!("--filter: `{word}` is not ATTRIBUTE=VALUE")))?,
            );
        }
        for word in many(self.matches, "sort") {
            wanted.sort.push(sort(&word)?);
        }
        let objects = cloud::list_at(self.api, self.resource, &self.path, &wanted)?;
        let mut columns = self.resource.columns.to_vec();
        if self.matches.get_flag("long") {
            columns.extend(self.resource.long);
        }
        Output::of(self.matches).list(&objects, &columns)
    }

    fn create(&self) -> Result<String> {
        let mut body = Map::new();
        for opt in self.resource.options.iter().filter(|opt| opt.create) {
            let values = self.values(opt)?;
            if !values.is_empty() {
                body.insert(opt.field.into(), one_or_all(opt, values));
            }
        }
        let tags = many_if_known(self.matches, "tag");
        if !tags.is_empty() {
            body.insert("tags".into(), json!(tags));
        }
        let mut answer = self.api.post(&self.path, &json!({ self.resource.member: body }))?;
        self.settled(answer[self.resource.member].take())
    }

    fn values(&self, opt: &Opt) -> Result<Vec<Value>> {
        let (words, opt) = (words(self.matches, opt), self.resolved(opt)?);
        words.iter().map(|word| cloud::value(self.api, &opt, word)).collect()
    }

    /// Lists get longer; what is alone is replaced.
    fn set(&self) -> Result<String> {
        let (mut given, mut added_by_calls) = (Vec::new(), Vec::new());
        for opt in self.resource.options.iter().filter(|opt| opt.set) {
            let values = self.values(opt)?;
            match opt.by {
                _ if values.is_empty() => {}
                Some((add, _)) => added_by_calls.push((add, opt, values)),
                None => given.push((opt, values)),
            }
        }
        let tags = many_if_known(self.matches, "tag");
        if given.is_empty() && added_by_calls.is_empty() && tags.is_empty() {
            return Err(self.nothing("set"));
        }
        let old = self.find(self.object())?;
        let changed = self.change(old, |old| {
            let change = |(opt, values): &(&Opt, Vec<Value>)| {
                let value = if opt.many { added(&old[opt.field], values) } else { values[values.len() - 1].clone() };
                (opt.field.to_owned(), value)
            };
            Ok(given.iter().map(change).collect())
        })?;
        self.call(&changed, &added_by_calls)?;
        self.tag(&changed, &tags, |path| self.api.put(path, None).map(drop))?;
        self.settled(self.again(changed, !(added_by_calls.is_empty() && tags.is_empty()))?)
    }

    fn unset(&self) -> Result<String> {
        let (mut emptied, mut removed, mut removed_by_calls) = (Map::new(), Vec::new(), Vec::new());
        for opt in self.resource.options.iter().filter(|opt| opt.set) {
            match opt.empty {
                Some(empty) if !opt.many && self.matches.get_flag(opt.flag) => {
                    let nothing = if empty == Empty::Text { json!("") } else { Value::Null };
                    emptied.insert(opt.field.into(), nothing);
                }
                _ if opt.many => {
                    let values = self.values(opt)?;
                    match opt.by {
                        _ if values.is_empty() => {}
                        Some((_, remove)) => removed_by_calls.push((remove, opt, values)),
                        None => removed.push((opt, values)),
                    }
                }
                _ => {}
            }
        }
        let tags = many_if_known(self.matches, "tag");
        if emptied.is_empty() && removed.is_empty() && removed_by_calls.is_empty() && tags.is_empty() {
            return Err(self.nothing("unset"));
        }
        let old = self.find(self.object())?;
        let changed = self.change(old, |old| {
            let mut body = emptied.clone();
            for (opt, values) in &removed {
                body.insert(opt.field.into(), without(opt, &old[opt.field], values)?);
            }
            Ok(body)
        })?;
        self.call(&changed, &removed_by_calls)?;
        self.tag(&changed, &tags, |path| self.api.delete(path))?;
        self.settled(self.again(changed, !(removed_by_calls.is_empty() && tags.is_empty()))?)
    }

    fn nothing(&self, verb: &str) -> anyhow::Error {
        let problem = Problem::new(Exit::Usage, format!("there is nothing to {verb}"));
        problem.hint(format!("`mizar {} {verb} --help` shows what can be {verb}", self.resource.noun)).into()
    }

    /// A body that was made of what is there counts only while that is still there.
    fn change(&self, mut old: Value, body: impl Fn(&Value) -> Result<Map<String, Value>>) -> Result<Value> {
        for tries in 1.. {
            let path = self.path_of(&old)?;
            let body = body(&old)?;
            if body.is_empty() {
                return Ok(old);
            }
            let body = json!({ self.resource.member: body });
            let result = match old["revision_number"].as_i64() {
                Some(revision) => self.api.put_at_revision(&path, &body, revision),
                None => self.api.put(&path, Some(&body)),
            };
            match result {
                Ok(mut answer) => return Ok(answer[self.resource.member].take()),
                Err(error) if tries < TRIES && changed_meanwhile(&error) => {
                    old = self.api.get(&path)?[self.resource.member].take();
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last try returns")
    }

    fn path_of(&self, object: &Value) -> Result<String> {
        let id = object["id"].as_str().context("an object without id")?;
        Ok(format!("{}/{}", self.path, cloud::escape(id)))
    }

    /// Lists that have calls of their own.
    fn call(&self, object: &Value, calls: &[(&str, &Opt, Vec<Value>)]) -> Result<()> {
        let path = self.path_of(object)?;
        calls.iter().try_for_each(|(call, opt, values)| {
            self.api.put(&format!("{path}/{call}"), Some(&json!({ opt.field: values }))).map(drop)
        })
    }

    fn act(&self, act: &Act) -> Result<String> {
        let path = self.path_of(&self.find(self.object())?)?;
        let mut body = Map::new();
        for opt in act.options {
            let values = self.values(opt)?;
            if !values.is_empty() {
                body.insert(opt.field.into(), one_or_all(opt, values));
            }
        }
        let answer = self.api.put(&format!("{path}/{}", act.path), Some(&Value::Object(body)))?;
        Output::of(self.matches).object(&answer)
    }

    fn tag(&self, object: &Value, tags: &[String], call: impl Fn(&str) -> Result<()>) -> Result<()> {
        let path = self.path_of(object)?;
        tags.iter().try_for_each(|tag| call(&format!("{path}/tags/{}", cloud::escape(tag))))
    }

    /// Calls of their own, as those for tags, do not answer with the object as it then is.
    fn again(&self, object: Value, changed: bool) -> Result<Value> {
        if changed { Ok(self.api.get(&self.path_of(&object)?)?[self.resource.member].take()) } else { Ok(object) }
    }

    fn delete(&self) -> Result<String> {
        for name in many(self.matches, "object") {
            let object = self.find(&name)?;
            self.api.delete(&self.path_of(&object)?)?;
        }
        Ok(String::new())
    }

    /// The object, once it is what `--wait` waits for.
    fn settled(&self, object: Value) -> Result<String> {
        let waits =
            self.resource.waits && self.matches.try_get_one::<bool>("wait").ok().flatten().copied() == Some(true);
        let object = if waits {
            let patience = self.matches.get_one::<u32>("wait-timeout").copied().unwrap_or(60);
            let path = self.path_of(&object)?;
            wait::until_active(self.resource.noun, object, Duration::from_secs(patience.into()), || {
                Ok(self.api.get(&path)?[self.resource.member].take())
            })?
        } else {
            object
        };
        Output::of(self.matches).object(&object)
    }
}

fn changed_meanwhile(error: &anyhow::Error) -> bool {
    refused_status(error) == Some(412)
}

fn one_or_all(opt: &Opt, mut values: Vec<Value>) -> Value {
    if opt.many { Value::Array(values) } else { values.pop().expect("there is one") }
}

fn added(old: &Value, more: &[Value]) -> Value {
    let mut all = old.as_array().cloned().unwrap_or_default();
    for value in more {
        if !all.contains(value) {
            all.push(value.clone());
        }
    }
    Value::Array(all)
}

/// What is not there cannot be taken away: the word is likely a wrong one.
fn without(opt: &Opt, old: &Value, gone: &[Value]) -> Result<Value, Problem> {
    let mut left = old.as_array().cloned().unwrap_or_default();
    for value in gone {
        // Pairs name as much as is needed: `ip-address=…` alone finds the element.
        let fits = |element: &Value| match (opt.kind, value) {
            (Kind::Pairs(_), Value::Object(members)) => members.iter().all(|(name, value)| element[name] == *value),
            _ => element == value,
        };
        let before = left.len();
        left.retain(|element| !fits(element));
        if left.len() == before {
            let message = format!("--{}: there is no {} on it", opt.flag, super::render::cell(value));
            return Err(Problem::new(Exit::Usage, message));
        }
    }
    Ok(Value::Array(left))
}

fn sort(word: &str) -> Result<(String, &'static str), Problem> {
    // Attributes have colons of their own: `binding:host_id`.
    let (attribute, direction) = match word.rsplit_once(':') {
        Some((attribute, "asc")) => (attribute, "asc"),
        Some((attribute, "desc")) => (attribute, "desc"),
        _ => (word, "asc"),
    };
    if attribute.is_empty() {
        return Err(Problem::new(Exit::Usage, format!("--sort: `{word}` names no attribute")));
    }
    Ok((attribute.to_owned(), direction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_may_have_a_colon_and_a_direction() {
        assert_eq!(sort("binding:host_id"), Ok(("binding:host_id".into(), "asc")));
        assert_eq!(sort("binding:host_id:desc"), Ok(("binding:host_id".into(), "desc")));
        assert_eq!(sort("name:asc"), Ok(("name".into(), "asc")));
        assert!(sort(":desc").is_err());
    }

    #[test]
    fn lists_get_longer_once_and_shorter_by_what_is_named() {
        let opt = Opt::new("dns", "dns_nameservers", Kind::Text, "").many();
        let longer = added(&json!(["a"]), &[json!("b"), json!("a")]);
        assert_eq!(longer, json!(["a", "b"]));
        assert_eq!(without(&opt, &longer, &[json!("a")]), Ok(json!(["b"])));
        assert_eq!(without(&opt, &longer, &[json!("c")]).expect_err("it is not there").exit, Exit::Usage);
        let pairs = Opt::new("fixed-ip", "fixed_ips", Kind::Pairs(&[]), "").many();
        let ips = json!([{"ip_address": "10.0.0.1", "subnet_id": "s"}, {"ip_address": "10.0.0.2", "subnet_id": "s"}]);
        let left = without(&pairs, &ips, &[json!({"ip_address": "10.0.0.1"})]);
        assert_eq!(left, Ok(json!([{"ip_address": "10.0.0.2", "subnet_id": "s"}])));
    }
}
