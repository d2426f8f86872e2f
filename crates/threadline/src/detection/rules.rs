//! The rules of a hub: the pack that is built in, and a company's folder.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use threadline_detect::pipeline;
use threadline_detect::rules::{Options, RuleSet, SourceFile};
use threadline_detect::sigma::extension::Exception;

use super::RuleState;
use crate::files;

/// The pack that comes with the hub: file name below `rules/`, and text.
const PACK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/pack.rs"));

/// Rules, compiled, and what is wrong with others.
pub(crate) struct Loaded {
    pub(crate) rules: Arc<RuleSet>,
    /// A line each.
    pub(crate) problems: Vec<String>,
}

/// A file's name and text.
type Text = (String, Cow<'static, str>);

/// All rule files of a folder and the folders in it; a file is taken as it is.
///
/// # Errors
/// The folder or a file cannot be read.
pub(crate) fn read_files(path: &Path) -> Result<Vec<Text>, String> {
    if path.is_dir() { files::read_yaml(path) } else { Ok(vec![files::read_text(path)?]) }
}

/// The files of the pack.
pub(crate) fn pack() -> Vec<Text> {
    PACK.iter().map(|(name, text)| (format!("rules/{name}"), Cow::Borrowed(*text))).collect()
}

/// Compiles the pack, if wanted, and a folder's rules. A file that cannot be read is a problem like a rule that is broken.
///
/// # Errors
/// The folder cannot be listed.
pub(crate) fn load(builtin: bool, folder: Option<&Path>) -> Result<Loaded, String> {
    let mut texts = if builtin { pack() } else { Vec::new() };
    let mut unread = Vec::new();
    for path in folder.map(files::yaml_paths).transpose()?.unwrap_or_default() {
        match files::read_text(&path) {
            Ok(text) => texts.push(text),
            Err(reason) => unread.push(reason),
        }
    }
    let loaded = compile(&texts);
    unread.extend(loaded.problems);
    Ok(Loaded { rules: loaded.rules, problems: unread })
}

/// Compiles files of rules, with the pipelines that are built in.
pub(crate) fn compile(texts: &[Text]) -> Loaded {
    compile_with(texts, Vec::new())
}

/// Likewise, with exceptions beside those that stand in them.
pub(crate) fn compile_with(texts: &[Text], exceptions: Vec<(String, Exception)>) -> Loaded {
    let files: Vec<SourceFile<'_>> =
        texts.iter().map(|(name, text)| SourceFile { name, text: text.as_ref() }).collect();
    let (pipelines, broken) = match pipeline::builtin() {
        Ok(pipelines) => (pipelines, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    let (rules, problems) = RuleSet::compile(&files, &Options { pipelines, any_log_source: false, exceptions });
    let problems = broken.iter().chain(&problems).map(ToString::to_string).collect();
    Loaded { rules: Arc::new(rules), problems }
}

/// The rules of a set as the board has them.
pub(super) fn states(rules: &RuleSet) -> Vec<RuleState> {
    let state = |(meta, extension): (
        &threadline_detect::sigma::rule::Meta,
        &threadline_detect::sigma::extension::Extension,
    )| {
        RuleState {
            id: if meta.id.is_empty() { meta.title.clone() } else { meta.id.clone() },
            title: meta.title.clone(),
            description: meta.description.clone(),
            level: meta.level.name(),
            tags: meta.tags.clone(),
            references: meta.references.clone(),
            false_positives: meta.false_positives.clone(),
            file: meta.file.clone(),
            line: meta.line,
            tests: extension.tests.len(),
            findings: 0,
            last_us: None,
        }
    };
    rules.metas().map(state).collect()
}
