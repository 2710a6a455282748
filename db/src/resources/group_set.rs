//! Combinations of security groups: one number for each, whoever has it first makes it.
//!
//! A port is filtered by the union of its groups' rules, and its packets say which groups it has. Its
//! labels, by which label policies select it, are part of its combination.
//! Both go by the number of the combination, which so many ports share that the data plane holds
//! rules and identities once for all of them. A number means one combination for ever: where a
//! port gets other groups it gets another number, and where the last port with a combination is
//! gone the janitor forgets it, number and all.

use super::{Failure, label_policy};
use crate::entries;
use crate::statement::statement;
use diesel::QueryResult;
use diesel::sql_types::{Array, Bool, Integer, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use mizar_compile::Object;
use mizar_domain::model::GroupSet;
use std::collections::{BTreeMap, BTreeSet};

statement! {
    /// Keeps them from being forgotten. Arrays of different lengths travel as texts.
    SelectSets { wanted: Vec<String> as Array<Text> } -> (Integer, Array<Integer>, Bool)
    {
        "SELECT s.number, s.groups, s.unused_since IS NOT NULL FROM unnest((SELECT " wanted
        ")) w (groups) JOIN group_sets s ON s.groups = w.groups::integer[] ORDER BY s.number FOR KEY SHARE OF s"
    }
}

/// The numbers of combinations.
pub(super) type Numbers = BTreeMap<Vec<i32>, i32>;

statement! {
    /// Waits for others that make the same ones at this moment.
    InsertSets { wanted: Vec<String> as Array<Text> } -> (Integer, Array<Integer>)
    {
        "INSERT INTO group_sets (groups) SELECT w.groups::integer[] FROM unnest(" wanted
        ") w (groups) ORDER BY w.groups ON CONFLICT DO NOTHING RETURNING number, groups"
    }
}

statement! {
    /// They are used again. Those that somebody uses already are not written, for many ports are made
    /// with them at once.
    Revive { numbers: Vec<i32> as Array<Integer> } -> Integer
    { "UPDATE group_sets SET unused_since = NULL WHERE number = ANY(" numbers ") RETURNING number" }
}

/// As an array is written in SQL.
fn text(groups: &[i32]) -> String {
    let numbers: Vec<String> = groups.iter().map(i32::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}

/// Numbers of labels and of groups as a combination.
pub(super) fn parts(labels: Option<i32>, groups: impl Iterator<Item = i32>) -> Vec<i32> {
    let mut parts: Vec<i32> = labels.map(|number| -number).into_iter().chain(groups).collect();
    parts.sort_unstable();
    parts
}

/// Turns up again only if the janitor forgets sets as fast as they are made.
const ROUNDS: usize = 4;

/// The numbers of combinations, each in order; makes those that are new. They stay until the
/// transaction ends, as those do that are known.
pub(super) async fn numbers(
    conn: &mut AsyncPgConnection,
    wanted: BTreeSet<Vec<i32>>,
    mut known: Numbers,
) -> Result<Numbers, Failure> {
    let mut open = wanted;
    open.retain(|groups| !known.contains_key(groups));
    for _ in 0..ROUNDS {
        let mut take = |rows: Vec<(i32, Vec<i32>)>| {
            for (number, groups) in rows {
                open.remove(&groups);
                known.insert(groups, number);
            }
            open.iter().map(|groups| text(groups)).collect::<Vec<_>>()
        };
        let wanted = take(Vec::new());
        if wanted.is_empty() {
            return Ok(known);
        }
        let found: Vec<(i32, Vec<i32>, bool)> = SelectSets { wanted }.load(conn).await?;
        let unused: Vec<i32> = found.iter().filter(|(.., unused)| *unused).map(|(number, ..)| *number).collect();
        if !unused.is_empty() {
            Revive { numbers: unused }.execute(conn).await?;
        }
        let wanted = take(found.into_iter().map(|(number, groups, _)| (number, groups)).collect());
        if wanted.is_empty() {
            return Ok(known);
        }
        let made: Vec<(i32, Vec<i32>)> = InsertSets { wanted }.load(conn).await?;
        publish(conn, &made).await?;
        take(made);
    }
    Err(Failure::Contended)
}

/// Combinations as they are compiled, from their numbers and parts: the numbers of their groups, in
/// order, and before these, negative, that of their labels.
pub(crate) async fn models(conn: &mut AsyncPgConnection, sets: &[(i32, Vec<i32>)]) -> QueryResult<Vec<GroupSet>> {
    let labels = sets.iter().flat_map(|(_, parts)| parts).filter(|part| **part < 0).map(|part| -part).collect();
    let labels = label_policy::read_labels(conn, labels).await?;
    let model = |(number, parts): &(i32, Vec<i32>)| GroupSet {
        number: number.cast_unsigned(),
        groups: parts.iter().filter(|part| **part > 0).map(|group| group.cast_unsigned()).collect(),
        labels: parts.iter().find_map(|part| labels.get(&-part).cloned()),
    };
    Ok(sets.iter().map(model).collect())
}

async fn publish(conn: &mut AsyncPgConnection, made: &[(i32, Vec<i32>)]) -> QueryResult<()> {
    let sets = models(conn, made).await?;
    let writes: Vec<_> = sets.iter().flat_map(|set| mizar_compile::create(Object::GroupSet(set))).collect();
    entries::apply(conn, &writes).await
}

/// Tombstones the entries of sets whose rows are gone.
pub(crate) async fn forget(conn: &mut AsyncPgConnection, gone: &[(i32, Vec<i32>)]) -> QueryResult<()> {
    let sets = models(conn, gone).await?;
    let writes: Vec<_> = sets.iter().flat_map(|set| mizar_compile::delete(Object::GroupSet(set))).collect();
    entries::apply(conn, &writes).await
}

statement! {
    /// Sets with a group that is being deleted: no port has it, and none gets it.
    DeleteWith { group: i32 as Integer } -> (Integer, Array<Integer>)
    { "DELETE FROM group_sets WHERE groups @> ARRAY[" group "] RETURNING number, groups" }
}

/// Forgets the sets that a group is in. Nobody but who holds the group's row alone may call it.
pub(super) async fn forget_with(conn: &mut AsyncPgConnection, group: i32) -> QueryResult<()> {
    let gone: Vec<(i32, Vec<i32>)> = DeleteWith { group }.load(conn).await?;
    forget(conn, &gone).await
}
