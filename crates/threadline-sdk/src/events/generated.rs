//! Generated from contract 0.1.0 by `threadline-contract`; a test of that crate keeps it true.

use std::borrow::Cow;

/// Version of the contract that these events are of.
pub const CONTRACT_VERSION: &str = "0.1.0";

/// Keys of secrets, sorted: their values are masked before a record leaves the process.
pub const SECRET_KEYS: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "authorization",
    "client_secret",
    "cookie",
    "http.request.header.authorization",
    "http.request.header.cookie",
    "http.request.header.proxy-authorization",
    "http.request.header.x-api-key",
    "http.response.header.set-cookie",
    "id_token",
    "passwd",
    "password",
    "private_key",
    "process.environment_variable",
    "refresh_token",
    "secret",
];

/// What kind of actor it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActorType {
    /// `user`.
    User,
    /// `service`.
    Service,
    /// `system`.
    System,
    /// `anonymous`.
    Anonymous,
}

impl ActorType {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::System => "system",
            Self::Anonymous => "anonymous",
        }
    }
}

/// How the caller said who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthnMethod {
    /// `bearer`.
    Bearer,
    /// `mtls`.
    Mtls,
    /// `api_key`.
    ApiKey,
    /// `basic`.
    Basic,
    /// `session`.
    Session,
}

impl AuthnMethod {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Mtls => "mtls",
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::Session => "session",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// `success`.
    Success,
    /// `failure`.
    Failure,
    /// `denied`.
    Denied,
    /// `unknown`.
    Unknown,
}

impl Outcome {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

/// Which side of the handshake reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsSide {
    /// `client`.
    Client,
    /// `server`.
    Server,
}

impl TlsSide {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// `request.finished`: A request ended, well or not: one record for each, from the service that answered.
#[derive(Clone, Debug)]
pub struct RequestFinished<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `http.request.method`: HTTP request method.
    pub http_request_method: Cow<'a, str>,
    /// `url.path`: The URI path component.
    pub url_path: Cow<'a, str>,
    /// `http.response.status_code`: HTTP response status code.
    pub http_response_status_code: i64,
    /// `threadline.duration_s`: How long it took, seconds.
    pub duration_s: f64,
    /// `client.address`: Client address - domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name.
    pub client_address: Cow<'a, str>,
    /// What need not be there.
    pub optional: RequestFinishedOptional<'a>,
}

/// What a [`RequestFinished`] need not have.
#[derive(Clone, Debug, Default)]
pub struct RequestFinishedOptional<'a> {
    /// `http.route`: The matched route template for the request. (required if a route matched)
    pub http_route: Option<Cow<'a, str>>,
    /// `error.type`: Describes a class of error the operation ended with. (required if threadline.outcome is failure)
    pub error_type: Option<Cow<'a, str>>,
    /// `user.id`: Unique identifier of the user. (recommended)
    pub user_id: Option<Cow<'a, str>>,
    /// `user_agent.original`: Value of the HTTP User-Agent header sent by the client. (recommended)
    pub user_agent_original: Option<Cow<'a, str>>,
}

impl RequestFinished<'_> {
    /// The event's name.
    pub const NAME: &'static str = "request.finished";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::INFO, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        if level == ::tracing::Level::ERROR {
            ::tracing::event!(name: "request.finished", target: "threadline", ::tracing::Level::ERROR, message = message, "threadline.outcome" = self.outcome.as_str(), "http.request.method" = &*self.http_request_method, "url.path" = &*self.url_path, "http.response.status_code" = self.http_response_status_code, "threadline.duration_s" = self.duration_s, "client.address" = &*self.client_address, "http.route" = self.optional.http_route.as_deref(), "error.type" = self.optional.error_type.as_deref(), "user.id" = self.optional.user_id.as_deref(), "user_agent.original" = self.optional.user_agent_original.as_deref(),);
        }         else if level == ::tracing::Level::WARN {
            ::tracing::event!(name: "request.finished", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.outcome" = self.outcome.as_str(), "http.request.method" = &*self.http_request_method, "url.path" = &*self.url_path, "http.response.status_code" = self.http_response_status_code, "threadline.duration_s" = self.duration_s, "client.address" = &*self.client_address, "http.route" = self.optional.http_route.as_deref(), "error.type" = self.optional.error_type.as_deref(), "user.id" = self.optional.user_id.as_deref(), "user_agent.original" = self.optional.user_agent_original.as_deref(),);
        } else {
            ::tracing::event!(name: "request.finished", target: "threadline", ::tracing::Level::INFO, message = message, "threadline.outcome" = self.outcome.as_str(), "http.request.method" = &*self.http_request_method, "url.path" = &*self.url_path, "http.response.status_code" = self.http_response_status_code, "threadline.duration_s" = self.duration_s, "client.address" = &*self.client_address, "http.route" = self.optional.http_route.as_deref(), "error.type" = self.optional.error_type.as_deref(), "user.id" = self.optional.user_id.as_deref(), "user_agent.original" = self.optional.user_agent_original.as_deref(),);
        }
    }
}

