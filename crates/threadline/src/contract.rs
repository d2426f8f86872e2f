//! The contract of a hub: read from its folder, and who checks records by it. What the rules are is the contract crate's.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use threadline_contract::registry::{File, Layer, Registry, base_layers, load};
use threadline_contract::score::Board;
use threadline_contract::{Contract, Guard, Policy, secrets};
use threadline_model::inspect::{Inspector, Unchecked};

use crate::settings::Settings;

/// Gives each request an inspector. Clones are the same gatekeeper.
#[derive(Clone, Debug, Default)]
pub struct Gatekeeper {
    /// `None` where records are neither checked nor masked.
    contract: Arc<RwLock<Option<Arc<Contract>>>>,
    board: Arc<Board>,
    folder: Option<PathBuf>,
    policy: Policy,
}

impl Gatekeeper {
    /// By the settings.
    ///
    /// # Errors
    /// What is wrong with the contract's folder, a line for each problem.
    pub fn new(settings: &Settings) -> Result<Gatekeeper, String> {
        let mut policy = settings.contract_actions.clone();
        policy.mask_pii = settings.contract_mask_pii;
        policy.check = settings.contract;
        policy.mask = settings.redact;
        let folder = settings.contract_dir.clone();
        let gatekeeper = Gatekeeper { folder, policy, ..Gatekeeper::default() };
        gatekeeper.reload()?;
        Ok(gatekeeper)
    }

    /// Reads the contract's folder again. Requests in progress go by what was before.
    ///
    /// # Errors
    /// What is wrong with it, a line for each problem; what was before stays.
    pub fn reload(&self) -> Result<(), String> {
        if !self.policy.check && !self.policy.mask {
            return Ok(());
        }
        let contract = Contract::new(registry(self.folder.as_deref())?, self.policy.clone());
        *self.contract.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(contract));
        Ok(())
    }

    fn current(&self) -> Option<Arc<Contract>> {
        self.contract.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The contract; `None` where records are not checked.
    pub(crate) fn contract(&self) -> Option<Arc<Contract>> {
        self.current().filter(|contract| contract.policy().check)
    }

    /// What was counted.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// A text that somebody typed, with masks in the place of secrets.
    pub(crate) fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.policy.mask { secrets::masked(text) } else { Cow::Borrowed(text) }
    }

    /// An inspector for one request.
    pub(crate) fn inspector(&self) -> Box<dyn Inspector> {
        match self.current() {
            Some(contract) => Box::new(Guard::new(contract, Arc::clone(&self.board))),
            None => Box::new(Unchecked),
        }
    }
}

/// The base contract, with a folder's layer over it.
pub(crate) fn registry(folder: Option<&Path>) -> Result<Registry, String> {
    let mut layers = base_layers();
    if let Some(folder) = folder {
        layers.push(read(folder)?);
    }
    load(&layers).map_err(|problems| problems.to_string())
}

/// All registry files of a folder and the folders in it.
fn read(folder: &Path) -> Result<Layer, String> {
    let files = crate::files::read_yaml(folder)?;
    Ok(Layer { files: files.into_iter().map(|(path, text)| File { path, text }).collect() })
}

#[cfg(test)]
mod tests {
    use threadline_contract::rules::Rule;
    use threadline_query::lang::RULES;

    /// The search language cannot name the contract's crate.
    #[test]
    fn searches_know_the_rules() {
        let known: Vec<(&str, i64)> = RULES.iter().copied().filter(|(id, _)| !id.contains('*')).collect();
        let rules: Vec<(&str, i64)> = Rule::ALL.iter().map(|rule| (rule.id(), rule.bit() as i64)).collect();
        assert_eq!(known, rules);
        for (group, bits) in RULES.iter().filter(|(id, _)| id.contains('*')) {
            let prefix = group.trim_end_matches('*');
            let all: i64 = rules.iter().filter(|(id, _)| id.starts_with(prefix)).map(|(_, bit)| bit).sum();
            assert_eq!(*bits, all, "{group}");
        }
    }
}
