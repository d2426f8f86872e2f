//! Texts with wildcards: `*` any text, `?` any one character, `\` before either or before itself for the character.

use std::fmt;

use crate::text::fold;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    /// The text itself.
    Text(String),
    /// Any text, also none.
    Any,
    /// Any one character.
    One,
    /// `%name%` under the modifier `expand`, until a pipeline replaces it.
    Placeholder(String),
}

/// A text with wildcards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pattern(pub Vec<Piece>);

/// How a pattern compares, where it is one of the simple kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// Equal to the text.
    Equals(&'a str),
    /// Has the text at its start.
    Starts(&'a str),
    /// Has the text at its end.
    Ends(&'a str),
    /// Has the text somewhere.
    Contains(&'a str),
    /// Matches any text.
    Anything,
    /// More than one wildcard; the longest text in it, which every match contains.
    Wild(&'a str),
}

impl Pattern {
    /// Reads wildcards and escapes (specification, "Wildcards" and "Escaping").
    pub fn parse(text: &str) -> Pattern {
        let mut pieces = Pattern::default();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\\' => match chars.peek() {
                    Some(&next @ ('*' | '?' | '\\')) => {
                        chars.next();
                        pieces.push_char(next);
                    }
                    _ => pieces.push_char('\\'),
                },
                '*' => pieces.push(Piece::Any),
                '?' => pieces.push(Piece::One),
                char => pieces.push_char(char),
            }
        }
        pieces
    }

    /// A text without wildcards.
    pub fn literal(text: impl Into<String>) -> Pattern {
        let text = text.into();
        Pattern(if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] })
    }

    fn push_char(&mut self, char: char) {
        if let Some(Piece::Text(text)) = self.0.last_mut() {
            text.push(char);
        } else {
            self.0.push(Piece::Text(char.into()));
        }
    }

    /// Appends a part; texts join, `**` is `*`.
    pub(crate) fn push(&mut self, piece: Piece) {
        match (self.0.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.push_str(&more),
            (Some(Piece::Any), Piece::Any) => {}
            (_, Piece::Text(text)) if text.is_empty() => {}
            (_, piece) => self.0.push(piece),
        }
    }

    /// `*` in front, unless there is one.
    pub(crate) fn open_front(&mut self) {
        if self.0.first() != Some(&Piece::Any) {
            self.0.insert(0, Piece::Any);
        }
    }

    /// `*` behind, unless there is one.
    pub(crate) fn open_back(&mut self) {
        if self.0.last() != Some(&Piece::Any) {
            self.0.push(Piece::Any);
        }
    }

    /// The text, when there are no wildcards or placeholders.
    pub fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The first placeholder's name.
    pub fn placeholder(&self) -> Option<&str> {
        self.0.iter().find_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Takes `%name%` in texts for placeholders (modifier `expand`).
    pub(crate) fn expand(&self) -> Pattern {
        let mut out = Pattern::default();
        for piece in &self.0 {
            let Piece::Text(text) = piece else {
                out.push(piece.clone());
                continue;
            };
            let mut rest = text.as_str();
            while let Some((before, name, after)) = placeholder(rest) {
                out.push(Piece::Text(before.to_owned()));
                out.push(Piece::Placeholder(name.to_owned()));
                rest = after;
            }
            out.push(Piece::Text(rest.to_owned()));
        }
        out
    }

    /// In lower case, as [`fold`] has it.
    pub(crate) fn folded(&self) -> Pattern {
        let fold_piece = |piece: &Piece| match piece {
            Piece::Text(text) => Piece::Text(fold(text).into_owned()),
            piece => piece.clone(),
        };
        Pattern(self.0.iter().map(fold_piece).collect())
    }

    /// The kind of comparison.
    pub fn shape(&self) -> Shape<'_> {
        match self.0.as_slice() {
            [] => Shape::Equals(""),
            [Piece::Text(text)] => Shape::Equals(text),
            [Piece::Any] => Shape::Anything,
            [Piece::Text(text), Piece::Any] => Shape::Starts(text),
            [Piece::Any, Piece::Text(text)] => Shape::Ends(text),
            [Piece::Any, Piece::Text(text), Piece::Any] => Shape::Contains(text),
            pieces => {
                let texts = pieces.iter().filter_map(|piece| match piece {
                    Piece::Text(text) => Some(text.as_str()),
                    _ => None,
                });
                Shape::Wild(texts.max_by_key(|text| text.len()).unwrap_or_default())
            }
        }
    }

    /// Whether a text matches, with case. Takes time in proportion to text × wildcards at most.
    pub fn matches(&self, text: &str) -> bool {
        let (mut at, mut piece) = (0, 0);
        // Where to go on after the last `*` when what follows it does not fit.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let step = match self.0.get(piece) {
                Some(Piece::Any) => {
                    retry = Some((piece + 1, at));
                    piece += 1;
                    continue;
                }
                Some(Piece::Text(want)) if rest.starts_with(want.as_str()) => Some(want.len()),
                Some(Piece::One) => rest.chars().next().map(char::len_utf8),
                None if rest.is_empty() => return true,
                _ => None,
            };
            match (step, retry) {
                (Some(step), _) => {
                    at += step;
                    piece += 1;
                }
                (None, Some((after, from))) => {
                    let Some(char) = text.get(from..).and_then(|rest| rest.chars().next()) else {
                        return false;
                    };
                    let from = from + char.len_utf8();
                    retry = Some((after, from));
                    (piece, at) = (after, from);
                }
                (None, None) => return false,
            }
        }
    }
}

