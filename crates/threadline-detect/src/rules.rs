//! A set of rules, compiled: files in, with pipelines applied, filters added, names resolved. A broken rule is a
//! [`Problem`] and takes no other with it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use threadline_model::yaml::{self, Fault};

use crate::matcher::expr::{Case, Check, Expr, Test, of_detection, resolve};
use crate::matcher::{Builder, Matcher, RuleIndex};
use crate::pipeline::{self, Pipeline};
use crate::problem::Problem;
use crate::sigma;
use crate::sigma::correlation::{Alias, Kind, When};
use crate::sigma::extension::{Exception, Extension, Finder};
use crate::sigma::rule::{Comparison, CorrelationRule, Document, Filter, Meta, Rule, Tables};

/// Rules at most.
const RULES_MAX: usize = 100_000;

/// A file of rules.
#[derive(Clone, Copy, Debug)]
pub struct SourceFile<'a> {
    /// As problems name it.
    pub name: &'a str,
    /// Its text: YAML documents.
    pub text: &'a str,
}

/// How rules are compiled.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Pipelines, applied by priority.
    pub pipelines: Vec<Pipeline>,
    /// Rules are asked about every record, whatever their log source. Else a rule whose log source no pipeline knows is
    /// asked about records that name it in the attributes `sigma.product`, `sigma.category`, `sigma.service`.
    pub any_log_source: bool,
    /// Exceptions beside those that stand in rules: id, name or title of the rule, and which.
    pub exceptions: Vec<(String, Exception)>,
}

/// The number of a rule in a set.
pub type RuleId = u32;

/// A set of rules.
#[derive(Debug)]
pub struct RuleSet {
    /// Rules over records: which match.
    pub(crate) matcher: Matcher,
    /// Which rule an index of the matcher belongs to, and as what.
    pub(crate) roles: Vec<(RuleId, Role)>,
    pub(crate) rules: Vec<Compiled>,
    /// For each rule, the correlations that look at its hits, and as which of theirs.
    pub(crate) followers: Vec<Vec<(RuleId, u8)>>,
}

/// What an index of the matcher means for its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A hit.
    Hit,
    /// A hit that also counts in a ratio.
    Part,
}

/// A rule of a set.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) meta: Meta,
    pub(crate) id: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) title: Arc<str>,
    pub(crate) tags: Arc<[String]>,
    pub(crate) extension: Extension,
    /// Fields named in the entities of its findings.
    pub(crate) entities: Vec<NamedField>,
    pub(crate) suppress_by: Vec<NamedField>,
    /// Whether hits make findings of their own.
    pub(crate) generates: bool,
    pub(crate) body: Body,
    /// Seed of the state's keys: another version of a rule has other state.
    pub(crate) seed: u64,
}

/// A field by name and number.
#[derive(Clone, Debug)]
pub(crate) struct NamedField {
    pub(crate) name: Arc<str>,
    pub(crate) id: u32,
}

#[derive(Debug)]
pub(crate) enum Body {
    Single { hit: RuleIndex, group_by: Vec<NamedField>, fields: Vec<NamedField> },
    Correlation(Correlated),
}

/// A correlation with its names resolved.
#[derive(Debug)]
pub(crate) struct Correlated {
    pub(crate) kind: Kind,
    pub(crate) timespan_us: i64,
    pub(crate) when: When,
    /// For each rule that it looks at.
    pub(crate) rules: Vec<RuleId>,
    pub(crate) names: Vec<String>,
    /// Names of the group's fields.
    pub(crate) group_names: Vec<Arc<str>>,
    /// Names of the condition's fields.
    pub(crate) value_names: Vec<Arc<str>>,
    /// Fields by rule: those of the group, those of the condition.
    pub(crate) group_fields: Vec<Vec<Source>>,
    pub(crate) value_fields: Vec<Vec<Source>>,
}

/// Where a correlation takes a field of a hit from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The record.
    Record(u32),
    /// The group of the correlation that is looked at, by position.
    Group(usize),
    /// Nowhere.
    Missing,
}

/// Well-known entities, in the order in which findings name them.
const ENTITIES: [&str; 6] =
    ["client.address", "user.id", "enduser.id", "user.name", "service.name", "network.peer.address"];

