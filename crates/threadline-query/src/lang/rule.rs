//! What a search may say about the contract: `contract:violated`, `rule:secret.jwt`. The ids and bits are those of the contract
//! crate, which this module, being built on its own by a fuzz target, cannot name; a test of the hub compares them.

use std::fmt;

/// How a record stands to the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was checked and breaks no rule.
    Ok,
    /// It breaks a rule.
    Violated,
    /// It was not checked.
    Unchecked,
    /// It was put into quarantine.
    Quarantined,
    /// Something in it was masked.
    Redacted,
}

const STANDINGS: [(&str, Standing); 5] = [
    ("ok", Standing::Ok),
    ("violated", Standing::Violated),
    ("unchecked", Standing::Unchecked),
    ("quarantined", Standing::Quarantined),
    ("redacted", Standing::Redacted),
];

/// Ids of rules, and of groups of them, with their bits of the `verdict` column.
pub const RULES: &[(&str, i64)] = &[
    ("event.unknown", 1 << 8),
    ("attribute.missing", 1 << 9),
    ("attribute.type", 1 << 10),
    ("attribute.value", 1 << 11),
    ("attribute.deprecated", 1 << 12),
    ("attribute.unknown", 1 << 13),
    ("severity.range", 1 << 14),
    ("trace.missing", 1 << 15),
    ("resource.missing", 1 << 16),
    ("limit.attributes", 1 << 17),
    ("limit.value", 1 << 18),
    ("text.control", 1 << 19),
    ("secret.attribute", 1 << 20),
    ("secret.jwt", 1 << 21),
    ("secret.bearer", 1 << 22),
    ("secret.card", 1 << 23),
    ("secret.private_key", 1 << 24),
    ("secret.connection_string", 1 << 25),
    ("attribute.*", 0b11_1110 << 8),
    ("limit.*", 0b11 << 17),
    ("secret.*", 0b11_1111 << 20),
];

impl Standing {
    pub(super) fn parse(text: &str) -> Option<Standing> {
        STANDINGS.iter().find(|(name, _)| *name == text).map(|(_, standing)| *standing)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STANDINGS.iter().find(|(_, standing)| standing == self).map_or("", |(name, _)| name))
    }
}

/// The id as the table has it.
pub(super) fn known(id: &str) -> Option<&'static str> {
    RULES.iter().find(|(name, _)| *name == id).map(|(name, _)| *name)
}
