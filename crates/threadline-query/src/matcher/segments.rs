//! What a text or a regular expression says of the terms of a body, as a plan for a file's indexes.
//!
//! Vocabulary:
//! - *segment*: a run of term characters that must occur; an end is *closed* when the term ends there for certain, else
//!   *open*: the term may go on;
//! - *chain*: segments joined by single `.` or single `-`: they may lie inside an address, a UUID or another dotted run
//!   (docs/formats.md, "Terms").
//!
//! A plan never leaves out a row that matches. Where nothing is certain it says [`IndexPlan::All`].

use std::sync::Arc;

use memchr::memmem::Finder as Needle;
use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use threadline_model::id::TraceId;
use threadline_store::{Finder, IndexPlan, TERM_BYTES_MAX, TermList, ValueTest};

use crate::lang::is_term_char;

/// Bytes a compiled segment may take.
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Stands for a text that says nothing, as every text beyond ASCII does.
const UNSURE: &str = "\u{17f}";
/// Lengths of own ids, alone or two next to each other: a body has them in place of terms.
const ID_LENGTHS: [usize; 3] = [16, 32, 48];
/// Lengths of the groups of a UUID.
const UUID_LENGTHS: [usize; 3] = [4, 8, 12];
/// The groups of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
/// Numbers in a row that always lie in an address or another dotted run of the index.
const NUMBERS_MIN: usize = 4;

/// A run of term characters that must occur.
#[derive(Clone, Debug)]
struct Segment {
    what: What,
    left_closed: bool,
    right_closed: bool,
    /// What joins it to the next segment, when that is one known character.
    joint: Option<char>,
}

#[derive(Clone, Debug)]
enum What {
    /// In lower case, ASCII.
    Text(String),
    /// A regular expression over term characters.
    Pattern(Hir),
}

/// The plan for a text whose ends are open or closed. Terms differ from it in the case of ASCII letters at most, or,
/// where the text is `unicode`, in that of any letter.
pub(super) fn of_text(text: &str, left_closed: bool, right_closed: bool, unicode: bool) -> IndexPlan {
    let mut segments: Vec<Segment> = Vec::new();
    let mut at = 0;
    for run in text.split(|c: char| !is_term_char(c)) {
        let end = at + run.len();
        let after = text.get(end..).and_then(|rest| rest.chars().next());
        if run.is_empty() {
            // Two separators in a row join nothing.
            if let Some(last) = segments.last_mut() {
                last.joint = None;
            }
        } else {
            // `k` and `s` have a third case beyond ASCII, which the index does not know as theirs.
            let unsure = unicode && run.contains(['k', 'K', 's', 'S']);
            segments.push(Segment {
                what: What::Text(if unsure { UNSURE.to_owned() } else { run.to_ascii_lowercase() }),
                left_closed: at > 0 || left_closed,
                right_closed: after.is_some() || right_closed,
                joint: after,
            });
        }
        at = end + after.map_or(0, char::len_utf8);
    }
    plan(&segments)
}

/// The plan for a regular expression.
pub(super) fn of_regex(pattern: &str) -> IndexPlan {
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern);
    parsed.map_or(IndexPlan::All, |hir| of_hir(&hir))
}

/// The plan for an IP network in a body.
pub fn of_network(network: crate::lang::Network) -> IndexPlan {
    let shown = format!("network {network}");
    if let Some(address) = network.single() {
        let text = address.to_string();
        let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b'\n' | b'.'));
        let dotted = needle(&text, move |joined, start, end| {
            is_end(start.checked_sub(1).and_then(|at| joined.get(at))) && is_end(joined.get(end))
        });
        return IndexPlan::or(vec![
            IndexPlan::Term(TermList::Addresses, text),
            IndexPlan::Terms(TermList::Dotted, dotted),
        ]);
    }
    let dotted = Finder::new(shown.clone(), move |joined, each| {
        let mut at = 1;
        for term in joined.split(|byte| *byte == b'\n').skip(1) {
            if network.is_ipv4_in(term) {
                each(at);
            }
            at += term.len() + 1;
        }
    });
    let test = ValueTest::Fulfils(shown, Arc::new(move |address| network.contains_text(address)));
    let prefixes = network.ipv4_prefixes();
    IndexPlan::or(vec![
        IndexPlan::Beginning { list: TermList::Addresses, prefixes, test },
        IndexPlan::Terms(TermList::Dotted, dotted),
    ])
}

// --- from segments to plans ---------------------------------------------------------------------------------------