impl RuleSet {
    /// Compiles files. The rules that are broken are left out and listed.
    pub fn compile(files: &[SourceFile<'_>], options: &Options) -> (RuleSet, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut documents = Vec::new();
        for file in files {
            match yaml::read(file.text) {
                Ok(nodes) => {
                    for node in &nodes {
                        match sigma::document(node, file.name) {
                            Ok(document) => documents.push(document),
                            Err(fault) => problems.push(Problem::at(file.name, fault)),
                        }
                    }
                }
                Err(fault) => problems.push(Problem::at(file.name, fault)),
            }
        }
        if documents.len() > RULES_MAX {
            problems.push(Problem::new("", 0, format!("more than {RULES_MAX} rules: the rest is left out")));
            documents.truncate(RULES_MAX);
        }
        Assembly::new(options).assemble(documents, problems)
    }

    /// How many rules it has.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What is not wrong, but should be better: rules without id, without tests, that cost much.
    pub fn lint(&self) -> Vec<Problem> {
        let mut out = Vec::new();
        for rule in &self.rules {
            let mut say = |what: &str| out.push(Problem::new(rule.meta.file.clone(), rule.meta.line, what));
            if rule.meta.id.is_empty() {
                say("has no `id`: without one, findings are told apart by its title");
            }
            if rule.meta.description.is_empty() {
                say("has no `description`: say what it finds, for those whom it wakes");
            }
            if rule.extension.tests.is_empty() {
                say(
                    "has no tests: write records that it must and must not find under `threadline: { tests: … }`",
                );
            }
            if let Body::Single { hit, .. } = rule.body
                && self.matcher.is_asked_always(hit)
            {
                say("is evaluated for every record, because it names no text that a match must have: add one");
            }
        }
        out
    }

    /// What is known of each rule.
    pub fn metas(&self) -> impl Iterator<Item = (&Meta, &Extension)> {
        self.rules.iter().map(|rule| (&rule.meta, &rule.extension))
    }

    /// The matcher of rules over records.
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// The rule that a hit of the matcher belongs to; `None` for what a ratio counts.
    pub fn rule_of_hit(&self, hit: RuleIndex) -> Option<&Meta> {
        let (rule, role) = self.roles.get(hit as usize)?;
        (*role == Role::Hit).then(|| self.rules.get(*rule as usize).map(|rule| &rule.meta)).flatten()
    }

    /// The rules over records that a rule comes down to, itself or those that its correlation looks at: id, or title where
    /// there is none, and title.
    pub fn about_records(&self, reference: &str) -> Vec<(String, String)> {
        let (mut out, mut seen) = (Vec::new(), Vec::new());
        let mut left: Vec<RuleId> = self.position(reference).into_iter().collect();
        while let Some(number) = left.pop() {
            let Some(rule) = self.rules.get(number as usize).filter(|_| !seen.contains(&number)) else {
                continue;
            };
            seen.push(number);
            match &rule.body {
                Body::Single { .. } => out.push((rule.id.to_string(), rule.meta.title.clone())),
                Body::Correlation(correlation) => left.extend(correlation.rules.iter().rev()),
            }
        }
        out
    }

    fn position(&self, reference: &str) -> Option<RuleId> {
        self.rules.iter().position(|rule| is_named(&rule.meta, reference)).map(|at| at as RuleId)
    }

    /// The rule of this id or name, with its index in the matcher if it is about records.
    pub fn find(&self, reference: &str) -> Option<(&Meta, Option<RuleIndex>)> {
        let rule = self.rules.iter().find(|rule| is_named(&rule.meta, reference))?;
        let hit = match &rule.body {
            Body::Single { hit, .. } => Some(*hit),
            Body::Correlation(_) => None,
        };
        Some((&rule.meta, hit))
    }
}

fn is_named(meta: &Meta, reference: &str) -> bool {
    meta.id == reference || meta.name.as_deref() == Some(reference) || meta.title == reference
}

/// A set in the making.
struct Assembly<'o> {
    options: &'o Options,
    builder: Builder,
    roles: Vec<(RuleId, Role)>,
    rules: Vec<Compiled>,
    /// Rules as they were read, for fields of correlations.
    originals: Vec<Option<Rule>>,
    by_name: FxHashMap<String, RuleId>,
    /// Rules that correlations look at, and whether one of these lets them make findings of their own.
    generates: FxHashMap<RuleId, bool>,
}

