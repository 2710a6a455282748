//! What a set of security groups comes to on this host: its rows ([`crate::rows`]) in the directions that it is
//! needed for, and what may be said of them, which is their generation and whether all of them are here.

use crate::filters::Need;
use crate::label::{self, LabelPolicies, Meanings};
use crate::render::Claim;
use crate::rows::{Builder, Peers, Rows, SETS, note};
use crate::table::{Key, Value};
use crate::work::Spent;
use mizar_abi::maps::{Epoch, egress, epoch_flag};
use mizar_wire::body::{self, GroupSet, LabelPolicy, Labelled};
use uuid::Uuid;

/// The rules of groups.
pub(crate) trait Rules {
    /// What a group lets in.
    fn ingress(&self, group: u32) -> Option<&body::Group>;
    /// What a group lets out.
    fn egress(&self, group: u32) -> Option<&body::Group>;
}

/// The rows of a set in both directions, as far as this host needs them.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    egress: Rows,
    ingress: Rows,
    /// Until all rules are there it waits: then a denial is not the last word. It has a generation as soon as
    /// all groups are.
    epoch: Option<Epoch>,
    /// What it waits for, or what is wrong with it. The other rules are in force.
    problem: Option<String>,
    /// What it took to work it out.
    spent: Spent<Meant>,
}

/// The meaning of a label policy in one direction; true: of what goes out.
pub(crate) type Meant = (bool, Uuid);

impl Draft {
    /// Of a set that has no rows for this reason.
    pub fn nothing(problem: String) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }

    /// What it took to work it out.
    pub const fn spent(&self) -> &Spent<Meant> {
        &self.spent
    }

    /// What it takes of its network's budget.
    pub fn cost(&self) -> usize {
        self.egress.cost() + self.ingress.cost()
    }

    /// One that costs so much, for tests.
    #[cfg(test)]
    pub fn of_rows(cost: u32) -> Self {
        let one = |identity| {
            let mut all = crate::allowed::Allowed::default();
            all.add(None, 0, u16::MAX);
            (identity, all)
        };
        Self { ingress: Rows { allowed: (0..cost).map(one).collect(), ..Rows::default() }, ..Self::default() }
    }

    /// The map entries, and why they are not all.
    pub fn into_claims(self, set: u32) -> (Vec<Claim>, Option<String>) {
        let rows = self.egress.claims(egress(set)).chain(self.ingress.claims(set));
        let epoch = self.epoch.map(|epoch| Claim::new(Key::Epoch(set), Value::Epoch(epoch)));
        (rows.chain(epoch).collect(), self.problem)
    }
}

/// Drafts the rows of a set. A group that is not there takes no other group's rules with it; rules that
/// take too long to work out take all.
pub(crate) fn draft<'p>(
    need: &Need<'_>,
    context: &'p (impl Peers + Rules + LabelPolicies),
    meanings: &mut Meanings<'p>,
) -> Draft {
    let most = meanings.most();
    let too_much = || Draft::nothing(format!("takes more than {most} steps to work out: its rules name too much"));
    let mut spent = Spent::default();
    let draft = try_draft(need, context, meanings, &mut spent).unwrap_or_else(too_much);
    Draft { spent, ..draft }
}

