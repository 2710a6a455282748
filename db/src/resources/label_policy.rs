//! Label policies as desired state: what commands on them, and on ports with labels, write into the
//! feed.
//!
//! A policy is an entry for each direction that it is about, whatever it selects: hosts find that.
//! What less may pass by is not looked for: every change of a project's policies raises the one
//! generation that they share, so that hosts ask again about flows of its ports with labels.

use super::port_extras::Extras;
use super::{Failure, ObjectKind};
use crate::entries;
use crate::statement::statement;
use diesel::QueryResult;
use diesel::result::Error::DeserializationError;
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_compile::{Object, Write};
use mizar_domain::label_policy::{Labels, Policy, manifest};
use mizar_domain::model::{LabelPolicy, LabelProject, Labelled};
use mizar_domain::port_extras::LabelSet;
use mizar_wire::body;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

statement! {
    InsertProjects { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer, Integer)
    {
        "INSERT INTO label_projects (id) SELECT DISTINCT id FROM unnest(" ids
        ") n (id) ORDER BY id ON CONFLICT DO NOTHING RETURNING id, number, generation"
    }
}

statement! {
    /// Keeps the janitor from removing what includes their policies.
    KeepProjects { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer, Integer)
    { "SELECT id, number, generation FROM label_projects WHERE id = ANY(" ids ") ORDER BY id FOR KEY SHARE" }
}

statement! {
    /// Commands on policies of a project take turns.
    RaiseProject { id: Uuid as SqlUuid, step: i32 as Integer } -> (SqlUuid, Integer, Integer)
    {
        "UPDATE label_projects SET generation = generation + " step " WHERE id = " id " RETURNING id, number, generation"
    }
}

fn project((id, number, generation): (Uuid, i32, i32)) -> LabelProject {
    LabelProject { id: id.into(), number: number.cast_unsigned(), generation: generation.cast_unsigned() }
}

/// The numbers of projects; makes those that are new.
async fn projects(conn: &mut AsyncPgConnection, ids: BTreeSet<Uuid>) -> Result<BTreeMap<Uuid, i32>, Failure> {
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let mut known: Vec<(Uuid, i32, i32)> = KeepProjects { ids: ids.clone() }.load(conn).await?;
    if known.len() < ids.len() {
        let made: Vec<(Uuid, i32, i32)> = InsertProjects { ids: ids.clone() }.load(conn).await?;
        let made = made.into_iter().map(project);
        let writes: Vec<Write> = made.flat_map(|one| mizar_compile::create(Object::LabelProject(&one))).collect();
        entries::apply(conn, &writes).await?;
        // Those that others made meanwhile are seen now.
        known = KeepProjects { ids }.load(conn).await?;
    }
    Ok(known.into_iter().map(|(id, number, _)| (id, number)).collect())
}

/// What becomes of a policy: it comes (no `old`), goes (no `new`), or changes.
#[derive(Clone, Copy, Debug)]
pub struct Change<'p> {
    /// Which.
    pub id: Uuid,
    /// What it was.
    pub old: Option<&'p Policy>,
    /// What it is.
    pub new: Option<&'p Policy>,
    /// Its manifest has become longer.
    pub is_longer: bool,
}

/// Bytes of the manifests of a project, as they are stored: every host with a labelled port of the project holds them, in
/// memory and on disk, and who asks what they come to reads them all.
const MANIFESTS_MAX: i64 = 1 << 20;

statement! {
    LengthOfManifests { project: Uuid as SqlUuid } -> BigInt
    { "SELECT COALESCE(sum(octet_length(manifest::text)), 0)::bigint FROM label_policies WHERE project_id = " project "" }
}