fn plan(segments: &[Segment]) -> IndexPlan {
    let mut parts = Vec::new();
    let mut from = 0;
    while from < segments.len() {
        let joint = segments.get(from).and_then(|s| s.joint).filter(|c| matches!(c, '.' | '-'));
        let mut to = from + 1;
        while joint.is_some() && to < segments.len() && segments.get(to - 1).is_some_and(|s| s.joint == joint) {
            to += 1;
        }
        let chain = segments.get(from..to).unwrap_or_default();
        parts.push(match (chain, joint) {
            ([single], _) => of_single(single),
            (chain, Some(joint)) => of_chain(chain, joint),
            (chain, None) => IndexPlan::and(chain.iter().map(of_single).collect()),
        });
        // A segment may end one chain and begin another.
        let ends_one =
            to - from > 1 && segments.get(to - 1).is_some_and(|s| matches!(s.joint, Some('.' | '-')));
        from = if ends_one && to < segments.len() { to - 1 } else { to };
    }
    IndexPlan::and(parts)
}

fn of_single(segment: &Segment) -> IndexPlan {
    if let What::Text(text) = &segment.what
        && !text.is_ascii()
    {
        return IndexPlan::All;
    }
    if segment.may_be_id() {
        return segment
            .whole_trace_id()
            .map_or(IndexPlan::All, |id| IndexPlan::or(vec![segment.plain(), IndexPlan::Trace(id)]));
    }
    let mut parts = vec![segment.outside_uuids()];
    if segment.may_be_uuid_group() {
        parts.push(segment.in_uuid());
    }
    IndexPlan::or(parts)
}

fn of_chain(chain: &[Segment], joint: char) -> IndexPlan {
    let uncertain = |segment: &Segment| {
        segment.may_be_id() || matches!(&segment.what, What::Text(text) if !text.is_ascii())
    };
    if chain.iter().any(uncertain) {
        return IndexPlan::and(chain.iter().map(of_single).collect());
    }
    // Either all lie in one compound, or none lies in a compound of that shape.
    let mut parts = Vec::new();
    if joint == '-' {
        parts.push(IndexPlan::and(chain.iter().map(Segment::outside_uuids).collect()));
        if chain.iter().all(Segment::may_be_uuid_group) {
            parts.push(chain_in_uuid(chain));
        }
    } else {
        if !has_numbers(chain) {
            parts.push(IndexPlan::and(chain.iter().map(Segment::plain).collect()));
        }
        if chain.iter().any(Segment::may_be_number) {
            parts.push(chain_in_address(chain));
            parts.push(terms(TermList::Dotted, &chain_pattern(chain, joint)));
        }
    }
    IndexPlan::or(parts)
}

/// Whether so many numbers stand in a row that they cannot lie outside of addresses and dotted runs.
fn has_numbers(chain: &[Segment]) -> bool {
    // An open end of the chain may belong to a term that is no number.
    let inner = |index: usize, segment: &Segment| {
        (index > 0 || segment.left_closed) && (index + 1 < chain.len() || segment.right_closed)
    };
    let mut run = 0;
    chain.iter().enumerate().any(|(index, segment)| {
        run = if segment.must_be_number() && inner(index, segment) { run + 1 } else { 0 };
        run >= NUMBERS_MIN
    })
}

fn chain_in_address(chain: &[Segment]) -> IndexPlan {
    let texts: Option<Vec<&str>> = chain.iter().map(Segment::closed_text).collect();
    match texts {
        Some(texts) if texts.len() >= NUMBERS_MIN => {
            let text = texts.join(".");
            let is_address = text.parse::<std::net::Ipv4Addr>().is_ok();
            if is_address { IndexPlan::Term(TermList::Addresses, text) } else { IndexPlan::Nothing }
        }
        _ => terms(TermList::Addresses, &chain_pattern(chain, '.')),
    }
}

fn chain_in_uuid(chain: &[Segment]) -> IndexPlan {
    let texts: Option<Vec<&str>> = chain.iter().map(Segment::closed_text).collect();
    match texts {
        Some(texts) if texts.len() == UUID.len() => {
            let fits = texts.iter().zip(UUID).all(|(text, len)| text.len() == len);
            if fits { IndexPlan::Term(TermList::Uuids, texts.join("-")) } else { IndexPlan::Nothing }
        }
        _ => terms(TermList::Uuids, &chain_pattern(chain, '-')),
    }
}

fn chain_pattern(chain: &[Segment], joint: char) -> String {
    let patterns: Vec<String> = chain.iter().map(Segment::pattern).collect();
    patterns.join(&format!("\\{joint}"))
}

