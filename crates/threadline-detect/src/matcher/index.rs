//! Which atoms of a field hold of a value: by hash for equality, by one Aho-Corasick automaton for texts inside,
//! by regular expression only where a text that it requires is there.

use aho_corasick::{AhoCorasick, MatchKind};
use regex_syntax::hir::{Hir, HirKind};
use rustc_hash::FxHashMap;

use super::expr::{Case, Check};
use crate::sigma::pattern::{Piece, Shape};
use crate::text::{fold, fold_into};

/// The number of an atom.
pub(crate) type AtomId = u32;

/// Alternatives of required texts of a regular expression, at most.
const REQUIRED_MAX: usize = 32;
/// Required texts shorter than this are not worth looking for.
const REQUIRED_BYTES_MIN: usize = 3;
/// Values that a memo keeps, and how long they may be.
const MEMO_VALUES_MAX: usize = 8192;
const MEMO_BYTES_MAX: usize = 256;
/// A memo that answers less than one in four of so many questions is left alone for as many again, 16 times.
const MEMO_TRIAL: u32 = 4096;

/// How a text found decides an atom.
#[derive(Clone, Copy, Debug)]
enum Role {
    Holds,
    AtStart,
    AtEnd,
    /// The check itself must be made.
    Verify,
}

/// What is known of atoms of one field.
#[derive(Debug, Default)]
pub(crate) struct FieldIndex {
    present: Vec<AtomId>,
    equals: FxHashMap<Box<str>, Vec<AtomId>>,
    equals_exact: FxHashMap<Box<str>, Vec<AtomId>>,
    automaton: Option<AhoCorasick>,
    /// For each pattern of the automaton.
    roles: Vec<Vec<(AtomId, Role)>>,
    /// Checks made of every value.
    each: Vec<AtomId>,
}

/// A check with what it needs.
#[derive(Debug)]
pub(crate) struct Atom {
    pub(crate) field: u32,
    pub(crate) check: Check,
    pub(crate) regex: Option<regex::Regex>,
    /// Known from the index; otherwise found out when a rule asks.
    pub(crate) indexed: bool,
    /// The other field of a reference.
    pub(crate) other: Option<u32>,
}

/// Collects the atoms of one field.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    index: FieldIndex,
    patterns: Vec<String>,
    by_text: FxHashMap<String, usize>,
}

impl IndexBuilder {
    /// Adds an atom; whether the index will know it.
    pub(crate) fn add(&mut self, id: AtomId, check: &Check) -> bool {
        match check {
            Check::Present => self.index.present.push(id),
            Check::Equals(text, Case::Folded) => {
                self.index.equals.entry(text.as_str().into()).or_default().push(id);
            }
            Check::Equals(text, Case::Exact) => {
                self.index.equals_exact.entry(text.as_str().into()).or_default().push(id);
            }
            Check::Contains(text, Case::Folded) => self.literal(text, id, Role::Holds),
            Check::Starts(text, Case::Folded) => self.literal(text, id, Role::AtStart),
            Check::Ends(text, Case::Folded) => self.literal(text, id, Role::AtEnd),
            Check::Contains(text, _) | Check::Starts(text, _) | Check::Ends(text, _) => {
                self.literal(&fold(text), id, Role::Verify);
            }
            Check::Wild(pattern, _) => match pattern.shape() {
                Shape::Wild(text) if !text.is_empty() => self.literal(&fold(text), id, Role::Verify),
                _ => self.index.each.push(id),
            },
            Check::Regex(source) => match required(source) {
                Some(texts) => texts.iter().for_each(|text| self.literal(text, id, Role::Verify)),
                None => return false,
            },
            Check::Cidr(_) | Check::Compare(..) => self.index.each.push(id),
            Check::FieldRef { .. } | Check::TimePart(..) => return false,
        }
        true
    }

    fn literal(&mut self, text: &str, id: AtomId, role: Role) {
        let next = self.patterns.len();
        let at = *self.by_text.entry(text.to_owned()).or_insert(next);
        if at == next {
            self.patterns.push(text.to_owned());
            self.index.roles.push(Vec::new());
        }
        if let Some(roles) = self.index.roles.get_mut(at) {
            roles.push((id, role));
        }
    }

