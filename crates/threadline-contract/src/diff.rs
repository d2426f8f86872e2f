//! What changed between two registries: breaking, when a sender or a reader that kept the old one no longer keeps the new one;
//! compatible otherwise.

use std::fmt;

use crate::registry::{Attribute, Class, Event, Level, Registry, Severity, Use};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Whether somebody has to do something about it.
    pub breaking: bool,
    /// The attribute or event.
    pub name: String,
    /// What changed.
    pub what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", if self.breaking { "breaking" } else { "compatible" }, self.name, self.what)
    }
}

/// All changes from `old` to `new`, breaking ones first, then by name.
pub fn diff(old: &Registry, new: &Registry) -> Vec<Change> {
    let mut changes = Changes::default();
    for (key, attribute) in &old.attributes {
        match new.attributes.get(key) {
            None => changes.add(true, key, "the attribute is gone"),
            Some(now) => changes.attribute(attribute, now),
        }
    }
    for key in new.attributes.keys().filter(|key| !old.attributes.contains_key(*key)) {
        changes.add(false, key, "a new attribute");
    }
    for (name, event) in &old.events {
        match new.events.get(name) {
            None => changes.add(true, name, "the event is gone"),
            Some(now) => changes.event(event, now),
        }
    }
    for name in new.events.keys().filter(|name| !old.events.contains_key(*name)) {
        changes.add(false, name, "a new event");
    }
    changes.uses("resource", &old.resource, &new.resource);
    changes.list.sort_by(|a, b| b.breaking.cmp(&a.breaking).then_with(|| a.cmp(b)));
    changes.list
}

#[derive(Default)]
struct Changes {
    list: Vec<Change>,
}

impl Changes {
    fn add(&mut self, breaking: bool, name: &str, what: impl Into<String>) {
        self.list.push(Change { breaking, name: name.to_owned(), what: what.into() });
    }

    /// Values that a closed list lost or got. An empty list allows everything.
    fn values(&mut self, name: &str, key: &str, old: &[String], new: &[String]) {
        match (old.is_empty(), new.is_empty()) {
            (true, true) => {}
            (true, false) => self.add(true, name, format!("{key} must now be one of {}", new.join(", "))),
            (false, true) => self.add(false, name, format!("{key} may now be anything")),
            (false, false) => {
                for value in old.iter().filter(|value| !new.contains(value)) {
                    self.add(true, name, format!("{key} may no longer be {value}"));
                }
                for value in new.iter().filter(|value| !old.contains(value)) {
                    self.add(false, name, format!("{key} may be {value}"));
                }
            }
        }
    }

    fn attribute(&mut self, old: &Attribute, new: &Attribute) {
        let key = &old.key;
        if (old.base, old.template) != (new.base, new.template) {
            self.add(true, key, format!("its type was {} and is {}", type_name(old), type_name(new)));
        }
        let closed = |attribute: &Attribute| match attribute.closed {
            true => attribute.members.clone(),
            false => Vec::new(),
        };
        self.values(key, "its value", &closed(old), &closed(new));
        match (&old.deprecated, &new.deprecated) {
            (None, Some(why)) => self.add(true, key, format!("is deprecated: {why}")),
            (Some(_), None) => self.add(false, key, "is no longer deprecated"),
            _ => {}
        }
        if old.class != new.class {
            let what = format!("its class was {} and is {}", old.class.name(), new.class.name());
            // Readers no longer find what is masked.
            self.add(new.class == Class::Secret, key, what);
        }
        if old.redact != new.redact {
            self.add(new.redact, key, if new.redact { "is masked" } else { "is no longer masked" });
        }
    }

    fn event(&mut self, old: &Event, new: &Event) {
        let name = &old.name;
        self.uses(name, &old.uses, &new.uses);
        self.severity(name, old.severity.as_ref(), new.severity.as_ref());
        if old.request_scoped != new.request_scoped {
            let what = if new.request_scoped { "needs a trace id" } else { "no longer needs a trace id" };
            self.add(new.request_scoped, name, what);
        }
        if old.never_sampled != new.never_sampled {
            let what =
                if new.never_sampled { "is never sampled or refused" } else { "may be sampled and refused" };
            self.add(old.never_sampled, name, what);
        }
        for any in new.any_of.iter().filter(|any| !old.any_of.contains(any)) {
            self.add(true, name, format!("needs one of {}", any.join(", ")));
        }
        for any in old.any_of.iter().filter(|any| !new.any_of.contains(any)) {
            self.add(false, name, format!("no longer needs one of {}", any.join(", ")));
        }
        match (&old.deprecated, &new.deprecated) {
            (None, Some(why)) => self.add(true, name, format!("is deprecated: {why}")),
            (Some(_), None) => self.add(false, name, "is no longer deprecated"),
            _ => {}
        }
        if old.mapping != new.mapping {
            self.add(false, name, "its mapping changed");
        }
    }

