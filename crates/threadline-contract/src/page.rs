//! The reference page of a registry's events, as Markdown.

use std::fmt::Write as _;

use crate::registry::{Attribute, Class, Event, Level, Registry, SeverityRange, Use};
use crate::rules::Rule;

/// The page.
pub fn page(registry: &Registry) -> String {
    let mut out = String::from(
        "# Events\n\nGenerated from [contract/](../contract/); `cargo xtask` and a test of `threadline-contract` keep it true. What the \
         columns mean, and how a company adds its own: [contract.md](contract.md).\n\n",
    );
    let deprecated = registry.attributes.values().filter(|attribute| attribute.deprecated.is_some()).count();
    let _ = writeln!(
        out,
        "Contract {}: {} events, {} attributes and {deprecated} deprecated ones.\n",
        registry.version(),
        registry.events.len(),
        registry.attributes.len() - deprecated,
    );
    resource(&mut out, registry);
    mapping(&mut out, registry);
    for event in registry.events.values() {
        section(&mut out, registry, event);
    }
    own(&mut out, registry);
    classes(&mut out, registry);
    rules(&mut out);
    out
}

/// A text in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { cell(text) }
}

fn severity(range: SeverityRange) -> String {
    if range.min == range.max { range.min.to_string() } else { format!("{}–{}", range.min, range.max) }
}

fn uses(out: &mut String, registry: &Registry, uses: &[Use]) {
    out.push_str("| Attribute | Type | Level | What it is |\n| --- | --- | --- | --- |\n");
    for used in uses {
        let attribute = registry.attribute(&used.key);
        let (kind, mut brief) =
            attribute.map_or(("any", String::new()), |found| (found.base.name(), found.brief.clone()));
        let values = match attribute {
            _ if !used.values.is_empty() => used.values.clone(),
            Some(found) if found.closed => found.members.clone(),
            _ => Vec::new(),
        };
        if !values.is_empty() {
            let _ = write!(brief, " One of `{}`.", values.join("`, `"));
        }
        let _ =
            writeln!(out, "| `{}` | {kind} | {} | {} |", used.key, cell(&used.level.to_string()), cell(&brief));
    }
    out.push('\n');
}

fn resource(out: &mut String, registry: &Registry) {
    out.push_str("## The resource of every record\n\n");
    uses(out, registry, &registry.resource);
}

fn mapping(out: &mut String, registry: &Registry) {
    out.push_str(
        "## What others call them\n\nElastic Common Schema, Open Cybersecurity Schema Framework (class), OWASP's logging vocabulary.\n\n\
         | Event | ECS | OCSF | OWASP |\n| --- | --- | --- | --- |\n",
    );
    for event in registry.events.values().filter(|event| event.mapping != crate::registry::Mapping::default()) {
        let mapping = &event.mapping;
        let (ecs, ocsf, owasp) = (or_dash(&mapping.ecs), or_dash(&mapping.ocsf), or_dash(&mapping.owasp));
        let _ = writeln!(out, "| `{}` | {ecs} | {ocsf} | {owasp} |", event.name);
    }
    out.push('\n');
}

fn section(out: &mut String, registry: &Registry, event: &Event) {
    let _ = writeln!(out, "## `{}`\n\n{}\n", event.name, event.brief);
    if let Some(found) = &event.severity {
        let _ = write!(out, "- severity {}", severity(found.range));
        for (when, range) in &found.when {
            let _ = write!(out, "; {} where {when}", severity(*range));
        }
        out.push('\n');
    }
    if event.request_scoped {
        out.push_str("- part of a request: has a trace id\n");
    }
    if event.never_sampled {
        out.push_str("- never sampled, never refused\n");
    }
    for any in &event.any_of {
        let _ = writeln!(out, "- at least one of `{}`", any.join("`, `"));
    }
    if !event.owner.is_empty() {
        let _ = writeln!(out, "- owner: {}", event.owner);
    }
    if let Some(why) = &event.deprecated {
        let _ = writeln!(out, "- deprecated: {why}");
    }
    let _ = writeln!(out, "- stability: {}\n", event.stability);
    let mut sorted = event.uses.clone();
    sorted.sort_by_key(|used| std::cmp::Reverse(used.level.strength()));
    uses(out, registry, &sorted);
}

