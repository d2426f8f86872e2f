//! The words that the hub's own records are written in: names of events, keys of attributes, reasons and outcomes.
//! They are those of the contract; nothing else here spells one.

/// Names of events.
pub(crate) mod event {
    pub(crate) const HANDSHAKE_FAILED: &str = "security.tls.handshake_failed";
    pub(crate) const AUTHN_SUCCEEDED: &str = "security.authn.succeeded";
    pub(crate) const AUTHN_REJECTED: &str = "security.authn.rejected";
    pub(crate) const AUTHZ_DENIED: &str = "security.authz.denied";
    pub(crate) const ENDPOINT_UNKNOWN: &str = "security.endpoint.unknown";
    pub(crate) const AUDIT: &str = "security.audit";
    pub(crate) const DROPPED: &str = "telemetry.dropped";
    pub(crate) const STARTED: &str = "service.started";
    pub(crate) const STOPPING: &str = "service.stopping";
}

/// Events of one request: they have a trace.
pub(crate) const OF_REQUESTS: [&str; 4] =
    [event::AUTHN_SUCCEEDED, event::AUTHN_REJECTED, event::AUTHZ_DENIED, event::ENDPOINT_UNKNOWN];

/// Keys of attributes.
pub(crate) mod key {
    // OpenTelemetry's.
    pub(crate) const CLIENT_ADDRESS: &str = "client.address";
    pub(crate) const METHOD: &str = "http.request.method";
    pub(crate) const PEER_ADDRESS: &str = "network.peer.address";
    pub(crate) const PEER_PORT: &str = "network.peer.port";
    pub(crate) const PATH: &str = "url.path";
    pub(crate) const ROUTE: &str = "http.route";
    pub(crate) const SERVER_PORT: &str = "server.port";
    pub(crate) const STATUS: &str = "http.response.status_code";
    pub(crate) const TLS_CLIENT_HASH: &str = "tls.client.hash.sha256";
    pub(crate) const TLS_CLIENT_ISSUER: &str = "tls.client.issuer";
    pub(crate) const TLS_CLIENT_SUBJECT: &str = "tls.client.subject";
    pub(crate) const TLS_CLIENT_NOT_AFTER: &str = "tls.client.not_after";
    pub(crate) const TLS_ESTABLISHED: &str = "tls.established";
    pub(crate) const TLS_VERSION: &str = "tls.protocol.version";
    pub(crate) const USER_ID: &str = "user.id";
    pub(crate) const USER_NAME: &str = "user.name";
    pub(crate) const USER_AGENT: &str = "user_agent.original";
    pub(crate) const PROCESS_ID: &str = "process.pid";
    pub(crate) const QUERY: &str = "db.query.text";
    pub(crate) const ROWS: &str = "db.response.returned_rows";
    // Our own.
    pub(crate) const ACTION: &str = "threadline.audit.action";
    pub(crate) const ACTOR_TYPE: &str = "threadline.actor.type";
    pub(crate) const AUTHN_METHOD: &str = "threadline.authn.method";
    pub(crate) const AUTHZ_ACTION: &str = "threadline.authz.action";
    pub(crate) const CONTRACT_VERSION: &str = "threadline.contract.version";
    pub(crate) const CONNECTION_ID: &str = "threadline.connection.id";
    /// How many things that happened a record stands for.
    pub(crate) const COUNT: &str = "threadline.count";
    pub(crate) const DROPPED_COUNT: &str = "threadline.dropped.count";
    pub(crate) const DURATION_S: &str = "threadline.duration_s";
    pub(crate) const OUTCOME: &str = "threadline.outcome";
    pub(crate) const REASON: &str = "threadline.reason";
    pub(crate) const RESOURCE_ID: &str = "threadline.resource.id";
    pub(crate) const RESOURCE_TYPE: &str = "threadline.resource.type";
    pub(crate) const TLS_SIDE: &str = "threadline.tls.side";
    pub(crate) const TOKEN_HASH: &str = "threadline.authn.token.hash";
    pub(crate) const TOKEN_ISSUER: &str = "threadline.authn.token.issuer";
}

/// Values of [`key::OUTCOME`].
pub(crate) mod outcome {
    pub(crate) const SUCCESS: &str = "success";
    pub(crate) const FAILURE: &str = "failure";
    pub(crate) const DENIED: &str = "denied";
    pub(crate) const UNKNOWN: &str = "unknown";
}

/// Values of [`key::ACTOR_TYPE`].
pub(crate) mod actor {
    pub(crate) const USER: &str = "user";
    pub(crate) const SERVICE: &str = "service";
    pub(crate) const SYSTEM: &str = "system";
    pub(crate) const ANONYMOUS: &str = "anonymous";
}

/// Values of [`key::AUTHN_METHOD`].
pub(crate) mod method {
    pub(crate) const BEARER: &str = "bearer";
    pub(crate) const MTLS: &str = "mtls";
    pub(crate) const SESSION: &str = "session";
}
/// Value of [`key::TLS_SIDE`].
pub(crate) const SERVER_SIDE: &str = "server";
/// Value of [`key::TOKEN_ISSUER`].
pub(crate) const ISSUER: &str = "threadline";

/// Values of [`key::REASON`], by event.
pub(crate) mod reason {
    /// Of [`HANDSHAKE_FAILED`](super::event::HANDSHAKE_FAILED).
    pub(crate) mod tls {
        pub(crate) const CLIENT_CERT_MISSING: &str = "client_cert_missing";
        pub(crate) const EXPIRED: &str = "expired";
        pub(crate) const UNTRUSTED: &str = "untrusted";
        pub(crate) const REVOKED: &str = "revoked";
        pub(crate) const NAME_MISMATCH: &str = "name_mismatch";
        pub(crate) const PROTOCOL_VERSION: &str = "protocol_version";
        pub(crate) const CIPHER: &str = "cipher";
        pub(crate) const PLAINTEXT: &str = "plaintext";
        pub(crate) const TIMEOUT: &str = "timeout";
        pub(crate) const ALERT: &str = "alert";
    }

    /// Of [`AUTHN_REJECTED`](super::event::AUTHN_REJECTED).
    pub(crate) mod authn {
        pub(crate) const MISSING: &str = "missing";
        pub(crate) const MALFORMED: &str = "malformed";
        pub(crate) const EXPIRED: &str = "expired";
        pub(crate) const UNKNOWN_KEY: &str = "unknown_key";
        pub(crate) const REVOKED: &str = "revoked";
        pub(crate) const BAD_CREDENTIALS: &str = "bad_credentials";
        pub(crate) const LOCKED: &str = "locked";
    }

    /// Of [`AUTHZ_DENIED`](super::event::AUTHZ_DENIED).
    pub(crate) mod authz {
        pub(crate) const NO_PERMISSION: &str = "no_permission";
        pub(crate) const MISSING_SCOPE: &str = "missing_scope";
    }

    /// Of [`ENDPOINT_UNKNOWN`](super::event::ENDPOINT_UNKNOWN).
    pub(crate) mod endpoint {
        pub(crate) const NO_ROUTE: &str = "no_route";
        pub(crate) const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
        pub(crate) const UNKNOWN_HOST: &str = "unknown_host";
    }

    /// Of [`DROPPED`](super::event::DROPPED).
    pub(crate) mod dropped {
        pub(crate) const QUEUE_FULL: &str = "queue_full";
        pub(crate) const UNREACHABLE: &str = "unreachable";
    }

    /// Of [`STOPPING`](super::event::STOPPING).
    pub(crate) mod stopping {
        pub(crate) const REQUEST: &str = "request";
    }
}