/// Records `request.finished`: A request ended, well or not: one record for each, from the service that answered.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! request_finished {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] outcome: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)* outcome: { #[allow(unused_imports)] use $crate::events::Outcome::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_request_method: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)* http_request_method: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] url_path: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)* url_path: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_response_status_code: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)* http_response_status_code: ::core::convert::TryInto::<i64>::try_into($v).unwrap_or(i64::MAX),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] duration_s: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)* duration_s: ::core::convert::Into::<f64>::into($v),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] client_address: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)* client_address: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_route: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)*] [$($o)* http_route: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] error_type: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)*] [$($o)* error_type: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_id: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)*] [$($o)* user_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_agent_original: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)*] [$($o)* user_agent_original: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::request_finished!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::RequestFinished {
            $($r)*
            optional: $crate::events::RequestFinishedOptional { $($o)* ..::core::default::Default::default() },
        }.emit("A request ended, well or not: one record for each, from the service that answered.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::RequestFinished {
            $($r)*
            optional: $crate::events::RequestFinishedOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("request_finished! has no attribute `", ::core::stringify!($other), "`; it has: outcome, http_request_method, url_path, http_response_status_code, duration_s, client_address, http_route, error_type, user_id, user_agent_original, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("request_finished! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::request_finished!(@ [] [] [] [] $($input)*)
    };
}

/// `security.audit`: Something was done that one wants to answer for later.
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `threadline.audit.action`: What was done.
    pub audit_action: Cow<'a, str>,
    /// `threadline.actor.type`: What kind of actor it was.
    pub actor_type: ActorType,
    /// `threadline.resource.type`: Kind of the thing that was acted on.
    pub resource_type: Cow<'a, str>,
    /// What need not be there.
    pub optional: AuditOptional<'a>,
}

/// What a [`Audit`] need not have.
#[derive(Clone, Debug, Default)]
pub struct AuditOptional<'a> {
    /// `user.id`: Unique identifier of the user. (required if threadline.actor.type is user)
    pub user_id: Option<Cow<'a, str>>,
    /// `threadline.resource.id`: Identifier of the thing that was acted on. (recommended)
    pub resource_id: Option<Cow<'a, str>>,
    /// `client.address`: Client address - domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name. (recommended)
    pub client_address: Option<Cow<'a, str>>,
    /// `db.query.text`: The database query being executed. (opt-in)
    pub db_query_text: Option<Cow<'a, str>>,
    /// `db.response.returned_rows`: Number of rows returned by the operation. (opt-in)
    pub db_response_returned_rows: Option<i64>,
}

impl Audit<'_> {
    /// The event's name.
    pub const NAME: &'static str = "security.audit";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::INFO, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        if level == ::tracing::Level::WARN {
            ::tracing::event!(name: "security.audit", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.audit.action" = &*self.audit_action, "threadline.actor.type" = self.actor_type.as_str(), "threadline.resource.type" = &*self.resource_type, "user.id" = self.optional.user_id.as_deref(), "threadline.resource.id" = self.optional.resource_id.as_deref(), "client.address" = self.optional.client_address.as_deref(), "db.query.text" = self.optional.db_query_text.as_deref(), "db.response.returned_rows" = self.optional.db_response_returned_rows,);
        } else {
            ::tracing::event!(name: "security.audit", target: "threadline", ::tracing::Level::INFO, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.audit.action" = &*self.audit_action, "threadline.actor.type" = self.actor_type.as_str(), "threadline.resource.type" = &*self.resource_type, "user.id" = self.optional.user_id.as_deref(), "threadline.resource.id" = self.optional.resource_id.as_deref(), "client.address" = self.optional.client_address.as_deref(), "db.query.text" = self.optional.db_query_text.as_deref(), "db.response.returned_rows" = self.optional.db_response_returned_rows,);
        }
    }
}

