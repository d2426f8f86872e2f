//! Roles, and which of them each endpoint of each port asks for: one table, from which requests are judged, the table
//! of `docs/security.md` is written, and which a test walks role by role.
//!
//! It does not know tokens, certificates or requests.

use std::fmt;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Send records.
    Ingest,
    /// Ask for records.
    Read,
    /// See how the hub itself is.
    Operate,
    /// Everything, and what cannot be undone.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [Role::Ingest, Role::Read, Role::Operate, Role::Admin];

    /// Name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Roles = Roles(0);
    /// All roles.
    pub const ALL: Roles = Roles(0b1111);

    /// This set and one more.
    #[must_use]
    pub const fn with(self, role: Role) -> Roles {
        Roles(self.0 | 1 << role as u8)
    }

    /// This set and another.
    #[must_use]
    pub const fn and(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the role is in it, or that of an admin, who may do everything.
    pub const fn allow(self, role: Role) -> bool {
        self.0 & (1 << role as u8 | 1 << Role::Admin as u8) != 0
    }

    /// The roles that are named in it.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.0 & 1 << *role as u8 != 0)
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Roles::NONE, Roles::with)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Role::name).collect();
        f.write_str(if names.is_empty() { "no role" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// A port of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Port {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
    /// API and pages.
    Api,
}

impl Port {
    /// Name, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Port::Grpc => "OTLP/gRPC",
            Port::Http => "OTLP/HTTP",
            Port::Api => "API",
        }
    }

    /// Whether records come in here: then a client certificate is as good as a token that may send.
    pub(crate) fn takes_records(self) -> bool {
        matches!(self, Port::Grpc | Port::Http)
    }
}

/// One method of one path of one port, and who may use it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) port: Port,
    pub(crate) method: &'static str,
    /// With `{name}` for a parameter.
    pub(crate) path: &'static str,
    /// Any of these roles; empty: everybody, without a token.
    pub(crate) needs: &'static [Role],
}

impl Endpoint {
    /// Whether somebody with these roles may use it.
    pub(crate) fn allows(&self, roles: Roles) -> bool {
        self.needs.is_empty() || self.needs.iter().any(|role| roles.allow(*role))
    }
}

const fn endpoint(port: Port, method: &'static str, path: &'static str, needs: &'static [Role]) -> Endpoint {
    Endpoint { port, method, path, needs }
}

const INGEST: &[Role] = &[Role::Ingest];
const READ: &[Role] = &[Role::Read];
const SEE: &[Role] = &[Role::Read, Role::Operate];
const OPERATE: &[Role] = &[Role::Operate];
const ADMIN: &[Role] = &[Role::Admin];
const ALERT: &[Role] = &[Role::Ingest, Role::Operate];
const ANY: &[Role] = &Role::ALL;
const EVERYBODY: &[Role] = &[];

