//! The fields of messages, as the `.proto` files name them: a table of fields can tell which it lacks.

use std::collections::BTreeSet;
use std::path::Path;

/// The paths of a message's fields, and of those of the messages within, that have no row. `apart` are messages within that have a
/// table of their own.
pub(crate) fn without_row(file: &str, message: &str, apart: &[&str], rows: &BTreeSet<String>) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto/tollgate/ledger/v1");
    let proto = std::fs::read_to_string(folder.join(file)).unwrap();
    let mut paths = Vec::new();
    add_paths(&proto, message, "", apart, &mut paths);
    // A message within is there if its fields are.
    let within = |path: &str| rows.iter().any(|row| row.starts_with(&format!("{path}.")));
    paths.retain(|path| !rows.contains(path) && !within(path));
    paths
}

fn add_paths(proto: &str, message: &str, prefix: &str, apart: &[&str], paths: &mut Vec<String>) {
    let indented = proto.lines().skip_while(|line| line.trim() != format!("message {message} {{"));
    let lines = fields(indented);
    assert!(!lines.is_empty() || proto.contains(&format!("message {message} {{}}")), "message {message}");
    for (kind, name) in lines {
        let path = format!("{prefix}{name}");
        let is_message = proto.contains(&format!("message {kind} {{")) && !apart.contains(&kind);
        if is_message {
            add_paths(proto, kind, &format!("{path}."), apart, paths);
        }
        paths.push(path);
    }
}

/// Type and name of each field, such as of `optional Usage usage = 1;`, up to the end of the message that begins in the first line;
/// those of a `oneof` are the message's own.
fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let (mut fields, mut within) = (Vec::new(), Vec::new());
    for line in lines.map(str::trim).filter(|line| !line.starts_with("//")) {
        if line.ends_with('{') {
            within.push(line.starts_with("message") || line.starts_with("enum"));
        } else if line == "}" {
            within.pop();
            if within.is_empty() {
                break;
            }
        } else if within.iter().filter(|own| **own).count() == 1
            && let Some((words, _)) = line.split_once(" = ")
        {
            let mut words = words.rsplit(' ');
            let name = words.next().unwrap_or_default();
            fields.push((words.next().unwrap_or_default(), name));
        }
    }
    fields
}