/// Records `security.audit`: Something was done that one wants to answer for later.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! audit {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] outcome: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)* outcome: { #[allow(unused_imports)] use $crate::events::Outcome::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] audit_action: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)* audit_action: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] actor_type: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)* actor_type: { #[allow(unused_imports)] use $crate::events::ActorType::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] resource_type: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)* resource_type: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_id: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)*] [$($o)* user_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] resource_id: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)*] [$($o)* resource_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] client_address: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)*] [$($o)* client_address: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] db_query_text: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)*] [$($o)* db_query_text: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] db_response_returned_rows: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)*] [$($o)* db_response_returned_rows: ::core::option::Option::Some(::core::convert::TryInto::<i64>::try_into($v).unwrap_or(i64::MAX)),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::audit!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::Audit {
            $($r)*
            optional: $crate::events::AuditOptional { $($o)* ..::core::default::Default::default() },
        }.emit("Something was done that one wants to answer for later.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::Audit {
            $($r)*
            optional: $crate::events::AuditOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("audit! has no attribute `", ::core::stringify!($other), "`; it has: outcome, audit_action, actor_type, resource_type, user_id, resource_id, client_address, db_query_text, db_response_returned_rows, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("audit! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::audit!(@ [] [] [] [] $($input)*)
    };
}

/// `threadline.reason`: Why it ended so; each event has its own closed list. of `security.authn.rejected`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthnRejectedReason {
    /// `missing`.
    Missing,
    /// `malformed`.
    Malformed,
    /// `expired`.
    Expired,
    /// `not_yet_valid`.
    NotYetValid,
    /// `bad_signature`.
    BadSignature,
    /// `unknown_key`.
    UnknownKey,
    /// `wrong_audience`.
    WrongAudience,
    /// `wrong_issuer`.
    WrongIssuer,
    /// `revoked`.
    Revoked,
    /// `replayed`.
    Replayed,
    /// `bad_credentials`.
    BadCredentials,
    /// `locked`.
    Locked,
}

impl AuthnRejectedReason {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::BadSignature => "bad_signature",
            Self::UnknownKey => "unknown_key",
            Self::WrongAudience => "wrong_audience",
            Self::WrongIssuer => "wrong_issuer",
            Self::Revoked => "revoked",
            Self::Replayed => "replayed",
            Self::BadCredentials => "bad_credentials",
            Self::Locked => "locked",
        }
    }
}

/// `security.authn.rejected`: A caller did not prove who it is.
#[derive(Clone, Debug)]
pub struct AuthnRejected<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `threadline.reason`: Why it ended so; each event has its own closed list.
    pub reason: AuthnRejectedReason,
    /// `threadline.authn.method`: How the caller said who it is.
    pub authn_method: AuthnMethod,
    /// `client.address`: Client address - domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name.
    pub client_address: Cow<'a, str>,
    /// What need not be there.
    pub optional: AuthnRejectedOptional<'a>,
}

/// What a [`AuthnRejected`] need not have.
#[derive(Clone, Debug, Default)]
pub struct AuthnRejectedOptional<'a> {
    /// `http.route`: The matched route template for the request. (required if a route matched)
    pub http_route: Option<Cow<'a, str>>,
    /// `threadline.authn.token.issuer`: Who issued the token, as far as it could be read. Never the token itself. (required if a token could be read)
    pub authn_token_issuer: Option<Cow<'a, str>>,
    /// `threadline.authn.token.hash`: Keyed hash of the token, to tell tokens apart. Never the token itself. (required if a token was sent)
    pub authn_token_hash: Option<Cow<'a, str>>,
    /// `user.id`: Unique identifier of the user. (recommended)
    pub user_id: Option<Cow<'a, str>>,
    /// `user_agent.original`: Value of the HTTP User-Agent header sent by the client. (recommended)
    pub user_agent_original: Option<Cow<'a, str>>,
}

impl AuthnRejected<'_> {
    /// The event's name.
    pub const NAME: &'static str = "security.authn.rejected";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::WARN, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        let _ = level;
        ::tracing::event!(name: "security.authn.rejected", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.reason" = self.reason.as_str(), "threadline.authn.method" = self.authn_method.as_str(), "client.address" = &*self.client_address, "http.route" = self.optional.http_route.as_deref(), "threadline.authn.token.issuer" = self.optional.authn_token_issuer.as_deref(), "threadline.authn.token.hash" = self.optional.authn_token_hash.as_deref(), "user.id" = self.optional.user_id.as_deref(), "user_agent.original" = self.optional.user_agent_original.as_deref(),);
    }
}

/// Records `security.authn.rejected`: A caller did not prove who it is.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! authn_rejected {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] reason: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)* reason: { #[allow(unused_imports)] use $crate::events::AuthnRejectedReason::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authn_method: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)* authn_method: { #[allow(unused_imports)] use $crate::events::AuthnMethod::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] client_address: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)* client_address: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_route: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)*] [$($o)* http_route: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authn_token_issuer: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)*] [$($o)* authn_token_issuer: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authn_token_hash: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)*] [$($o)* authn_token_hash: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_id: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)*] [$($o)* user_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_agent_original: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)*] [$($o)* user_agent_original: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_rejected!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::AuthnRejected {
            outcome: $crate::events::Outcome::Failure, $($r)*
            optional: $crate::events::AuthnRejectedOptional { $($o)* ..::core::default::Default::default() },
        }.emit("A caller did not prove who it is.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::AuthnRejected {
            outcome: $crate::events::Outcome::Failure, $($r)*
            optional: $crate::events::AuthnRejectedOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("authn_rejected! has no attribute `", ::core::stringify!($other), "`; it has: reason, authn_method, client_address, http_route, authn_token_issuer, authn_token_hash, user_id, user_agent_original, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("authn_rejected! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::authn_rejected!(@ [] [] [] [] $($input)*)
    };
}

