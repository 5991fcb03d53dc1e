//! What a key may use of what its team gives each key.

/// The models of a key: its own list within that of the team. The ledger judges lists of accounts one after another, but what a team gives each
/// key is not an account's list: the two become one here.
///
/// Without knowing who serves which model, an entry counts as within the team's where it is one of them, or where one of the two is a
/// pattern that covers the other. What is not covered is left out, and where nothing is left, nothing may be used: `None`.
pub(super) fn narrowed(per_key: &[String], own: &[String]) -> Option<Vec<String>> {
    if per_key.is_empty() || own.is_empty() {
        return Some(if own.is_empty() { per_key } else { own }.to_vec());
    }
    let mut both: Vec<String> = Vec::new();
    for (theirs, mine) in per_key.iter().flat_map(|theirs| own.iter().map(move |mine| (theirs, mine))) {
        let narrower = if covers(theirs, mine) {
            mine
        } else if covers(mine, theirs) {
            theirs
        } else {
            continue;
        };
        if !both.contains(narrower) {
            both.push(narrower.clone());
        }
    }
    both.sort();
    Some(both).filter(|both| !both.is_empty())
}

/// Whether everything that `narrow` names is named by `wide`, too.
fn covers(wide: &str, narrow: &str) -> bool {
    wide == narrow
        || wide == "*"
        || wide.strip_suffix('*').is_some_and(|start| !start.contains('*') && narrow.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_narrows_and_never_widens() {
        let rows: [(&[&str], &[&str], Option<&[&str]>); 9] = [
            (&[], &[], Some(&[])),
            (&["a"], &[], Some(&["a"])),
            (&[], &["a"], Some(&["a"])),
            (&["a", "b"], &["b"], Some(&["b"])),
            (&["a"], &["a", "b"], Some(&["a"])),
            (&["a"], &["b"], None),
            (&["anthropic/*"], &["anthropic/claude-opus-4"], Some(&["anthropic/claude-opus-4"])),
            (&["claude-haiku-4-5"], &["claude-*"], Some(&["claude-haiku-4-5"])),
            (&["*"], &["a", "b"], Some(&["a", "b"])),
        ];
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        for (per_key, own, expected) in rows {
            assert_eq!(
                narrowed(&owned(per_key), &owned(own)),
                expected.map(owned),
                "{own:?} within {per_key:?}"
            );
        }
    }
}
