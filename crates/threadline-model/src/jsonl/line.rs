//! Reads a line and sorts its fields by role.

use std::sync::Arc;

use super::assemble::Assembly;
use super::mapping::{Claim, Key, Mapping, Role, Slot, Unit};
use super::scan::{Piece, Read, Scanner, Stop, Why};
use super::{FIELDS_MAX, LINE_BYTES_MAX, LineError, Parsed};
use crate::record::Attribute;
use crate::value::{Value, same};

/// How many fields of a line are remembered for the next one.
const RECENT_MAX: usize = 256;
/// Names beyond this length are not.
const RECENT_BYTES_MAX: usize = 256;

/// Reads lines. Keeps its buffers, and what it knows of field names, from line to line.
#[derive(Debug)]
pub struct LineParser {
    mapping: Arc<Mapping>,
    fields: Fields,
    /// By place: the field that was there last time.
    recent: Vec<Recent>,
    attributes: Vec<Attribute<'static>>,
    resource: Vec<Attribute<'static>>,
}

/// A field name seen at a place.
#[derive(Debug, Default)]
struct Recent {
    /// The name in quotes and a colon, as it stood in the line; empty for none.
    quoted: Vec<u8>,
    claim: Option<Claim>,
}

/// What a line holds, sorted by role.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) scratch: String,
    /// A text on its way into the scratch text.
    passing: String,
    count: usize,
    /// Bit by slot: whether it is taken.
    pub(super) taken: u32,
    pub(super) slots: [Claimed; Slot::COUNT],
    attributes: Vec<(Name, Read)>,
    resource: Vec<(Name, Read)>,
}

/// A key: from the line, or given by the mapping.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name {
    Piece(Piece),
    Known(Key),
}

/// What a slot holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed {
    rank: u8,
    pub(super) unit: Unit,
    pub(super) name: Piece,
    pub(super) value: Read,
}

const UNCLAIMED: Claimed =
    Claimed { rank: u8::MAX, unit: Unit::ByMagnitude, name: Piece::NONE, value: Read::Null };

/// Texts of a line that has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts<'a> {
    line: &'a str,
    scratch: &'a str,
}

impl<'a> Texts<'a> {
    #[inline(always)]
    pub(super) fn text(&self, piece: Piece) -> &'a str {
        piece.text(self.line, self.scratch)
    }

    #[inline(always)]
    pub(super) fn value(&self, read: Read) -> Value<'a> {
        match read {
            Read::Null => Value::Empty,
            Read::True => Value::Bool(true),
            Read::False => Value::Bool(false),
            Read::Int(int) => Value::Int(int),
            Read::Double(double) => Value::Double(double),
            Read::Str(piece) => Value::Str(self.text(piece)),
            Read::Json(piece) => Value::Json(self.text(piece)),
        }
    }
}

impl LineParser {
    /// A parser with a mapping.
    pub fn new(mapping: Arc<Mapping>) -> Self {
        Self {
            mapping,
            fields: Fields {
                scratch: String::new(),
                passing: String::new(),
                count: 0,
                taken: 0,
                slots: [UNCLAIMED; Slot::COUNT],
                attributes: Vec::new(),
                resource: Vec::new(),
            },
            recent: Vec::new(),
            attributes: Vec::new(),
            resource: Vec::new(),
        }
    }

    /// Reads one line and hands the record on.
    ///
    /// # Errors
    /// Why the line is no record.
    pub fn parse<T>(&mut self, line: &[u8], take: impl FnOnce(&Parsed<'_>) -> T) -> Result<T, LineError> {
        let line = text(line)?;
        self.fields.clear();
        self.read(line)?;
        let Self { mapping, fields, attributes: spare_attributes, resource: spare_resource, .. } = self;
        let texts = Texts { line, scratch: &fields.scratch };
        let resolve = |spare: &mut Vec<Attribute<'static>>, read: &[(Name, Read)]| {
            let mut list = reuse(std::mem::take(spare));
            list.extend(read.iter().map(|(name, value)| {
                let name = match name {
                    Name::Piece(piece) => texts.text(*piece),
                    Name::Known(key) => mapping.key(*key),
                };
                (name, texts.value(*value))
            }));
            list
        };
        let mut assembly = Assembly {
            texts,
            taken: fields.taken,
            slots: &fields.slots,
            attributes: resolve(spare_attributes, &fields.attributes),
            resource: resolve(spare_resource, &fields.resource),
            time_unread: false,
        };
        let taken = assembly.finish(take);
        let Assembly { attributes, resource, .. } = assembly;
        *spare_attributes = reuse(attributes);
        *spare_resource = reuse(resource);
        Ok(taken)
    }

    fn read(&mut self, line: &str) -> Result<(), LineError> {
        let mut scanner = Scanner::new(line);
        if scanner.peek() != Some(b'{') {
            let Fields { scratch, passing, .. } = &mut self.fields;
            return Err(match scanner.value(scratch, passing).and_then(|_| end(&mut scanner)) {
                Ok(()) => LineError::NotObject,
                Err(stop) => line_error(stop),
            });
        }
        scanner.take();
        let mut members = Members {
            mapping: &self.mapping,
            fields: &mut self.fields,
            recent: &mut self.recent,
            scanner: &mut scanner,
        };
        members.top().and_then(|()| end(&mut scanner)).map_err(line_error)?;
        if self.fields.count == 0 { Err(LineError::Empty) } else { Ok(()) }
    }
}

/// Whether `name` is at the front of `rest`; never for no name.
#[inline(always)]
fn begins_with(rest: &[u8], name: &[u8]) -> bool {
    !name.is_empty() && rest.get(..name.len()).is_some_and(|front| same(front, name))
}

