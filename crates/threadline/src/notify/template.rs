//! Templates of titles and texts: text with `{field}` in it, checked when it is loaded.

use super::Notice;
use super::text::one_line;
use threadline_detect::incident::Reason;

/// Characters of a template at most.
const CHARS_MAX: usize = 4096;
/// Begins the field of a label.
const LABEL: &str = "label.";

/// The title when none is set.
pub(crate) const TITLE: &str = "{status}: {title} (#{incident}, {severity})";
/// The text when none is set. A line whose fields are all empty is left out.
pub(crate) const TEXT: &str = "{summary}\nServices: {services}\nInvolved: {entities}\nRules: {rules}\nSeen {first} to \
                               {last}: {findings} findings, {active} of {alerts} alerts active\nHas it: {assignee}\n{url}";

/// All fields but `label.NAME`.
pub(crate) const FIELDS: &[&str] = &[
    "active", "alerts", "assignee", "at", "entities", "findings", "first", "group", "hub", "incident", "kind",
    "last", "number", "reason", "receiver", "route", "rules", "services", "severity", "state", "status",
    "summary", "title", "url",
];

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong and which fields there are.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        if text.chars().nth(CHARS_MAX).is_some() {
            return Err(format!("has more than {CHARS_MAX} characters: shorten it"));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.extend(brace.chars().next());
                rest = after;
                continue;
            }
            let field = brace.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, after)) = field else {
                return Err("has a brace that belongs to no {field}: write {{ or }} for a brace".to_owned());
            };
            let label = name.strip_prefix(LABEL).is_some_and(|name| !name.is_empty());
            if !label && !FIELDS.contains(&name) {
                let near = crate::settings::nearest(name, FIELDS.iter().copied());
                let hint = near.map_or_else(
                    || format!("there are {}, and label.NAME", FIELDS.join(", ")),
                    |near| format!("did you mean {{{near}}}?"),
                );
                return Err(format!("there is no field {{{name}}}: {hint}"));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template(parts))
    }

    /// The text for a notice. A line that has fields, all of them empty, is left out.
    pub(crate) fn render(&self, notice: &Notice) -> String {
        let mut lines: Vec<String> = Vec::new();
        let (mut line, mut fields, mut filled) = (String::new(), 0, 0);
        let mut end = |line: &mut String, fields: &mut usize, filled: &mut usize| {
            let line = std::mem::take(line);
            if std::mem::take(fields) == 0 || std::mem::take(filled) > 0 {
                lines.push(line);
            }
        };
        for part in &self.0 {
            match part {
                Part::Field(name) => {
                    let value = value(name, notice);
                    (fields, filled) = (fields + 1, filled + usize::from(!value.is_empty()));
                    line.push_str(&value);
                }
                Part::Text(text) => {
                    for (at, piece) in text.split('\n').enumerate() {
                        if at > 0 {
                            end(&mut line, &mut fields, &mut filled);
                        }
                        line.push_str(piece);
                    }
                }
            }
        }
        end(&mut line, &mut fields, &mut filled);
        lines.join("\n")
    }
}

/// What happened, as one word.
pub(crate) fn status(notice: &Notice) -> &'static str {
    match notice.reason {
        Reason::Trigger => "New",
        Reason::Update => "More",
        Reason::Repeat => "Still open",
        Reason::Escalation => "Nobody acknowledged",
        Reason::Acknowledge => "Acknowledged",
        Reason::Resolve => "Resolved",
    }
}

fn value(name: &str, notice: &Notice) -> String {
    let time = |us: i64| if us == 0 { String::new() } else { crate::rows::time_text(us) };
    let pairs = |pairs: &mut dyn Iterator<Item = (&String, &String)>| {
        pairs.map(|(name, value)| format!("{name}={}", one_line(value))).collect::<Vec<_>>().join(", ")
    };
    match name {
        "active" => notice.active.to_string(),
        "alerts" => notice.alerts.to_string(),
        "assignee" => one_line(&notice.assignee),
        "at" => time(notice.at_us),
        "entities" => pairs(&mut notice.entities.iter().map(|(name, value)| (name, value))),
        "findings" => notice.findings.to_string(),
        "first" => time(notice.first_us),
        "group" => pairs(&mut notice.group.iter()),
        "hub" => one_line(&notice.hub),
        "incident" => notice.incident.to_string(),
        "kind" => notice.kind.name().to_owned(),
        "last" => time(notice.last_us),
        "number" => notice.number.to_string(),
        "reason" => notice.reason.name().to_owned(),
        "receiver" => notice.receiver.clone(),
        "route" => one_line(&notice.route),
        "rules" => one_line(&notice.rules.join("; ")),
        "services" => one_line(&notice.services.join(", ")),
        "severity" => one_line(&notice.severity),
        "state" => one_line(&notice.state),
        "status" => status(notice).to_owned(),
        "summary" => notice.summary.clone(),
        "title" => one_line(&notice.title),
        "url" => notice.url.clone(),
        _ => {
            let label = name.strip_prefix(LABEL).and_then(|name| notice.group.get(name));
            label.map(|value| one_line(value)).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::notice;

    #[test]
    fn templates_say_what_is_wrong_or_are_rendered() {
        let mut told = notice("oncall", 7, Reason::Trigger, 1);
        told.title = "two\nlines".to_owned();
        for (template, want) in [
            ("plain", Ok("plain")),
            ("{{x}} {incident}", Ok("{x} 7")),
            ("{title}", Ok("two lines")),
            ("{label.service}/{label.none}", Ok("checkout/")),
            ("a\nHas it: {assignee}\nb {url}", Ok("a\nb https://hub.example/incidents/7")),
            ("{incidnet}", Err("did you mean {incident}?")),
            ("{xyzzyx}", Err("there are active")),
            ("{label.}", Err("there is no field")),
            ("{", Err("belongs to no {field}")),
            ("a } b", Err("belongs to no {field}")),
        ] {
            match (Template::parse(template).map(|template| template.render(&told)), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{template}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{template}: {got}"),
                (got, want) => panic!("{template}: {got:?} for {want:?}"),
            }
        }
        assert!(Template::parse(&"x".repeat(5000)).unwrap_err().contains("4096"));
        for field in FIELDS {
            assert!(Template::parse(&format!("{{{field}}}")).is_ok(), "{field}");
        }
        let text = Template::parse(TEXT).unwrap().render(&told);
        assert!(text.starts_with("50 findings of one source") && !text.contains("Has it"), "{text}");
        assert_eq!(Template::parse(TITLE).unwrap().render(&told), "New: two lines (#7, high)");
    }

    proptest::proptest! {
        #[test]
        fn any_template_is_read_or_refused(text in "[{}a-z.\n]{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                template.render(&notice("r", 1, Reason::Resolve, 1));
            }
        }
    }
}
