//! The pipelines that come with the crate: Sigma's log sources in OpenTelemetry's names.

use super::Pipeline;
use crate::problem::Problem;

/// File name and text.
const FILES: [(&str, &str); 3] = [
    ("builtin/web.yml", include_str!("builtin/web.yml")),
    ("builtin/application.yml", include_str!("builtin/application.yml")),
    ("builtin/cloud.yml", include_str!("builtin/cloud.yml")),
];

/// Web servers and proxies, applications, clouds, Kubernetes, identity providers (docs/sigma.md, "Log sources").
///
/// # Errors
/// Never, unless one of the files is broken, which a test would find.
pub fn builtin() -> Result<Vec<Pipeline>, Problem> {
    FILES.iter().map(|(file, text)| Pipeline::read(file, text)).collect()
}