/// `security.authn.succeeded`: A caller proved who it is.
#[derive(Clone, Debug)]
pub struct AuthnSucceeded<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `threadline.authn.method`: How the caller said who it is.
    pub authn_method: AuthnMethod,
    /// `client.address`: Client address - domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name.
    pub client_address: Cow<'a, str>,
    /// What need not be there.
    pub optional: AuthnSucceededOptional<'a>,
}

/// What a [`AuthnSucceeded`] need not have.
#[derive(Clone, Debug, Default)]
pub struct AuthnSucceededOptional<'a> {
    /// `user.id`: Unique identifier of the user. (recommended)
    pub user_id: Option<Cow<'a, str>>,
    /// `user.hash`: Unique user hash to correlate information for a user in anonymized form. (recommended)
    pub user_hash: Option<Cow<'a, str>>,
    /// `threadline.authn.token.issuer`: Who issued the token, as far as it could be read. Never the token itself. (recommended)
    pub authn_token_issuer: Option<Cow<'a, str>>,
    /// `threadline.authn.token.hash`: Keyed hash of the token, to tell tokens apart. Never the token itself. (recommended)
    pub authn_token_hash: Option<Cow<'a, str>>,
}

impl AuthnSucceeded<'_> {
    /// The event's name.
    pub const NAME: &'static str = "security.authn.succeeded";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::INFO, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        let _ = level;
        ::tracing::event!(name: "security.authn.succeeded", target: "threadline", ::tracing::Level::INFO, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.authn.method" = self.authn_method.as_str(), "client.address" = &*self.client_address, "user.id" = self.optional.user_id.as_deref(), "user.hash" = self.optional.user_hash.as_deref(), "threadline.authn.token.issuer" = self.optional.authn_token_issuer.as_deref(), "threadline.authn.token.hash" = self.optional.authn_token_hash.as_deref(),);
    }
}

/// Records `security.authn.succeeded`: A caller proved who it is.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! authn_succeeded {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authn_method: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)* authn_method: { #[allow(unused_imports)] use $crate::events::AuthnMethod::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] client_address: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)* client_address: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_id: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)*] [$($o)* user_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)* x] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_hash: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)*] [$($o)* user_hash: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)* x] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authn_token_issuer: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)*] [$($o)* authn_token_issuer: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authn_token_hash: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)*] [$($o)* authn_token_hash: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::authn_succeeded!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [] [$($m:tt)*]) => {
        ::core::compile_error!("authn_succeeded! needs one of: user_id, user_hash")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::AuthnSucceeded {
            outcome: $crate::events::Outcome::Success, $($r)*
            optional: $crate::events::AuthnSucceededOptional { $($o)* ..::core::default::Default::default() },
        }.emit("A caller proved who it is.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::AuthnSucceeded {
            outcome: $crate::events::Outcome::Success, $($r)*
            optional: $crate::events::AuthnSucceededOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("authn_succeeded! has no attribute `", ::core::stringify!($other), "`; it has: authn_method, client_address, user_id, user_hash, authn_token_issuer, authn_token_hash, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("authn_succeeded! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::authn_succeeded!(@ [] [] [] [] $($input)*)
    };
}

/// `threadline.reason`: Why it ended so; each event has its own closed list. of `security.authz.denied`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthzDeniedReason {
    /// `no_permission`.
    NoPermission,
    /// `missing_scope`.
    MissingScope,
    /// `wrong_tenant`.
    WrongTenant,
    /// `policy_error`.
    PolicyError,
}

impl AuthzDeniedReason {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPermission => "no_permission",
            Self::MissingScope => "missing_scope",
            Self::WrongTenant => "wrong_tenant",
            Self::PolicyError => "policy_error",
        }
    }
}

/// `security.authz.denied`: A known caller wanted what it may not do.
#[derive(Clone, Debug)]
pub struct AuthzDenied<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `threadline.reason`: Why it ended so; each event has its own closed list.
    pub reason: AuthzDeniedReason,
    /// `threadline.authz.action`: What the caller wanted to do.
    pub authz_action: Cow<'a, str>,
    /// `threadline.resource.type`: Kind of the thing that was acted on.
    pub resource_type: Cow<'a, str>,
    /// `client.address`: Client address - domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name.
    pub client_address: Cow<'a, str>,
    /// What need not be there.
    pub optional: AuthzDeniedOptional<'a>,
}

