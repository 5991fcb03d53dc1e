//! What happens on the wire: what is sent before an answer is awaited, and what an answer that never comes means.

use super::{Database, config};
use crate::store::postgres::{Patience, Postgres};
use crate::store::sql::{Sql, SqlErrorKind, Value, values};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};

/// What a wire does with the server's answers.
enum Rule {
    Pass,
    /// It keeps them until the ledger has sent this.
    KeepUntil(Vec<u8>),
    /// It breaks instead of handing on the first that comes after this was sent.
    BreakAfter(Vec<u8>),
}

struct State {
    rule: Rule,
    /// By the ledger, since the rule was set.
    sent: Vec<u8>,
}

impl State {
    fn has_sent(&self, what: &[u8]) -> bool {
        self.sent.windows(what.len()).any(|window| window == what)
    }
}

/// Stands between the ledger and the server.
struct Wire {
    shared: Arc<(Mutex<State>, Condvar)>,
    address: String,
}

impl Wire {
    fn to(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (place, name) = database.address.rsplit_once('/').unwrap();
        let address =
            format!("postgres://tollgate@{}/{name}?sslmode=disable", listener.local_addr().unwrap());
        let (folder, port) = place.split_once('@').unwrap().1.rsplit_once(':').unwrap();
        let socket = format!("{}/.s.PGSQL.{port}", folder.replace("%2F", "/"));
        let shared = Arc::new((Mutex::new(State { rule: Rule::Pass, sent: Vec::new() }), Condvar::new()));
        let kept = Arc::clone(&shared);
        std::thread::spawn(move || {
            for ledger in listener.incoming() {
                let (ledger, server) = (ledger.unwrap(), UnixStream::connect(&socket).unwrap());
                let (ledger2, server2) = (ledger.try_clone().unwrap(), server.try_clone().unwrap());
                let (up, down) = (Arc::clone(&kept), Arc::clone(&kept));
                std::thread::spawn(move || asks(ledger2, server2, &up));
                std::thread::spawn(move || answers(server, ledger, &down));
            }
        });
        Self { shared, address }
    }

    fn set(&self, rule: Rule) {
        let (state, changed) = &*self.shared;
        *state.lock().unwrap() = State { rule, sent: Vec::new() };
        changed.notify_all();
    }
}

fn asks(mut from: TcpStream, mut to: UnixStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        state.lock().unwrap().sent.extend_from_slice(&buffer[..length]);
        changed.notify_all();
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn answers(mut from: UnixStream, mut to: TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let keeps = |state: &mut State| match &state.rule {
            Rule::KeepUntil(what) => !state.has_sent(what),
            _ => false,
        };
        let state = changed.wait_while(state.lock().unwrap(), keeps).unwrap();
        let breaks = matches!(&state.rule, Rule::BreakAfter(what) if state.has_sent(what));
        drop(state);
        if breaks || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn open(wire: &Wire, database: &Database) -> Postgres {
    Postgres::open(&config(&wire.address), database.runtime.handle(), Patience::Hurried).unwrap()
}

#[test]
fn what_is_known_to_be_needed_is_sent_before_an_answer_is_awaited() {
    let database = Database::new("CREATE TABLE v (t text)");
    let wire = Wire::to(&database);
    let sql = open(&wire, &database);
    let texts: Vec<String> = (0..100).map(|number| format!("text-{number}")).collect();
    let last = Value::from(&texts[99]);
    let insert = "INSERT INTO v VALUES ($1)";
    let asks = ["SELECT count(*), 1 FROM v", "SELECT count(*), 2 FROM v", "SELECT t FROM v WHERE t = $1"];
    let all: Vec<(&str, &[Value<'_>])> =
        vec![(asks[0], &[]), (asks[1], &[]), (asks[2], std::slice::from_ref(&last))];
    sql.begin().unwrap();

    // Of a statement, only its text is sent before its first answer.
    sql.execute(insert, &values!["first"]).unwrap();
    wire.set(Rule::KeepUntil(b"text-99".to_vec()));
    let each: Vec<Vec<Value<'_>>> = texts.iter().map(|text| values![text].to_vec()).collect();
    sql.execute_each(insert, &each).unwrap();

    wire.set(Rule::KeepUntil(asks[2].into()));
    let first = sql.query_all(&all).unwrap();
    assert_eq!(first[2].len(), 1);
    wire.set(Rule::KeepUntil(b"text-99".to_vec()));
    assert_eq!(sql.query_all(&all).unwrap(), first);
    sql.commit().unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM v"), "101");
}

#[test]
fn a_commit_whose_answer_is_lost_is_no_success_though_it_was_one() {
    let database = Database::new("CREATE TABLE v (n bigint)");
    let wire = Wire::to(&database);
    let sql = open(&wire, &database);
    sql.begin().unwrap();
    sql.execute("INSERT INTO v VALUES (1)", &[]).unwrap();
    wire.set(Rule::BreakAfter(b"COMMIT".to_vec()));
    let error = sql.commit().unwrap_err();
    assert_eq!(error.kind, SqlErrorKind::Unavailable, "{error}");
    assert!(error.why.starts_with("nobody knows whether it was committed"), "{error}");
    assert_eq!(database.sql("SELECT count(*) FROM v"), "1");

    wire.set(Rule::Pass);
    sql.begin().unwrap();
    assert_eq!(sql.query("SELECT count(*) FROM v", &[]).unwrap()[0].int(0).unwrap(), 1);
    sql.commit().unwrap();
}