fn own(out: &mut String, registry: &Registry) {
    out.push_str(
        "## Our attributes\n\nWhat OpenTelemetry lacks. All else is its own.\n\n| Attribute | Type | What it is |\n| --- | --- | --- |\n",
    );
    for attribute in registry.attributes.values().filter(|attribute| attribute.key.starts_with("threadline.")) {
        let mut brief = attribute.brief.clone();
        if attribute.closed {
            let _ = write!(brief, " One of `{}`.", attribute.members.join("`, `"));
        }
        let _ = writeln!(out, "| `{}` | {} | {} |", attribute.key, attribute.base.name(), cell(&brief));
    }
    out.push('\n');
}

fn classes(out: &mut String, registry: &Registry) {
    for (class, title) in
        [(Class::Secret, "Secrets: always masked"), (Class::Pii, "About a person: masked with `mask_pii`")]
    {
        let of = |attribute: &&Attribute| attribute.class == class;
        let keys = registry.attributes.values().filter(of).map(|attribute| match attribute.template {
            true => format!("`{}.*`", attribute.key),
            false => format!("`{}`", attribute.key),
        });
        let _ = writeln!(out, "## {title}\n\n{}\n", keys.collect::<Vec<_>>().join(", "));
    }
}

fn rules(out: &mut String) {
    out.push_str("## Rules\n\n| Rule | Bit | Weight | What it says |\n| --- | --- | --- | --- |\n");
    for rule in Rule::ALL {
        let _ = writeln!(out, "| `{rule}` | {} | {} | {} |", *rule as u8, rule.weight(), rule.what());
    }
}

/// An attribute in words, for the command line.
pub fn describe_attribute(attribute: &Attribute) -> String {
    let mut out = String::new();
    let dots = if attribute.template { ".<name>" } else { "" };
    let _ = writeln!(out, "{}{dots}: {} ({})", attribute.key, attribute.base.name(), attribute.stability);
    let _ = writeln!(out, "  {}", attribute.brief);
    if let Some(why) = &attribute.deprecated {
        let _ = writeln!(out, "  deprecated: {why}");
    }
    if !attribute.members.is_empty() {
        let how = if attribute.closed { "one of" } else { "known values" };
        let _ = writeln!(out, "  {how}: {}", attribute.members.join(", "));
    }
    if attribute.class != Class::None {
        let _ = writeln!(out, "  class: {}", attribute.class.name());
    }
    out
}

/// An event in words, for the command line.
pub fn describe_event(registry: &Registry, event: &Event) -> String {
    let mut out = format!("{} ({})\n  {}\n", event.name, event.stability, event.brief);
    if let Some(found) = &event.severity {
        let _ = writeln!(out, "  severity {}", severity(found.range));
        for (when, range) in &found.when {
            let _ = writeln!(out, "  severity {} where {when}", severity(*range));
        }
    }
    if event.request_scoped {
        out.push_str("  part of a request: has a trace id\n");
    }
    if event.never_sampled {
        out.push_str("  never sampled, never refused\n");
    }
    for any in &event.any_of {
        let _ = writeln!(out, "  at least one of {}", any.join(", "));
    }
    for used in &event.uses {
        let kind = registry.attribute(&used.key).map_or("any", |attribute| attribute.base.name());
        let _ = write!(out, "  {:<40} {kind:<10} {}", used.key, used.level);
        if !used.values.is_empty() {
            let _ = write!(out, ": {}", used.values.join(", "));
        }
        out.push('\n');
    }
    out
}

/// How many attributes of an event are required, for a list.
pub fn required(event: &Event) -> usize {
    event.uses.iter().filter(|used| used.level == Level::Required).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{base_layers, load};

    /// `UPDATE_GOLDEN=1 cargo test -p threadline-contract` writes it.
    #[test]
    fn the_page_is_as_committed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contract-events.md");
        let page = page(&load(&base_layers()).unwrap());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page, "docs/contract-events.md is not as generated: UPDATE_GOLDEN=1 cargo test");
    }
}