/// What a [`AuthzDenied`] need not have.
#[derive(Clone, Debug, Default)]
pub struct AuthzDeniedOptional<'a> {
    /// `user.id`: Unique identifier of the user. (recommended)
    pub user_id: Option<Cow<'a, str>>,
    /// `user.hash`: Unique user hash to correlate information for a user in anonymized form. (recommended)
    pub user_hash: Option<Cow<'a, str>>,
    /// `threadline.resource.id`: Identifier of the thing that was acted on. (recommended)
    pub resource_id: Option<Cow<'a, str>>,
    /// `http.route`: The matched route template for the request. (recommended)
    pub http_route: Option<Cow<'a, str>>,
}

impl AuthzDenied<'_> {
    /// The event's name.
    pub const NAME: &'static str = "security.authz.denied";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::WARN, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        let _ = level;
        ::tracing::event!(name: "security.authz.denied", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.reason" = self.reason.as_str(), "threadline.authz.action" = &*self.authz_action, "threadline.resource.type" = &*self.resource_type, "client.address" = &*self.client_address, "user.id" = self.optional.user_id.as_deref(), "user.hash" = self.optional.user_hash.as_deref(), "threadline.resource.id" = self.optional.resource_id.as_deref(), "http.route" = self.optional.http_route.as_deref(),);
    }
}

/// Records `security.authz.denied`: A known caller wanted what it may not do.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! authz_denied {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] reason: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)* reason: { #[allow(unused_imports)] use $crate::events::AuthzDeniedReason::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] authz_action: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)* authz_action: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] resource_type: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)* resource_type: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] client_address: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)* client_address: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_id: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)*] [$($o)* user_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)* x] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_hash: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)*] [$($o)* user_hash: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)* x] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] resource_id: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)*] [$($o)* resource_id: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_route: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)*] [$($o)* http_route: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::authz_denied!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [] [$($m:tt)*]) => {
        ::core::compile_error!("authz_denied! needs one of: user_id, user_hash")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::AuthzDenied {
            outcome: $crate::events::Outcome::Denied, $($r)*
            optional: $crate::events::AuthzDeniedOptional { $($o)* ..::core::default::Default::default() },
        }.emit("A known caller wanted what it may not do.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::AuthzDenied {
            outcome: $crate::events::Outcome::Denied, $($r)*
            optional: $crate::events::AuthzDeniedOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("authz_denied! has no attribute `", ::core::stringify!($other), "`; it has: reason, authz_action, resource_type, client_address, user_id, user_hash, resource_id, http_route, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("authz_denied! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::authz_denied!(@ [] [] [] [] $($input)*)
    };
}

/// `threadline.reason`: Why it ended so; each event has its own closed list. of `security.endpoint.unknown`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointUnknownReason {
    /// `no_route`.
    NoRoute,
    /// `method_not_allowed`.
    MethodNotAllowed,
    /// `unknown_host`.
    UnknownHost,
}

impl EndpointUnknownReason {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnknownHost => "unknown_host",
        }
    }
}

/// `security.endpoint.unknown`: Somebody asked for what does not exist here.
#[derive(Clone, Debug)]
pub struct EndpointUnknown<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `threadline.reason`: Why it ended so; each event has its own closed list.
    pub reason: EndpointUnknownReason,
    /// `http.request.method`: HTTP request method.
    pub http_request_method: Cow<'a, str>,
    /// `url.path`: The URI path component.
    pub url_path: Cow<'a, str>,
    /// `http.response.status_code`: HTTP response status code.
    pub http_response_status_code: i64,
    /// `client.address`: Client address - domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name.
    pub client_address: Cow<'a, str>,
    /// What need not be there.
    pub optional: EndpointUnknownOptional<'a>,
}

/// What a [`EndpointUnknown`] need not have.
#[derive(Clone, Debug, Default)]
pub struct EndpointUnknownOptional<'a> {
    /// `user_agent.original`: Value of the HTTP User-Agent header sent by the client. (recommended)
    pub user_agent_original: Option<Cow<'a, str>>,
}

impl EndpointUnknown<'_> {
    /// The event's name.
    pub const NAME: &'static str = "security.endpoint.unknown";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::WARN, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        let _ = level;
        ::tracing::event!(name: "security.endpoint.unknown", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.reason" = self.reason.as_str(), "http.request.method" = &*self.http_request_method, "url.path" = &*self.url_path, "http.response.status_code" = self.http_response_status_code, "client.address" = &*self.client_address, "user_agent.original" = self.optional.user_agent_original.as_deref(),);
    }
}