impl<'o> Assembly<'o> {
    fn new(options: &'o Options) -> Self {
        Assembly {
            options,
            builder: Builder::default(),
            roles: Vec::new(),
            rules: Vec::new(),
            originals: Vec::new(),
            by_name: FxHashMap::default(),
            generates: FxHashMap::default(),
        }
    }

    fn assemble(mut self, documents: Vec<Document>, mut problems: Vec<Problem>) -> (RuleSet, Vec<Problem>) {
        let (mut rules, mut correlations, mut filters) = (Vec::new(), Vec::new(), Vec::new());
        for document in documents {
            match document {
                Document::Rule(rule) => rules.push(rule),
                Document::Correlation(rule) => correlations.push(rule),
                Document::Filter(filter) => filters.push(filter),
            }
        }
        for rule in rules {
            let file = rule.meta.file.clone();
            if let Err(fault) = self.rule(rule, &filters) {
                problems.push(Problem::at(&file, fault));
            }
        }
        self.correlations(correlations, &mut problems);
        for (number, generates) in &self.generates {
            if let Some(rule) = self.rules.get_mut(*number as usize) {
                rule.generates = *generates;
            }
        }
        let mut followers = vec![Vec::new(); self.rules.len()];
        for (number, rule) in self.rules.iter().enumerate() {
            if let Body::Correlation(correlation) = &rule.body {
                for (slot, followed) in correlation.rules.iter().enumerate() {
                    if let Some(list) = followers.get_mut(*followed as usize) {
                        list.push((number as RuleId, slot as u8));
                    }
                }
            }
        }
        let (matcher, roles, rules) = match self.builder.build() {
            Ok(matcher) => (matcher, self.roles, self.rules),
            Err(what) => {
                problems.push(Problem::new("", 0, what));
                followers.clear();
                (Matcher::empty(), Vec::new(), Vec::new())
            }
        };
        (RuleSet { matcher, roles, rules, followers }, problems)
    }

    fn named(&mut self, meta: &Meta) -> Result<(), Fault> {
        let number = self.rules.len() as RuleId;
        let names = [Some(meta.id.clone()).filter(|id| !id.is_empty()), meta.name.clone()];
        for name in names.into_iter().flatten() {
            if let Some(other) = self.by_name.get(&name).filter(|other| **other != number) {
                let other = self.rules.get(*other as usize).map_or("", |rule| rule.meta.file.as_str());
                return Err(Fault::new(
                    meta.line,
                    format!("`{name}` is also in {other}: give it another id or name"),
                ));
            }
            self.by_name.insert(name, number);
        }
        Ok(())
    }

    fn fields(&mut self, names: &[String]) -> Vec<NamedField> {
        let field = |name: &String| NamedField { name: name.as_str().into(), id: self.builder.field(name) };
        names.iter().map(field).collect()
    }