/// The terms of a list that a regular expression finds.
fn terms(list: TermList, pattern: &str) -> IndexPlan {
    finder(pattern).map_or(IndexPlan::All, |finder| IndexPlan::Terms(list, finder))
}

impl Segment {
    /// As a regular expression.
    fn pattern(&self) -> String {
        match &self.what {
            What::Text(text) => regex::escape(text),
            What::Pattern(hir) => format!("(?:{hir})"),
        }
    }

    fn lengths(&self) -> (usize, Option<usize>) {
        match &self.what {
            What::Text(text) => (text.len(), Some(text.len())),
            What::Pattern(hir) => {
                let properties = hir.properties();
                (properties.minimum_len().unwrap_or(0), properties.maximum_len())
            }
        }
    }

    fn closed(&self) -> bool {
        self.left_closed && self.right_closed
    }

    /// Whether its length can be one of these; with an open end, whether it can be part of one.
    fn fits(&self, lengths: &[usize]) -> bool {
        let (min, max) = self.lengths();
        if self.closed() {
            lengths.iter().any(|len| *len >= min && max.is_none_or(|max| *len <= max))
        } else {
            lengths.iter().any(|len| min <= *len)
        }
    }

    /// Whether every character of some text it matches can be one of these.
    fn can_be(&self, accepts: fn(u8) -> bool) -> bool {
        match &self.what {
            What::Text(text) => text.bytes().all(accepts),
            What::Pattern(hir) => can_be(hir, accepts),
        }
    }

    fn may_be_id(&self) -> bool {
        self.can_be(|byte| byte.is_ascii_hexdigit()) && self.fits(&ID_LENGTHS)
    }

    fn may_be_number(&self) -> bool {
        self.can_be(|byte| byte.is_ascii_digit())
    }

    /// Whether it matches nothing but digits; its ends are another matter.
    fn must_be_number(&self) -> bool {
        match &self.what {
            What::Text(text) => text.bytes().all(|byte| byte.is_ascii_digit()),
            What::Pattern(hir) => must_be_digits(hir),
        }
    }

    fn closed_text(&self) -> Option<&str> {
        match &self.what {
            What::Text(text) if self.closed() => Some(text),
            _ => None,
        }
    }

    fn may_be_uuid_group(&self) -> bool {
        self.can_be(|byte| byte.is_ascii_hexdigit()) && self.fits(&UUID_LENGTHS)
    }

    fn whole_trace_id(&self) -> Option<TraceId> {
        match &self.what {
            What::Text(text) if self.closed() && text.len() == 32 => TraceId::from_hex(text),
            _ => None,
        }
    }

    /// Among the plain terms, and the numbers of dotted runs where it may be one.
    fn outside_uuids(&self) -> IndexPlan {
        let mut parts = vec![self.plain()];
        if self.may_be_number() {
            parts.push(self.in_list(TermList::Numbers));
        }
        IndexPlan::or(parts)
    }

    /// Among the plain terms.
    fn plain(&self) -> IndexPlan {
        self.in_list(TermList::Plain)
    }

    /// As a whole term, or where an end is open as a part of one.
    fn in_list(&self, list: TermList) -> IndexPlan {
        match &self.what {
            What::Text(text) if self.closed() => {
                if text.len() < TERM_BYTES_MAX {
                    IndexPlan::Term(list, text.clone())
                } else {
                    IndexPlan::All
                }
            }
            What::Text(text) => {
                let (before, after) =
                    (if self.left_closed { "\n" } else { "" }, if self.right_closed { "\n" } else { "" });
                IndexPlan::Terms(list, needle(&format!("{before}{text}{after}"), |_, _, _| true))
            }
            What::Pattern(hir) => {
                if hir.properties().minimum_len().unwrap_or(0) == 0 {
                    return IndexPlan::All;
                }
                let (before, after) =
                    (if self.left_closed { "\n" } else { "" }, if self.right_closed { "\n" } else { "" });
                terms(list, &format!("{before}{}{after}", self.pattern()))
            }
        }
    }

    /// As a group of a UUID.
    fn in_uuid(&self) -> IndexPlan {
        let is_edge = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b'\n' | b'-'));
        let (left, right) = (self.left_closed, self.right_closed);
        match &self.what {
            What::Text(text) => {
                let finder = needle(text, move |joined, start, end| {
                    (!left || is_edge(start.checked_sub(1).and_then(|at| joined.get(at))))
                        && (!right || is_edge(joined.get(end)))
                });
                IndexPlan::Terms(TermList::Uuids, finder)
            }
            What::Pattern(_) => {
                let edge = |closed: bool| if closed { "[\\n-]" } else { "" };
                terms(TermList::Uuids, &format!("{}{}{}", edge(left), self.pattern(), edge(right)))
            }
        }
    }
}

