//! Modifiers: what stands after `|` in a field's name (specification, "Sigma Modifiers").
//!
//! They apply from left to right. While they do, a text may be bytes that are no text (UTF-16 before Base64).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use threadline_model::yaml::{Fault, Node, Result, Scalar};

use super::pattern::{Pattern, Piece};
use super::rule::{Comparison, Item, Network, Regex, TimePart, Value};

/// Values of one item at most, after modifiers.
const VALUES_MAX: usize = 20_000;
/// Dashes of one value that `windash` expands, at most: each makes five of it.
const DASHES_MAX: usize = 3;
/// What `windash` takes a dash for.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// A value on its way through the modifiers.
#[derive(Clone, Debug)]
enum Work {
    Text(Pattern),
    /// Encoded, and not text; `mark` when a byte order mark stands in front.
    Bytes(Vec<u8>, bool),
    Done(Value),
}

/// An item from a field's name with modifiers (`name|modifier|…`) and what stands beside it.
pub(crate) fn apply(key: &str, node: &Node) -> Result<Item> {
    let line = node.line;
    let mut parts = key.split('|');
    let field = parts.next().filter(|name| !name.is_empty()).map(str::to_owned);
    let modifiers: Vec<&str> = parts.collect();
    let (mut all, mut negated, mut cased) = (false, false, false);
    let mut values = Vec::new();
    if node.is_map() {
        return Err(Fault::new(line, format!("`{key}` has a mapping: write a value or a list of values")));
    }
    let elements = node.one_or_many();
    if elements.is_empty() {
        values.push(Work::Done(Value::Null));
    }
    for element in elements {
        values.push(value(key, element, &modifiers)?);
    }
    for (position, modifier) in modifiers.iter().enumerate() {
        match *modifier {
            "all" => all = true,
            "neq" => negated = true,
            "cased" => cased = true,
            _ => {
                let before = modifiers.get(..position).unwrap_or_default();
                let mut next = Vec::with_capacity(values.len());
                for value in values {
                    next.push(modify(modifier, value, before, line)?);
                }
                values = next;
            }
        }
    }
    if all && elements.len() < 2 && !elements.is_empty() && field.is_some() {
        // As written it says no more than without; pySigma refuses it, we take it.
        all = false;
    }
    let values = values.into_iter().map(|work| finish(work, cased, line)).collect::<Result<Vec<_>>>()?;
    if values.len() > VALUES_MAX {
        return Err(Fault::new(line, format!("`{key}` has more than {VALUES_MAX} values: split the rule")));
    }
    if field.is_none()
        && values
            .iter()
            .any(|v| !matches!(v, Value::Text { .. } | Value::Number(_) | Value::Regex(_) | Value::OneOf(_)))
    {
        return Err(Fault::new(line, "a keyword must be a text, a number or a regular expression"));
    }
    Ok(Item { field, values, all, negated, applied: Vec::new(), line })
}

fn value(key: &str, node: &Node, modifiers: &[&str]) -> Result<Work> {
    let text_only = |name: &&str| matches!(*name, "re" | "cidr" | "fieldref");
    let literal = modifiers.iter().any(text_only);
    let Some(scalar) = node.scalar() else {
        return Err(Fault::new(
            node.line,
            format!("`{key}` has a list or mapping in its list: write plain values"),
        ));
    };
    Ok(match scalar {
        Scalar::Text(text) if literal => Work::Text(Pattern::literal(text)),
        Scalar::Text(text) => Work::Text(Pattern::parse(text)),
        Scalar::Null => Work::Done(Value::Null),
        Scalar::Bool(value) => Work::Done(Value::Bool(value)),
        Scalar::Int(value) => Work::Done(Value::Number(value as f64)),
        Scalar::Float(value) => Work::Done(Value::Number(value)),
    })
}

