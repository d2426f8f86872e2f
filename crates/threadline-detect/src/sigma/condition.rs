//! Conditions over named selections (specification, "Condition"): `and`, `or`, `not`, brackets, `1 of x*`, `all of them`.
//! Correlations of the temporal kinds use the same language over names of rules.

use std::fmt;

use threadline_model::yaml::{Fault, Result};

/// Tokens of a condition at most.
const TOKENS_MAX: usize = 2000;
/// How deep brackets may lie in one another.
const DEPTH_MAX: usize = 64;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// One of them.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// A selection.
    Name(String),
    /// `1 of pattern` or `all of pattern`; `them` is `*`. Names that begin with `_` only match patterns that do.
    Of {
        /// All, not one.
        all: bool,
        /// Name with `*`.
        pattern: String,
    },
}

impl Condition {
    /// Reads a condition.
    pub(crate) fn parse(text: &str, line: usize) -> Result<Condition> {
        if text.contains('|') {
            return Err(Fault::new(
                line,
                "aggregations behind `|` are no part of Sigma 2: write a correlation (`correlation:`) instead",
            ));
        }
        let tokens = tokens(text, line)?;
        let mut parser = Parser { tokens: &tokens, at: 0, line };
        let condition = parser.or(0)?;
        match parser.peek() {
            None => Ok(condition),
            Some(token) => {
                Err(Fault::new(line, format!("`{token}` stands where `and`, `or` or the end belongs")))
            }
        }
    }

    /// Names in order of appearance.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect(&mut names);
        names
    }

    fn collect<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Condition::And(parts) | Condition::Or(parts) => parts.iter().for_each(|part| part.collect(names)),
            Condition::Not(part) => part.collect(names),
            Condition::Name(name) if !names.contains(&name.as_str()) => names.push(name),
            _ => {}
        }
    }

    /// The condition with `1 of` and `all of` written out over names.
    ///
    /// # Errors
    /// A pattern that none of them fits.
    pub(crate) fn written_out<'n>(
        &self,
        names: impl Iterator<Item = &'n str> + Clone,
        line: usize,
    ) -> Result<Condition> {
        let all = |parts: &[Condition]| -> Result<Vec<Condition>> {
            parts.iter().map(|part| part.written_out(names.clone(), line)).collect()
        };
        Ok(match self {
            Condition::And(parts) => Condition::And(all(parts)?),
            Condition::Or(parts) => Condition::Or(all(parts)?),
            Condition::Not(part) => Condition::Not(Box::new(part.written_out(names, line)?)),
            Condition::Name(name) => Condition::Name(name.clone()),
            Condition::Of { all, pattern } => {
                let fitting: Vec<Condition> = names
                    .filter(|name| fits(pattern, name))
                    .map(|name| Condition::Name(name.to_owned()))
                    .collect();
                if fitting.is_empty() {
                    let what = format!("`of {pattern}`: there is nothing named so; name what it is to fit");
                    return Err(Fault::new(line, what));
                }
                one_or(fitting, if *all { Condition::And } else { Condition::Or })
            }
        })
    }

    /// Whether there is a `not` in it.
    pub fn negates(&self) -> bool {
        match self {
            Condition::And(parts) | Condition::Or(parts) => parts.iter().any(Condition::negates),
            Condition::Not(_) => true,
            _ => false,
        }
    }

    /// Its truth, given that of names. One with `of` is written out first.
    pub fn holds(&self, name: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Condition::And(parts) => parts.iter().all(|part| part.holds(name)),
            Condition::Or(parts) => parts.iter().any(|part| part.holds(name)),
            Condition::Not(part) => !part.holds(name),
            Condition::Name(own) => name(own),
            Condition::Of { .. } => false,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |parts: &[Condition], word: &str| {
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Condition::And(parts) => f.write_str(&join(parts, " and ")),
            Condition::Or(parts) => f.write_str(&join(parts, " or ")),
            Condition::Not(part) => write!(f, "not {part}"),
            Condition::Name(name) => f.write_str(name),
            Condition::Of { all, pattern } => write!(f, "{} of {pattern}", if *all { "all" } else { "1" }),
        }
    }
}

/// Whether a selection's name fits the pattern of an `of`.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('_') && !pattern.starts_with('_') {
        return false;
    }
    super::pattern::Pattern::parse(pattern).matches(name)
}

