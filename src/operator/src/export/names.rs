//! Names of objects, made of what people call the accounts. Whatever else there is, an account has the same one; and no two have the same.

use super::judge::{Fate, Fates};
use super::{ListedAccount, Settings};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tollgate_domain::account::{AccountKind, AccountName};

/// Names are parts of names of accounts, which have a longest length.
const NAME_CHARS_MAX: usize = 63;
/// Digits of a digest that tell a name from others like it; more, where that is not enough.
const DIGITS: usize = 8;

/// The name of each account's object.
pub(super) struct Names(BTreeMap<AccountName, String>);

impl Names {
    pub(super) fn new(fates: &Fates<'_>, settings: &Settings) -> Self {
        let mut names = BTreeMap::new();
        for kind in [AccountKind::Organization, AccountKind::Team, AccountKind::User, AccountKind::Key] {
            let taken = taken(fates, kind, settings);
            let wanted = fates.objects(kind).map(|account| (account.name.clone(), called(account))).collect();
            names.extend(distinct(wanted, taken));
        }
        Self(names)
    }

    /// Of an account that becomes an object.
    pub(super) fn get(&self, account: &AccountName) -> &str {
        self.0.get(account).map(String::as_str).unwrap_or_default()
    }
}

/// Names of custom resources that are there, or will be.
fn taken(fates: &Fates<'_>, kind: AccountKind, settings: &Settings) -> BTreeSet<String> {
    let there = fates.all().filter_map(|(account, fate)| match fate {
        Fate::Is(name) if account.name.kind == kind && name.namespace == settings.namespace_of(kind) => {
            Some(name.name.clone())
        }
        _ => None,
    });
    let default_team = settings.default_team.clone().filter(|_| kind == AccountKind::Team);
    there.chain(default_team).collect()
}

fn called(account: &ListedAccount) -> String {
    account.alias.clone().unwrap_or_else(|| account.name.id.clone())
}

/// A name for each. One that stands for itself alone is what it is called; every other one has a part of its digest, too.
pub(super) fn distinct(
    wanted: Vec<(AccountName, String)>,
    mut taken: BTreeSet<String>,
) -> BTreeMap<AccountName, String> {
    let plain: Vec<_> = wanted.into_iter().map(|(account, text)| (plain(&text), account)).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in &plain {
        *counts.entry(name).or_default() += 1;
    }
    let is_free = |name: &String| {
        let alone = counts.get(name.as_str()) == Some(&1);
        alone && !name.is_empty() && name.len() <= NAME_CHARS_MAX && !taken.contains(name)
    };
    let (free, others): (Vec<_>, Vec<_>) = plain.iter().partition(|(name, _)| is_free(name));
    let mut names: BTreeMap<_, _> =
        free.into_iter().map(|(name, account)| (account.clone(), name.clone())).collect();
    taken.extend(names.values().cloned());
    for (name, account) in others {
        let name = told_apart(name, account, &taken);
        taken.insert(name.clone());
        names.insert(account.clone(), name);
    }
    names
}

/// A name with a part of the account's digest.
fn told_apart(name: &str, account: &AccountName, taken: &BTreeSet<String>) -> String {
    let digest = Sha256::digest(format!("{} {} {}", account.kind, account.scope, account.id));
    let digits = digest.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    let kind = account.kind.as_str();
    let stem = if name.is_empty() { kind } else { name };
    let with = |count: usize| {
        let digits: String = digits.chars().take(count).collect();
        let room = NAME_CHARS_MAX.saturating_sub(count + 1);
        let stem: String = stem.chars().take(room).collect();
        format!("{}-{digits}", stem.trim_end_matches('-'))
    };
    // Nobody finds two accounts whose digests begin alike for so long.
    (DIGITS..NAME_CHARS_MAX - 8).map(with).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Whether a text is the name of an object.
pub fn is_name(text: &str) -> bool {
    let inner = text.bytes().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'-');
    inner && (1..=NAME_CHARS_MAX).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

/// Small letters, digits and single dashes between them.
pub(super) fn plain(text: &str) -> String {
    let mut name = String::new();
    for one in text.chars().map(|one| one.to_ascii_lowercase()) {
        if one.is_ascii_lowercase() || one.is_ascii_digit() {
            name.push(one);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[(&str, &str)], taken: &[&str]) -> Vec<String> {
        let account =
            |id: &str| AccountName { kind: AccountKind::Team, scope: String::new(), id: id.to_owned() };
        let wanted = all.iter().map(|(id, text)| (account(id), (*text).to_owned())).collect();
        let named = distinct(wanted, taken.iter().map(|&name| name.to_owned()).collect());
        all.iter().map(|(id, _)| named[&account(id)].clone()).collect()
    }

    #[test]
    fn names_are_what_people_call_things() {
        let rows = [
            ("Payments", "payments"),
            ("  Platform & Search ", "platform-search"),
            ("alice@example.com", "alice-example-com"),
            ("Zürich", "z-rich"),
            ("7c1e-4f", "7c1e-4f"),
            ("..--..", ""),
            ("\u{65e5}\u{672c}", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn no_two_are_the_same_and_all_are_names() {
        let long = "x".repeat(100);
        let all = [
            ("1", "Team A"),
            ("2", "team-a"),
            ("3", "TEAM A!"),
            ("4", "b"),
            ("5", "\u{65e5}"),
            ("6", &long),
            ("7", "c"),
        ];
        let given = names(&all, &["b"]);
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), all.len(), "{given:?}");
        assert!(given.iter().all(|name| is_name(name)), "{given:?}");
        assert!(
            given[0].starts_with("team-a-") && given[3].starts_with("b-") && given[4].starts_with("team-")
        );
        assert_eq!(given[6], "c");
    }

    #[test]
    fn a_name_does_not_depend_on_the_order() {
        let all = [("1", "a"), ("2", "A"), ("3", "b")];
        let mut turned = all;
        turned.reverse();
        let mut names_turned = names(&turned, &[]);
        names_turned.reverse();
        assert_eq!(names(&all, &[]), names_turned);
    }
}
