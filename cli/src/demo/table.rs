//! The demo's result for people: a row per kind of exchange, and a line per failure.

use super::matrix::{Means, Outcome, Relation};
use crate::sandbox::progress::seconds;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use std::collections::BTreeMap;
use std::time::Duration;

/// Writes the outcomes as a table.
pub fn render(outcomes: &[Outcome]) -> String {
    let mut groups: BTreeMap<(&str, Relation, Means), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        groups.entry((&outcome.tenant, outcome.trial.relation, outcome.trial.means)).or_default().push(outcome);
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["tenant", "where", "what", "tried", "expected", "as expected", "median time"]);
    for ((tenant, relation, means), group) in groups {
        let good = group.iter().filter(|outcome| outcome.ok).count();
        table.add_row([
            tenant.to_owned(),
            relation.words().to_owned(),
            match means {
                Means::Ping => "ping, 3 times".to_owned(),
                Means::Tcp => "TCP, 100 kB each way".to_owned(),
            },
            group.len().to_string(),
            if relation == Relation::OtherTenant { "no answer" } else { "answer of that port" }.to_owned(),
            if good == group.len() { format!("all {good}") } else { format!("only {good}") },
            seconds(median(group.iter().map(|outcome| outcome.time).collect())),
        ]);
    }
    let mut text = table.to_string();
    for outcome in outcomes.iter().filter(|outcome| !outcome.ok) {
        text += &format!("\nnot as expected: {} to {}: {}", outcome.from, outcome.trial.to, outcome.seen);
    }
    text
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Trial;
    use super::*;

    fn outcome(ok: bool, relation: Relation) -> Outcome {
        let expected = (relation != Relation::OtherTenant).then(|| "red-a2".to_owned());
        Outcome {
            trial: Trial { tenant: 0, from: 0, to: [10, 0, 1, 12].into(), expected, relation, means: Means::Tcp },
            tenant: "red".into(),
            from: "red-a1".into(),
            ok,
            seen: "blue-a2 answered".into(),
            time: Duration::from_millis(3),
        }
    }

    #[test]
    fn a_failure_is_named_below_the_table() {
        let text = render(&[outcome(true, Relation::AcrossHosts), outcome(false, Relation::AcrossHosts)]);
        assert!(text.contains("only 1"), "{text}");
        assert!(text.ends_with("not as expected: red-a1 to 10.0.1.12: blue-a2 answered"), "{text}");
    }

    #[test]
    fn what_must_not_answer_is_expected_not_to() {
        let text = render(&[outcome(true, Relation::OtherTenant)]);
        assert!(text.contains("no answer") && text.contains("all 1"), "{text}");
    }
}
