//! The rule of every list of models, in one place.

use kube::core::Rule;

/// No entry is empty.
pub(super) fn rule() -> Rule {
    Rule::new("self.all(model, model.trim() != '')").message(
        "an entry of models is empty: remove it, or write a model's name, an alias, or a pattern such as anthropic/*",
    )
}
