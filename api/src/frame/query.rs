//! The query string of a list: filters, fields, sort keys, paging.

use super::attribute::{Attribute, AttributeMap};
use super::decode::Decode;
use super::fault::Fault;
use super::resource::{Context, Resource};
use actix_web::web;
use diesel::sql_types::{Bool, Nullable};
use diesel::{BoolExpressionMethods as _, IntoSql as _};
use ipnet::IpNet;
use mizar_db::listing::{Dir, Listed, Predicate, SortKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Sort keys in order of weight.
type Sorts<R> = Vec<(SortKey<<R as Resource>::Row>, Dir)>;

/// A list request, checked against the map.
pub struct ListQuery<R: Resource> {
    /// Predicates of the filters.
    pub filters: Vec<Predicate<<R::Row as Listed>::Table>>,
    /// Attributes wanted; empty: all.
    pub fields: BTreeSet<String>,
    /// With the id as the last.
    pub sorts: Sorts<R>,
    /// Rows of a page; none: all in one.
    pub limit: Option<usize>,
    /// Id of the object before the page.
    pub marker: Option<String>,
    /// The page before the marker instead of after.
    pub reverse: bool,
}

/// Names that are not filters.
const RESERVED: [&str; 6] = ["fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"];

/// The parameters of a query string, in order.
pub fn parameters(query: &str) -> Result<Vec<(String, String)>, Fault> {
    let parsed = web::Query::<Vec<(String, String)>>::from_query(query);
    let pairs = parsed.map_err(|_| Fault::bad_query("the query string is malformed"))?.into_inner();
    match pairs.iter().find(|(name, value)| name.contains('\0') || value.contains('\0')) {
        Some(_) => Err(Fault::bad_query("a query may not contain the character NUL")),
        None => Ok(pairs),
    }
}

/// The attributes that `fields` asks for.
pub fn fields(pairs: &[(String, String)]) -> BTreeSet<String> {
    pairs.iter().filter(|(name, value)| name == "fields" && !value.is_empty()).map(|(_, value)| value.clone()).collect()
}

impl<R: Resource> ListQuery<R> {
    /// Parses and checks.
    pub fn parse(map: &AttributeMap<R>, context: &Context, query: &str) -> Result<Self, Fault> {
        let pairs = parameters(query)?;
        let said = |name: &str| {
            let values = pairs.iter().filter(|(n, v)| n == name && !v.is_empty());
            values.map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        let last = |name: &str| pairs.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let limit = match last("limit") {
            None => None,
            Some(text) => {
                let message = || {
                    Fault::bad_query(format!(
                        "Bad limit request: Limit must be an integer 0 or greater and not '{text}'"
                    ))
                };
                // 0 asks for no limit, as in Neutron.
                Some(text.parse::<u32>().map_err(|_| message())? as usize).filter(|limit| *limit > 0)
            }
        };
        let limit = match (limit, R::PAGE) {
            (Some(limit), Some(most)) => Some(limit.min(most)),
            (limit, most) => limit.or(most),
        };
        // To ask for rows by what one is not shown would show it.
        let known = |name: &str| map.get(name).filter(|attribute| context.caller.has(attribute.seen_by));
        Ok(Self {
            filters: filters(known, context, &pairs)?,
            fields: fields(&pairs),
            sorts: sorts(known, &said("sort_key"), &said("sort_dir"))?,
            limit,
            marker: last("marker").filter(|marker| !marker.is_empty()).map(str::to_owned),
            reverse: last("page_reverse").map_or(Ok(false), reversed)?,
        })
    }
}

/// Clients write the word as their language does.
fn reversed(word: &str) -> Result<bool, Fault> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err(Fault::bad_query(format!("page_reverse must be true or false and not '{word}'"))),
    }
}

/// Values that one filter may name. Clients that know more objects by id ask in parts.
const FILTER_VALUES: usize = 500;