/// Records `security.endpoint.unknown`: Somebody asked for what does not exist here.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! endpoint_unknown {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] reason: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)* reason: { #[allow(unused_imports)] use $crate::events::EndpointUnknownReason::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_request_method: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)* http_request_method: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] url_path: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)* url_path: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] http_response_status_code: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)* http_response_status_code: ::core::convert::TryInto::<i64>::try_into($v).unwrap_or(i64::MAX),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] client_address: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)* client_address: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] user_agent_original: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)*] [$($o)* user_agent_original: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::endpoint_unknown!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::EndpointUnknown {
            outcome: $crate::events::Outcome::Failure, $($r)*
            optional: $crate::events::EndpointUnknownOptional { $($o)* ..::core::default::Default::default() },
        }.emit("Somebody asked for what does not exist here.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::EndpointUnknown {
            outcome: $crate::events::Outcome::Failure, $($r)*
            optional: $crate::events::EndpointUnknownOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("endpoint_unknown! has no attribute `", ::core::stringify!($other), "`; it has: reason, http_request_method, url_path, http_response_status_code, client_address, user_agent_original, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("endpoint_unknown! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::endpoint_unknown!(@ [] [] [] [] $($input)*)
    };
}

/// `threadline.reason`: Why it ended so; each event has its own closed list. of `security.tls.handshake_failed`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsHandshakeFailedReason {
    /// `client_cert_missing`.
    ClientCertMissing,
    /// `expired`.
    Expired,
    /// `untrusted`.
    Untrusted,
    /// `revoked`.
    Revoked,
    /// `name_mismatch`.
    NameMismatch,
    /// `protocol_version`.
    ProtocolVersion,
    /// `cipher`.
    Cipher,
    /// `plaintext`.
    Plaintext,
    /// `timeout`.
    Timeout,
    /// `alert`.
    Alert,
}

impl TlsHandshakeFailedReason {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCertMissing => "client_cert_missing",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
            Self::Revoked => "revoked",
            Self::NameMismatch => "name_mismatch",
            Self::ProtocolVersion => "protocol_version",
            Self::Cipher => "cipher",
            Self::Plaintext => "plaintext",
            Self::Timeout => "timeout",
            Self::Alert => "alert",
        }
    }
}

/// `security.tls.handshake_failed`: A TLS handshake failed. There is no request yet, and no trace.
#[derive(Clone, Debug)]
pub struct TlsHandshakeFailed<'a> {
    /// `threadline.outcome`: How it ended.
    pub outcome: Outcome,
    /// `threadline.reason`: Why it ended so; each event has its own closed list.
    pub reason: TlsHandshakeFailedReason,
    /// `threadline.tls.side`: Which side of the handshake reports.
    pub tls_side: TlsSide,
    /// `threadline.connection.id`: Identifies a connection within its service instance, where there is no trace id yet.
    pub connection_id: Cow<'a, str>,
    /// `network.peer.address`: Peer address of the network connection - IP address or UNIX domain socket name.
    pub network_peer_address: Cow<'a, str>,
    /// `server.port`: Server port number.
    pub server_port: i64,
    /// `tls.established`: Boolean flag indicating if the TLS negotiation was successful and transitioned to an encrypted tunnel.
    pub tls_established: bool,
    /// What need not be there.
    pub optional: TlsHandshakeFailedOptional<'a>,
}

/// What a [`TlsHandshakeFailed`] need not have.
#[derive(Clone, Debug, Default)]
pub struct TlsHandshakeFailedOptional<'a> {
    /// `tls.client.subject`: Distinguished name of subject of the x.509 certificate presented by the client. (required if a certificate was presented)
    pub tls_client_subject: Option<Cow<'a, str>>,
    /// `tls.client.issuer`: Distinguished name of subject of the issuer of the x.509 certificate presented by the client. (required if a certificate was presented)
    pub tls_client_issuer: Option<Cow<'a, str>>,
    /// `tls.client.hash.sha256`: Certificate fingerprint using the SHA256 digest of DER-encoded version of certificate offered by the client. (required if a certificate was presented)
    pub tls_client_hash_sha256: Option<Cow<'a, str>>,
    /// `tls.client.not_after`: Date/Time indicating when client certificate is no longer considered valid. (recommended)
    pub tls_client_not_after: Option<Cow<'a, str>>,
    /// `server.address`: Server domain name if available without reverse DNS lookup; otherwise, IP address or UNIX domain socket name. (recommended)
    pub server_address: Option<Cow<'a, str>>,
    /// `tls.protocol.version`: Numeric part of the version parsed from the original string of the negotiated SSL/TLS protocol version. (recommended)
    pub tls_protocol_version: Option<Cow<'a, str>>,
}

