//! A registry compiled for checking: tables by name, bits for what an event requires. It does not look at records.

use hashbrown::HashTable;
use rustc_hash::FxHasher;
use std::hash::Hasher as _;

use threadline_model::value::{Value, elements};

use crate::registry::{Attribute, Base, Class, Condition, Event, Level, Registry, Severity, Use};
use crate::rules::{Action, Rule};

/// What is done about broken rules, and how much a record may have.
#[derive(Clone, Debug)]
pub struct Policy {
    /// By rule, in the order of [`Rule::ALL`].
    actions: Vec<Action>,
    /// Whether records are checked. Without it they get no verdict, and are masked all the same.
    pub check: bool,
    /// Whether secrets are masked. Without it they are found and kept.
    pub mask: bool,
    /// Whether attributes of the class `pii` are masked.
    pub mask_pii: bool,
    /// Attributes of a record, before `limit.attributes`.
    pub attributes_max: usize,
    /// Bytes of an attribute's value, before `limit.value`.
    pub value_bytes_max: usize,
    /// Bytes of a body, before `limit.value`.
    pub body_bytes_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            actions: Rule::ALL.iter().map(|rule| rule.default_action()).collect(),
            check: true,
            mask: true,
            mask_pii: false,
            attributes_max: 128,
            value_bytes_max: 32 << 10,
            body_bytes_max: 256 << 10,
        }
    }
}

impl Policy {
    /// What is done about a rule.
    pub fn action(&self, rule: Rule) -> Action {
        let at = Rule::ALL.iter().position(|known| *known == rule);
        at.and_then(|at| self.actions.get(at)).copied().unwrap_or(Action::Tag)
    }

    /// Says what is done about a rule.
    pub fn set(&mut self, rule: Rule, action: Action) {
        if let Some(known) =
            Rule::ALL.iter().position(|known| *known == rule).and_then(|at| self.actions.get_mut(at))
        {
            *known = action;
        }
    }

    fn bits(&self, wanted: impl Fn(Action) -> bool) -> u64 {
        Rule::ALL
            .iter()
            .filter(|rule| self.check && wanted(self.action(**rule)))
            .fold(0, |bits, rule| bits | rule.bit())
    }
}

/// Where an attribute stands in the tables.
pub(crate) type Id = u32;
/// No attribute.
pub(crate) const NONE: Id = u32::MAX;

/// An attribute, as it is checked.
#[derive(Debug)]
pub(crate) struct Attr {
    pub(crate) key: Box<str>,
    pub(crate) base: Base,
    pub(crate) template: bool,
    pub(crate) deprecated: bool,
    /// The value is a secret by its class.
    pub(crate) secret: bool,
    /// The value is masked, though it breaks no rule.
    pub(crate) redact: bool,
    /// The closed list of values; empty when any will do.
    pub(crate) closed: Vec<Box<str>>,
}

/// An event, as it is checked.
#[derive(Debug)]
pub(crate) struct Ev {
    pub(crate) name: Box<str>,
    /// By attribute: its slot and one more; 0 where the event does not use it.
    pub(crate) slots: Vec<u8>,
    /// Slots that must be there.
    pub(crate) required: u64,
    /// Slots that must be there when the condition holds.
    pub(crate) conditional: Vec<(u64, usize, Condition)>,
    /// Of each set of slots at least one must be there.
    pub(crate) any_of: Vec<u64>,
    /// By slot: the closed list of values; empty when any will do.
    pub(crate) values: Vec<Vec<Box<str>>>,
    /// Slots with such a list.
    pub(crate) valued: u64,
    pub(crate) severity: Option<Severity>,
    /// By condition of the severity: the slot of its attribute.
    pub(crate) severity_slots: Vec<usize>,
    pub(crate) request_scoped: bool,
    pub(crate) never_sampled: bool,
    /// By slot.
    pub(crate) uses: Vec<Use>,
}