fn filters<'m, R: Resource>(
    known: impl Fn(&str) -> Option<&'m Attribute<R>>,
    context: &Context,
    pairs: &[(String, String)],
) -> Result<Vec<Predicate<<R::Row as Listed>::Table>>, Fault> {
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        if !RESERVED.contains(&name.as_str()) {
            let values = by_name.entry(name).or_default();
            if values.len() == FILTER_VALUES {
                return Err(Fault::bad_request(format!("'{name}': more than {FILTER_VALUES} values to filter by")));
            }
            values.push(value.clone());
        }
    }
    let filterable = |name: &str| known(name).filter(|known| known.is_filter());
    let unknown: Vec<&str> = by_name.keys().copied().filter(|name| filterable(name).is_none()).collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("'{name}'")).collect();
        return Err(Fault::bad_request(format!("[{}] is invalid attribute for filtering", names.join(", "))));
    }
    let predicate = |(name, values): (&str, Vec<String>)| {
        let attribute = filterable(name)?;
        let filtered = match attribute.filter_in {
            Some(filter) => filter(context, &values),
            None => attribute.filter?(&values),
        };
        Some(filtered.map_err(|reason| Fault::invalid_input(format!("'{name}': {reason}"))))
    };
    by_name.into_iter().filter_map(predicate).collect()
}

fn sorts<'m, R: Resource>(
    known: impl Fn(&str) -> Option<&'m Attribute<R>>,
    keys: &[&str],
    dirs: &[&str],
) -> Result<Sorts<R>, Fault> {
    // As in Neutron, also where no direction at all is said: which was meant is not for us to guess.
    if keys.len() != dirs.len() {
        return Err(Fault::bad_request("The number of sort_keys and sort_dirs must be same"));
    }
    let mut sorts = Vec::with_capacity(keys.len() + 1);
    for (place, (name, dir)) in keys.iter().zip(dirs).enumerate() {
        // Each key nests the query one deeper, and a second time it orders nothing.
        if keys[..place].contains(name) {
            return Err(Fault::bad_request(format!("['{name}'] is given twice as sort_key")));
        }
        let key = known(name).and_then(|attribute| attribute.sort);
        let key = key.ok_or_else(|| Fault::bad_request(format!("['{name}'] is invalid attribute for sort_key")))?;
        let dir = match *dir {
            "asc" => Dir::Asc,
            "desc" => Dir::Desc,
            other => {
                let message = format!("['{other}'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'");
                return Err(Fault::bad_request(message));
            }
        };
        sorts.push((key, dir));
    }
    // The id makes the order total, so that a marker has one place in it.
    if !keys.contains(&"id") {
        let id = known("id").and_then(|attribute| attribute.sort);
        sorts.push((id.ok_or_else(|| Fault::internal("a resource does not sort by id"))?, Dir::Asc));
    }
    Ok(sorts)
}

/// The booleans among a filter's values, in the spellings that bodies may use too.
pub fn flag_values(raw: &[String]) -> Result<Vec<bool>, String> {
    raw.iter().map(|text| bool::decode(&serde_json::Value::String(text.clone()))).collect()
}

/// Rows of which one of the flags holds that a filter names: `holds` says which rows these are.
pub fn any_flag<T: 'static>(raw: &[String], holds: impl Fn(bool) -> Predicate<T>) -> Result<Predicate<T>, String> {
    let none: Predicate<T> = Box::new(false.into_sql::<Nullable<Bool>>());
    let either = |one: Predicate<T>, flag: bool| -> Predicate<T> { Box::new(one.or(holds(flag))) };
    Ok(flag_values(raw)?.into_iter().fold(none, either))
}

/// The addresses among a filter's values, as `inet` columns hold them; the rest equals no row.
pub fn address_values(raw: &[String]) -> Vec<IpNet> {
    mizar_db::listing::parse_all::<IpAddr>(raw).into_iter().map(IpNet::from).collect()
}

/// A filter on a boolean column.
#[macro_export]
macro_rules! flag {
    ($column:path) => {
        |raw| {
            use diesel::{ExpressionMethods as _, NullableExpressionMethods as _};
            Ok(Box::new($column.eq_any($crate::frame::query::flag_values(raw)?).nullable()))
        }
    };
}
