//! Whether the entries are what the tables say: every object is compiled anew and compared with
//! what is stored (DESIGN section 3.6, CONTROLPLANE C9).
//!
//! It goes by object, a page at a time, so that neither memory nor a snapshot nor a lock grows
//! with the cluster. [`Walk`] looks twice: from the objects to their entries, which finds what is
//! missing or differs, and from the entries to the objects that they name, which finds what is
//! left over. Each page is one snapshot and locks nothing: a command changes rows and entries in
//! one transaction, so no snapshot shows one without the other.
//!
//! [`repair`] runs later, when what was found may be out of date: it compares again under the
//! locks of the objects concerned and writes only what is still wrong. [`batches`] cuts findings
//! so that each repair locks one network, for as long as a few hundred objects take; commands on
//! all others go on, and those on this one wait no longer than for each other.
//!
//! Shard maps and divider sets are left out: they are placement's decisions, which compares them in
//! every round. Includes that nothing needs are no finding; the janitor takes them back in its
//! own time.

mod objects;
mod stored;

pub use objects::Owner;

use crate::entries;
use crate::resources::Failure;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use mizar_compile::{Compiled, Write};
use mizar_wire::entry::{Entry, EntryKey, Include};
use std::collections::{BTreeMap, BTreeSet};

/// Objects, or entries, that one step of the walk looks at.
const PAGE: u16 = 1_000;

/// Findings that one repair sets right.
const BATCH: usize = 200;

/// Why the audit could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A statement failed.
    #[error("the audit cannot read")]
    Database(#[from] diesel::result::Error),
    /// A row cannot be understood.
    #[error("the audit cannot compile a row")]
    Row(#[from] Failure),
    /// A row of hosts or keys cannot be understood.
    #[error("column {column} of {table} holds what it should not")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// Where in it.
        column: &'static str,
    },
}

/// Something that is not as compiled.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The entry should be there.
    Missing(Entry),
    /// Its body should be this one.
    Differs(Entry),
    /// No object has this entry.
    Left(EntryKey),
    /// The include should be there, for this object.
    Unincluded(Include, Owner),
}

impl Finding {
    /// What sets it right.
    fn write(&self) -> Write {
        match self {
            Self::Missing(entry) | Self::Differs(entry) => Write::Put(entry.clone()),
            Self::Left(key) => Write::Remove(key.clone()),
            Self::Unincluded(include, _) => Write::Include(*include),
        }
    }

    /// The object it is about; `None` = the key names none that could be.
    fn owner(&self) -> Option<Owner> {
        match self {
            Self::Missing(entry) | Self::Differs(entry) => Owner::of(&entry.key),
            Self::Left(key) => Owner::of(key),
            Self::Unincluded(_, owner) => Some(*owner),
        }
    }
}

/// One audit, as far as it has come.
#[derive(Debug)]
pub struct Walk {
    stage: Stage,
    page: i64,
}

impl Default for Walk {
    fn default() -> Self {
        Self::in_pages(PAGE)
    }
}

/// What comes next: objects after one, then entries after one.
#[derive(Debug)]
enum Stage {
    Objects(objects::Table, Option<Owner>),
    Entries(Option<stored::Place>),
    Done,
}

impl Walk {
    /// An audit in pages of so many objects or entries.
    pub fn in_pages(page: u16) -> Self {
        Self { stage: Stage::Objects(objects::Table::FIRST, None), page: i64::from(page.max(1)) }
    }

    /// What is wrong in the next page, as one snapshot has it; `None` after the last.
    pub async fn next(&mut self, conn: &mut AsyncPgConnection) -> Result<Option<Vec<Finding>>, AuditError> {
        if matches!(self.stage, Stage::Done) {
            return Ok(None);
        }
        let sql = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        AnsiTransactionManager::begin_transaction_sql(conn, sql).await?;
        let looked = self.look(conn).await;
        AnsiTransactionManager::rollback_transaction(conn).await?;
        let (findings, stage) = looked?;
        self.stage = stage;
        Ok(Some(findings))
    }

    async fn look(&self, conn: &mut AsyncPgConnection) -> Result<(Vec<Finding>, Stage), AuditError> {
        match &self.stage {
            Stage::Objects(table, after) => {
                let owners = table.page(conn, *after, self.page).await?;
                let next = match (owners.last(), table.next()) {
                    (Some(last), _) if owners.len() as i64 == self.page => Stage::Objects(*table, Some(*last)),
                    (_, Some(table)) => Stage::Objects(table, None),
                    (_, None) => Stage::Entries(None),
                };
                let compiled = objects::compile_all(conn, &owners.into_iter().collect()).await?;
                Ok((compare(conn, &compiled, &BTreeSet::new()).await?, next))
            }
            Stage::Entries(after) => {
                let (keys, last) = stored::page(conn, after.as_ref(), self.page).await?;
                let next = last.map_or(Stage::Done, |last| Stage::Entries(Some(last)));
                let owners = keys.iter().filter_map(Owner::of).collect();
                let compiled = objects::compile_all(conn, &owners).await?;
                let left = keys.into_iter().filter(|key| !names(&compiled, key));
                Ok((left.map(Finding::Left).collect(), next))
            }
            Stage::Done => Ok((Vec::new(), Stage::Done)),
        }
    }
}

