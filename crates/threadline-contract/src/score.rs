//! How well each service keeps the contract: counts per service and version, one example per rule, a score. In memory,
//! from the start of the process on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::finding::Finding;
use crate::rules::Rule;

/// Services and versions that are told apart; further ones are counted together.
const SENDERS_MAX: usize = 1024;
/// Characters of a service's name or version.
const NAME_CHARS_MAX: usize = 128;
/// Where the rest is counted.
const OTHERS: &str = "(others)";

/// A service and its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender {
    /// `service.name`; empty when it was not sent.
    pub service: String,
    /// `service.version`; empty when it was not sent.
    pub version: String,
}

impl Sender {
    pub(crate) fn new(service: &str, version: &str) -> Sender {
        let cut = |text: &str| text.chars().take(NAME_CHARS_MAX).collect();
        Sender { service: cut(service), version: cut(version) }
    }
}

/// What is known of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// Records that break it.
    pub records: u64,
    /// One finding.
    pub example: Option<Finding>,
}

/// What is known of a sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that were checked.
    pub records: u64,
    /// Records that break some rule.
    pub violated: u64,
    /// Records that went into quarantine.
    pub quarantined: u64,
    /// By rule.
    pub rules: BTreeMap<Rule, RuleCount>,
}

impl Tally {
    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Tally) {
        self.records += other.records;
        self.violated += other.violated;
        self.quarantined += other.quarantined;
        for (rule, count) in other.rules {
            let own = self.rules.entry(rule).or_default();
            own.records += count.records;
            own.example = own.example.take().or(count.example);
        }
    }

    /// Bits of the rules of which there is an example.
    pub(crate) fn examples(&self) -> u64 {
        self.rules
            .iter()
            .filter(|(_, count)| count.example.is_some())
            .fold(0, |bits, (rule, _)| bits | rule.bit())
    }

    /// 0 to 100: the share of records that keep each rule, weighted by the rules that are looked at.
    pub fn score(&self, enabled: impl Fn(Rule) -> bool) -> f64 {
        let rules = || Rule::ALL.iter().filter(|rule| enabled(**rule));
        let whole: f64 = rules().map(|rule| f64::from(rule.weight())).sum();
        if self.records == 0 || whole == 0.0 {
            return 100.0;
        }
        let lost: f64 = rules()
            .map(|rule| {
                let broken = self.rules.get(rule).map_or(0, |count| count.records);
                f64::from(rule.weight()) * broken as f64 / self.records as f64
            })
            .sum();
        100.0 * (1.0 - lost / whole)
    }
}

/// All senders.
#[derive(Debug, Default)]
pub struct Board {
    senders: Mutex<BTreeMap<Sender, Tally>>,
}

impl Board {
    /// A board with nothing on it.
    pub fn new() -> Board {
        Board::default()
    }

    /// Bits of the rules of which there is an example of this sender.
    pub(crate) fn examples(&self, sender: &Sender) -> u64 {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.get(sender).map_or(0, Tally::examples)
    }

    /// Adds what was counted.
    pub fn add(&self, sender: Sender, tally: Tally) {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let known = senders.len() < SENDERS_MAX || senders.contains_key(&sender);
        let sender = if known { sender } else { Sender::new(OTHERS, "") };
        senders.entry(sender).or_default().merge(tally);
    }

    /// All that was counted, by service and version.
    pub fn all(&self) -> Vec<(Sender, Tally)> {
        let senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.iter().map(|(sender, tally)| (sender.clone(), tally.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_falls_with_weight_and_share() {
        let mut tally = Tally { records: 10, ..Tally::default() };
        let all = |_| true;
        assert_eq!(tally.score(all), 100.0);
        let whole: u32 = Rule::ALL.iter().map(|rule| rule.weight()).sum();
        tally.rules.insert(Rule::SecretJwt, RuleCount { records: 5, example: None });
        let want = 100.0 * (1.0 - 40.0 * 0.5 / f64::from(whole));
        assert!((tally.score(all) - want).abs() < 1e-9);
        assert_eq!(tally.score(|rule| rule != Rule::SecretJwt), 100.0);
        for rule in Rule::ALL {
            tally.rules.insert(*rule, RuleCount { records: 10, example: None });
        }
        assert!(tally.score(all).abs() < 1e-9);
    }

    #[test]
    fn senders_are_bounded() {
        let board = Board::new();
        for at in 0..SENDERS_MAX + 10 {
            board.add(Sender::new(&format!("s{at}"), ""), Tally { records: 1, ..Tally::default() });
        }
        let all = board.all();
        assert_eq!(all.len(), SENDERS_MAX + 1);
        assert_eq!(all.iter().map(|(_, tally)| tally.records).sum::<u64>(), SENDERS_MAX as u64 + 10);
    }
}
