//! An export as YAML, with what a reader has to know as comments.

use super::yaml::is_hidden;
use super::{Export, Left, Written};
use crate::plan::Kind;
use std::fmt::Write as _;
use tollgate_domain::account::AccountKind;

/// The kinds in the order of their application, which is that of the names of their files.
const KINDS: [(Kind, AccountKind, &str); 5] = [
    (Kind::Budget, AccountKind::Tag, "budgets.yaml"),
    (Kind::Organization, AccountKind::Organization, "organizations.yaml"),
    (Kind::Team, AccountKind::Team, "teams.yaml"),
    (Kind::User, AccountKind::User, "users.yaml"),
    (Kind::VirtualKey, AccountKind::Key, "virtualkeys.yaml"),
];

const HEAD: &str = "\
# Written by `tollgate-operator export`. Each object takes over an account that the admin API has made, with all that it has spent, and is the
# only place where that is changed from then on. Budgets come first: an account is taken over once there is one for each of its limits.
";

/// One file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What is in it.
    pub text: String,
}

/// All of it in one text.
///
/// # Errors
/// Never, as long as objects are plain data.
pub fn whole(export: &Export) -> Result<String, serde_json::Error> {
    written(&export.objects.iter().collect::<Vec<_>>(), &export.left.iter().collect::<Vec<_>>())
}

impl Export {
    /// A file for each kind, in the order of application. What stays with the API stands in the file of its kind.
    ///
    /// # Errors
    /// Never, as long as objects are plain data.
    pub fn files(&self) -> Result<Vec<File>, serde_json::Error> {
        let file = |(kind, account, name): (Kind, AccountKind, &'static str)| {
            let objects: Vec<_> = self.objects.iter().filter(|one| one.object.kind() == kind).collect();
            let left: Vec<_> = self.left.iter().filter(|left| left.account.kind == account).collect();
            Ok(File { name, text: written(&objects, &left)? })
        };
        KINDS.into_iter().map(file).collect()
    }

    /// What a person should know, a line for each, beside the YAML.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let counts = KINDS.iter().filter_map(|(kind, _, _)| {
            let count = self.objects.iter().filter(|one| one.object.kind() == *kind).count();
            (count > 0).then(|| format!("{count} {kind}"))
        });
        let counts: Vec<String> = counts.collect();
        lines.push(if counts.is_empty() {
            "nothing to move".to_owned()
        } else {
            format!("written: {}", counts.join(", "))
        });
        for Written { object, notes } in &self.objects {
            let name = object.meta().name.as_deref().unwrap_or_default();
            lines.extend(notes.iter().map(|note| format!("{} {name}: {note}", object.kind())));
        }
        lines.extend(self.left.iter().map(|left| format!("stays with the admin API: {}", in_words(left))));
        lines
    }
}

fn in_words(Left { account, alias, why }: &Left) -> String {
    let called = alias.as_ref().map(|alias| format!(", called {alias:?}")).unwrap_or_default();
    let of = if account.scope.is_empty() { String::new() } else { format!(" of {:?}", account.scope) };
    format!("{} {:?}{of}{called}: {}", account.kind, account.id, why.join("; "))
}

fn written(objects: &[&Written], left: &[&Left]) -> Result<String, serde_json::Error> {
    let mut text = HEAD.to_owned();
    if !left.is_empty() {
        text.push_str(
            "#\n# What stays with the admin API, because a custom resource cannot say all of it:\n",
        );
        for left in left {
            comment(&mut text, &in_words(left));
        }
    }
    for Written { object, notes } in objects {
        text.push_str("---\n");
        for note in notes {
            comment(&mut text, note);
        }
        text.push_str(&object.yaml()?);
    }
    Ok(text)
}

/// Whatever people called something, it is one line.
fn comment(text: &mut String, words: &str) {
    let line: String = words.chars().map(|one| if is_hidden(one) { ' ' } else { one }).collect();
    let _ = writeln!(text, "# - {line}");
}