impl TlsHandshakeFailed<'_> {
    /// The event's name.
    pub const NAME: &'static str = "security.tls.handshake_failed";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::WARN, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        let _ = level;
        ::tracing::event!(name: "security.tls.handshake_failed", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.outcome" = self.outcome.as_str(), "threadline.reason" = self.reason.as_str(), "threadline.tls.side" = self.tls_side.as_str(), "threadline.connection.id" = &*self.connection_id, "network.peer.address" = &*self.network_peer_address, "server.port" = self.server_port, "tls.established" = self.tls_established, "tls.client.subject" = self.optional.tls_client_subject.as_deref(), "tls.client.issuer" = self.optional.tls_client_issuer.as_deref(), "tls.client.hash.sha256" = self.optional.tls_client_hash_sha256.as_deref(), "tls.client.not_after" = self.optional.tls_client_not_after.as_deref(), "server.address" = self.optional.server_address.as_deref(), "tls.protocol.version" = self.optional.tls_protocol_version.as_deref(),);
    }
}

/// Records `security.tls.handshake_failed`: A TLS handshake failed. There is no request yet, and no trace.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! tls_handshake_failed {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] reason: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)* reason: { #[allow(unused_imports)] use $crate::events::TlsHandshakeFailedReason::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_side: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)* tls_side: { #[allow(unused_imports)] use $crate::events::TlsSide::*; $v },] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] connection_id: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)* connection_id: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] network_peer_address: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)* network_peer_address: ::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v)),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] server_port: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)* server_port: ::core::convert::TryInto::<i64>::try_into($v).unwrap_or(i64::MAX),] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_established: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)* tls_established: $v,] [$($o)*] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_client_subject: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)* tls_client_subject: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_client_issuer: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)* tls_client_issuer: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_client_hash_sha256: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)* tls_client_hash_sha256: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_client_not_after: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)* tls_client_not_after: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] server_address: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)* server_address: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] tls_protocol_version: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)* tls_protocol_version: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::tls_handshake_failed!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::TlsHandshakeFailed {
            outcome: $crate::events::Outcome::Failure, $($r)*
            optional: $crate::events::TlsHandshakeFailedOptional { $($o)* ..::core::default::Default::default() },
        }.emit("A TLS handshake failed. There is no request yet, and no trace.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::TlsHandshakeFailed {
            outcome: $crate::events::Outcome::Failure, $($r)*
            optional: $crate::events::TlsHandshakeFailedOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("tls_handshake_failed! has no attribute `", ::core::stringify!($other), "`; it has: reason, tls_side, connection_id, network_peer_address, server_port, tls_established, tls_client_subject, tls_client_issuer, tls_client_hash_sha256, tls_client_not_after, server_address, tls_protocol_version, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("tls_handshake_failed! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::tls_handshake_failed!(@ [] [] [] [] $($input)*)
    };
}

/// `service.started`: An instance of a service is ready.
#[derive(Clone, Debug)]
pub struct ServiceStarted<'a> {
    /// What need not be there.
    pub optional: ServiceStartedOptional<'a>,
}

/// What a [`ServiceStarted`] need not have.
#[derive(Clone, Debug, Default)]
pub struct ServiceStartedOptional<'a> {
    /// `threadline.contract.version`: Version of the contract that the service was built for. (recommended)
    pub contract_version: Option<Cow<'a, str>>,
    /// `process.pid`: Process identifier (PID). (recommended)
    pub process_pid: Option<i64>,
    /// `threadline.duration_s`: How long it took, seconds. (recommended)
    pub duration_s: Option<f64>,
}

impl ServiceStarted<'_> {
    /// The event's name.
    pub const NAME: &'static str = "service.started";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::INFO, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        let _ = level;
        ::tracing::event!(name: "service.started", target: "threadline", ::tracing::Level::INFO, message = message, "threadline.contract.version" = self.optional.contract_version.as_deref(), "process.pid" = self.optional.process_pid, "threadline.duration_s" = self.optional.duration_s,);
    }
}