/// Finds a text in lists of terms, where `accept(terms, start, end)` holds.
fn needle(text: &str, accept: impl Fn(&[u8], usize, usize) -> bool + Send + Sync + 'static) -> Finder {
    let needle = Needle::new(text).into_owned();
    let len = text.len();
    Finder::new(format!("{text:?}"), move |joined, each| {
        let mut at = 0;
        while let Some(found) = joined.get(at..).and_then(|rest| needle.find(rest)) {
            let start = at + found;
            if accept(joined, start, start + len) {
                each(start);
            }
            at = start + 1;
        }
    })
}

/// Finds terms by a regular expression over a list of them; case does not matter.
fn finder(pattern: &str) -> Option<Finder> {
    let regex: Regex =
        RegexBuilder::new(pattern).case_insensitive(true).size_limit(REGEX_COMPILED_BYTES_MAX).build().ok()?;
    Some(Finder::new(format!("/{pattern}/"), move |joined, each| {
        let mut at = 0;
        while let Some(found) = regex.find_at(joined, at) {
            each(found.start());
            // One hit in a term is enough: on with the separator behind it.
            let inside =
                if joined.get(found.start()) == Some(&b'\n') { found.start() + 1 } else { found.start() };
            at = match joined.get(inside..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                Some(end) => inside + end,
                None => return,
            };
            if at <= found.start() {
                at = found.start() + 1;
            }
        }
    }))
}

// --- from regular expressions to segments -------------------------------------------------------------------------

/// What a part of a regular expression consumes.
enum Atom {
    /// Term characters, possibly none when optional.
    Term(Hir),
    /// At least one character that is none; the character, when it is exactly one known.
    Separator(Option<char>),
    /// Only characters that are none, perhaps nothing.
    MaybeSeparator,
    /// Nothing, at a place where no term goes on.
    Edge,
    /// Anything, perhaps nothing.
    Unknown,
    /// Anything that has a plan of its own.
    Planned(IndexPlan),
}

fn of_hir(hir: &Hir) -> IndexPlan {
    let mut atoms = Vec::new();
    walk(hir, &mut atoms);
    let mut plans = Vec::new();
    let mut segments: Vec<Segment> = Vec::new();
    let mut current: Vec<Hir> = Vec::new();
    // Whether the place before the next atom is no part of a term.
    let mut closed = false;
    let mut left_closed = false;
    let mut groups: Vec<Vec<Segment>> = Vec::new();
    for atom in atoms.into_iter().chain(std::iter::once(Atom::Unknown)) {
        let right_closed = match atom {
            Atom::Term(hir) => {
                if current.is_empty() {
                    left_closed = closed;
                }
                current.push(hir);
                closed = false;
                continue;
            }
            Atom::Separator(_) | Atom::Edge => true,
            Atom::MaybeSeparator | Atom::Unknown | Atom::Planned(_) => false,
        };
        let joint = match &atom {
            Atom::Separator(joint) => *joint,
            _ => None,
        };
        if current.is_empty() {
            // Two separators join nothing; what may be nothing keeps the place as it is.
            if let Some(last) = segments.last_mut() {
                last.joint = None;
            }
            closed = right_closed || (closed && matches!(atom, Atom::MaybeSeparator));
        } else {
            let what = What::Pattern(Hir::concat(std::mem::take(&mut current)));
            segments.push(Segment { what, left_closed, right_closed, joint });
            closed = right_closed;
        }
        if joint.is_none() {
            groups.push(std::mem::take(&mut segments));
        }
        if let Atom::Planned(plan) = atom {
            plans.push(plan);
        }
    }
    groups.push(segments);
    for group in &mut groups {
        // A segment that can be empty says nothing, and joins nothing.
        for part in group.split(|segment| segment.lengths().0 == 0) {
            plans.push(plan(part));
        }
    }
    IndexPlan::and(plans)
}

