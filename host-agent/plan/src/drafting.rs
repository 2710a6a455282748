//! Drafts of the rows of sets that changed: what they need may leave others room, or take it.

use crate::filters::Part;
use crate::label::Meanings;
use crate::planner::{Planner, Source};
use crate::policy::{self, Draft};
use crate::work::Spent;
use std::collections::{BTreeMap, BTreeSet};

/// Drafts until it is decided which sets may have their rows. There may be hundreds of sets that want more than
/// all may have together: what cannot be granted, or not with those that are kept, is made again if it is.
#[derive(Debug)]
struct Kept {
    drafts: BTreeMap<u32, Draft>,
    /// What one set may cost, and what all may.
    most: usize,
    left: usize,
}

impl Kept {
    fn new(most: usize, together: usize) -> Self {
        Self { drafts: BTreeMap::new(), most, left: together }
    }

    fn keep(&mut self, set: u32, draft: Draft) {
        let cost = draft.cost();
        if cost <= self.most
            && let Some(left) = self.left.checked_sub(cost)
        {
            self.left = left;
            self.drafts.insert(set, draft);
        }
    }
}

impl Planner {
    /// The drafts of sets that changed, or of which it is decided otherwise now, and that have rows; all of these
    /// are dirty afterwards.
    pub(crate) fn draft_policies(&mut self) -> BTreeMap<u32, Draft> {
        let changed = self.dirty.iter().filter_map(|source| match source {
            Source::Policy(set) => Some(*set),
            Source::Configuration | Source::Entry(_) => None,
        });
        let changed: BTreeSet<u32> = changed.collect();
        if changed.is_empty() {
            return BTreeMap::new();
        }
        let Self { state, budget, work, .. } = self;
        let (state, filters) = (&*state, &state.filters);
        let owner = |set| filters.owner(set);
        let mut meanings = Meanings::new(budget.steps());
        let mut draft = |set| Some(policy::draft(&filters.need(set)?, state, &mut meanings));
        let mut kept = Kept::new(budget.most(), budget.together());
        let mut touched = changed.clone();
        let mut work_out = |set: u32| {
            touched.insert(set);
            let Some(made) = draft(set) else {
                budget.need(set, 0);
                return Spent::default();
            };
            budget.need(set, made.cost());
            let spent = made.spent().clone();
            kept.keep(set, made);
            spent
        };
        // A set of nothing is nobody's, and no work.
        for set in changed.iter().filter(|set| owner(**set).is_none()) {
            work_out(*set);
        }
        let without: Vec<u32> = work.turns(&changed, owner, work_out);
        for set in without {
            budget.need(set, 0);
            touched.insert(set);
            kept.keep(set, Draft::nothing(beyond(owner(set), work.most())));
        }
        touched.extend(budget.decide(|set| filters.networks(set), owner));
        let mut drafts = kept.drafts;
        drafts.retain(|set, _| budget.refusal(*set).is_none());
        for set in &touched {
            if budget.refusal(*set).is_none() && !drafts.contains_key(set) {
                drafts.extend(draft(*set).map(|made| (*set, made)));
            }
        }
        self.touch_policies(touched);
        drafts
    }
}

fn beyond(owner: Option<Part>, most: usize) -> String {
    let whose = match owner {
        Some(Part::Project(project)) => format!("the label policies of project number {project}"),
        Some(Part::Group(group)) => format!("the rules of the sets with security group number {group}"),
        None => "its rules".to_owned(),
    };
    format!(
        "{whose} take more than {most} steps to work out for all sets of this host together, and this set comes after \
         those that took them: fewer rules, peers or exceptions leave it a turn"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_granted_and_more_than_all_may_have_is_not_kept() {
        let mut kept = Kept::new(10, 25);
        for (set, cost) in [(1, 10), (2, 11), (3, 10), (4, 6), (5, 5), (6, 0)] {
            kept.keep(set, Draft::of_rows(cost));
        }
        assert_eq!(kept.drafts.keys().copied().collect::<Vec<_>>(), [1, 3, 5, 6]);
    }
}