/// Changes policies of one project, whose generation rises once. Their rows are written.
pub async fn change(conn: &mut AsyncPgConnection, owner: Uuid, changes: &[Change<'_>]) -> Result<(), Failure> {
    projects(conn, BTreeSet::from([owner])).await?;
    let raised: (Uuid, i32, i32) =
        RaiseProject { id: owner, step: body::GENERATION.cast_signed() }.get_result(conn).await?;
    // Those who made theirs longer meanwhile have committed.
    if changes.iter().any(|change| change.is_longer) {
        let length: i64 = LengthOfManifests { project: owner }.get_result(conn).await?;
        if length > MANIFESTS_MAX {
            return Err(Failure::TooLongManifests(MANIFESTS_MAX));
        }
    }
    let is = project(raised);
    let was = LabelProject { generation: is.generation.wrapping_sub(body::GENERATION), ..is.clone() };
    let compiled = |project: &LabelProject, policy: fn(&Change<'_>) -> Option<Policy>| {
        let mut all = mizar_compile::compile(Object::LabelProject(project));
        for change in changes {
            if let Some(policy) = policy(change) {
                let policy = LabelPolicy { id: change.id.into(), project: project.number, policy };
                all.extend(mizar_compile::compile(Object::LabelPolicy(&policy)));
            }
        }
        all
    };
    let (was, is) = (compiled(&was, |change| change.old.cloned()), compiled(&is, |change| change.new.cloned()));
    Ok(entries::apply(conn, &mizar_compile::change(&was, &is)).await?)
}

statement! {
    ReadPolicies { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer, Jsonb)
    {
        "SELECT p.id, n.number, p.manifest FROM label_policies p JOIN label_projects n ON n.id = p.project_id \
         WHERE p.id = ANY(" ids ")"
    }
}

statement! {
    ReadProjects { ids: Vec<Uuid> as Array<SqlUuid> } -> (SqlUuid, Integer, Integer)
    { "SELECT id, number, generation FROM label_projects WHERE id = ANY(" ids ")" }
}

/// Policies as they are compiled.
pub(crate) async fn read(conn: &mut AsyncPgConnection, ids: Vec<Uuid>) -> Result<Vec<LabelPolicy>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, i32, Value)> = ReadPolicies { ids }.load(conn).await?;
    let policy = |(id, number, stored): (Uuid, i32, Value)| {
        let corrupt = |_| Failure::Corrupt { kind: ObjectKind::LabelPolicy, id, column: "manifest" };
        let policy = manifest::read(&stored).map_err(corrupt)?;
        Ok(LabelPolicy { id: id.into(), project: number.cast_unsigned(), policy })
    };
    rows.into_iter().map(policy).collect()
}

/// Projects as they are compiled.
pub(crate) async fn read_projects(conn: &mut AsyncPgConnection, ids: Vec<Uuid>) -> QueryResult<Vec<LabelProject>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, i32, i32)> = ReadProjects { ids }.load(conn).await?;
    Ok(rows.into_iter().map(project).collect())
}

statement! {
    InsertLabels { labels: Vec<String> as Array<Text> } -> Integer
    {
        "INSERT INTO label_sets (labels) SELECT DISTINCT labels FROM unnest(" labels
        ") n (labels) ORDER BY labels ON CONFLICT DO NOTHING RETURNING number"
    }
}

statement! {
    /// Keeps them from being forgotten.
    KeepLabels { labels: Vec<String> as Array<Text> } -> (Integer, Text)
    {
        "SELECT s.number, s.labels FROM unnest(" labels
        ") n (labels) JOIN label_sets s ON s.labels = n.labels ORDER BY s.number FOR KEY SHARE OF s"
    }
}

/// Labels that the ports of a project have, and had some hours ago: each is told to every host that may
/// have to know it, and looked at there for every rule.
const LABELS_MAX: i64 = 5_000;

statement! {
    /// Those who make labels of a project take turns, so that they are counted.
    LockProjects { numbers: Vec<i32> as Array<Integer> } -> Integer
    { "SELECT number FROM label_projects WHERE number = ANY(" numbers ") ORDER BY id FOR NO KEY UPDATE" }
}

statement! {
    CrowdedProjects { numbers: Vec<i32> as Array<Integer>, most: i64 as BigInt } -> Integer
    {
        "SELECT project FROM label_sets WHERE project = ANY(" numbers ") GROUP BY project HAVING " most " < count(*)"
    }
}