    fn rule(&mut self, original: Rule, filters: &[Filter]) -> Result<(), Fault> {
        let line = original.meta.line;
        let mut rule = original.clone();
        let known = pipeline::apply(&self.options.pipelines, &mut rule)?;
        let mut expr = resolve(&rule.conditions, &rule.detections, line)?;
        for detection in &rule.added {
            expr = of_detection(detection)?.and(expr);
        }
        if !known && !self.options.any_log_source {
            expr = of_log_source(&rule).into_iter().fold(expr, |expr, gate| gate.and(expr));
        }
        for filter in filters.iter().filter(|filter| applies(filter, &original)) {
            expr = expr.and(self.filter(filter, &original)?);
        }
        let more = self.options.exceptions.iter();
        let more = more.filter(|(of, _)| is_named(&original.meta, of)).map(|(_, exception)| exception);
        for exception in rule.extension.exceptions.iter().chain(more) {
            let mut excepted = of_detection(&exception.detection)?;
            if let Some(expires) = exception.expires_us {
                let check = Check::Compare(Comparison::Less, (expires as f64).to_bits());
                excepted = excepted.and(Expr::Test(Test { field: Some("timestamp".to_owned()), check }));
            }
            expr = expr.and(Expr::Not(Box::new(excepted)));
        }
        if let Some(finder @ Finder::Absence { .. }) = &rule.extension.finder {
            // A finding of what did not come knows its group alone.
            suppresses_within(&rule.extension, finder.group_by(), line)?;
        }
        let tables = tables(&original);
        let part = match &rule.extension.finder {
            Some(Finder::Ratio { of, .. }) => {
                Some(expr.clone().and(resolve(std::slice::from_ref(of), &rule.detections, line)?))
            }
            _ => None,
        };
        self.named(&original.meta)?;
        let fault = |what: String| Fault::new(line, what);
        let number = self.rules.len() as RuleId;
        let hit = self.builder.add(&expr, tables).map_err(fault)?;
        self.roles.push((number, Role::Hit));
        if let Some(part) = part {
            self.builder.add(&part, tables).map_err(fault)?;
            self.roles.push((number, Role::Part));
        }
        let finder = rule.extension.finder.as_ref();
        let group_by = finder.map_or(Vec::new(), |finder| finder.group_by().to_vec());
        let values = match finder {
            Some(Finder::NewValue { fields, .. }) => fields.clone(),
            Some(Finder::Absence { sequence: Some(field), .. }) => vec![field.clone()],
            _ => Vec::new(),
        };
        let well_known: Vec<String> = ENTITIES.iter().map(|name| (*name).to_owned()).collect();
        let entities = match &rule.extension.entities {
            Some(fields) => fields.clone(),
            None if !group_by.is_empty() => group_by.clone(),
            None => well_known,
        };
        let body = Body::Single { hit, group_by: self.fields(&group_by), fields: self.fields(&values) };
        self.push(rule.meta, rule.extension, &entities, body, true);
        self.originals.push(Some(original));
        Ok(())
    }

    fn push(&mut self, meta: Meta, extension: Extension, entities: &[String], body: Body, generates: bool) {
        let id: Arc<str> =
            if meta.id.is_empty() { meta.title.as_str().into() } else { meta.id.as_str().into() };
        let suppress_by = extension.suppress.as_ref().map_or(Vec::new(), |suppress| suppress.by.clone());
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(id.as_bytes(), meta.version);
        let compiled = Compiled {
            id,
            version: format!("{:016x}", meta.version).as_str().into(),
            title: meta.title.as_str().into(),
            tags: meta.tags.clone().into(),
            entities: self.fields(entities),
            suppress_by: self.fields(&suppress_by),
            extension,
            generates,
            body,
            seed,
            meta,
        };
        self.rules.push(compiled);
    }

    fn filter(&self, filter: &Filter, rule: &Rule) -> Result<Expr, Fault> {
        // The filter's fields are mapped as those of the rule are.
        let mut probe = rule.clone();
        probe.detections = filter.detections.clone();
        pipeline::apply(&self.options.pipelines, &mut probe)?;
        resolve(std::slice::from_ref(&filter.condition), &probe.detections, filter.meta.line)
    }