    pub(crate) fn build(self) -> Result<FieldIndex, String> {
        let mut index = self.index;
        if !self.patterns.is_empty() {
            let built = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&self.patterns);
            index.automaton = Some(built.map_err(|error| format!("too many texts to look for: {error}"))?);
        }
        Ok(index)
    }
}

impl FieldIndex {
    /// Whether no value has any atom: rules keep the field and do not ask for it.
    pub(crate) fn is_empty(&self) -> bool {
        let FieldIndex { present, equals, equals_exact, automaton, roles: _, each } = self;
        present.is_empty()
            && equals.is_empty()
            && equals_exact.is_empty()
            && automaton.is_none()
            && each.is_empty()
    }

    /// Adds the atoms that hold of a value; some more than once.
    pub(crate) fn find(&self, atoms: &[Atom], text: &str, buffer: &mut String, out: &mut Vec<AtomId>) {
        out.extend_from_slice(&self.present);
        let folded = fold_into(text, buffer);
        if let Some(found) = self.equals.get(folded) {
            out.extend_from_slice(found);
        }
        if !self.equals_exact.is_empty()
            && let Some(found) = self.equals_exact.get(text)
        {
            out.extend_from_slice(found);
        }
        if let Some(automaton) = &self.automaton {
            for found in automaton.find_overlapping_iter(folded) {
                let roles = self.roles.get(found.pattern().as_usize()).map_or(&[][..], Vec::as_slice);
                for (id, role) in roles {
                    let holds = match role {
                        Role::Holds => true,
                        Role::AtStart => found.start() == 0,
                        Role::AtEnd => found.end() == folded.len(),
                        Role::Verify => !out.contains(id) && passes(atoms, *id, text, folded),
                    };
                    if holds {
                        out.push(*id);
                    }
                }
            }
        }
        out.extend(self.each.iter().filter(|id| passes(atoms, **id, text, folded)));
    }
}

fn passes(atoms: &[Atom], id: AtomId, text: &str, folded: &str) -> bool {
    atoms.get(id as usize).is_some_and(|atom| atom.check.passes(text, folded, atom.regex.as_ref()))
}

/// Answers for values seen before.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    known: FxHashMap<Box<str>, Box<[AtomId]>>,
    asked: u32,
    answered: u32,
    rest: u32,
}

impl Memo {
    /// The atoms that hold of a value, each once, appended to `out`.
    pub(crate) fn find(
        &mut self,
        index: &FieldIndex,
        atoms: &[Atom],
        text: &str,
        buffer: &mut String,
        out: &mut Vec<AtomId>,
    ) {
        if self.rest > 0 || text.len() > MEMO_BYTES_MAX {
            self.rest = self.rest.saturating_sub(1);
            index.find(atoms, text, buffer, out);
            return;
        }
        self.asked += 1;
        if let Some(found) = self.known.get(text) {
            self.answered += 1;
            out.extend_from_slice(found);
            return;
        }
        let start = out.len();
        index.find(atoms, text, buffer, out);
        let found = out.split_off(start);
        let mut found: Vec<AtomId> = found;
        found.sort_unstable();
        found.dedup();
        out.extend_from_slice(&found);
        if self.known.len() >= MEMO_VALUES_MAX {
            self.known.clear();
        }
        self.known.insert(text.into(), found.into_boxed_slice());
        if self.asked >= MEMO_TRIAL {
            if self.answered < self.asked / 4 {
                self.rest = MEMO_TRIAL * 16;
                self.known = FxHashMap::default();
            }
            (self.asked, self.answered) = (0, 0);
        }
    }
}

/// Texts in lower case of which one is in everything that a regular expression matches, where that is known.
fn required(source: &str) -> Option<Vec<String>> {
    let hir = regex_syntax::parse(source).ok()?;
    let texts = texts(&hir)?;
    texts.iter().all(|text| text.len() >= REQUIRED_BYTES_MIN).then_some(texts)
}