/// What the labels of ports are called, by project and labels; makes what is new.
async fn label_sets(
    conn: &mut AsyncPgConnection,
    wanted: BTreeSet<(Uuid, Labels)>,
) -> Result<BTreeMap<(Uuid, Labels), LabelSet>, Failure> {
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let numbers = projects(conn, wanted.iter().map(|(project, _)| *project).collect()).await?;
    let mut texts: BTreeMap<String, ((Uuid, Labels), i32)> = BTreeMap::new();
    for (owner, labels) in wanted {
        let project = *numbers.get(&owner).ok_or(Failure::Contended)?;
        texts.insert(text(project, &labels), ((owner, labels), project));
    }
    let labels: Vec<String> = texts.keys().cloned().collect();
    let mut found: Vec<(i32, String)> = KeepLabels { labels: labels.clone() }.load(conn).await?;
    if found.len() < labels.len() {
        let known: BTreeSet<&String> = found.iter().map(|(_, text)| text).collect();
        let new = texts.iter().filter(|(text, _)| !known.contains(text));
        let growing: BTreeSet<i32> = new.map(|(_, (_, project))| *project).collect();
        let numbers: Vec<i32> = growing.into_iter().collect();
        LockProjects { numbers: numbers.clone() }.execute(conn).await?;
        InsertLabels { labels: labels.clone() }.execute(conn).await?;
        let crowded: Vec<i32> = CrowdedProjects { numbers, most: LABELS_MAX }.load(conn).await?;
        if !crowded.is_empty() {
            return Err(Failure::TooManyLabels(LABELS_MAX));
        }
        found = KeepLabels { labels }.load(conn).await?;
    }
    let mut known = BTreeMap::new();
    for (number, text) in found {
        if let Some((wanted, project)) = texts.remove(&text) {
            known.insert(wanted, LabelSet { number, project });
        }
    }
    // Otherwise the janitor forgets labels as fast as they are made.
    if texts.is_empty() { Ok(known) } else { Err(Failure::Contended) }
}

/// Gives the labels of ports their numbers.
pub(super) async fn name_labels<'r>(
    conn: &mut AsyncPgConnection,
    ports: impl Iterator<Item = (Uuid, &'r mut Extras, &'r mut Option<i32>)>,
) -> Result<(), Failure> {
    let mut labelled: Vec<_> = ports.filter(|(_, extras, _)| extras.0.labels.is_some()).collect();
    let wanted = labelled.iter().filter_map(|(project, extras, _)| Some((*project, extras.0.labels.clone()?)));
    let sets = label_sets(conn, wanted.collect()).await?;
    for (project, extras, number) in &mut labelled {
        let set = extras.0.labels.clone().and_then(|labels| sets.get(&(*project, labels)).copied());
        extras.0.label_set = set;
        **number = set.map(|set| set.number);
    }
    Ok(())
}

/// As a row holds them: maps are in order, so that the same labels are the same text.
fn text(project: i32, labels: &Labels) -> String {
    let labelled = body::Labelled { project: project.cast_unsigned(), labels: labels.clone() };
    serde_json::to_string(&labelled).expect("maps of strings always serialize")
}

statement! {
    ReadLabels { numbers: Vec<i32> as Array<Integer> } -> (Integer, Text)
    { "SELECT number, labels FROM label_sets WHERE number = ANY(" numbers ")" }
}

/// Labels by their numbers.
pub(super) async fn read_labels(
    conn: &mut AsyncPgConnection,
    numbers: Vec<i32>,
) -> QueryResult<BTreeMap<i32, Labelled>> {
    if numbers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<(i32, String)> = ReadLabels { numbers }.load(conn).await?;
    let labelled = |(number, text): (i32, String)| {
        // Without them the combination would be another one.
        let unreadable = |error| DeserializationError(format!("labels number {number}: {error}").into());
        let body::Labelled { project, labels } = serde_json::from_str(&text).map_err(unreadable)?;
        Ok((number, Labelled { project, labels }))
    };
    rows.into_iter().map(labelled).collect()
}
