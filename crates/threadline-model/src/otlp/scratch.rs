//! Attributes of the record at hand. Texts borrow the request where they stand in it as such; what has to be
//! rendered or passing lies in an arena that is emptied for the next record. Nothing is allocated per attribute.

use std::mem;
use std::ops::Range;

use crate::record::Attribute;
use crate::value::{Value, same};

/// Text in the request or in the arena.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Request(&'a str),
    Arena(Range<usize>),
}

impl Default for Text<'_> {
    fn default() -> Self {
        Text::Request("")
    }
}

/// A value, plain or with its text in the arena.
#[derive(Clone, Debug)]
pub(super) enum Any<'a> {
    Plain(Value<'a>),
    Str(Range<usize>),
    Json(Range<usize>),
    Bytes(Range<usize>),
}

/// Rendered texts and bytes of the record at hand.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
    /// A text on its way into a rendering.
    pub(super) passing: String,
}

impl Arena {
    pub(super) fn text<'s>(&'s self, text: &Text<'s>) -> &'s str {
        match text {
            Text::Request(text) => text,
            Text::Arena(range) => self.text.get(range.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn value<'s>(&'s self, any: &Any<'s>) -> Value<'s> {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        match any {
            Any::Plain(value) => *value,
            Any::Str(range) => Value::Str(text(range)),
            Any::Json(range) => Value::Json(text(range)),
            Any::Bytes(range) => Value::Bytes(self.bytes.get(range.clone()).unwrap_or_default()),
        }
    }
}

/// The attributes of one record, resource or scope, and its arena.
#[derive(Debug, Default)]
pub(super) struct Scratch<'a> {
    list: Vec<Attribute<'a>>,
    /// Attributes of `list` of which the key or the value is in the arena.
    slots: Vec<(usize, Text<'a>, Any<'a>)>,
    pub(super) arena: Arena,
    spare: Vec<Attribute<'static>>,
    /// By position: key and text of the attribute that was there in a record before.
    recent: Recent<'a>,
}

/// How many positions are remembered; further ones share these.
const RECENT_MAX: usize = 32;

/// What was at each position.
#[derive(Debug)]
struct Recent<'a>([(&'a str, &'a str); RECENT_MAX]);

impl Default for Recent<'_> {
    fn default() -> Self {
        Self([("", ""); RECENT_MAX])
    }
}

/// The text of `bytes`, if it is one. `recent` was there before: when it has the same bytes, nothing is checked again.
#[inline(always)]
fn recall<'a>(bytes: &'a [u8], recent: &mut &'a str) -> Option<&'a str> {
    if !same(bytes, recent.as_bytes()) {
        *recent = std::str::from_utf8(bytes).ok()?;
    }
    Some(recent)
}

impl<'a> Scratch<'a> {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.slots.clear();
        self.arena.text.clear();
        self.arena.bytes.clear();
    }

    /// How many attributes there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub(super) fn push_plain(&mut self, key: &'a str, value: Value<'a>) {
        self.list.push((key, value));
    }

    /// Adds an attribute whose value is a text; `false`, and nothing is added, when it or the key is not UTF-8.
    #[inline]
    pub(super) fn push_text(&mut self, key: &'a [u8], value: &'a [u8]) -> bool {
        let (recent_key, recent_value) = self.recent();
        let (Some(key), Some(value)) = (recall(key, recent_key), recall(value, recent_value)) else {
            return false;
        };
        self.list.push((key, Value::Str(value)));
        true
    }

    /// The same for a value that is no text.
    #[inline]
    pub(super) fn push_scalar(&mut self, key: &'a [u8], value: Value<'a>) -> bool {
        let Some(key) = recall(key, self.recent().0) else { return false };
        self.list.push((key, value));
        true
    }

    /// What was at the position that is next.
    #[inline(always)]
    fn recent(&mut self) -> (&mut &'a str, &mut &'a str) {
        let at = self.list.len() % RECENT_MAX;
        let (key, value) = &mut self.recent.0[at];
        (key, value)
    }

    pub(super) fn push(&mut self, key: Text<'a>, value: Any<'a>) {
        match (key, value) {
            (Text::Request(key), Any::Plain(value)) => self.list.push((key, value)),
            (key, value) => {
                self.slots.push((self.list.len(), key, value));
                self.list.push(("", Value::Empty));
            }
        }
    }

    /// Calls `f` with the attributes and the arena.
    #[inline]
    pub(super) fn with<R>(&mut self, f: impl FnOnce(&[Attribute<'_>], &Arena) -> R) -> R {
        if self.slots.is_empty() {
            return f(&self.list, &self.arena);
        }
        let mut whole = recycle(mem::take(&mut self.spare));
        whole.extend(self.list.iter().copied());
        for (index, key, value) in &self.slots {
            if let Some(slot) = whole.get_mut(*index) {
                *slot = (self.arena.text(key), self.arena.value(value));
            }
        }
        let result = f(&whole, &self.arena);
        self.spare = recycle(whole);
        result
    }
}

/// The same memory for attributes that borrow something else.
fn recycle<'b>(mut attributes: Vec<Attribute<'_>>) -> Vec<Attribute<'b>> {
    attributes.clear();
    attributes.into_iter().map(|_| ("", Value::Empty)).collect()
}
