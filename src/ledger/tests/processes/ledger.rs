//! The real binary over books of either kind, and what is asked of its admin API.

use crate::books::Books;
use crate::client::Client;
use crate::process::{Process, serve};
use serde_json::Value;
use tollgate_domain::key;

pub(crate) use crate::process::{BOOK, PRICE};

/// What each hold asks for, in tokens.
pub(crate) const INPUT: u64 = 5;
/// What each hold costs at most.
pub(crate) const HOLD: i64 = PRICE * INPUT as i64;

/// One ledger of some books.
pub(crate) struct Ledger(Process);

impl Ledger {
    pub(crate) fn start(books: &Books) -> Self {
        Self::start_with(books, BOOK).unwrap()
    }

    /// With this price book.
    ///
    /// # Errors
    /// What it said before it ended, and how it ended.
    pub(crate) fn start_with(books: &Books, prices: &str) -> Result<Self, String> {
        let file = books.price_file();
        std::fs::write(&file, prices).unwrap();
        let mut command = serve();
        command.args(books.options()).arg("--price-book").arg(file);
        Process::start(command).map(Self)
    }

    pub(crate) fn kill(self) {
        self.0.kill();
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Value {
        self.0.post(path, body)
    }

    /// Whether readiness says so; it says one of two things.
    pub(crate) fn is_ready(&self) -> bool {
        match self.0.ask("GET", "/health/readiness", "") {
            (200, _) => true,
            (503, _) => false,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.ask("GET", "/health/liveliness", "").0 == 200
    }

    /// A new team, within this budget in nano-dollars; gives its id.
    pub(crate) fn new_team(&self, budget: i64) -> String {
        let made = self.post("/team/new", &format!(r#"{{"max_budget": {}}}"#, dollars(budget)));
        made["team_id"].as_str().unwrap().to_owned()
    }

    /// A new key of the team; gives its digest.
    pub(crate) fn new_key(&self, team: &str, budget: i64) -> Vec<u8> {
        let terms = format!(r#"{{"team_id": "{team}", "max_budget": {}}}"#, dollars(budget));
        let made = self.post("/key/generate", &terms);
        key::digest(made["key"].as_str().unwrap().as_bytes()).as_bytes().to_vec()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.0.grpc, INPUT).await
    }
}

/// As JSON has it.
fn dollars(nanodollars: i64) -> String {
    format!("{}.{:09}", nanodollars / 1_000_000_000, nanodollars % 1_000_000_000)
}