fn texts(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            Some(vec![fold(text).into_owned()])
        }
        HirKind::Capture(capture) => texts(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => texts(&repetition.sub),
        HirKind::Concat(parts) => {
            // Runs of single characters, with or without case, are texts, too.
            let mut best: Option<Vec<String>> = None;
            let mut run = String::new();
            let better = |best: &mut Option<Vec<String>>, new: Vec<String>| {
                let shortest = |texts: &[String]| texts.iter().map(String::len).min().unwrap_or(0);
                if best.as_ref().is_none_or(|best| shortest(&new) > shortest(best)) {
                    *best = Some(new);
                }
            };
            for part in parts {
                if let Some(text) = one_text(part) {
                    run.push_str(&text);
                    continue;
                }
                if !run.is_empty() {
                    better(&mut best, vec![std::mem::take(&mut run)]);
                }
                if let Some(found) = texts(part) {
                    better(&mut best, found);
                }
            }
            if !run.is_empty() {
                better(&mut best, vec![run]);
            }
            best
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(texts(part)?);
            }
            all.dedup();
            (all.len() <= REQUIRED_MAX).then_some(all)
        }
        _ => one_text(hir).map(|text| vec![text]),
    }
}

/// The one text in lower case that this matches: a literal, or a letter in both cases.
fn one_text(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(|text| fold(text).into_owned()),
        HirKind::Class(class) => {
            let regex_syntax::hir::Class::Unicode(class) = class else { return None };
            let mut only = None;
            for range in class.ranges() {
                if range.len() > 4 {
                    return None;
                }
                for char in range.start()..=range.end() {
                    // `k` has a third form, the Kelvin sign, which folds to it.
                    let folded = char.to_lowercase().to_string();
                    match &only {
                        None => only = Some(folded),
                        Some(known) if *known == folded => {}
                        Some(_) => return None,
                    }
                }
            }
            only
        }
        _ => None,
    }
}

/// How much work an atom as witness makes: how often it will hold though its rule does not, as a guess.
pub(crate) fn cost(check: &Check) -> u32 {
    let by_length = |text: &str, base: u32| base.saturating_sub(4 * text.len().min(24) as u32).max(4);
    match check {
        Check::Present => 1000,
        Check::Equals(text, _) => by_length(text, 90),
        Check::Starts(text, _) | Check::Ends(text, _) => by_length(text, 110),
        Check::Contains(text, _) => by_length(text, 120),
        Check::Wild(pattern, _) => {
            let length =
                pattern.0.iter().map(|p| if let Piece::Text(t) = p { t.len() } else { 0 }).sum::<usize>();
            120u32.saturating_sub(4 * length.min(24) as u32).max(4)
        }
        Check::Regex(_) => 60,
        Check::Cidr(_) => 200,
        Check::Compare(..) => 400,
        Check::FieldRef { .. } | Check::TimePart(..) => 2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_texts_of_regular_expressions() {
        for (source, want) in [
            ("abc.*defg", Some(vec!["defg"])),
            ("(?i)AbCd", Some(vec!["abcd"])),
            ("(abc|defg)+x", Some(vec!["abc", "defg"])),
            ("(abc|de)?", None),
            ("a.b", None),
            ("[a-z]+", None),
            (r"\\cmd\.exe$", Some(vec![r"\cmd.exe"])),
        ] {
            let want = want.map(|texts| texts.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(required(source), want, "{source}");
        }
    }

    proptest::proptest! {
        /// Whatever a regular expression matches has one of its required texts.
        #[test]
        fn required_texts_are_required(source in "(\\(\\?i\\))?[abcK]{1,4}(\\|[abcS]{3,4})?([abc]{2,3}\\+)?\\.?[abc]{0,4}", text in "[abcABCkKsSſ\u{212a}]{0,12}") {
            if let (Ok(regex), Some(texts)) = (regex::Regex::new(&source), required(&source))
                && regex.is_match(&text)
            {
                let folded = fold(&text);
                proptest::prop_assert!(texts.iter().any(|want| folded.contains(want.as_str())), "{} {}", source, text);
            }
        }
    }
}