/// The first `%name%`: what is before it, the name, what is after.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('%')?;
    let (name, after) = rest.split_once('%')?;
    let good = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    good.then_some((before, name, after))
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Any => f.write_str("*")?,
                Piece::One => f.write_str("?")?,
                Piece::Placeholder(name) => write!(f, "%{name}%")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_wildcards_are_read() {
        for (text, matching, other) in [
            (r"a*c", vec!["ac", "abc", "aXXc"], vec!["ab", "abcd", "xac"]),
            (r"a?c", vec!["abc", "aéc"], vec!["ac", "abbc"]),
            (r"a\*c", vec!["a*c"], vec!["abc"]),
            (r"a\\*", vec![r"a\", r"a\b"], vec!["a*"]),
            (r"a\\\*", vec![r"a\*"], vec![r"a\b"]),
            (r"C:\Windows\?", vec![r"C:\Windows?"], vec![r"C:\Windows\x"]),
            (r"C:\Win*", vec![r"C:\Windows"], vec![r"C:Win"]),
            ("*a*b*c*", vec!["abc", "xaybzc", "aabbcc"], vec!["acb", "ab"]),
            ("*ab", vec!["ab", "aab", "abab"], vec!["aba"]),
            ("*a?b", vec!["aab", "xaxb", "aaxb"], vec!["ab"]),
            ("", vec![""], vec!["a"]),
            ("**", vec!["", "x"], vec![]),
        ] {
            let pattern = Pattern::parse(text);
            for yes in matching {
                assert!(pattern.matches(yes), "{text} {yes}");
            }
            for no in other {
                assert!(!pattern.matches(no), "{text} {no}");
            }
        }
    }

    #[test]
    fn placeholders_are_found() {
        let pattern = Pattern::parse("a%x%b*%y%").expand();
        assert_eq!(pattern.placeholder(), Some("x"));
        assert_eq!(pattern.0.len(), 5);
        assert_eq!(Pattern::parse("100%").expand().placeholder(), None);
        assert_eq!(Pattern::parse("%a b%").expand().placeholder(), None);
    }

    proptest::proptest! {
        /// Against a regular expression that means the same.
        #[test]
        fn wildcards_mean_what_they_say(pattern in "[ab*?]{0,8}", text in "[abé]{0,10}") {
            let regex = pattern.chars().fold(String::from("(?s)^"), |regex, char| {
                regex + &match char { '*' => ".*".to_owned(), '?' => ".".to_owned(), char => char.to_string() }
            }) + "$";
            let want = regex::Regex::new(&regex).unwrap().is_match(&text);
            proptest::prop_assert_eq!(Pattern::parse(&pattern).matches(&text), want);
        }
    }
}
