//! What the binary says of itself is a contract: scripts and charts are written from it.

use crate::books::{command, said};
use std::path::Path;

const VERBS: [&str; 7] = ["serve", "migrate", "verify", "backup", "restore", "import", "retire"];

/// After a change that is meant: `TOLLGATE_BLESS=1`.
#[test]
fn the_help_is_as_it_was_published() {
    let mut text = help(&[]);
    for verb in VERBS {
        assert!(text.contains(&format!("\n  {verb} ")), "{verb} is listed");
        text.push_str(&format!("\n==== {verb}\n{}", help(&[verb])));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands/help.txt");
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, published, "{} differs; TOLLGATE_BLESS=1 writes it anew", path.display());
}

fn help(verb: &[&str]) -> String {
    said(command().args(verb).arg("--help").output().unwrap(), 0)
}