fn modify(modifier: &str, work: Work, before: &[&str], line: usize) -> Result<Work> {
    let wrong = |what: &str| Err(Fault::new(line, format!("`{modifier}` {what}")));
    if let Work::Done(Value::OneOf(values)) = work {
        let each = |value| match modify(modifier, as_work(value), before, line)? {
            Work::Done(value) => Ok(value),
            work => finish(work, false, line),
        };
        return Ok(Work::Done(Value::OneOf(values.into_iter().map(each).collect::<Result<_>>()?)));
    }
    let work = match work {
        // Numbers are texts to modifiers of texts.
        Work::Done(Value::Number(number)) if !numeric(modifier) => {
            Work::Text(Pattern::literal(crate::text::number_text(number)))
        }
        work => work,
    };
    if let Some(comparison) = Comparison::parse(modifier) {
        return compare(comparison, work, line);
    }
    if let Some(part) = TimePart::parse(modifier) {
        return match number(&work) {
            Some(number) => Ok(Work::Done(Value::TimePart(part, Comparison::Equal, number as i64))),
            None => wrong("needs a number"),
        };
    }
    match (modifier, work) {
        ("contains" | "startswith" | "endswith", work) => affix(modifier, work, line),
        ("re", Work::Text(pattern)) if before.iter().all(|m| matches!(*m, "all" | "neq")) => {
            let source = pattern.plain().unwrap_or_default().to_owned();
            Ok(Work::Done(Value::Regex(Regex {
                source,
                ignore_case: false,
                multi_line: false,
                dot_all: false,
            })))
        }
        ("re", _) => wrong("takes a text and must come first: write `field|re`"),
        ("i" | "ignorecase", Work::Done(Value::Regex(regex))) => {
            Ok(Work::Done(Value::Regex(Regex { ignore_case: true, ..regex })))
        }
        ("m" | "multiline", Work::Done(Value::Regex(regex))) => {
            Ok(Work::Done(Value::Regex(Regex { multi_line: true, ..regex })))
        }
        ("s" | "dotall", Work::Done(Value::Regex(regex))) => {
            Ok(Work::Done(Value::Regex(Regex { dot_all: true, ..regex })))
        }
        ("i" | "ignorecase" | "m" | "multiline" | "s" | "dotall", _) => {
            wrong("is only for regular expressions: write `re|` before it")
        }
        ("cidr", Work::Text(pattern)) => {
            let text = pattern.plain().unwrap_or_default();
            match Network::parse(text) {
                Some(network) => Ok(Work::Done(Value::Cidr(network))),
                None => wrong(&format!("has `{text}`, which is no network: write one such as 10.0.0.0/8")),
            }
        }
        ("exists", Work::Done(Value::Bool(value))) => Ok(Work::Done(Value::Exists(value))),
        ("exists", _) => wrong("needs true or false"),
        ("fieldref", Work::Text(pattern)) => match pattern.plain() {
            Some(field) if !field.is_empty() => {
                Ok(Work::Done(Value::FieldRef { field: field.to_owned(), starts: false, ends: false }))
            }
            _ => wrong("needs the name of a field"),
        },
        ("expand", Work::Text(pattern)) => Ok(Work::Text(pattern.expand())),
        ("expand", work @ Work::Done(Value::Regex(_))) => Ok(work),
        ("windash", Work::Text(pattern)) => windash(&pattern, line),
        ("wide" | "utf16le" | "utf16be" | "utf16", Work::Text(pattern)) => wide(modifier, pattern, line),
        ("base64", work) => Ok(Work::Text(Pattern::literal(STANDARD.encode(bytes(modifier, work, line)?)))),
        ("base64offset", work) => {
            let texts = base64_offsets(&bytes(modifier, work, line)?);
            Ok(Work::Done(Value::OneOf(texts.into_iter().map(text_value).collect())))
        }
        ("cidr" | "fieldref" | "expand" | "windash" | "wide" | "utf16le" | "utf16be" | "utf16", _) => {
            wrong("needs a text")
        }
        _ => wrong(
            "is no modifier of Sigma 2.1: all, base64, base64offset, cased, cidr, contains, endswith, exists, expand, \
             fieldref, gt, gte, lt, lte, minute, hour, day, week, month, year, neq, re, i, m, s, startswith, utf16, \
             utf16be, utf16le, wide, windash",
        ),
    }
}

fn numeric(modifier: &str) -> bool {
    Comparison::parse(modifier).is_some() || TimePart::parse(modifier).is_some() || modifier == "exists"
}

fn as_work(value: Value) -> Work {
    match value {
        Value::Text { pattern, .. } => Work::Text(pattern),
        value => Work::Done(value),
    }
}

fn text_value(text: String) -> Value {
    Value::Text { pattern: Pattern::literal(text), cased: false }
}

