//! A reading of the books that shares no code with the ledger: whatever database they are in, it wants rows.

use crate::rows::{Cell, Rows};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use tollgate_domain::time::Timestamp;
use tollgate_domain::window::Window;

/// Reads rows by a statement.
type Read<'a> = dyn FnMut(&str) -> Rows + 'a;

/// Posted and pending.
type Sums = BTreeMap<i64, (i64, i64)>;

/// Checks the books; `alone`: only one ledger writes to them.
pub(crate) fn check(read: &mut Read<'_>, alone: bool) {
    let balances = balances(read);
    let mut journal: Sums = balances.keys().map(|id| (*id, (0, 0))).collect();
    for row in read("SELECT balances, posted, pending FROM entry") {
        for id in row[0].numbers() {
            let sums = journal.get_mut(&id).expect("an entry names a balance that exists");
            sums.0 += row[1].int();
            sums.1 += row[2].int();
        }
    }
    assert_eq!(journal, balances, "balances are the sums of the entries that name them");
    check_windows(read, &balances);
    check_holds(read);
    check_lines(read, alone);
    check_crossings(read);
}

fn balances(read: &mut Read<'_>) -> Sums {
    let mut balances = Sums::new();
    for row in read("SELECT balance, posted, pending FROM balance") {
        let pending = row[2].int();
        assert!(pending >= 0, "pending is never negative");
        balances.insert(row[0].int(), (row[1].int(), pending));
    }
    balances
}

/// What an account spent in a window that is counted now is what its holds of that window were charged.
fn check_windows(read: &mut Read<'_>, balances: &Sums) {
    let holds = read("SELECT balances, created_at, posted, amount, state, model FROM hold");
    let all = read(
        r#"SELECT b.balance, b.account, b."window", b.model, b.window_start FROM balance b JOIN account a ON a.account = b.account
           WHERE a.kind <> 'session' AND a.kind <> 'tag'"#,
    );
    let limits = read(r#"SELECT account, "window", model FROM budget_limit"#);
    let counted: BTreeSet<(i64, &str)> = limits.iter().map(|row| (row[0].int(), row[1].text())).collect();
    for row in &all {
        let (id, account, name, model, start) =
            (row[0].int(), row[1].int(), row[2].text(), row[3].text(), row[4].int());
        let window: Window = name.parse().unwrap();
        if window != Window::Lifetime && !counted.contains(&(account, name)) {
            continue;
        }
        let same = |other: &&Vec<Cell>| {
            (other[1].int(), other[2].text(), other[3].text()) == (account, name, model)
                && other[4].int() > start
        };
        // A window that was not counted for a while and is past by now says what it said then.
        if all.iter().any(|other| same(&other)) {
            continue;
        }
        let life = |other: &&Vec<Cell>| other[1].int() == account && other[2].text() == "lifetime";
        let life = all.iter().filter(|row| row[3].text().is_empty()).find(life).unwrap()[0].int();
        let mut sums = (0, 0);
        for hold in &holds {
            let charged = hold[0].numbers();
            let made = window.period_at(Timestamp::new(hold[1].int())).unwrap();
            let of_model = model.is_empty() || hold[5].text() == model;
            if charged.contains(&life) && of_model && made.start.unix_ms() == start {
                sums.0 += hold[2].int();
                sums.1 += if hold[4].int() == 0 { hold[3].int() } else { 0 };
            }
        }
        assert_eq!(balances[&id], sums, "balance {id} over {window}");
    }
}

/// A hold's row says what its entries say.
fn check_holds(read: &mut Read<'_>) {
    let mut stories: Sums = Sums::new();
    let mut corrected = BTreeSet::new();
    for row in read("SELECT hold, posted, pending, kind FROM entry") {
        if let Some(hold) = row[0].maybe_int() {
            let story = stories.entry(hold).or_default();
            story.0 += row[1].int();
            story.1 += row[2].int();
            if row[3].text() == "correct" {
                corrected.insert(hold);
            }
        }
    }
    for row in read("SELECT hold, posted, amount, state FROM hold") {
        let (state, posted) = (row[3].int(), row[1].int());
        let pending = if state == 0 { row[2].int() } else { 0 };
        assert_eq!(stories.remove(&row[0].int()), Some((posted, pending)), "hold {:?}", row[0]);
        let costs = posted != 0 && !corrected.contains(&row[0].int());
        assert!(state != 2 || !costs, "what was voided costs nothing, unless somebody has said so");
    }
    assert!(stories.is_empty(), "entries of holds that are not there: {stories:?}");
}

/// Each entry has its checksum. Where one ledger writes, they have no gap, and time does not run back in them unless somebody has set
/// the clock back.
fn check_lines(read: &mut Read<'_>, alone: bool) {
    let set_back = !read("SELECT name FROM meta WHERE name = 'clock_set_back'").is_empty();
    let (mut last, mut last_at) = (0, i64::MIN);
    let lines =
        "SELECT entry, at, hold, posted, pending, estimated, overrun, kind, balances, model, usage, checksum
        FROM entry ORDER BY entry";
    for row in read(lines) {
        let (entry, at) = (row[0].int(), row[1].int());
        assert!(!alone || (entry == last + 1 && (set_back || at >= last_at)), "entry {entry}");
        (last, last_at) = (entry, at);
        let mut sum = Sha256::new();
        for cell in &row[..7] {
            sum.update(cell.maybe_int().unwrap_or(-1).to_be_bytes());
        }
        for cell in &row[7..11] {
            let part = cell.bytes();
            sum.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            sum.update(part.unwrap_or_default());
        }
        let digest: [u8; 32] = sum.finalize().into();
        assert_eq!(row[11].int(), i64::from_be_bytes(digest[..8].try_into().unwrap()), "entry {entry}");
    }
}

/// No part of a limit is recorded twice in a window.
fn check_crossings(read: &mut Read<'_>) {
    let rows = read(r#"SELECT account, "window", model, soft, window_start, threshold FROM crossing"#);
    let once: BTreeSet<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    assert_eq!(once.len(), rows.len());
}