/// A compiled contract. Shared by all who check.
#[derive(Debug)]
pub struct Contract {
    registry: Registry,
    policy: Policy,
    pub(crate) attrs: Vec<Attr>,
    attr_index: HashTable<Id>,
    pub(crate) events: Vec<Ev>,
    event_index: HashTable<u32>,
    /// What every resource must have.
    pub(crate) resource: Vec<(Id, Level)>,
    /// Rules that are looked at.
    pub(crate) enabled: u64,
    pub(crate) quarantine: u64,
    pub(crate) reject: u64,
}

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl Contract {
    /// Compiles a registry, which was loaded without problems.
    pub fn new(registry: Registry, policy: Policy) -> Contract {
        let mut contract = Contract {
            attrs: registry.attributes.values().map(|attribute| Attr::new(attribute, &policy)).collect(),
            attr_index: HashTable::new(),
            events: Vec::new(),
            event_index: HashTable::new(),
            resource: Vec::new(),
            enabled: policy.bits(|action| action != Action::Off),
            quarantine: policy.bits(|action| action == Action::Quarantine),
            reject: policy.bits(|action| action == Action::Reject),
            registry,
            policy,
        };
        for (at, attr) in contract.attrs.iter().enumerate() {
            let attrs = &contract.attrs;
            let rehash = |at: &Id| attrs.get(*at as usize).map_or(0, |attr| hash(&attr.key));
            contract.attr_index.insert_unique(hash(&attr.key), at as Id, rehash);
        }
        contract.events = contract.registry.events.values().map(|event| contract.event(event)).collect();
        for (at, event) in contract.events.iter().enumerate() {
            let events = &contract.events;
            let rehash = |at: &u32| events.get(*at as usize).map_or(0, |event| hash(&event.name));
            contract.event_index.insert_unique(hash(&event.name), at as u32, rehash);
        }
        contract.resource = contract
            .registry
            .resource
            .iter()
            .filter_map(|used| Some((contract.exact(&used.key)?, used.level.clone())))
            .collect();
        contract
    }

    /// The registry that was compiled.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What is done about broken rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether records of this name are never refused.
    pub fn is_never_sampled(&self, event_name: &str) -> bool {
        self.find_event(event_name).is_some_and(|event| event.never_sampled)
    }

    fn exact(&self, key: &str) -> Option<Id> {
        let same = |at: &Id| self.attrs.get(*at as usize).is_some_and(|attr| *attr.key == *key);
        self.attr_index.find(hash(key), same).copied()
    }

    /// The attribute of this key, or the template that it is a member of; [`NONE`] where there is none.
    pub(crate) fn find(&self, key: &str) -> Id {
        let template = |at: Id| self.attrs.get(at as usize).is_some_and(|attr| attr.template);
        if let Some(at) = self.exact(key).filter(|at| !template(*at)) {
            return at;
        }
        let mut front = key;
        while let Some(dot) = front.rfind('.') {
            front = front.get(..dot).unwrap_or_default();
            if let Some(at) = self.exact(front).filter(|at| template(*at)) {
                return at;
            }
        }
        NONE
    }

    /// Where an event of this name stands.
    pub(crate) fn event_id(&self, name: &str) -> Option<u32> {
        let same = |at: &u32| self.events.get(*at as usize).is_some_and(|event| *event.name == *name);
        self.event_index.find(hash(name), same).copied()
    }

    fn find_event(&self, name: &str) -> Option<&Ev> {
        self.events.get(self.event_id(name)? as usize)
    }

    /// Whether a key, as it stands in JSON, is one of a secret.
    pub(crate) fn is_secret_key(&self, key: &str) -> bool {
        self.attrs.get(self.find(key) as usize).is_some_and(|attr| attr.secret)
    }

    fn event(&self, event: &Event) -> Ev {
        let mut slots = vec![0u8; self.attrs.len()];
        for (slot, used) in event.uses.iter().enumerate() {
            if let Some(known) = self.exact(&used.key).and_then(|at| slots.get_mut(at as usize)) {
                *known = slot as u8 + 1;
            }
        }
        let slot_of = |key: &str| event.uses.iter().position(|used| used.key == key);
        let bits = |wanted: &dyn Fn(&Use) -> bool| {
            event
                .uses
                .iter()
                .enumerate()
                .filter(|(_, used)| wanted(used))
                .fold(0u64, |bits, (at, _)| bits | 1 << at)
        };
        let severity_slots = event.severity.iter().flat_map(|severity| &severity.when);
        Ev {
            name: event.name.as_str().into(),
            required: bits(&|used| used.level == Level::Required),
            conditional: event
                .uses
                .iter()
                .enumerate()
                .filter_map(|(at, used)| {
                    let condition = used.required_when.clone()?;
                    Some((1u64 << at, slot_of(&condition.attribute)?, condition))
                })
                .collect(),
            any_of: event
                .any_of
                .iter()
                .map(|keys| keys.iter().filter_map(|key| slot_of(key)).fold(0u64, |bits, at| bits | 1 << at))
                .collect(),
            values: event
                .uses
                .iter()
                .map(|used| used.values.iter().map(|value| value.as_str().into()).collect())
                .collect(),
            valued: bits(&|used| !used.values.is_empty()),
            severity_slots: severity_slots
                .map(|(when, _)| slot_of(&when.attribute).unwrap_or(usize::MAX))
                .collect(),
            severity: event.severity.clone(),
            request_scoped: event.request_scoped,
            never_sampled: event.never_sampled,
            uses: event.uses.clone(),
            slots,
        }
    }
}