/// `None`: it takes too long.
fn try_draft<'p>(
    need: &Need<'_>,
    context: &'p (impl Peers + Rules + LabelPolicies),
    meanings: &mut Meanings<'p>,
    spent: &mut Spent<Meant>,
) -> Option<Draft> {
    let GroupSet { number, groups, labels } = need.set;
    if *number == 0 || *number >= SETS {
        return Some(Draft::nothing(format!("number {number} of a set of security groups is not in 1 to 2^31 - 1")));
    }
    let mut draft = Draft::default();
    let mut flags = 0;
    let project = labels.as_deref().map(|labelled| labelled.project);
    let outward = project.map_or(Some(0), |project| context.egress_generation(project)).filter(|_| need.egress);
    let inward = project.map_or(Some(0), |project| context.ingress_generation(project)).filter(|_| need.ingress);
    if let Some(project) = project
        && (outward.is_some(), inward.is_some()) != (need.egress, need.ingress)
    {
        // Whether any isolates it is not known, so in that direction nothing passes.
        draft.problem = Some(format!("waits for the label policies of project number {project}"));
    }
    // Whoever misses one of these cannot say which generation it is.
    let mut heard = draft.problem.is_none();
    // Where one direction has heard of more changes than the other, flows are not stamped with them yet.
    let labelled = outward.into_iter().chain(inward).min().unwrap_or(0);
    let mut sums = Vec::with_capacity(2);
    // Label policies may isolate a port with labels, and they are stateful. Else one group that is makes the port so.
    // While groups are missing nobody knows; then it is for whoever writes this to keep what was said before.
    let mut stateless = labels.is_none() && !groups.is_empty();
    if outward.is_some() {
        let there = known(groups, |group| context.egress(group), &mut draft.problem);
        heard &= there.len() == groups.len();
        stateless &= there.len() == groups.len() && there.iter().all(|group| group.stateless);
        sums.push(generation(&there));
        let policies = |project| context.egress_policies(project);
        let rows = rows(&there, labels.as_deref(), policies, context, meanings, &mut draft.problem);
        add_spent(spent, true, rows.as_ref(), meanings.most());
        draft.egress = rows?;
        flags = if draft.egress.ask_identity() { epoch_flag::NEED_ID } else { 0 };
    }
    if inward.is_some() {
        let there = known(groups, |group| context.ingress(group), &mut draft.problem);
        heard &= there.len() == groups.len();
        stateless &= there.len() == groups.len() && there.iter().all(|group| group.stateless);
        sums.push(generation(&there));
        let policies = |project| context.ingress_policies(project);
        let rows = rows(&there, labels.as_deref(), policies, context, meanings, &mut draft.problem);
        add_spent(spent, false, rows.as_ref(), meanings.most());
        draft.ingress = rows?;
    }
    if draft.problem.is_some() {
        flags |= epoch_flag::WAITS;
    }
    if stateless {
        flags |= epoch_flag::STATELESS;
    }
    let n = sums.into_iter().min().filter(|_| heard).map_or(0, |sum| sum.wrapping_add(labelled).max(1));
    draft.epoch = Some(Epoch { n, since_ms: 0, flags });
    Some(draft)
}

/// Adds what the rows of one direction took; those that were never done took all that there was.
fn add_spent(to: &mut Spent<Meant>, egress: bool, rows: Option<&Rows>, most: usize) {
    let Some(Rows { spent, .. }) = rows else {
        to.own += most;
        return;
    };
    to.own += spent.own;
    to.shared.extend(spent.shared.iter().map(|(policy, steps)| ((egress, *policy), *steps)));
}

/// The rows of one direction: of label policies, if any isolates the port, else of its groups. `None`: it
/// takes too long.
fn rows<'p, P: Iterator<Item = &'p LabelPolicy>>(
    groups: &[&body::Group],
    labels: Option<&Labelled>,
    policies: impl Fn(u32) -> P,
    context: &'p (impl Peers + LabelPolicies),
    meanings: &mut Meanings<'p>,
    problem: &mut Option<String>,
) -> Option<Rows> {
    let mut builder = Builder::new(meanings.most());
    let mut add = |port: &Labelled| label::add(&mut builder, port, policies(port.project), context, meanings, problem);
    let isolated = labels.is_some_and(&mut add);
    if !isolated {
        builder.add_rules(groups.iter().flat_map(|group| &group.rules), context, problem);
    }
    builder.finish()
}

/// Those groups that are there; takes note of the first that is not.
fn known<'g>(
    groups: &[u32],
    find: impl Fn(u32) -> Option<&'g body::Group>,
    problem: &mut Option<String>,
) -> Vec<&'g body::Group> {
    let mut there = Vec::with_capacity(groups.len());
    for group in groups {
        match find(*group) {
            Some(group) => there.push(group),
            None => note(problem, || format!("waits for the rules of security group number {group}")),
        }
    }
    there
}

/// Rises whenever that of any group rises. 0 is what a host has that knows none.
fn generation(groups: &[&body::Group]) -> u32 {
    groups.iter().fold(1, |sum, group| sum.wrapping_add(group.generation))
}