    /// Correlations, those first that others look at.
    fn correlations(&mut self, mut left: Vec<CorrelationRule>, problems: &mut Vec<Problem>) {
        loop {
            let waiting: Vec<Meta> = left.iter().map(|rule| rule.meta.clone()).collect();
            let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|rule| {
                let waits = |name: &String| waiting.iter().any(|meta| is_named(meta, name));
                !rule.correlation.rules.iter().any(waits)
            });
            if ready.is_empty() {
                for rule in rest {
                    let what = "correlations look at one another in a circle: break it";
                    problems.push(Problem::new(rule.meta.file, rule.meta.line, what));
                }
                return;
            }
            for rule in ready {
                let file = rule.meta.file.clone();
                if let Err(fault) = self.correlation(rule) {
                    problems.push(Problem::at(&file, fault));
                }
            }
            left = rest;
        }
    }

    fn correlation(&mut self, rule: CorrelationRule) -> Result<(), Fault> {
        let CorrelationRule { meta, correlation, extension } = rule;
        let line = correlation.line;
        let mut rules = Vec::new();
        for name in &correlation.rules {
            let found = self.by_name.get(name).copied();
            let by_title =
                || self.rules.iter().position(|rule| rule.meta.title == *name).map(|at| at as RuleId);
            let found = found.or_else(by_title);
            rules.push(found.ok_or_else(|| {
                Fault::new(line, format!("looks at rule `{name}`, which is not there, or is broken itself"))
            })?);
        }
        for alias in &correlation.aliases {
            if let Some((name, _)) = alias.fields.iter().find(|(name, _)| !correlation.rules.contains(name)) {
                return Err(Fault::new(
                    line,
                    format!("alias `{}` names rule `{name}`, which is not in `rules`", alias.name),
                ));
            }
        }
        let mut group_fields = Vec::new();
        let mut value_fields = Vec::new();
        for (name, rule) in correlation.rules.iter().zip(&rules) {
            let mut sources = |fields: &[String]| -> Result<Vec<Source>, Fault> {
                fields.iter().map(|field| self.source(field, &correlation.aliases, name, *rule)).collect()
            };
            group_fields.push(sources(&correlation.group_by)?);
            value_fields.push(sources(&correlation.fields)?);
        }
        suppresses_within(&extension, &correlation.group_by, line)?;
        self.named(&meta)?;
        for rule in &rules {
            *self.generates.entry(*rule).or_default() |= correlation.generate;
        }
        let names = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        let body = Body::Correlation(Correlated {
            kind: correlation.kind,
            timespan_us: correlation.timespan_us,
            when: correlation.when,
            rules,
            names: correlation.rules.clone(),
            group_names: names(&correlation.group_by),
            value_names: names(&correlation.fields),
            group_fields,
            value_fields,
        });
        self.push(meta, extension, &[], body, true);
        self.originals.push(None);
        Ok(())
    }

    /// Where a correlation's field comes from in hits of a rule.
    fn source(&mut self, field: &str, aliases: &[Alias], name: &str, rule: RuleId) -> Result<Source, Fault> {
        let alias = aliases.iter().find(|alias| alias.name == field);
        let own = match alias {
            Some(alias) => match alias.fields.iter().find(|(rule, _)| rule == name) {
                Some((_, field)) => field.as_str(),
                None => return Ok(Source::Missing),
            },
            None => field,
        };
        if let Some(Some(original)) = self.originals.get(rule as usize) {
            let mapped = pipeline::field_of(&self.options.pipelines, original, own)?;
            return Ok(Source::Record(self.builder.field(&mapped)));
        }
        let Some(Body::Correlation(inner)) = self.rules.get(rule as usize).map(|rule| &rule.body) else {
            return Ok(Source::Missing);
        };
        Ok(inner
            .group_names
            .iter()
            .position(|known| known.as_ref() == own)
            .map_or(Source::Missing, Source::Group))
    }
}

/// Faults when `suppress` tells findings apart by what they do not have.
fn suppresses_within(extension: &Extension, group_by: &[String], line: usize) -> Result<(), Fault> {
    let by = extension.suppress.as_ref().map_or(&[][..], |suppress| suppress.by.as_slice());
    match by.iter().find(|field| !group_by.contains(field)) {
        Some(field) => Err(Fault::new(
            line,
            format!("`suppress` is by `{field}`, which is not in `group-by`: add it there, or leave `by` out"),
        )),
        None => Ok(()),
    }
}

/// Whether a filter is about a rule.
fn applies(filter: &Filter, rule: &Rule) -> bool {
    rule.log_source.is_in(&filter.log_source)
        && filter.rules.as_ref().is_none_or(|names| names.iter().any(|name| is_named(&rule.meta, name)))
}

/// `service: logs` and `service: spans` of our own log sources name the table.
fn tables(rule: &Rule) -> Tables {
    let own = matches!(rule.log_source.product.as_deref(), Some("threadline" | "opentelemetry"));
    match rule.log_source.service.as_deref() {
        Some("logs") if own => Tables { logs: true, spans: false },
        Some("spans") if own => Tables { logs: false, spans: true },
        _ => Tables::BOTH,
    }
}

/// Records that name the rule's log source themselves.
fn of_log_source(rule: &Rule) -> Vec<Expr> {
    let source = &rule.log_source;
    let parts = [
        ("sigma.product", &source.product),
        ("sigma.category", &source.category),
        ("sigma.service", &source.service),
    ];
    let test = |(field, value): (&str, &Option<String>)| {
        let check = Check::Equals(value.as_ref()?.to_lowercase(), Case::Folded);
        Some(Expr::Test(Test { field: Some(field.to_owned()), check }))
    };
    parts.into_iter().filter_map(test).collect()
}
