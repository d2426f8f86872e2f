//! Registries as data: what is read, what a company's layer may say, and what is told of files that are wrong.

use std::borrow::Cow;

use threadline_contract::registry::{Base, Class, File, Layer, Level, Registry, base_layers, load};

fn layer(text: &str) -> Layer {
    Layer { files: vec![File { path: "own.yaml".to_owned(), text: Cow::Owned(text.to_owned()) }] }
}

fn extended(text: &str) -> Result<Registry, String> {
    let mut layers = base_layers();
    layers.push(layer(&format!("file_format: definition/2\n{text}")));
    load(&layers).map_err(|problems| problems.to_string())
}

#[test]
fn the_base_contract_is_whole() {
    let base = load(&base_layers()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(base.attributes.len() >= 900, "{}", base.attributes.len());
    for name in [
        "request.finished",
        "security.endpoint.unknown",
        "security.tls.handshake_failed",
        "security.authn.rejected",
        "security.authn.succeeded",
        "security.authz.denied",
        "security.audit",
        "exception",
        "service.started",
        "service.stopping",
        "telemetry.dropped",
    ] {
        let event = base.events.get(name).unwrap_or_else(|| panic!("{name}"));
        assert!(event.severity.is_some() && !event.mapping.ecs.is_empty(), "{name}");
        assert_eq!(event.never_sampled, name.starts_with("security."), "{name}");
    }
    assert_eq!(base.version(), "0.1.0");
    let header = base.attribute("http.request.header.accept").unwrap();
    assert!(header.template && header.base == Base::StrArray);
    assert_eq!(base.attribute("http.request.header.cookie").unwrap().class, Class::Secret);
    assert_eq!(
        base.attribute("http.status_code").unwrap().deprecated.as_deref(),
        Some("use http.response.status_code")
    );
}

#[test]
fn a_company_adds_and_makes_stricter() {
    let registry = extended(
        "attributes:\n  - { key: shop.cart.id, type: string, stability: stable, brief: Cart. }\n\
         attribute_groups:\n\
         \x20 - id: shop.classes\n    visibility: public\n    annotations: { threadline: { applies_to: attributes } }\n    attributes:\n\
         \x20     - { ref: user.email, annotations: { threadline: { redact: true } } }\n\
         \x20 - id: shop.common\n    visibility: internal\n    attributes: [{ ref: shop.cart.id, requirement_level: required }]\n\
         events:\n  - { name: shop.order.placed, stability: stable, brief: b, attributes: [{ ref_group: shop.common }] }\n\
         event_refinements:\n  - { id: shop.request, ref: request.finished, attributes: [{ ref: user.id, requirement_level: required }] }\n",
    )
    .unwrap();
    assert!(registry.attributes.get("user.email").unwrap().redact);
    assert_eq!(registry.events.get("shop.order.placed").unwrap().uses[0].level, Level::Required);
    let finished = registry.events.get("request.finished").unwrap();
    assert_eq!(finished.uses.iter().find(|used| used.key == "user.id").unwrap().level, Level::Required);
    assert!(finished.request_scoped && finished.severity.is_some(), "what is not said stays");
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let refine = |rest: &str| format!("event_refinements:\n  - {{ id: x, ref: security.audit, {rest} }}\n");
    for (text, want) in [
        (
            "attributes:\n  - { key: url.path, type: string, stability: stable, brief: b }\n",
            "own.yaml:3: `url.path` is defined already",
        ),
        (
            "attributes:\n  - { key: a, type: text, stability: stable, brief: b }\n",
            "own.yaml:3: `text` is no type: one of string",
        ),
        ("attributes:\n  - { key: a, stability: stable, brief: b }\n", "own.yaml:3: `type` is missing"),
        (
            "attributes:\n  - { key: a, type: string, breif: b }\n",
            "own.yaml:3: `breif` is not known here: one of key",
        ),
        ("atributes: []\n", "own.yaml:2: `atributes` is not known here"),
        (
            "events:\n  - name: e\n    brief: b\n    attributes:\n      - ref: no.such\n",
            "own.yaml:6: there is no attribute `no.such`",
        ),
        (
            "events:\n  - { name: e, brief: b, attributes: [{ ref_group: g }] }\n",
            "own.yaml:3: there is no group `g`",
        ),
        ("events:\n  - { name: exception, brief: b }\n", "event `exception` is defined already: refine it"),
        (
            "event_refinements:\n  - { id: x, ref: no.such }\n",
            "own.yaml:3: there is no event `no.such` to refine",
        ),
        (
            &refine("attributes: [{ ref: threadline.outcome, requirement_level: opt_in }]"),
            "is required already and cannot become opt-in",
        ),
        (
            &refine("annotations: { threadline: { severity: { min: 9, max: 99 } } }"),
            "`min` and `max` from 1 to 24",
        ),
        (&refine("annotations: { threadline: { sampling: often } }"), "`sampling` is default or never"),
        (&refine("annotations: { threadline: { any_of: [[url.path]] } }"), "is none of its attributes: add it"),
        (
            "event_refinements:\n  - { id: x, ref: security.authz.denied, attributes: [{ ref: threadline.reason, annotations: { threadline: { values: [bored] } } }] }\n",
            "`bored` is not among the values of `threadline.reason`",
        ),
        (
            "attribute_groups:\n  - { id: g, visibility: public, annotations: { threadline: { applies_to: attributes } }, attributes: [{ ref: password, annotations: { threadline: { class: none } } }] }\n",
            "`password` is masked already",
        ),
        ("attributes: [\n", "not YAML"),
    ] {
        let problems = extended(text).unwrap_err();
        assert!(problems.contains(want), "{text}\n{problems}");
    }
}

#[test]
fn groups_in_a_circle_are_refused() {
    let text = "attribute_groups:\n  - { id: a, visibility: internal, attributes: [{ ref_group: b }] }\n  - { id: b, visibility: internal, attributes: [{ ref_group: a }] }\n\
                events:\n  - { name: e, brief: b, attributes: [{ ref_group: a }] }\n";
    assert!(extended(text).unwrap_err().contains("in a circle"));
}

/// The shape of OpenTelemetry's own v1 files.
#[test]
fn v1_groups_are_read() {
    let text = "groups:\n\
        \x20 - id: registry.shop\n    type: attribute_group\n    brief: Shop.\n    attributes:\n\
        \x20     - id: shop.kind\n        type:\n          allow_custom_values: true\n          members:\n            - id: a\n              value: 'a'\n              brief: A.\n              stability: development\n        stability: development\n        brief: Kind.\n        examples: ['a']\n\
        \x20     - id: shop.old\n        type: int\n        stability: development\n        brief: Old.\n        deprecated:\n          reason: renamed\n          renamed_to: shop.new\n\
        \x20 - id: event.shop.opened\n    type: event\n    name: shop.opened\n    stability: development\n    brief: >\n      It was opened.\n    extends: registry.shop\n    attributes:\n\
        \x20     - ref: shop.kind\n        requirement_level:\n          conditionally_required: If it is known.\n\
        \x20     - ref: url.path\n        requirement_level: required\n    body:\n      id: x\n      type: map\n\
        \x20 - id: metric.shop\n    type: metric\n    metric_name: shop\n    brief: b\n    instrument: counter\n    unit: '1'\n    attributes: [{ ref: shop.kind }]\n";
    let mut layers = base_layers();
    layers.push(layer(text));
    let registry = load(&layers).unwrap_or_else(|problems| panic!("{problems}"));
    let kind = registry.attributes.get("shop.kind").unwrap();
    assert!(kind.members == ["a"] && !kind.closed, "an enum is open unless it says otherwise");
    assert_eq!(registry.attributes.get("shop.old").unwrap().deprecated.as_deref(), Some("use shop.new"));
    let event = registry.events.get("shop.opened").unwrap();
    let levels: Vec<(&str, String)> =
        event.uses.iter().map(|used| (used.key.as_str(), used.level.to_string())).collect();
    assert!(levels.contains(&("shop.kind", "required if If it is known.".to_owned())), "{levels:?}");
    assert!(levels.contains(&("url.path", "required".to_owned())));
}