/// Whether the object that the key names compiles to it.
fn names(compiled: &BTreeMap<Owner, Compiled>, key: &EntryKey) -> bool {
    let owner = Owner::of(key).and_then(|owner| compiled.get(&owner));
    owner.is_some_and(|compiled| compiled.entries.contains_key(key))
}

/// What is wrong with the entries and includes of objects, and which of `others` are left over.
async fn compare(
    conn: &mut AsyncPgConnection,
    compiled: &BTreeMap<Owner, Compiled>,
    others: &BTreeSet<EntryKey>,
) -> Result<Vec<Finding>, AuditError> {
    let expected = || compiled.values().flat_map(|compiled| &compiled.entries);
    let keys: BTreeSet<&EntryKey> = expected().map(|(key, _)| key).chain(others).collect();
    let stored = stored::bodies(conn, keys.iter().copied()).await?;
    let mut findings = Vec::new();
    for (key, body) in expected() {
        let entry = || Entry { key: key.clone(), body: body.clone() };
        match stored.get(key) {
            Some(stored) if *stored == body.to_bytes() => {}
            Some(_) => findings.push(Finding::Differs(entry())),
            None => findings.push(Finding::Missing(entry())),
        }
    }
    let left = others.iter().filter(|key| stored.contains_key(key) && !names(compiled, key));
    findings.extend(left.cloned().map(Finding::Left));
    // Of the objects that need an include one will do.
    let needed = compiled.iter().flat_map(|(owner, compiled)| compiled.includes.iter().map(|i| (*i, *owner)));
    let needed: BTreeMap<Include, Owner> = needed.collect();
    let there = stored::includes(conn, needed.keys()).await?;
    let missing = needed.into_iter().filter(|(include, _)| !there.contains(include));
    findings.extend(missing.map(|(include, owner)| Finding::Unincluded(include, owner)));
    Ok(findings)
}

/// Everything that is wrong.
pub async fn audit(conn: &mut AsyncPgConnection) -> Result<Vec<Finding>, AuditError> {
    let (mut walk, mut all) = (Walk::default(), Vec::new());
    while let Some(findings) = walk.next(conn).await? {
        all.extend(findings);
    }
    Ok(all)
}

/// Sets everything right, in the caller's transaction, under locks that keep all commands out.
/// Returns how much that was.
pub(crate) async fn recompile(conn: &mut AsyncPgConnection) -> Result<usize, AuditError> {
    let (mut walk, mut all) = (Walk::default(), 0);
    while !matches!(walk.stage, Stage::Done) {
        let (findings, stage) = walk.look(conn).await?;
        walk.stage = stage;
        entries::apply(conn, &findings.iter().map(Finding::write).collect::<Vec<_>>()).await?;
        all += findings.len();
    }
    Ok(all)
}

/// Findings, cut so that each batch concerns one network at most.
pub async fn batches(conn: &mut AsyncPgConnection, findings: Vec<Finding>) -> Result<Vec<Vec<Finding>>, AuditError> {
    let owners = findings.iter().filter_map(Finding::owner).collect();
    let vnis = objects::vnis(conn, &owners).await?;
    let mut by_network: BTreeMap<Option<u32>, Vec<Finding>> = BTreeMap::new();
    for finding in findings {
        let vni = finding.owner().and_then(|owner| vnis.get(&owner).copied());
        by_network.entry(vni).or_default().push(finding);
    }
    Ok(by_network.into_values().flat_map(|all| all.chunks(BATCH).map(<[_]>::to_vec).collect::<Vec<_>>()).collect())
}

/// Sets right what is still wrong, in the caller's transaction; returns what was. What no audit
/// repeats under the locks is not touched.
pub async fn repair(conn: &mut AsyncPgConnection, findings: &[Finding]) -> Result<Vec<Finding>, AuditError> {
    let owners: BTreeSet<Owner> = findings.iter().filter_map(Finding::owner).collect();
    let vnis: BTreeSet<u32> = objects::vnis(conn, &owners).await?.into_values().collect();
    entries::lock_networks(conn, &vnis.into_iter().collect::<Vec<_>>()).await?;
    objects::lock(conn, &owners).await?;
    let compiled = objects::compile_all(conn, &owners).await?;
    let key = |finding: &Finding| match finding {
        Finding::Left(key) => Some(key.clone()),
        _ => None,
    };
    let mut still = compare(conn, &compiled, &findings.iter().filter_map(key).collect()).await?;
    still.retain(|finding| findings.contains(finding));
    entries::apply(conn, &still.iter().map(Finding::write).collect::<Vec<_>>()).await?;
    Ok(still)
}
