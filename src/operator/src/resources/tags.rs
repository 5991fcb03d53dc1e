//! The rule of every list of tags, in one place.

use kube::core::Rule;

/// Each entry is a tag.
pub(super) fn rule() -> Rule {
    Rule::new("self.all(tag, tag.matches('^[A-Za-z0-9:._/-]{1,64}$'))")
        .message("a tag has 1 to 64 letters, digits and : . _ / - : write it like project:payments")
}