impl Attr {
    fn new(attribute: &Attribute, policy: &Policy) -> Attr {
        let closed = if attribute.closed { attribute.members.as_slice() } else { &[] };
        Attr {
            key: attribute.key.as_str().into(),
            base: attribute.base,
            template: attribute.template,
            deprecated: attribute.deprecated.is_some(),
            secret: attribute.class == Class::Secret,
            redact: attribute.redact || policy.mask_pii && attribute.class == Class::Pii,
            closed: closed.iter().map(|value| value.as_str().into()).collect(),
        }
    }

    /// Whether a value has the attribute's type. An integer is taken for a float: senders that know one kind of number write
    /// 1.0 as 1.
    #[inline]
    pub(crate) fn fits(&self, value: &Value<'_>) -> bool {
        match (self.base, value) {
            (Base::Any, _) | (_, Value::Empty) => true,
            (Base::Str, Value::Str(_)) => true,
            (Base::Int, Value::Int(_)) => true,
            (Base::Double, Value::Double(_) | Value::Int(_)) => true,
            (Base::Bool, Value::Bool(_)) => true,
            (_, Value::Json(json)) => self.fits_array(json),
            _ => false,
        }
    }

    fn fits_array(&self, json: &str) -> bool {
        let is: fn(u8) -> bool = match self.base {
            Base::StrArray => |byte| byte == b'"',
            Base::IntArray | Base::DoubleArray => |byte| byte.is_ascii_digit() || byte == b'-',
            Base::BoolArray => |byte| matches!(byte, b't' | b'f'),
            _ => return false,
        };
        let whole = self.base == Base::IntArray;
        json.starts_with('[')
            && elements(json).take(64).all(|element| {
                let json = element.json();
                json.bytes().next().is_some_and(is) && !(whole && json.contains(['.', 'e']))
            })
    }
}

/// Whether a value is in a closed list.
#[inline]
pub(crate) fn is_listed(list: &[Box<str>], value: &Value<'_>) -> bool {
    match value {
        Value::Str(text) => list.iter().any(|known| **known == **text),
        Value::Int(int) => list.iter().any(|known| known.parse() == Ok(*int)),
        // Of another type: another rule says so.
        _ => true,
    }
}