fn tokens(text: &str, line: usize) -> Result<Vec<&str>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '.');
        let end = if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, after) = rest.split_at(end);
        if !word(first) && !matches!(first, '(' | ')') {
            return Err(Fault::new(line, format!("`{first}` cannot stand in a condition")));
        }
        tokens.push(token);
        if tokens.len() > TOKENS_MAX {
            return Err(Fault::new(
                line,
                format!("a condition has more than {TOKENS_MAX} words: split the rule"),
            ));
        }
        rest = after.trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    at: usize,
    line: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Result<Condition> {
        if depth > DEPTH_MAX {
            return Err(Fault::new(self.line, format!("a condition is nested more than {DEPTH_MAX} deep")));
        }
        let mut parts = vec![self.and(depth)?];
        while self.take("or") {
            parts.push(self.and(depth)?);
        }
        Ok(one_or(parts, Condition::Or))
    }

    fn and(&mut self, depth: usize) -> Result<Condition> {
        let mut parts = vec![self.not(depth)?];
        while self.take("and") {
            parts.push(self.not(depth)?);
        }
        Ok(one_or(parts, Condition::And))
    }

    fn not(&mut self, depth: usize) -> Result<Condition> {
        let mut odd = false;
        while self.take("not") {
            odd = !odd;
        }
        let operand = self.operand(depth)?;
        Ok(if odd { Condition::Not(Box::new(operand)) } else { operand })
    }

    fn operand(&mut self, depth: usize) -> Result<Condition> {
        let fault = |what: String| Err(Fault::new(self.line, what));
        let Some(token) = self.peek() else {
            return fault("a condition ends where a selection's name belongs".to_owned());
        };
        self.at += 1;
        if token == "(" {
            let inner = self.or(depth + 1)?;
            return if self.take(")") {
                Ok(inner)
            } else {
                Err(Fault::new(self.line, "a bracket is not closed in the condition"))
            };
        }
        let next_is_of = self.peek().is_some_and(|token| token.eq_ignore_ascii_case("of"));
        if next_is_of {
            self.at += 1;
            let all = match token.to_ascii_lowercase().as_str() {
                "1" | "any" => false,
                "all" => true,
                _ => return fault(format!("`{token} of`: write `1 of`, `any of` or `all of`")),
            };
            let Some(pattern) = self.peek().filter(|token| !matches!(*token, "(" | ")")) else {
                return fault("`of` needs `them` or a name with `*`".to_owned());
            };
            self.at += 1;
            let pattern = if pattern.eq_ignore_ascii_case("them") { "*" } else { pattern };
            return Ok(Condition::Of { all, pattern: pattern.to_owned() });
        }
        if token == ")" || ["and", "or", "of"].iter().any(|word| token.eq_ignore_ascii_case(word)) {
            return fault(format!("`{token}` stands where a selection's name belongs"));
        }
        Ok(Condition::Name(token.to_owned()))
    }
}

fn one_or(mut parts: Vec<Condition>, many: fn(Vec<Condition>) -> Condition) -> Condition {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            many(parts)
        }
        None => many(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        for (text, want) in [
            ("a", "a"),
            ("a and b or c", "((a and b) or c)"),
            ("a and (b or not c)", "(a and (b or not c))"),
            ("not not a", "a"),
            ("NOT a AND b", "(not a and b)"),
            ("1 of sel* and all of them", "(1 of sel* and all of *)"),
            ("any of a", "1 of a"),
            ("notepad or orange", "(notepad or orange)"),
            ("sel-1", "sel-1"),
        ] {
            assert_eq!(Condition::parse(text, 1).unwrap().to_string(), want, "{text}");
        }
        for (text, want) in [
            ("a | count() > 5", "correlation"),
            ("a and", "ends where"),
            ("(a", "not closed"),
            ("a b", "stands where `and`"),
            ("3 of a*", "1 of"),
            ("1 of", "needs `them`"),
            ("a & b", "cannot stand"),
            ("", "ends where"),
            ("and a", "selection's name"),
        ] {
            let fault = Condition::parse(text, 1).unwrap_err().what;
            assert!(fault.contains(want), "{text}: {fault}");
        }
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        assert!(Condition::parse(&deep, 1).is_err());
    }

    #[test]
    fn hidden_names_fit_hidden_patterns_only() {
        for (pattern, name, want) in [
            ("*", "sel", true),
            ("*", "_sel", false),
            ("_s*", "_sel", true),
            ("sel_*", "sel_a", true),
            ("sel*", "fil", false),
        ] {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c ()|*1ofnt]{0,40}") {
            let _ = Condition::parse(&text, 1);
        }
    }
}
