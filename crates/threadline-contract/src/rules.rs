//! The rules: ids, bits, weights, and what may be done about a record that breaks one.

use std::fmt;

macro_rules! rules {
    ($($rule:ident, $bit:literal, $id:literal, $weight:literal, $what:literal;)*) => {
        /// One way to break the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $what] $rule = $bit,)*
        }

        impl Rule {
            /// All rules, by bit.
            pub const ALL: &[Rule] = &[$(Rule::$rule),*];

            /// The id, as in searches and settings.
            pub const fn id(self) -> &'static str {
                match self { $(Rule::$rule => $id),* }
            }

            /// How much it counts in a score.
            pub const fn weight(self) -> u32 {
                match self { $(Rule::$rule => $weight),* }
            }

            /// What it says, in one line.
            pub const fn what(self) -> &'static str {
                match self { $(Rule::$rule => $what),* }
            }
        }
    };
}

rules! {
    EventUnknown, 8, "event.unknown", 20, "The event's name is not in the contract.";
    AttributeMissing, 9, "attribute.missing", 40, "An attribute that the event requires is missing.";
    AttributeType, 10, "attribute.type", 30, "An attribute's value is of another type than the contract says.";
    AttributeValue, 11, "attribute.value", 30, "An attribute's value is not in its closed list.";
    AttributeDeprecated, 12, "attribute.deprecated", 10, "An attribute is deprecated.";
    AttributeUnknown, 13, "attribute.unknown", 10, "An attribute is not in the contract. Off unless told otherwise.";
    SeverityRange, 14, "severity.range", 20, "The severity is outside of the event's range.";
    TraceMissing, 15, "trace.missing", 40, "An event of a request has no trace id.";
    ResourceMissing, 16, "resource.missing", 30, "The resource lacks an attribute that every sender must give.";
    LimitAttributes, 17, "limit.attributes", 10, "The record has more attributes than it should.";
    LimitValue, 18, "limit.value", 10, "A value or the body is longer than it should be.";
    TextControl, 19, "text.control", 10, "A text has control or text-direction characters that can forge log lines.";
    SecretAttribute, 20, "secret.attribute", 40, "An attribute holds a secret by its class. It was masked.";
    SecretJwt, 21, "secret.jwt", 40, "A text holds a JSON web token. It was masked.";
    SecretBearer, 22, "secret.bearer", 40, "A text holds an authorization header's credentials. They were masked.";
    SecretCard, 23, "secret.card", 40, "A text holds a payment card's number. It was masked.";
    SecretPrivateKey, 24, "secret.private_key", 40, "A text holds a private key. It was masked.";
    SecretConnectionString, 25, "secret.connection_string", 40, "A text holds a connection string's password. It was masked.";
}

impl Rule {
    /// The bits of all rules.
    pub const BITS: u64 = {
        let mut bits = 0;
        let mut at = 0;
        while at < Rule::ALL.len() {
            bits |= 1 << Rule::ALL[at] as u8;
            at += 1;
        }
        bits
    };

    /// Its bit of the `verdict` column.
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// The rule of this id.
    pub fn parse(id: &str) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.id() == id)
    }

    /// The rules whose bits are set, by bit.
    pub fn of(bits: u64) -> impl Iterator<Item = Rule> {
        Rule::ALL.iter().copied().filter(move |rule| bits & rule.bit() != 0)
    }

    /// What is done where nothing else is said.
    pub fn default_action(self) -> Action {
        if self == Rule::AttributeUnknown { Action::Off } else { Action::Tag }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// What is done with a record that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The rule is not looked at. Secrets are masked all the same.
    Off,
    /// The verdict is kept with the record.
    Tag,
    /// The record is kept and marked: `contract:quarantined` finds it.
    Quarantine,
    /// The record is refused, unless its event is never sampled: security and audit are always kept.
    Reject,
}

impl Action {
    /// All actions.
    pub const ALL: [Action; 4] = [Action::Off, Action::Tag, Action::Quarantine, Action::Reject];

    /// The name, as in settings.
    pub fn name(self) -> &'static str {
        match self {
            Action::Off => "off",
            Action::Tag => "tag",
            Action::Quarantine => "quarantine",
            Action::Reject => "reject",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| action.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_bits_are_apart_from_each_other_and_from_the_host() {
        assert_eq!(Rule::BITS.count_ones() as usize, Rule::ALL.len());
        assert_eq!(Rule::BITS & 0xff, 0, "the low byte is the host's");
        assert_eq!(Rule::BITS >> 62, 0, "the column is signed");
        for rule in Rule::ALL {
            assert_eq!(Rule::parse(rule.id()), Some(*rule));
        }
    }
}