/// All endpoints.
pub(crate) static ENDPOINTS: &[Endpoint] = &[
    endpoint(Port::Grpc, "POST", "/opentelemetry.proto.collector.logs.v1.LogsService/Export", INGEST),
    endpoint(Port::Grpc, "POST", "/opentelemetry.proto.collector.trace.v1.TraceService/Export", INGEST),
    endpoint(Port::Grpc, "POST", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", INGEST),
    endpoint(Port::Http, "POST", "/v1/logs", INGEST),
    endpoint(Port::Http, "POST", "/v1/traces", INGEST),
    endpoint(Port::Http, "POST", "/v1/metrics", INGEST),
    endpoint(Port::Http, "POST", "/v1/jsonl", INGEST),
    endpoint(Port::Api, "GET", "/api/v1/search", READ),
    endpoint(Port::Api, "GET", "/api/v1/tail", READ),
    endpoint(Port::Api, "GET", "/api/v1/count", READ),
    endpoint(Port::Api, "GET", "/api/v1/histogram", READ),
    endpoint(Port::Api, "GET", "/api/v1/red", READ),
    endpoint(Port::Api, "GET", "/api/v1/fields", READ),
    endpoint(Port::Api, "GET", "/api/v1/fields/{name}/values", READ),
    endpoint(Port::Api, "GET", "/api/v1/fields/{name}/distinct", READ),
    endpoint(Port::Api, "GET", "/api/v1/sql", READ),
    endpoint(Port::Api, "POST", "/api/v1/sql", READ),
    endpoint(Port::Api, "GET", "/api/v1/traces", READ),
    endpoint(Port::Api, "GET", "/api/v1/traces/{trace_id}", READ),
    endpoint(Port::Api, "GET", "/api/v1/services", READ),
    endpoint(Port::Api, "GET", "/api/v1/check", READ),
    endpoint(Port::Api, "GET", "/api/v1/contract", READ),
    endpoint(Port::Api, "GET", "/api/v1/contract/score", READ),
    endpoint(Port::Api, "GET", "/api/v1/rules", READ),
    endpoint(Port::Api, "POST", "/api/v1/rules/backtest", READ),
    endpoint(Port::Api, "GET", "/api/v1/detection", SEE),
    endpoint(Port::Api, "GET", "/api/v1/incidents", READ),
    endpoint(Port::Api, "GET", "/api/v1/incidents/{id}", READ),
    endpoint(Port::Api, "GET", "/api/v1/incidents/{id}/report", READ),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/acknowledge", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/assign", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/note", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/snooze", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/resolve", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/reopen", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/incidents/{id}/merge", OPERATE),
    endpoint(Port::Api, "GET", "/api/v1/silences", READ),
    endpoint(Port::Api, "POST", "/api/v1/silences", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/silences/preview", READ),
    endpoint(Port::Api, "DELETE", "/api/v1/silences/{id}", OPERATE),
    endpoint(Port::Api, "GET", "/api/v1/notify/receivers", OPERATE),
    endpoint(Port::Api, "GET", "/api/v1/notify/receivers/{name}/dead", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/notify/receivers/{name}/test", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/notify/receivers/{name}/replay", OPERATE),
    endpoint(Port::Api, "POST", "/api/v2/alerts", ALERT),
    endpoint(Port::Api, "GET", "/api/v2/alerts", ALERT),
    endpoint(Port::Api, "GET", "/api/v2/status", ALERT),
    endpoint(Port::Api, "POST", "/api/v1/session", EVERYBODY),
    endpoint(Port::Api, "GET", "/api/v1/session", ANY),
    endpoint(Port::Api, "DELETE", "/api/v1/session", ANY),
    endpoint(Port::Api, "GET", "/api/v1/stats", SEE),
    endpoint(Port::Api, "GET", "/metrics", OPERATE),
    endpoint(Port::Api, "POST", "/api/v1/erase", ADMIN),
    endpoint(Port::Api, "GET", "/", EVERYBODY),
    endpoint(Port::Api, "GET", "/search", EVERYBODY),
    endpoint(Port::Api, "GET", "/traces", EVERYBODY),
    endpoint(Port::Api, "GET", "/trace/{trace_id}", EVERYBODY),
    endpoint(Port::Api, "GET", "/services", EVERYBODY),
    endpoint(Port::Api, "GET", "/sql", EVERYBODY),
    endpoint(Port::Api, "GET", "/incidents", EVERYBODY),
    endpoint(Port::Api, "GET", "/incidents/{id}", EVERYBODY),
    endpoint(Port::Api, "GET", "/contract", EVERYBODY),
    endpoint(Port::Api, "GET", "/detection", EVERYBODY),
    endpoint(Port::Api, "GET", "/hub", EVERYBODY),
    endpoint(Port::Api, "GET", "/assets/{file}", EVERYBODY),
    endpoint(Port::Api, "GET", "/favicon.ico", EVERYBODY),
    endpoint(Port::Api, "GET", "/healthz", EVERYBODY),
    endpoint(Port::Api, "GET", "/openapi.json", EVERYBODY),
];

/// Asked of what the table does not have.
static UNLISTED: Endpoint = endpoint(Port::Api, "", "", ADMIN);

/// The row of the table; one that only admins pass where there is none.
pub(crate) fn find(port: Port, method: &str, path: &str) -> &'static Endpoint {
    let found = ENDPOINTS.iter().find(|e| e.port == port && e.method == method && e.path == path);
    found.unwrap_or(&UNLISTED)
}

/// The table as Markdown.
#[cfg(test)]
pub(crate) fn reference() -> String {
    let mut out =
        "| port | endpoint | no token | ingest | read | operate | admin |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for endpoint in ENDPOINTS {
        let cell = |roles| if endpoint.allows(roles) { "yes" } else { "" };
        let cells: Vec<&str> = std::iter::once(Roles::NONE)
            .chain(Role::ALL.map(|role| Roles::NONE.with(role)))
            .map(cell)
            .collect();
        out.push_str(&format!(
            "| {} | `{} {}` | {} |\n",
            endpoint.port.name(),
            endpoint.method,
            endpoint.path,
            cells.join(" | ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_sets_and_admins_may_everything() {
        let read = Roles::NONE.with(Role::Read);
        let admin = Roles::NONE.with(Role::Admin);
        assert!(read.allow(Role::Read) && !read.allow(Role::Ingest) && !Roles::NONE.allow(Role::Read));
        assert!(Role::ALL.into_iter().all(|role| admin.allow(role) && Roles::ALL.allow(role)));
        assert_eq!(read.with(Role::Ingest).to_string(), "ingest, read");
        assert_eq!(Roles::NONE.to_string(), "no role");
        assert!(Role::ALL.into_iter().all(|role| Role::parse(role.name()) == Some(role)));
    }

    #[test]
    fn every_operation_of_the_api_has_a_row() {
        use crate::api::operations::OPERATIONS;
        for operation in OPERATIONS {
            let row = find(Port::Api, operation.method.as_str(), operation.path);
            assert_eq!((row.method, row.path), (operation.method.as_str(), operation.path));
        }
        let rows = ENDPOINTS.iter().filter(|endpoint| endpoint.port == Port::Api).count();
        assert_eq!(rows, OPERATIONS.len());
        assert!(!find(Port::Api, "GET", "/new").allows(Roles::NONE.with(Role::Read)));
    }

    /// After a wanted change: `UPDATE_GOLDEN=1 cargo test -p threadline roles`.
    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (head, rest) = text.split_once("<!-- roles -->\n").unwrap();
        let (table, tail) = rest.split_once("<!-- /roles -->\n").unwrap();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let new = format!("{head}<!-- roles -->\n{}<!-- /roles -->\n{tail}", reference());
            std::fs::write(path, new).unwrap();
        } else {
            assert!(table == reference(), "docs/security.md has another table of roles; see this test");
        }
    }
}