    fn uses(&mut self, name: &str, old: &[Use], new: &[Use]) {
        let find = |uses: &[Use], key: &str| uses.iter().find(|used| used.key == key).cloned();
        for used in new {
            match find(old, &used.key) {
                None => {
                    let breaking = used.level == Level::Required || used.required_when.is_some();
                    self.add(breaking, name, format!("{} is new and {}", used.key, used.level));
                }
                Some(before) => {
                    self.values(name, &used.key, &before.values, &used.values);
                    let stricter = used.level == Level::Required && before.level != Level::Required
                        || used.required_when != before.required_when && used.required_when.is_some();
                    if used.level != before.level || used.required_when != before.required_when {
                        let what = format!("{} was {} and is {}", used.key, before.level, used.level);
                        self.add(stricter, name, what);
                    }
                }
            }
        }
        for used in old.iter().filter(|used| find(new, &used.key).is_none()) {
            // Readers may look for it.
            self.add(used.level == Level::Required, name, format!("{} is no longer asked for", used.key));
        }
    }

    fn severity(&mut self, name: &str, old: Option<&Severity>, new: Option<&Severity>) {
        let text = |severity: Option<&Severity>| {
            severity.map_or("any".to_owned(), |severity| {
                format!("{} to {}", severity.range.min, severity.range.max)
            })
        };
        if old == new {
            return;
        }
        let wider = match (old, new) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(old), Some(new)) => {
                old.when == new.when && new.range.min <= old.range.min && old.range.max <= new.range.max
            }
        };
        self.add(!wider, name, format!("its severity was {} and is {}", text(old), text(new)));
    }
}

fn type_name(attribute: &Attribute) -> String {
    match attribute.template {
        true => format!("template[{}]", attribute.base.name()),
        false => attribute.base.name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::registry::{File, Layer, base_layers, load};

    fn registry(text: &str) -> Registry {
        let text = Cow::Owned(format!("file_format: definition/2\n{text}"));
        load(&[Layer { files: vec![File { path: "a.yaml".to_owned(), text }] }]).unwrap()
    }

    #[test]
    fn changes_are_told_apart() {
        let attribute =
            |rest: &str| format!("attributes: [{{ key: a, stability: stable, brief: b, {rest} }}]\n");
        let event = |level: &str, rest: &str| {
            format!(
                "{}events: [{{ name: e, stability: stable, brief: b, attributes: [{{ ref: a, requirement_level: {level} }}], annotations: {{ threadline: {{ {rest} }} }} }}]\n",
                attribute("type: string")
            )
        };
        let int = attribute("type: int");
        let string = attribute("type: string");
        let closed = |values: &str| {
            attribute(&format!(
                "type: {{ members: [{values}] }}, annotations: {{ threadline: {{ closed: true }} }}"
            ))
        };
        let (x, xy) = (closed("{ id: x, value: x }"), closed("{ id: x, value: x }, { id: y, value: y }"));
        for (old, new, want) in [
            (&string, &string, ""),
            (&string, &int, "breaking: a: its type was string and is int"),
            (&xy, &x, "breaking: a: its value may no longer be y"),
            (&x, &xy, "compatible: a: its value may be y"),
            (
                &string,
                &attribute("type: string, deprecated: { reason: renamed, renamed_to: c }"),
                "breaking: a: is deprecated: use c",
            ),
            (
                &string,
                &attribute("type: string, annotations: { threadline: { class: secret } }"),
                "breaking: a: its class was none and is secret",
            ),
            (&string, &event("required", ""), "compatible: e: a new event"),
            (&event("required", ""), &string, "breaking: e: the event is gone"),
            (
                &event("recommended", ""),
                &event("required", ""),
                "breaking: e: a was recommended and is required",
            ),
            (&event("required", ""), &event("opt_in", ""), "compatible: e: a was required and is opt-in"),
            (
                &event("required", ""),
                &event("required", "severity: { min: 9, max: 12 }"),
                "breaking: e: its severity was any and is 9 to 12",
            ),
            (
                &event("required", "severity: { min: 9, max: 12 }"),
                &event("required", "severity: { min: 9, max: 16 }"),
                "compatible: e: its severity was 9 to 12 and is 9 to 16",
            ),
            (
                &event("required", "sampling: never"),
                &event("required", ""),
                "breaking: e: may be sampled and refused",
            ),
            (
                &event("required", ""),
                &event("required", "request_scoped: true"),
                "breaking: e: needs a trace id",
            ),
        ] {
            let changes = diff(&registry(old), &registry(new));
            let got: Vec<String> = changes.iter().map(Change::to_string).collect();
            assert_eq!(got.join("\n"), want);
        }
        let base = load(&base_layers()).unwrap();
        assert_eq!(diff(&base, &base), []);
    }
}
