//! Changes and Crossings: nothing is left out, and a cursor outlives the ledger.

use crate::world::{World, calendar, ids, key, lifetime, limit, named, next, team};
use tollgate_proto::v1;

fn capped(amount: i64) -> v1::DesiredAccount {
    v1::DesiredAccount { limits: vec![limit(amount, lifetime())], ..key("alice", &[1]) }
}

pub(crate) async fn changes_are_told_once_and_nothing_is_left_out(world: World) {
    world.applied(team("team")).await;
    world.applied(capped(100_000)).await;
    let mut stream = world.changes(&[]).await;
    let all = next(&mut stream).await;
    assert_eq!(ids(&all), ["team", "alice"]);
    assert!(!all.more && !all.restarted);
    assert_eq!(all.accounts[1].managed_by, "kubernetes");
    assert_eq!(all.accounts[1].owner_scope, "VirtualKey ns/alice");

    // What the look-back finds again is told once more after the first list, if at all: what counts is the last word.
    world.spend(1, 40).await;
    let mut last = next(&mut stream).await;
    while last.accounts.iter().all(|account| account.posted == 0) {
        last = next(&mut stream).await;
    }
    let alice = last.accounts.iter().find(|account| account.posted > 0).unwrap();
    let status = &alice.limits[0];
    assert_eq!((alice.posted, alice.pending, alice.exhausted), (40_000, 0, false));
    assert_eq!((status.posted, status.pending, status.available), (40_000, 0, 60_000));
    assert!(alice.last_used_at_unix_ms.is_some());

    // Now only what changes is told.
    world.spend(1, 60).await;
    let answer = next(&mut stream).await;
    assert_eq!(ids(&answer), ["alice"]);
    assert!(answer.accounts[0].exhausted);
    let revision = world.applied(capped(200_000)).await.1;
    let answer = next(&mut stream).await;
    assert_eq!(ids(&answer), ["alice"]);
    assert_eq!((answer.accounts[0].revision, answer.accounts[0].exhausted), (revision, false));
    let name = Some(named(v1::AccountKind::Key, "alice"));
    world.delete(v1::DeletedAccount { name, owner_scope: "VirtualKey ns/alice".into() }).await;
    let answer = next(&mut stream).await;
    assert_eq!(ids(&answer), ["alice"]);
    assert!(answer.accounts[0].deleted);
}

pub(crate) async fn a_window_that_ends_is_a_change(world: World) {
    let windows = [calendar(v1::CalendarUnit::Day, ""), v1::window::Kind::RollingSeconds(600)];
    for (window, ms) in windows.into_iter().zip([12 * 3_600_000, 611_000]) {
        let desired = v1::DesiredAccount { limits: vec![limit(100_000, window)], ..key("alice", &[1]) };
        world.applied(desired).await;
        world.spend(1, 10).await;
        // Long after, so that nothing is looked back at.
        world.advance(200_000);
        let mut stream = world.changes(&[]).await;
        let all = next(&mut stream).await;
        assert_eq!(all.accounts[0].limits[0].available, 90_000);
        world.advance(ms - 200_000);
        let answer = next(&mut stream).await;
        assert_eq!(ids(&answer), ["alice"]);
        assert_eq!(answer.accounts[0].limits[0].available, 100_000);
        // Also to somebody who was away.
        let mut late = world.changes(&all.cursor).await;
        assert_eq!(next(&mut late).await.accounts[0].limits[0].available, 100_000);
    }
}

pub(crate) async fn a_cursor_survives_a_restart(mut world: World) {
    world.applied(team("team")).await;
    world.applied(key("alice", &[1])).await;
    world.applied(key("bob", &[2])).await;
    world.advance(200_000);
    let cursor = next(&mut world.changes(&[]).await).await.cursor;
    world.spend(1, 10).await;
    world.restart().await;
    let answer = next(&mut world.changes(&cursor).await).await;
    assert_eq!(ids(&answer), ["alice"]);
    // Far behind, every account comes, and so does what was deleted.
    let name = Some(named(v1::AccountKind::Key, "bob"));
    world.delete(v1::DeletedAccount { name, owner_scope: "VirtualKey ns/bob".into() }).await;
    world.advance(25 * 3_600_000);
    let answer = next(&mut world.changes(&cursor).await).await;
    assert_eq!(ids(&answer), ["team", "alice", "bob"]);
    assert!(answer.accounts[2].deleted && !answer.restarted);
}

pub(crate) async fn a_cursor_from_before_a_restore_begins_again(world: World) {
    world.applied(key("alice", &[1])).await;
    let first = next(&mut world.changes(&[]).await).await;
    let crossings = v1::CrossingsRequest { cursor: Vec::new(), at_most: 0 };
    let crossings = world.client().crossings(crossings).await.unwrap().into_inner();
    // A restore renews the epoch; that it does is tested where it is made.
    let renew = |mut cursor: Vec<u8>, at: usize| {
        cursor[at] ^= 1;
        cursor
    };
    world.advance(200_000);
    let answer = next(&mut world.changes(&renew(first.cursor, 1)).await).await;
    assert!(answer.restarted);
    assert_eq!(ids(&answer), ["alice"]);
    assert!(!crossings.restarted);
    let request = v1::CrossingsRequest { cursor: renew(crossings.cursor, 0), at_most: 0 };
    assert!(world.client().crossings(request).await.unwrap().into_inner().restarted);
}

pub(crate) async fn a_long_list_comes_in_pages(world: World) {
    let accounts: Vec<_> = (0..1_000).map(|index| team(&format!("team-{index:04}"))).collect();
    let expected: Vec<String> = accounts.iter().map(|one| one.name.clone().unwrap().id).collect();
    let request = v1::ApplyRequest { managed_by: "kubernetes".into(), accounts };
    world.client().apply(request).await.unwrap();
    let mut stream = world.changes(&[]).await;
    let first = next(&mut stream).await;
    assert!(first.more);
    let mut found = ids(&first);
    // Whoever comes back in the middle goes on from there.
    let mut stream = world.changes(&first.cursor).await;
    loop {
        let answer = next(&mut stream).await;
        found.extend(ids(&answer));
        if !answer.more {
            break;
        }
    }
    assert_eq!(found, expected);
}

pub(crate) async fn crossings_come_in_order(world: World) {
    let mut desired = capped(100_000);
    desired.limits[0].thresholds_percent = vec![50, 80, 100];
    world.applied(desired).await;
    world.spend(1, 60).await;
    world.spend(1, 40).await;
    // Where several ledgers write, events are kept back for a while.
    world.advance(120_000);
    let mut cursor = Vec::new();
    let mut found = Vec::new();
    loop {
        let request = v1::CrossingsRequest { cursor, at_most: 1 };
        let answer = world.client().crossings(request).await.unwrap().into_inner();
        cursor = answer.cursor;
        let Some(one) = answer.crossings.first() else { break };
        assert_eq!(one.name, Some(named(v1::AccountKind::Key, "alice")));
        found.push((one.threshold_percent, one.posted, one.amount));
    }
    assert_eq!(found, [(50, 60_000, 100_000), (80, 100_000, 100_000), (100, 100_000, 100_000)]);
}
