//! Text to tree, by recursive descent over the characters: what a character means depends on what stands before it
//! (`/` opens a regular expression as a word, and is text inside one), so there is no separate pass for tokens.

use super::ast::{Expr, Field, Test, is_field_name};
use super::rule::{self, Standing};
use super::value::{Flag, Level, Number, Op, classify, parse_code, parse_duration, parse_time};
use super::{DEPTH_MAX, NODES_MAX, ParseError, REGEX_BYTES_MAX, TEXT_BYTES_MAX};

type Result<T> = std::result::Result<T, ParseError>;

pub(super) fn parse(text: &str) -> Result<Expr> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the search has {} bytes, at most {TEXT_BYTES_MAX} are taken", text.len());
        return Err(ParseError { message, at: 0, len: text.len() });
    }
    let mut parser = Parser { text, at: 0, depth: 0, nodes: 0 };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(Expr::All);
    }
    let expr = parser.or(None)?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => {
            Err(parser.error_here("this bracket was never opened: remove it, or quote it to search for it"))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    nodes: usize,
}

/// A value as typed.
enum Raw<'a> {
    Quoted(String),
    Contains(String),
    Regex(String),
    Plain(&'a str),
}

fn error(at: usize, len: usize, message: impl Into<String>) -> ParseError {
    ParseError { message: message.into(), at, len }
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')')
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn error_here(&self, message: impl Into<String>) -> ParseError {
        error(self.at, self.peek().map_or(0, char::len_utf8), message)
    }

    /// Whether a keyword stands here, as a word of its own.
    fn at_keyword(&self, keyword: &str) -> bool {
        self.rest()
            .strip_prefix(keyword)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| ends_word(c) || c == '"'))
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.at += keyword.len();
            self.skip_space();
        }
        found
    }

    fn count_node(&mut self, at: usize) -> Result<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(error(at, 1, format!("the search has too many parts: at most {NODES_MAX} are taken")));
        }
        Ok(())
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            let message = format!("brackets and negations go {DEPTH_MAX} deep at most");
            return Err(self.error_here(message));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// `field` is the field whose values are listed, inside `field:(…)`.
    fn or(&mut self, field: Option<&Field>) -> Result<Expr> {
        let mut parts = vec![self.and(field)?];
        loop {
            let start = self.at;
            if !self.keyword("OR") {
                return Ok(Expr::or(parts));
            }
            self.count_node(start)?;
            if self.peek().is_none_or(|c| c == ')') {
                return Err(error(
                    start,
                    2,
                    "something must follow OR; quote it to search for the word: \"OR\"",
                ));
            }
            parts.push(self.and(field)?);
        }
    }

    fn and(&mut self, field: Option<&Field>) -> Result<Expr> {
        for keyword in ["OR", "AND"] {
            if self.at_keyword(keyword) {
                let message = format!(
                    "something must stand before {keyword}; quote it to search for the word: \"{keyword}\""
                );
                return Err(error(self.at, keyword.len(), message));
            }
        }
        let mut parts = vec![self.unary(field)?];
        loop {
            self.skip_space();
            let start = self.at;
            let explicit = self.keyword("AND");
            if self.peek().is_none_or(|c| c == ')') || self.at_keyword("OR") || self.at_keyword("AND") {
                if explicit {
                    let message = "something must follow AND; quote it to search for the word: \"AND\"";
                    return Err(error(start, 3, message));
                }
                return Ok(Expr::and(parts));
            }
            parts.push(self.unary(field)?);
        }
    }

    fn unary(&mut self, field: Option<&Field>) -> Result<Expr> {
        let start = self.at;
        let sign = field.is_none_or(|_| !self.negative_number());
        if self.keyword("NOT") || (sign && self.eat("-")) {
            self.count_node(start)?;
            if self.peek().is_none_or(|c| ends_word(c) && c != '(') {
                let message =
                    "nothing follows that could be excluded: write -word or NOT word, or quote the text";
                return Err(error(start, self.at - start, message));
            }
            return Ok(self.nested(|p| p.unary(field))?.negate());
        }
        self.primary(field)
    }

    /// Whether a number with a sign stands here, as in `field:(-1 OR 1)`.
    fn negative_number(&self) -> bool {
        self.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn primary(&mut self, field: Option<&Field>) -> Result<Expr> {
        let start = self.at;
        self.count_node(start)?;
        if self.eat("(") {
            return self.brackets(start, field);
        }
        match field {
            Some(field) => self.condition(field, start),
            None => self.bare(),
        }
    }

    fn brackets(&mut self, start: usize, field: Option<&Field>) -> Result<Expr> {
        self.skip_space();
        if self.peek() == Some(')') {
            return Err(error(
                start,
                self.at + 1 - start,
                "nothing is in these brackets: quote them to search for them",
            ));
        }
        if self.peek().is_none() {
            return Err(error(start, 1, "this bracket is never closed: add ), or quote it to search for it"));
        }
        let expr = self.nested(|p| p.or(field))?;
        if !self.eat(")") {
            return Err(error(start, 1, "this bracket is never closed: add ), or quote it to search for it"));
        }
        Ok(expr)
    }

    /// A word, phrase, substring, regular expression or `field…` outside of `field:(…)`.
    fn bare(&mut self) -> Result<Expr> {
        let start = self.at;
        match self.peek() {
            Some('"') => {
                let text = self.quoted()?;
                if self.peek().is_some_and(|c| matches!(c, ':' | '=' | '<' | '>')) {
                    let message = "a field's name in quotes needs an @ before it, as in @\"my field\":value";
                    return Err(error(start, self.at - start, message));
                }
                return body_phrase(start, self.at - start, text);
            }
            Some('~') => {
                let text = self.contains()?;
                return Ok(Expr::Is(Field::Body, Test::Contains(text)));
            }
            Some('/') => {
                let Some(pattern) = self.regex(false)? else {
                    let message = "a regular expression ends with / and a space, and a / inside it is written \\/; \
                                   to search for text that begins with /, quote it";
                    return Err(error(start, self.word().len(), message));
                };
                return Ok(Expr::Is(Field::Body, Test::Regex(pattern)));
            }
            _ => {}
        }
        if let Some(field) = self.field_name()? {
            return self.after_field(field, start);
        }
        let word = self.word();
        self.at += word.len();
        body_word(start, word)
    }

    /// The characters up to a space, a bracket or a quote.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| ends_word(c) || c == '"').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// A field's name, if one stands here with an operator after it.
    fn field_name(&mut self) -> Result<Option<Field>> {
        let start = self.at;
        if self.eat("@") {
            let key = if self.peek() == Some('"') {
                self.quoted()?
            } else {
                let word = self.word();
                let end = word.find([':', '=', '<', '>', '!']).unwrap_or(word.len());
                self.at += end;
                word.get(..end).unwrap_or_default().to_owned()
            };
            if key.is_empty() || !self.rest().starts_with([':', '=', '<', '>', '!']) {
                let message = "@ begins the name of an attribute: write @name:value, or quote the text";
                return Err(error(start, (self.at - start).max(1), message));
            }
            return Ok(Some(Field::Attribute(key)));
        }
        let word = self.word();
        let Some(end) = word.find([':', '=', '<', '>', '!']) else { return Ok(None) };
        let (name, after) = word.split_at(end);
        // `http://…`, `std::fmt`, `done!` are text; `client.address:::1` is not.
        let text = after.starts_with("://")
            || (after.starts_with("::") && !after.starts_with(":::"))
            || (after.starts_with('!') && !after.starts_with("!="));
        if text || !is_field_name(name) {
            return Ok(None);
        }
        self.at += end;
        Ok(Some(Field::parse(name)))
    }

    fn operator(&mut self) -> Option<Op> {
        for (token, op) in
            [("!=", Op::Ne), ("<=", Op::Le), (">=", Op::Ge), ("<", Op::Lt), (">", Op::Gt), ("=", Op::Eq)]
        {
            if self.eat(token) {
                return Some(op);
            }
        }
        None
    }

    fn after_field(&mut self, field: Field, start: usize) -> Result<Expr> {
        if !self.eat(":") {
            return self.condition(&field, start);
        }
        let open = self.at;
        if self.eat("(") {
            return self.brackets(open, Some(&field));
        }
        self.condition(&field, start)
    }

    /// A value with an optional operator before it.
    fn condition(&mut self, field: &Field, start: usize) -> Result<Expr> {
        let op = self.operator();
        if self.peek().is_none_or(ends_word) {
            let message = format!(
                "a value must follow {}: write {field}:value, {field}:\"some text\", or {field}:* for any value",
                self.text.get(start..self.at).unwrap_or_default()
            );
            return Err(error(start, self.at - start, message));
        }
        let value_at = self.at;
        let raw = self.raw_value()?;
        let len = self.at - value_at;
        let test = match (op, raw) {
            (None, raw) => plain_test(field, raw),
            (Some(op), raw) => compare_test(field, op, raw),
        };
        test.map(|test| Expr::Is(field.clone(), test)).map_err(|message| error(value_at, len, message))
    }

    fn raw_value(&mut self) -> Result<Raw<'a>> {
        match self.peek() {
            Some('"') => return self.quoted().map(Raw::Quoted),
            Some('~') => return self.contains().map(Raw::Contains),
            Some('/') => {
                if let Some(pattern) = self.regex(true)? {
                    return Ok(Raw::Regex(pattern));
                }
            }
            _ => {}
        }
        let word = self.word();
        self.at += word.len();
        if matches!(self.peek(), Some('"' | '(')) {
            return Err(
                self.error_here("put the whole value in quotes: a quote or bracket cannot stand inside it")
            );
        }
        Ok(Raw::Plain(word))
    }

    /// Text in quotes; `\"` and `\\` stand for `"` and `\`, every other `\` for itself.
    fn quoted(&mut self) -> Result<String> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                    Some((_, next)) => text.push(next),
                    None => text.push('\\'),
                },
                c => text.push(c),
            }
        }
        Err(error(start, 1, "this quote is never closed: add \", or write \\\" to search for a quote"))
    }

    /// `~"text"` or `~word`.
    fn contains(&mut self) -> Result<String> {
        let start = self.at;
        self.eat("~");
        let text = if self.peek() == Some('"') {
            self.quoted()?
        } else {
            let word = self.word();
            self.at += word.len();
            word.to_owned()
        };
        if text.is_empty() {
            return Err(error(start, 1, "text must follow ~, as in ~\"part of the text\""));
        }
        Ok(text)
    }

    /// `/…/`, followed by a space, a closing bracket or the end. `None`, without moving, when it is not closed so.
    /// After a field (`url.path:/a url.query:/b`) white space and a last `:` inside make it none either.
    fn regex(&mut self, after_field: bool) -> Result<Option<String>> {
        let start = self.at;
        let rest = self.rest();
        let mut pattern = String::new();
        let mut chars = rest.char_indices().skip(1).peekable();
        let close = loop {
            let Some((at, c)) = chars.next() else { return Ok(None) };
            match c {
                '/' => break at,
                '\\' => match chars.next() {
                    Some((_, '/')) => pattern.push('/'),
                    Some((_, next)) => pattern.extend(['\\', next]),
                    None => return Ok(None),
                },
                c => pattern.push(c),
            }
        };
        let bounded = rest.get(close + 1..).is_some_and(|after| {
            after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || c == ')')
        });
        let two_values = after_field
            && pattern.contains(char::is_whitespace)
            && pattern.ends_with(|c: char| c.is_whitespace() || matches!(c, ':' | '('));
        if !bounded || two_values || pattern.is_empty() {
            return Ok(None);
        }
        if pattern.len() > REGEX_BYTES_MAX {
            let message = format!("a regular expression has {REGEX_BYTES_MAX} bytes at most");
            return Err(error(start, close + 1, message));
        }
        self.at = start + close + 1;
        Ok(Some(pattern))
    }
}

