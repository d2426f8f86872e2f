//! Matchers of labels, as Alertmanager writes them: `severity="high"`, `service!="cart"`, `team=~"a|b"`, `team!~"c.*"`.
//! A label that is not there is the empty text. Regular expressions match the whole value.

use std::fmt;

use regex::Regex;

use super::Labels;

/// Longest matcher, bytes.
const TEXT_MAX: usize = 4096;
/// Memory of a compiled regular expression at most, bytes: room for hundreds of alternatives, or some Unicode classes.
const REGEX_BYTES_MAX: usize = 256 << 10;

#[derive(Clone, Debug)]
enum Test {
    Is,
    IsNot,
    Matches(Regex),
    MatchesNot(Regex),
}

/// A condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: Box<str>,
    value: Box<str>,
    test: Test,
}

/// Why a matcher was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatcherError(String);

impl fmt::Display for MatcherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MatcherError {}

impl Matcher {
    /// Reads `name="value"`, with `=`, `!=`, `=~` or `!~`; quotes may be left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Matcher, MatcherError> {
        let fault = |what: String| MatcherError(format!("the matcher `{text}` {what}"));
        if text.len() > TEXT_MAX {
            return Err(MatcherError(format!("a matcher is longer than {TEXT_MAX} bytes")));
        }
        let at = text.find(['=', '!']).ok_or_else(|| fault("needs one of =, !=, =~, !~".to_owned()))?;
        let (name, rest) = text.split_at(at);
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
        let operator = operator.ok_or_else(|| fault("needs one of =, !=, =~, !~".to_owned()))?;
        let value = rest.get(operator.len()..).unwrap_or_default().trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let name = name.trim();
        if name.is_empty() {
            return Err(fault("needs a label before the operator".to_owned()));
        }
        let regex = || {
            let built =
                regex::RegexBuilder::new(&format!("^(?s:{value})$")).size_limit(REGEX_BYTES_MAX).build();
            built.map_err(|error| fault(format!("has a regular expression that is none: {error}")))
        };
        let test = match operator {
            "=~" => Test::Matches(regex()?),
            "!~" => Test::MatchesNot(regex()?),
            "!=" => Test::IsNot,
            _ => Test::Is,
        };
        Ok(Matcher { name: name.into(), value: value.into(), test })
    }

    /// Whether labels fulfil it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).map_or("", |value| value);
        match &self.test {
            Test::Is => value == &*self.value,
            Test::IsNot => value != &*self.value,
            Test::Matches(regex) => regex.is_match(value),
            Test::MatchesNot(regex) => !regex.is_match(value),
        }
    }
}

/// Whether labels fulfil all.
pub(super) fn all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels))
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.test {
            Test::Is => "=",
            Test::IsNot => "!=",
            Test::Matches(_) => "=~",
            Test::MatchesNot(_) => "!~",
        };
        write!(f, "{}{operator}\"{}\"", self.name, self.value)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.to_string() == other.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_match_as_alertmanager_s() {
        let labels: Labels = [("severity", "high"), ("team", "pay")].map(|(k, v)| (k.into(), v.into())).into();
        for (text, want) in [
            ("severity=\"high\"", true),
            ("severity = high", true),
            ("severity!=high", false),
            ("severity=~\"hi|high\"", true),
            ("severity=~hi", false),
            ("severity!~\"hi\"", true),
            ("absent=\"\"", true),
            ("absent!=\"\"", false),
            ("absent=~\".*\"", true),
            ("a=b=c", false),
        ] {
            let matcher = Matcher::parse(text).unwrap();
            assert_eq!(matcher.matches(&labels), want, "{text}");
            assert_eq!(Matcher::parse(&matcher.to_string()).unwrap(), matcher);
        }
        for (text, want) in [
            ("severity", "needs one of"),
            ("=x", "needs a label"),
            ("a=~(", "that is none"),
            ("a!x", "needs one of"),
            ("a=~\\w{500}", "size limit"),
        ] {
            assert!(Matcher::parse(text).unwrap_err().to_string().contains(want), "{text}");
        }
    }
}
