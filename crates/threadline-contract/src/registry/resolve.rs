//! Puts layers together: names become attributes, groups their members, refinements part of what they refine.

use std::collections::BTreeMap;

use super::read::{AppliesTo, At, Group, Raw, RawEvent, Ref, RefAttribute, layer};
use super::{
    ATTRIBUTES_MAX, Class, EVENTS_MAX, Event, Layer, Level, Problem, Problems, Registry, USES_MAX, Use,
};

/// How deep groups may lie in one another.
const DEPTH_MAX: usize = 10;

/// Reads layers, from below.
///
/// # Errors
/// All that is wrong with the files.
pub fn load(layers: &[Layer]) -> Result<Registry, Problems> {
    let mut problems = Problems::default();
    let mut registry = Registry::default();
    let mut groups = BTreeMap::new();
    for files in layers {
        let raw = layer(&files.files, &mut problems);
        Resolver { registry: &mut registry, groups: &mut groups, problems: &mut problems }.layer(raw);
    }
    if problems.count > 0 { Err(problems) } else { Ok(registry) }
}

struct Resolver<'a> {
    registry: &'a mut Registry,
    groups: &'a mut BTreeMap<String, Group>,
    problems: &'a mut Problems,
}

impl Resolver<'_> {
    fn problem(&mut self, at: &At, what: impl Into<String>) {
        self.problems.add(Problem::new(&at.file, at.line, what));
    }

    fn layer(&mut self, raw: Raw) {
        if !raw.name.is_empty() || !raw.schema_url.is_empty() {
            self.registry.name = raw.name;
            self.registry.schema_url = raw.schema_url;
        }
        for (attribute, at) in raw.attributes {
            if self.registry.attributes.len() >= ATTRIBUTES_MAX {
                return self.problem(&at, format!("more than {ATTRIBUTES_MAX} attributes: leave some out"));
            }
            if let Some(known) = self.registry.attributes.get(&attribute.key) {
                let what = format!(
                    "`{}` is defined already: refer to it, and refine it in a group with `applies_to: attributes`",
                    known.key
                );
                self.problem(&at, what);
                continue;
            }
            self.registry.attributes.insert(attribute.key.clone(), attribute);
        }
        let mut applied = Vec::new();
        for group in raw.groups {
            if self.groups.contains_key(&group.id) {
                self.problem(&group.at, format!("a group `{}` is defined already: rename this one", group.id));
            }
            if group.applies_to.is_some() {
                applied.push(group.clone());
            }
            self.groups.insert(group.id.clone(), group);
        }
        raw.events.into_iter().for_each(|event| self.event(event));
        raw.refinements.into_iter().for_each(|event| self.refinement(event));
        applied.into_iter().for_each(|group| self.apply(&group));
    }

    /// All attributes that refs ask for, groups opened.
    fn flatten(
        &mut self,
        at: &At,
        refs: Vec<Ref>,
        extends: Option<&str>,
        depth: usize,
    ) -> Vec<(RefAttribute, At)> {
        let mut out = Vec::new();
        let inner = extends.map(|id| Ref::Group(id.to_owned(), at.line));
        for reference in inner.into_iter().chain(refs) {
            match reference {
                Ref::Attribute(reference) => {
                    let at = At { file: at.file.clone(), line: reference.line };
                    out.push((reference, at));
                }
                Ref::Group(id, line) => {
                    let here = At { file: at.file.clone(), line };
                    match self.groups.get(&id).cloned() {
                        None => self.problem(
                            &here,
                            format!("there is no group `{id}`: define it, or correct the name"),
                        ),
                        Some(_) if depth >= DEPTH_MAX => {
                            self.problem(
                                &here,
                                format!(
                                    "groups lie more than {DEPTH_MAX} deep, or in a circle, in one another"
                                ),
                            );
                        }
                        Some(group) => {
                            out.extend(self.flatten(
                                &group.at,
                                group.refs,
                                group.extends.as_deref(),
                                depth + 1,
                            ));
                        }
                    }
                }
            }
            if out.len() > ATTRIBUTES_MAX {
                self.problem(at, "asks for too many attributes: ask for fewer");
                return Vec::new();
            }
        }
        out
    }

    fn event(&mut self, raw: RawEvent) {
        if self.registry.events.len() >= EVENTS_MAX {
            return self.problem(&raw.at, format!("more than {EVENTS_MAX} events: leave some out"));
        }
        if self.registry.events.contains_key(&raw.name) {
            let what = format!("event `{}` is defined already: refine it in `event_refinements`", raw.name);
            return self.problem(&raw.at, what);
        }
        let event = Event {
            name: raw.name.clone(),
            brief: raw.brief.clone(),
            stability: raw.stability.clone(),
            deprecated: raw.deprecated.clone(),
            uses: Vec::new(),
            severity: None,
            request_scoped: false,
            never_sampled: false,
            owner: String::new(),
            any_of: Vec::new(),
            mapping: super::Mapping::default(),
        };
        self.extend(event, raw);
    }

    fn refinement(&mut self, raw: RawEvent) {
        match self.registry.events.get(&raw.name).cloned() {
            Some(event) => self.extend(event, raw),
            None => {
                let what = format!("there is no event `{}` to refine: define it in `events`", raw.name);
                self.problem(&raw.at, what);
            }
        }
    }

    /// Adds to an event what is said of it.
    fn extend(&mut self, mut event: Event, raw: RawEvent) {
        for (reference, at) in self.flatten(&raw.at, raw.refs, raw.extends.as_deref(), 0) {
            self.add(&mut event.uses, reference, &at);
        }
        if event.uses.len() >= USES_MAX {
            let what = format!(
                "`{}` uses {} attributes, at most {} are taken",
                event.name,
                event.uses.len(),
                USES_MAX - 1
            );
            self.problem(&raw.at, what);
        }
        event.severity = raw.severity.or(event.severity);
        event.request_scoped |= raw.request_scoped;
        event.never_sampled |= raw.never_sampled;
        event.any_of.extend(raw.any_of);
        for (text, new) in [
            (&mut event.owner, raw.owner),
            (&mut event.mapping.ecs, raw.mapping.ecs),
            (&mut event.mapping.ocsf, raw.mapping.ocsf),
            (&mut event.mapping.owasp, raw.mapping.owasp),
        ] {
            if !new.is_empty() {
                *text = new;
            }
        }
        let conditions =
            event.severity.iter().flat_map(|severity| severity.when.iter().map(|(when, _)| &when.attribute));
        let conditions = conditions
            .chain(event.uses.iter().filter_map(|used| Some(&used.required_when.as_ref()?.attribute)));
        let loose = event
            .any_of
            .iter()
            .flatten()
            .chain(conditions)
            .find(|key| !event.uses.iter().any(|used| used.key == **key));
        if let Some(key) = loose.cloned() {
            let what = format!(
                "`{key}` is named in a rule of `{}`, but is none of its attributes: add it",
                event.name
            );
            self.problem(&raw.at, what);
        }
        self.registry.events.insert(event.name.clone(), event);
    }

    /// Adds a use, or makes one stricter.
    fn add(&mut self, uses: &mut Vec<Use>, new: RefAttribute, at: &At) {
        if self.registry.attribute(&new.key).is_none() && !self.registry.attributes.contains_key(&new.key) {
            let what =
                format!("there is no attribute `{}`: define it in `attributes`, or correct the name", new.key);
            return self.problem(at, what);
        }
        let Some(used) = uses.iter_mut().find(|used| used.key == new.key) else {
            uses.push(Use {
                key: new.key,
                level: new.level.unwrap_or(Level::Recommended),
                required_when: new.required_when,
                values: new.values,
            });
            return;
        };
        let mut weaker = None;
        if let Some(level) = new.level {
            if level.strength() < used.level.strength() {
                weaker = Some(format!("`{}` is {} already and cannot become {level}", new.key, used.level));
            } else {
                used.level = level;
            }
        }
        used.required_when = new.required_when.or(used.required_when.take());
        if !new.values.is_empty() {
            let added = new.values.iter().find(|value| !used.values.is_empty() && !used.values.contains(value));
            match added {
                Some(value) => {
                    weaker = Some(format!(
                        "`{value}` is not among the values of `{}`, which is a closed list",
                        new.key
                    ));
                }
                None => used.values = new.values,
            }
        }
        if let Some(what) = weaker {
            self.problem(at, format!("{what}: a refinement makes a contract stricter, not weaker"));
        }
    }

    /// Applies a group to the resource, or to its attributes wherever they occur.
    fn apply(&mut self, group: &Group) {
        let refs = self.flatten(&group.at, group.refs.clone(), group.extends.as_deref(), 0);
        if group.applies_to == Some(AppliesTo::Resource) {
            let mut uses = std::mem::take(&mut self.registry.resource);
            for (reference, at) in refs {
                self.add(&mut uses, reference, &at);
            }
            self.registry.resource = uses;
            return;
        }
        for (reference, at) in refs {
            let Some(attribute) = self.registry.attributes.get_mut(&reference.key) else {
                let what = format!("there is no attribute `{}`: define it in `attributes`", reference.key);
                self.problem(&at, what);
                continue;
            };
            let class = reference.class.unwrap_or(Class::None);
            let weaker = reference.class.is_some_and(|class| class < attribute.class)
                || reference.redact == Some(false) && attribute.redact;
            attribute.class = attribute.class.max(class);
            attribute.redact |= reference.redact.unwrap_or(false);
            if !reference.owner.is_empty() {
                attribute.owner = reference.owner;
            }
            if weaker {
                let what =
                    format!("`{}` is masked already: a refinement makes a contract stricter", reference.key);
                self.problem(&at, what);
            }
        }
    }
}