fn body_phrase(at: usize, len: usize, text: String) -> Result<Expr> {
    if text.is_empty() {
        return Err(error(at, len, "nothing is in these quotes"));
    }
    Ok(Expr::Is(Field::Body, Test::Phrase(text)))
}

fn body_word(at: usize, word: &str) -> Result<Expr> {
    match word {
        "" => return Err(error(at, 1, "a word, a phrase in quotes, or field:value is expected here")),
        "&&" => return Err(error(at, 2, "write AND, or nothing, for &&")),
        "||" => return Err(error(at, 2, "write OR for ||")),
        _ => {}
    }
    if !word.contains('*') {
        let test = body_text(word).map_err(|message| error(at, word.len(), &message))?;
        return Ok(Expr::Is(Field::Body, test));
    }
    if word.bytes().all(|b| b == b'*') {
        return Ok(Expr::All);
    }
    if word.starts_with(['<', '>', '=', '!', '~', '/', ':']) {
        return Err(error(
            at,
            word.len(),
            "a pattern with * cannot begin with this character: use a regular expression",
        ));
    }
    Ok(Expr::Is(Field::Body, Test::Wildcard(word.to_owned())))
}

/// What an unquoted text without `*` means for the body: a network such as `10.0.0.0/8` is looked for in its
/// addresses, anything else as a phrase.
fn body_text(text: &str) -> std::result::Result<Test, String> {
    match text.contains('/').then(|| classify(text)).transpose()? {
        Some(Test::Network(network)) => Ok(match network.single() {
            Some(address) => Test::Phrase(address.to_string()),
            None => Test::Network(network),
        }),
        _ => Ok(Test::Phrase(text.to_owned())),
    }
}