/// Records `service.started`: An instance of a service is ready.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! service_started {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] contract_version: $v:expr $(, $($rest:tt)*)?) => { $crate::service_started!(@ [$($r)*] [$($o)* contract_version: ::core::option::Option::Some(::std::borrow::Cow::Owned(::std::string::ToString::to_string(&$v))),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] process_pid: $v:expr $(, $($rest:tt)*)?) => { $crate::service_started!(@ [$($r)*] [$($o)* process_pid: ::core::option::Option::Some(::core::convert::TryInto::<i64>::try_into($v).unwrap_or(i64::MAX)),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] duration_s: $v:expr $(, $($rest:tt)*)?) => { $crate::service_started!(@ [$($r)*] [$($o)* duration_s: ::core::option::Option::Some(::core::convert::Into::<f64>::into($v)),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::service_started!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::ServiceStarted {
            $($r)*
            optional: $crate::events::ServiceStartedOptional { $($o)* ..::core::default::Default::default() },
        }.emit("An instance of a service is ready.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::ServiceStarted {
            $($r)*
            optional: $crate::events::ServiceStartedOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("service_started! has no attribute `", ::core::stringify!($other), "`; it has: contract_version, process_pid, duration_s, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("service_started! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::service_started!(@ [] [] [] [] $($input)*)
    };
}

/// `threadline.reason`: Why it ended so; each event has its own closed list. of `service.stopping`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceStoppingReason {
    /// `signal`.
    Signal,
    /// `request`.
    Request,
    /// `upgrade`.
    Upgrade,
    /// `failure`.
    Failure,
    /// `idle`.
    Idle,
}

impl ServiceStoppingReason {
    /// The value, as the contract has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Request => "request",
            Self::Upgrade => "upgrade",
            Self::Failure => "failure",
            Self::Idle => "idle",
        }
    }
}

/// `service.stopping`: An instance of a service begins to stop.
#[derive(Clone, Debug)]
pub struct ServiceStopping {
    /// What need not be there.
    pub optional: ServiceStoppingOptional,
}

/// What a [`ServiceStopping`] need not have.
#[derive(Clone, Debug, Default)]
pub struct ServiceStoppingOptional {
    /// `threadline.reason`: Why it ended so; each event has its own closed list. (recommended)
    pub reason: Option<ServiceStoppingReason>,
    /// `threadline.duration_s`: How long it took, seconds. (recommended)
    pub duration_s: Option<f64>,
}

impl ServiceStopping {
    /// The event's name.
    pub const NAME: &'static str = "service.stopping";

    /// Records it, at the level that it usually has.
    pub fn emit(&self, message: &str) {
        self.emit_at(::tracing::Level::INFO, message);
    }

    /// Records it at a level; one that the contract does not allow becomes the usual one.
    pub fn emit_at(&self, level: ::tracing::Level, message: &str) {
        if level == ::tracing::Level::WARN {
            ::tracing::event!(name: "service.stopping", target: "threadline", ::tracing::Level::WARN, message = message, "threadline.reason" = self.optional.reason.map(|value| value.as_str()), "threadline.duration_s" = self.optional.duration_s,);
        } else {
            ::tracing::event!(name: "service.stopping", target: "threadline", ::tracing::Level::INFO, message = message, "threadline.reason" = self.optional.reason.map(|value| value.as_str()), "threadline.duration_s" = self.optional.duration_s,);
        }
    }
}

/// Records `service.stopping`: An instance of a service begins to stop.
///
/// Takes `name: value` pairs; what is required and missing does not compile. `message: …` replaces the text.
#[macro_export]
macro_rules! service_stopping {
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] reason: $v:expr $(, $($rest:tt)*)?) => { $crate::service_stopping!(@ [$($r)*] [$($o)* reason: ::core::option::Option::Some({ #[allow(unused_imports)] use $crate::events::ServiceStoppingReason::*; $v }),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] duration_s: $v:expr $(, $($rest:tt)*)?) => { $crate::service_stopping!(@ [$($r)*] [$($o)* duration_s: ::core::option::Option::Some(::core::convert::Into::<f64>::into($v)),] [$($any)*] [$($m)*] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] message: $v:expr $(, $($rest:tt)*)?) => { $crate::service_stopping!(@ [$($r)*] [$($o)*] [$($any)*] [$v] $($($rest)*)?) };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] []) => {
        $crate::events::ServiceStopping {
            $($r)*
            optional: $crate::events::ServiceStoppingOptional { $($o)* ..::core::default::Default::default() },
        }.emit("An instance of a service begins to stop.")
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$m:expr]) => {
        $crate::events::ServiceStopping {
            $($r)*
            optional: $crate::events::ServiceStoppingOptional { $($o)* ..::core::default::Default::default() },
        }.emit(&$m)
    };
    (@ [$($r:tt)*] [$($o:tt)*] [$($any:tt)*] [$($m:tt)*] $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!("service_stopping! has no attribute `", ::core::stringify!($other), "`; it has: reason, duration_s, message"))
    };
    (@ $($other:tt)*) => {
        ::core::compile_error!("service_stopping! takes `name: value` pairs, separated by commas")
    };
    ($($input:tt)*) => {
        $crate::service_stopping!(@ [] [] [] [] $($input)*)
    };
}