fn text(line: &[u8]) -> Result<&str, LineError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooComplex);
    }
    std::str::from_utf8(line).map_err(|error| {
        LineError::NotJson(format!("bytes that are not UTF-8 at column {}", error.valid_up_to() + 1))
    })
}

fn end(scanner: &mut Scanner<'_>) -> Result<(), Stop> {
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(scanner.stop("something follows the value")),
    }
}

#[cold]
fn line_error(stop: Stop) -> LineError {
    match stop.why() {
        Why::Syntax(at, reason) => LineError::NotJson(format!("{reason} at column {}", at + 1)),
        Why::TooComplex => LineError::TooComplex,
    }
}

/// The same allocation for attributes of another lifetime.
fn reuse<'b>(mut attributes: Vec<Attribute<'_>>) -> Vec<Attribute<'b>> {
    attributes.clear();
    attributes.into_iter().map(|_| ("", Value::Empty)).collect()
}

impl Fields {
    fn clear(&mut self) {
        self.scratch.clear();
        self.count = 0;
        self.taken = 0;
        self.attributes.clear();
        self.resource.clear();
    }

    /// Puts a value where its role says.
    #[inline(always)]
    fn put(&mut self, name: Piece, claim: Option<Claim>, value: Read) {
        let Some(Claim { role, rank }) = claim else {
            self.attributes.push((Name::Piece(name), value));
            return;
        };
        match role {
            Role::Slot(slot, unit) => {
                let claimed = Claimed { rank, unit, name, value };
                let bit = 1 << slot as u32;
                let Some(place) = self.slots.get_mut(slot as usize) else { return };
                if self.taken & bit == 0 {
                    self.taken |= bit;
                    *place = claimed;
                    return;
                }
                let loser = if place.rank <= rank { claimed } else { std::mem::replace(place, claimed) };
                self.attributes.push((Name::Piece(loser.name), loser.value));
            }
            Role::Resource(key) => self.resource.push((Name::Known(key), value)),
            Role::Attribute(key) => self.attributes.push((Name::Known(key), value)),
            Role::Ignore => {}
            Role::Attributes | Role::ResourceAttributes => {
                self.attributes.push((Name::Piece(name), value));
            }
        }
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.count += 1;
        if self.count > FIELDS_MAX { Err(Stop::too_complex()) } else { Ok(()) }
    }
}

/// Reads members of objects into fields.
struct Members<'p, 's, 'a> {
    mapping: &'p Mapping,
    fields: &'p mut Fields,
    recent: &'p mut Vec<Recent>,
    scanner: &'s mut Scanner<'a>,
}

impl Members<'_, '_, '_> {
    /// The members of the line's object, whose brace is taken.
    fn top(&mut self) -> Result<(), Stop> {
        if self.scanner.peek() == Some(b'}') {
            self.scanner.take();
            return Ok(());
        }
        let mut place = 0;
        loop {
            self.fields.count()?;
            let (name, claim) = self.name(place)?;
            match claim.map(|claim| claim.role) {
                Some(role @ (Role::Attributes | Role::ResourceAttributes))
                    if self.scanner.peek() == Some(b'{') =>
                {
                    self.scanner.take();
                    self.attributes(role == Role::ResourceAttributes)?;
                }
                _ => {
                    let value = self.scanner.value(&mut self.fields.scratch, &mut self.fields.passing)?;
                    self.fields.put(name, claim, value);
                }
            }
            if !self.scanner.goes_on(b'}')? {
                return Ok(());
            }
            place += 1;
        }
    }

    /// The members of an object of attributes, whose brace is taken.
    fn attributes(&mut self, of_resource: bool) -> Result<(), Stop> {
        if self.scanner.peek() == Some(b'}') {
            self.scanner.take();
            return Ok(());
        }
        loop {
            self.fields.count()?;
            let name = self.scanner.key(&mut self.fields.scratch)?;
            let value = self.scanner.value(&mut self.fields.scratch, &mut self.fields.passing)?;
            let list = if of_resource { &mut self.fields.resource } else { &mut self.fields.attributes };
            list.push((Name::Piece(name), value));
            if !self.scanner.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// The name of the field that is next, with its colon, and its role.
    #[inline(always)]
    fn name(&mut self, place: usize) -> Result<(Piece, Option<Claim>), Stop> {
        self.scanner.peek();
        if let Some(recent) = self.recent.get(place)
            && begins_with(self.scanner.rest(), &recent.quoted)
        {
            let at = self.scanner.advance(recent.quoted.len());
            return Ok((Piece::of_line(at + 1, at + recent.quoted.len() - 2), recent.claim));
        }
        let name = self.new_name(place)?;
        let claim = self.mapping.claim(self.scanner.piece(name, &self.fields.scratch));
        Ok((name, claim))
    }

    /// Reads a name that was not at this place before, and remembers it.
    #[inline(never)]
    fn new_name(&mut self, place: usize) -> Result<Piece, Stop> {
        let name = self.scanner.key(&mut self.fields.scratch)?;
        let text = self.scanner.piece(name, &self.fields.scratch);
        if name.is_in_line() && place < RECENT_MAX && text.len() <= RECENT_BYTES_MAX {
            if self.recent.len() <= place {
                self.recent.resize_with(place + 1, Recent::default);
            }
            if let Some(recent) = self.recent.get_mut(place) {
                recent.claim = self.mapping.claim(text);
                recent.quoted.clear();
                recent.quoted.push(b'"');
                recent.quoted.extend_from_slice(text.as_bytes());
                recent.quoted.extend_from_slice(b"\":");
            }
        }
        Ok(name)
    }
}