/// The test of `field:value`.
fn plain_test(field: &Field, raw: Raw<'_>) -> std::result::Result<Test, String> {
    if let Raw::Plain(text) = raw
        && text.bytes().all(|b| b == b'*')
        && !matches!(field, Field::Mark | Field::Contract)
    {
        return Ok(Test::Exists);
    }
    match field {
        Field::Body => match raw {
            Raw::Quoted(text) if text.is_empty() => Err("nothing is in these quotes".to_owned()),
            Raw::Quoted(text) => Ok(Test::Phrase(text)),
            Raw::Plain(text) if text.contains('*') => classify(text),
            Raw::Plain(text) => body_text(text),
            Raw::Contains(text) => Ok(Test::Contains(text)),
            Raw::Regex(pattern) => Ok(Test::Regex(pattern)),
        },
        Field::Trace | Field::Span | Field::Parent => id_test(field, &only_text(field, raw)?),
        Field::Mark => {
            let text = only_text(field, raw)?;
            Flag::parse(&text).map(Test::Mark).ok_or_else(|| {
                "a record can be marked: is:time_absurd, is:time_missing, is:sender_mismatch, is:quarantined"
                    .to_owned()
            })
        }
        Field::Contract => {
            let text = only_text(field, raw)?;
            Standing::parse(&text).map(Test::Standing).ok_or_else(|| {
                "a record can be contract:ok, violated, unchecked, quarantined or redacted".to_owned()
            })
        }
        Field::Rule => {
            let text = only_text(field, raw)?;
            rule::known(&text).map(Test::Rule).ok_or_else(|| {
                let ids: Vec<&str> = rule::RULES.iter().map(|(id, _)| *id).collect();
                format!(
                    "there is no rule {text}: one of {}; an attribute of that name is @rule",
                    ids.join(", ")
                )
            })
        }
        Field::Severity | Field::Kind | Field::Status | Field::Duration | Field::Time | Field::Seq => {
            compare_test(field, Op::Eq, raw)
        }
        _ => match raw {
            Raw::Quoted(text) => Ok(Test::Equals(text)),
            Raw::Contains(text) => Ok(Test::Contains(text)),
            Raw::Regex(pattern) => Ok(Test::Regex(pattern)),
            Raw::Plain(text) => classify(text),
        },
    }
}