fn number(work: &Work) -> Option<f64> {
    match work {
        Work::Done(Value::Number(number)) => Some(*number),
        Work::Text(pattern) => pattern.plain()?.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

fn compare(comparison: Comparison, work: Work, line: usize) -> Result<Work> {
    match work {
        Work::Done(Value::TimePart(part, Comparison::Equal, number)) => {
            Ok(Work::Done(Value::TimePart(part, comparison, number)))
        }
        work => match number(&work) {
            Some(number) => Ok(Work::Done(Value::Compare(comparison, number))),
            None => Err(Fault::new(line, "`lt`, `lte`, `gt`, `gte` need a number")),
        },
    }
}

/// `contains`, `startswith`, `endswith`.
fn affix(modifier: &str, work: Work, line: usize) -> Result<Work> {
    let (front, back) = (modifier != "startswith", modifier != "endswith");
    match work {
        Work::Text(mut pattern) => {
            if front {
                pattern.open_front();
            }
            if back {
                pattern.open_back();
            }
            Ok(Work::Text(pattern))
        }
        Work::Done(Value::FieldRef { field, starts, ends }) => {
            Ok(Work::Done(Value::FieldRef { field, starts: starts || back, ends: ends || front }))
        }
        // A regular expression is looked for anywhere already.
        Work::Done(Value::Regex(regex)) => {
            let source = match modifier {
                "startswith" => format!("^(?:{})", regex.source),
                "endswith" => format!("(?:{})$", regex.source),
                _ => regex.source,
            };
            Ok(Work::Done(Value::Regex(Regex { source, ..regex })))
        }
        work @ Work::Bytes(..) => affix(modifier, as_work(finish(work, false, line)?), line),
        Work::Done(Value::Bool(value)) => {
            affix(modifier, Work::Text(Pattern::literal(value.to_string())), line)
        }
        Work::Done(Value::Null) => Ok(Work::Done(Value::Null)),
        Work::Done(_) => Err(Fault::new(line, format!("`{modifier}` needs a text"))),
    }
}

fn windash(pattern: &Pattern, line: usize) -> Result<Work> {
    let mut out = vec![Pattern::default()];
    let mut found = 0;
    for piece in &pattern.0 {
        let Piece::Text(text) = piece else {
            out.iter_mut().for_each(|pattern| pattern.push(piece.clone()));
            continue;
        };
        let word = |char: Option<char>| char.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let chars: Vec<char> = text.chars().collect();
        let mut before = None;
        for (at, char) in chars.iter().enumerate() {
            if matches!(char, '-' | '/') && !word(before) && word(chars.get(at + 1).copied()) {
                found += 1;
                if found > DASHES_MAX {
                    let what =
                        format!("`windash` expands {DASHES_MAX} dashes of a value at most: split the value");
                    return Err(Fault::new(line, what));
                }
                let with = |dash: char| {
                    out.iter().cloned().map(move |mut pattern| {
                        pattern.push(Piece::Text(dash.into()));
                        pattern
                    })
                };
                out = DASHES.into_iter().flat_map(with).collect();
            } else {
                out.iter_mut().for_each(|pattern| pattern.push(Piece::Text((*char).into())));
            }
            before = Some(*char);
        }
    }
    if found == 0 {
        return Ok(Work::Text(pattern.clone()));
    }
    let values = out.into_iter().map(|pattern| Value::Text { pattern, cased: false });
    Ok(Work::Done(Value::OneOf(values.collect())))
}

fn utf16(text: &str, big: bool) -> Vec<u8> {
    let unit = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    text.encode_utf16().flat_map(unit).collect()
}

fn wide(modifier: &str, pattern: Pattern, line: usize) -> Result<Work> {
    let big = modifier == "utf16be";
    if let Some(text) = pattern.plain() {
        return Ok(Work::Bytes(utf16(text, big), modifier == "utf16"));
    }
    let mut out = Pattern::default();
    for piece in pattern.0 {
        out.push(match piece {
            Piece::Text(text) => Piece::Text(as_text(utf16(&text, big), line)?),
            piece => piece,
        });
    }
    Ok(Work::Text(out))
}

fn as_text(bytes: Vec<u8>, line: usize) -> Result<String> {
    let what = "UTF-16 of other than ASCII is no text: encode it with `base64` or `base64offset`";
    String::from_utf8(bytes).map_err(|_| Fault::new(line, what))
}

/// The bytes to encode.
fn bytes(modifier: &str, work: Work, line: usize) -> Result<Vec<u8>> {
    match work {
        Work::Text(pattern) => match pattern.plain() {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err(Fault::new(
                line,
                format!("`{modifier}` cannot encode wildcards: write `\\*` for the character"),
            )),
        },
        Work::Bytes(bytes, mark) => {
            let mut out = if mark { vec![0xff, 0xfe] } else { Vec::new() };
            out.extend(bytes);
            Ok(out)
        }
        Work::Done(_) => Err(Fault::new(line, format!("`{modifier}` needs a text"))),
    }
}

/// The Base64 texts of which one stands wherever the bytes stand in something encoded.
fn base64_offsets(bytes: &[u8]) -> Vec<String> {
    let offset = |before: usize| {
        let mut padded = vec![b' '; before];
        padded.extend(bytes);
        let encoded = STANDARD.encode(&padded);
        let start = [0, 2, 3].get(before).copied().unwrap_or(0);
        let cut = [0, 3, 2].get(padded.len() % 3).copied().unwrap_or(0);
        encoded.get(start..encoded.len().saturating_sub(cut)).unwrap_or_default().to_owned()
    };
    (0..3).map(offset).filter(|text| !text.is_empty()).collect()
}

fn finish(work: Work, cased: bool, line: usize) -> Result<Value> {
    Ok(match work {
        Work::Text(pattern) => Value::Text { pattern, cased },
        Work::Bytes(bytes, mark) => {
            let text = as_text(bytes, line)?;
            let text = if mark { format!("\u{feff}{text}") } else { text };
            Value::Text { pattern: Pattern::literal(text), cased }
        }
        Work::Done(Value::OneOf(values)) => {
            let each = |value| finish(as_work(value), cased, line);
            Value::OneOf(values.into_iter().map(each).collect::<Result<_>>()?)
        }
        Work::Done(value @ (Value::Text { .. } | Value::Regex(_))) => value,
        Work::Done(value) if cased => {
            return Err(Fault::new(line, format!("`cased` needs a text, not {value:?}")));
        }
        Work::Done(value) => value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(yaml: &str) -> Result<Item> {
        let trees = threadline_model::yaml::read(yaml).unwrap();
        let (key, node) = &trees[0].members()[0];
        apply(key, node)
    }

    fn texts(value: &Value) -> Vec<String> {
        match value {
            Value::Text { pattern, .. } => vec![pattern.to_string()],
            Value::OneOf(values) => values.iter().flat_map(texts).collect(),
            value => vec![format!("{value:?}")],
        }
    }

    /// Values as the specification and pySigma 2.0 have them.
    #[test]
    fn modifiers_change_values() {
        for (yaml, want) in [
            ("f|contains: a", vec!["*a*"]),
            ("f|startswith: a", vec!["a*"]),
            ("f|endswith: 'a*'", vec!["*a*"]),
            ("f|contains: '*a'", vec!["*a*"]),
            ("f|contains: 4444", vec!["*4444*"]),
            ("f|base64: foobar", vec!["Zm9vYmFy"]),
            ("f|base64offset: foobar", vec!["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]),
            ("f|base64offset|contains: foo", vec!["*Zm9v*", "*Zvb*", "*mb2*"]),
            ("f|wide|base64: ab", vec!["YQBiAA=="]),
            ("f|utf16le|base64: ab", vec!["YQBiAA=="]),
            ("f|utf16be|base64: ab", vec!["AGEAYg=="]),
            ("f|utf16|base64: ab", vec!["//5hAGIA"]),
            ("f|wide|base64: é", vec!["6QA="]),
            ("f|wide: ab", vec!["a\0b\0"]),
            ("f|windash: ' -a'", vec![" -a", " /a", " –a", " —a", " ―a"]),
            ("f|windash: 'x-a'", vec!["x-a"]),
            ("f|windash|contains: '-a'", vec!["*-a*", "*/a*", "*–a*", "*—a*", "*―a*"]),
        ] {
            let item = item(yaml).unwrap();
            let found: Vec<String> = item.values.iter().flat_map(texts).collect();
            assert_eq!(found, want, "{yaml}");
        }
        assert_eq!(item("f|windash|contains|all: ['-a', '-b']").unwrap().values.len(), 2);
        assert_eq!(
            item("f|hour|gte: 20").unwrap().values,
            [Value::TimePart(TimePart::Hour, Comparison::GreaterOrEqual, 20)]
        );
        assert_eq!(item("f|gt: '10'").unwrap().values, [Value::Compare(Comparison::Greater, 10.0)]);
        assert_eq!(item("f: []").unwrap().values, [Value::Null]);
        assert!(item("f|neq: x").unwrap().negated);
    }

    #[test]
    fn wrong_values_are_refused_with_advice() {
        for (yaml, want) in [
            ("f|contain: a", "no modifier of Sigma"),
            ("f|cidr: 10.0.0.0/40", "no network"),
            ("f|base64: 'a*'", "cannot encode wildcards"),
            ("f|exists: 1", "true or false"),
            ("f|gt: x", "need a number"),
            ("f|i: x", "only for regular expressions"),
            ("f|contains|re: x", "must come first"),
            ("f|wide: é", "no text"),
            ("f|hour: x", "needs a number"),
            ("f|windash: '-a -b -c -d'", "3 dashes"),
            ("f: { a: 1 }", "mapping"),
        ] {
            let fault = item(yaml).unwrap_err().what;
            assert!(fault.contains(want), "{yaml}: {fault}");
        }
    }
}