fn walk(hir: &Hir, out: &mut Vec<Atom>) {
    match hir.kind() {
        HirKind::Empty => {}
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => text.chars().for_each(|c| {
                out.push(if is_term_char(c) {
                    Atom::Term(Hir::literal(c.to_string().into_bytes()))
                } else {
                    Atom::Separator(Some(c))
                });
            }),
            Err(_) => out.push(Atom::Unknown),
        },
        HirKind::Class(class) => out.push(match kind_of(class) {
            Some(true) => Atom::Term(hir.clone()),
            Some(false) => Atom::Separator(None),
            None => Atom::Unknown,
        }),
        HirKind::Look(look) => out.push(match look {
            Look::Start | Look::End | Look::StartLF | Look::EndLF | Look::StartCRLF | Look::EndCRLF => {
                Atom::Edge
            }
            _ => Atom::Unknown,
        }),
        HirKind::Capture(capture) => walk(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| walk(part, out)),
        HirKind::Repetition(repetition) => match (only(&repetition.sub), repetition.min) {
            (Some(true), _) => out.push(Atom::Term(hir.clone())),
            (Some(false), 0) => out.push(Atom::MaybeSeparator),
            (Some(false), _) => out.push(Atom::Separator(None)),
            (None, 0) => out.push(Atom::Unknown),
            (None, _) => {
                out.push(Atom::Unknown);
                walk(&repetition.sub, out);
                out.push(Atom::Unknown);
            }
        },
        HirKind::Alternation(parts) => {
            if only(hir) == Some(true) {
                out.push(Atom::Term(hir.clone()));
            } else if only(hir) == Some(false) && hir.properties().minimum_len().is_some_and(|len| len > 0) {
                out.push(Atom::Separator(None));
            } else {
                out.push(Atom::Planned(IndexPlan::or(parts.iter().map(of_hir).collect())));
            }
        }
    }
}

/// Whether a class has only term characters, only others (`false`), or both (`None`).
fn kind_of(class: &Class) -> Option<bool> {
    let (mut terms, mut others) = (false, false);
    let mut note = |start: u32, end: u32| {
        for code in start..=end.min(0x7F) {
            match char::from_u32(code).is_some_and(is_term_char) {
                true => terms = true,
                false => others = true,
            }
        }
        terms |= end > 0x7F;
    };
    match class {
        Class::Unicode(class) => class.iter().for_each(|range| note(range.start().into(), range.end().into())),
        Class::Bytes(class) => class.iter().for_each(|range| note(range.start().into(), range.end().into())),
    }
    match (terms, others) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    }
}

/// Whether it consumes only term characters, or only others; `None`: both, or it looks around.
fn only(hir: &Hir) -> Option<bool> {
    let all = |parts: &[Hir]| {
        let mut kinds = parts.iter().map(only);
        let first = kinds.next()??;
        kinds.all(|kind| kind == Some(first)).then_some(first)
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).ok()?;
            let terms = text.chars().filter(|c| is_term_char(*c)).count();
            match text.chars().count() {
                count if terms == count => Some(true),
                _ if terms == 0 => Some(false),
                _ => None,
            }
        }
        HirKind::Class(class) => kind_of(class),
        HirKind::Capture(capture) => only(&capture.sub),
        HirKind::Repetition(repetition) => only(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => all(parts),
    }
}

/// Whether every character of some text that it matches can be one of these.
fn can_be(hir: &Hir, accepts: fn(u8) -> bool) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| accepts(*byte)),
        HirKind::Class(class) => {
            let any = |start: u32, end: u32| {
                (start..=end.min(0x7F)).any(|code| u8::try_from(code).is_ok_and(accepts))
            };
            match class {
                Class::Unicode(class) => {
                    class.iter().any(|range| any(range.start().into(), range.end().into()))
                }
                Class::Bytes(class) => class.iter().any(|range| any(range.start().into(), range.end().into())),
            }
        }
        HirKind::Capture(capture) => can_be(&capture.sub, accepts),
        HirKind::Repetition(repetition) => repetition.min == 0 || can_be(&repetition.sub, accepts),
        HirKind::Concat(parts) => parts.iter().all(|part| can_be(part, accepts)),
        HirKind::Alternation(parts) => parts.iter().any(|part| can_be(part, accepts)),
    }
}

/// Whether it matches digits only.
fn must_be_digits(hir: &Hir) -> bool {
    let is_digit = |start: u32, end: u32| start >= u32::from(b'0') && end <= u32::from(b'9');
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(u8::is_ascii_digit),
        HirKind::Class(Class::Unicode(class)) => {
            class.iter().all(|range| is_digit(range.start().into(), range.end().into()))
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.iter().all(|range| is_digit(range.start().into(), range.end().into()))
        }
        HirKind::Capture(capture) => must_be_digits(&capture.sub),
        HirKind::Repetition(repetition) => must_be_digits(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(must_be_digits),
    }
}