fn only_text(field: &Field, raw: Raw<'_>) -> std::result::Result<String, String> {
    match raw {
        Raw::Quoted(text) => Ok(text),
        Raw::Plain(text) => Ok(text.to_owned()),
        Raw::Contains(_) | Raw::Regex(_) => {
            let instead = match field {
                Field::Severity => "; severity_text: can",
                _ => "",
            };
            Err(format!("{field} cannot be searched by ~ or /…/{instead}"))
        }
    }
}

fn id_test(field: &Field, text: &str) -> std::result::Result<Test, String> {
    let digits = if *field == Field::Trace { 32 } else { 16 };
    let what = if *field == Field::Trace { "trace" } else { "span" };
    let (hex, prefix) = match text.strip_suffix('*') {
        Some(hex) => (hex, true),
        None => (text, false),
    };
    let fits = if prefix { hex.len() <= digits } else { hex.len() == digits };
    if hex.is_empty() || !fits || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!(
            "a {what} id has {digits} hex digits; write {field}:4bf9* for the ids that begin with 4bf9"
        ));
    }
    Ok(Test::Id { hex: hex.to_ascii_lowercase(), prefix: prefix && hex.len() < digits })
}

/// The test of `field>value` and the like.
fn compare_test(field: &Field, op: Op, raw: Raw<'_>) -> std::result::Result<Test, String> {
    let equality = matches!(op, Op::Eq | Op::Ne);
    match field {
        Field::Severity => {
            Level::parse(&only_text(field, raw)?).map(|level| Test::Severity(op, level)).ok_or_else(|| {
                "a severity is trace, debug, info, warn, error, fatal, unset, or a number from 1 to 24"
                    .to_owned()
            })
        }
        Field::Duration => parse_duration(&only_text(field, raw)?).map(|ns| Test::Duration(op, ns)),
        Field::Time => parse_time(&only_text(field, raw)?).map(|ns| Test::Time(op, ns)).ok_or_else(|| {
            "a time is written 2023-01-29T10:00:00Z, with a fraction or an offset if need be, or 2023-01-29"
                .to_owned()
        }),
        Field::Kind | Field::Status => {
            let names = if *field == Field::Kind {
                "internal, server, client, producer, consumer, unspecified"
            } else {
                "unset, ok, error"
            };
            if !equality {
                return Err(format!("{field} cannot be ordered: write {field}:name or {field}!=name"));
            }
            parse_code(field, &only_text(field, raw)?).map(|code| Test::Code(op, code)).ok_or_else(|| {
                format!("{field} is one of {names}, or a number; an attribute of that name is @{field}")
            })
        }
        Field::Seq => Number::parse(&only_text(field, raw)?)
            .map(|number| Test::Number(op, number))
            .ok_or_else(|| "a sequence number is a number".to_owned()),
        Field::Body
        | Field::Trace
        | Field::Span
        | Field::Parent
        | Field::Mark
        | Field::Contract
        | Field::Rule => {
            Err(format!("{field} cannot be compared with {op}: write {field}:value or -{field}:value"))
        }
        _ => text_compare_test(field, op, raw),
    }
}

fn text_compare_test(field: &Field, op: Op, raw: Raw<'_>) -> std::result::Result<Test, String> {
    let text = match raw {
        Raw::Plain(text) => match Number::parse(text) {
            Some(number) => return Ok(Test::Number(op, number)),
            None if text.contains('*') => {
                return Err(format!(
                    "* is no wildcard after {op}: write {field}:{text} or -{field}:{text}, or quote it"
                ));
            }
            None => text.to_owned(),
        },
        Raw::Quoted(text) => text,
        Raw::Contains(_) | Raw::Regex(_) => {
            return Err(format!("~ and /…/ follow a colon: write {field}:~\"text\" or {field}:/…/"));
        }
    };
    match op {
        Op::Eq => Ok(Test::Equals(text)),
        Op::Ne => Ok(Test::Differs(text)),
        _ if parse_duration(&text).is_ok() => Err(format!(
            "{text} is a duration, and only the field duration holds one: compare {field} with a number"
        )),
        _ => Err(format!("{text} is no number: {op} compares numbers")),
    }
}
