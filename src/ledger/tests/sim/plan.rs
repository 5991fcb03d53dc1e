//! What happens in one run: plain data that a seed makes before anything has happened, so that steps can be left out of it.
//!
//! A step names holds by number and accounts by name, whether they exist then or not: what is left of a run is always a run.

use crate::dice::Dice;
use crate::spans::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Span};
use tollgate_domain::rate::RateKind;

/// An account. Sessions are not made by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Organization(u8),
    Team(u8),
    User(u8),
    Key(u8),
    /// Of an organization, or of the whole installation.
    Tag(Option<u8>, u8),
    /// Of a key.
    Session(u8, u8),
}

/// How a model is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    M,
    /// An alias of `m`.
    Em,
    Dear,
    /// Nobody knows it.
    New,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Just(i64),
    /// So much more than what is used in the window.
    Beyond(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) amount: Amount,
    pub(crate) span: Span,
    pub(crate) model: Option<Name>,
    pub(crate) main: bool,
    pub(crate) soft: bool,
    pub(crate) observe: bool,
    pub(crate) thresholds: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speed {
    pub(crate) kind: RateKind,
    pub(crate) limit: u64,
    pub(crate) model: Option<Name>,
    pub(crate) observe: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) organization: Option<u8>,
    pub(crate) team: Option<u8>,
    pub(crate) user: Option<u8>,
}

/// Sessions that are told by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionsOf {
    /// All of them, as there are patterns that all match.
    Every,
    One(u8),
    /// Of one number, whatever stands before it.
    Ending(u8),
}

impl SessionsOf {
    pub(crate) fn has(self, session: u8) -> bool {
        match self {
            Self::Every => true,
            Self::One(of) | Self::Ending(of) => of == session,
        }
    }
}

/// What an admin changes; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) owners: Option<Belongs>,
    pub(crate) limits: Option<Vec<Limit>>,
    pub(crate) rates: Option<Vec<Speed>>,
    pub(crate) blocked: Option<bool>,
    pub(crate) tags: Option<Vec<u8>>,
    pub(crate) client_tags_bind: Option<bool>,
    pub(crate) session_limit: Option<Option<i64>>,
    pub(crate) session_limits: Option<Vec<(SessionsOf, i64)>>,
}

/// Tokens in, from the cache, and out.
pub(crate) type Tokens = (u64, u64, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) number: u32,
    pub(crate) key: u8,
    pub(crate) model: Name,
    /// The provider may answer with `dear` instead.
    pub(crate) fallback: bool,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) tags: Vec<u8>,
    pub(crate) session: Option<u8>,
    /// Decided on the policy that was seen last, not on a new look-up.
    pub(crate) old_policy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Adjust { exact: Option<Tokens>, seen: u64 },
    Settle { used: Option<Tokens>, model: Option<Name> },
    Void,
}

pub(crate) const STRANGER: u8 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) hold: u32,
    /// Who says so; [`STRANGER`] is nobody.
    pub(crate) key: u8,
    pub(crate) sequence: u64,
    pub(crate) event: Event,
}

/// What is sent to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Hold(Ask, Vec<News>),
    Report(Vec<News>),
    Correct(u32, i64),
    Make(Who, Change),
    Change(Who, Change),
    Delete(Who),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To one of the stores.
    Send(usize, Message),
    /// The answer is lost.
    Forget(usize, Message),
    /// All at once.
    Together(Vec<(usize, Message)>),
    Pass(i64),
    /// To the end of the present window, and so many milliseconds further.
    PassEnd(Span, i64),
    /// To the moment at which the next hold expires, and so many milliseconds further.
    PassExpiry(i64),
    /// With the clock set back by so much.
    Restart {
        crash: bool,
        back_ms: i64,
    },
}

const STEPS: usize = 120;

const SPANS: [Span; 9] = [
    Span::Lifetime,
    Span::Hour,
    Span::Day,
    Span::Week,
    Span::Month,
    Span::Fixed(48 * 3_600),
    Span::Fixed(90),
    Span::Rolling(3_600),
    Span::Rolling(7_000),
];

pub(crate) struct Maker {
    dice: Dice,
    asks: Vec<Ask>,
    news: Vec<News>,
}

/// The run of a seed.
pub(crate) fn plan(seed: u64) -> Vec<Step> {
    let mut maker = Maker { dice: Dice::new(seed), asks: Vec::new(), news: Vec::new() };
    let mut steps = maker.founding();
    while steps.len() < STEPS {
        steps.push(maker.step());
    }
    steps
}

impl Maker {
    /// Two organizations, their teams, users and keys, and some tags.
    fn founding(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let everybody = [
            Who::Organization(0),
            Who::Organization(1),
            Who::Team(0),
            Who::Team(1),
            Who::User(0),
            Who::Key(0),
            Who::Key(1),
            Who::Key(2),
            Who::Tag(None, 0),
            Who::Tag(Some(0), 0),
            Who::Tag(Some(0), 1),
        ];
        for who in everybody {
            if !matches!(who, Who::Tag(..)) || self.dice.percent(40) {
                let spec = self.spec(who);
                steps.push(Step::Send(self.store(), Message::Make(who, spec)));
            }
        }
        steps
    }

    fn store(&mut self) -> usize {
        self.dice.below(2)
    }

    fn step(&mut self) -> Step {
        let store = self.store();
        match self.dice.below(100) {
            0..63 => Step::Send(store, self.message()),
            63..66 => Step::Forget(store, self.message()),
            66..76 => {
                let count = 2 + self.dice.below(3);
                Step::Together((0..count).map(|_| (self.store(), self.message())).collect())
            }
            76..84 => Step::Pass(self.pause()),
            84..89 => Step::PassEnd(self.dice.pick(&SPANS), self.dice.within(-1, 2)),
            89..95 => Step::PassExpiry(self.dice.within(-1, 2)),
            _ => {
                let back = self.dice.percent(30);
                let back_ms = if back { self.dice.within(1, 3 * DAY_MS) } else { 0 };
                Step::Restart { crash: self.dice.percent(50), back_ms }
            }
        }
    }

    /// Mostly short: every hold would be over otherwise.
    fn pause(&mut self) -> i64 {
        match self.dice.below(20) {
            0..4 => self.dice.within(1, SECOND_MS),
            4..12 => self.dice.within(SECOND_MS, 10 * MINUTE_MS),
            12..16 => self.dice.within(MINUTE_MS, 3 * HOUR_MS),
            16..19 => self.dice.within(HOUR_MS, 3 * DAY_MS),
            _ => self.dice.within(DAY_MS, 100 * DAY_MS),
        }
    }

    fn message(&mut self) -> Message {
        match self.dice.below(100) {
            0..38 => {
                let ask = self.ask();
                let along = if self.dice.percent(25) { 1 + self.dice.below(2) } else { 0 };
                Message::Hold(ask, (0..along).map(|_| self.report()).collect())
            }
            38..72 => {
                let count = if self.dice.percent(20) { 3 } else { 1 };
                Message::Report((0..count).map(|_| self.report()).collect())
            }
            72..76 => Message::Correct(self.hold(), self.dice.within(0, 40) * 1_000),
            76..94 => {
                let who = self.who();
                Message::Change(who, self.change(who))
            }
            94..97 => Message::Delete(self.who()),
            _ => {
                let who = self.who();
                Message::Make(who, self.spec(who))
            }
        }
    }

    fn ask(&mut self) -> Ask {
        if !self.asks.is_empty() && self.dice.percent(12) {
            let mut again = self.recent();
            if self.dice.percent(15) {
                again.input += 1;
            }
            return again;
        }
        let ask = Ask {
            number: u32::try_from(self.asks.len()).unwrap(),
            key: self.dice.pick(&[0, 0, 1, 2]),
            model: self.dice.pick(&[
                Name::M,
                Name::M,
                Name::M,
                Name::M,
                Name::M,
                Name::Dear,
                Name::Dear,
                Name::New,
            ]),
            fallback: self.dice.percent(5),
            input: 1 + self.dice.below(12) as u64,
            output: self.dice.below(4) as u64,
            tags: self.tags(30),
            session: if self.dice.percent(40) { Some(self.dice.pick(&[0, 1])) } else { None },
            old_policy: self.dice.percent(15),
        };
        self.asks.push(ask.clone());
        ask
    }

    fn recent(&mut self) -> Ask {
        let back = self.dice.below(self.asks.len().min(8));
        self.asks[self.asks.len() - 1 - back].clone()
    }

    fn tags(&mut self, likely: usize) -> Vec<u8> {
        (0..2).filter(|_| self.dice.percent(likely)).collect()
    }

    /// Mostly a recent one; sometimes one that comes only later.
    fn hold(&mut self) -> u32 {
        if self.asks.is_empty() || self.dice.percent(4) {
            return u32::try_from(self.asks.len()).unwrap();
        }
        if self.dice.percent(15) { self.dice.pick(&self.asks).number } else { self.recent().number }
    }

    fn report(&mut self) -> News {
        if !self.news.is_empty() && self.dice.percent(10) {
            return self.dice.pick(&self.news);
        }
        let event = match self.dice.below(10) {
            0..4 => Event::Settle {
                used: if self.dice.percent(90) { Some(self.tokens()) } else { None },
                model: match self.dice.below(10) {
                    0 => Some(Name::Em),
                    1 => Some(Name::Dear),
                    2 => Some(Name::New),
                    _ => None,
                },
            },
            4..6 => Event::Void,
            _ => Event::Adjust {
                exact: if self.dice.percent(60) { Some(self.tokens()) } else { None },
                seen: self.dice.below(8) as u64,
            },
        };
        let hold = self.hold();
        let owner = self.asks.get(hold as usize).map_or(0, |ask| ask.key);
        let news = News {
            hold,
            key: if self.dice.percent(3) { STRANGER } else { owner },
            sequence: 1 + self.dice.below(4) as u64,
            event,
        };
        self.news.push(news);
        news
    }

    fn tokens(&mut self) -> Tokens {
        (self.dice.below(14) as u64, self.dice.pick(&[0, 0, 3]), self.dice.below(5) as u64)
    }

    fn who(&mut self) -> Who {
        self.dice.pick(&[
            Who::Organization(0),
            Who::Organization(1),
            Who::Team(0),
            Who::Team(1),
            Who::User(0),
            Who::Key(0),
            Who::Key(0),
            Who::Key(1),
            Who::Key(2),
            Who::Tag(None, 0),
            Who::Tag(Some(0), 0),
            Who::Tag(Some(0), 1),
        ])
    }

    fn owners(&mut self, who: Who) -> Belongs {
        match who {
            Who::Team(_) => Belongs {
                organization: self.dice.pick(&[Some(0), Some(0), Some(1), None]),
                ..Belongs::default()
            },
            Who::Key(_) => {
                let team = self.dice.pick(&[Some(0), Some(0), Some(1), None]);
                let organization = if team.is_none() { self.dice.pick(&[Some(0), None]) } else { None };
                Belongs { organization, team, user: self.dice.pick(&[Some(0), None]) }
            }
            Who::Tag(organization, _) => Belongs { organization, ..Belongs::default() },
            _ => Belongs::default(),
        }
    }

    fn spec(&mut self, who: Who) -> Change {
        let likely = |dice: &mut Dice| dice.percent(30);
        Change {
            owners: Some(self.owners(who)),
            limits: Some(if self.dice.percent(70) { self.limits() } else { Vec::new() }),
            rates: Some(if self.dice.percent(30) { self.rates() } else { Vec::new() }),
            blocked: None,
            tags: Some(self.tags(15)),
            client_tags_bind: Some(likely(&mut self.dice)),
            session_limit: Some(self.session_limit(25)),
            session_limits: Some(self.session_limits(15)),
        }
    }

    fn session_limit(&mut self, likely: usize) -> Option<i64> {
        if self.dice.percent(likely) { Some(self.dice.within(0, 60) * 1_000) } else { None }
    }

    fn session_limits(&mut self, likely: usize) -> Vec<(SessionsOf, i64)> {
        let all = [SessionsOf::Every, SessionsOf::One(0), SessionsOf::Ending(1)];
        let mut limits = Vec::new();
        for sessions in all {
            limits.extend(self.session_limit(likely).map(|amount| (sessions, amount)));
        }
        limits
    }

    fn change(&mut self, who: Who) -> Change {
        let nothing = Change::default();
        match self.dice.below(20) {
            0..11 => Change { limits: Some(self.limits()), ..nothing },
            11..14 => Change { rates: Some(self.rates()), ..nothing },
            14..16 if !matches!(who, Who::Tag(..)) => Change { owners: Some(self.owners(who)), ..nothing },
            16 => Change { blocked: Some(self.dice.percent(30)), ..nothing },
            17 => Change { tags: Some(self.tags(40)), ..nothing },
            18 => Change { client_tags_bind: Some(self.dice.percent(50)), ..nothing },
            _ if self.dice.percent(50) => Change { session_limit: Some(self.session_limit(70)), ..nothing },
            _ => Change { session_limits: Some(self.session_limits(50)), ..nothing },
        }
    }

    fn limits(&mut self) -> Vec<Limit> {
        let mut limits: Vec<Limit> = Vec::new();
        for _ in 0..self.dice.below(4) {
            let amount = match self.dice.below(10) {
                0..4 => Amount::Beyond(self.dice.within(-5, 60) * 1_000),
                4..9 => Amount::Just(self.dice.within(10, 300) * 1_000),
                _ => Amount::Just(self.dice.within(0, 10) * 1_000),
            };
            let limit = Limit {
                amount,
                span: self.dice.pick(&SPANS),
                model: self.dice.pick(&[
                    None,
                    None,
                    None,
                    None,
                    Some(Name::M),
                    Some(Name::Dear),
                    Some(Name::Em),
                ]),
                main: limits.len() == 1 && self.dice.percent(30),
                soft: self.dice.percent(12),
                observe: self.dice.percent(10),
                thresholds: self.dice.pick(&[vec![], vec![50], vec![50, 80, 100], vec![100]]),
            };
            let same = |other: &Limit| {
                (other.span, other.model, other.soft) == (limit.span, limit.model, limit.soft)
            };
            if !limits.iter().any(same) {
                limits.push(limit);
            }
        }
        limits
    }

    /// Limits by which a minute and a day can be divided.
    fn rates(&mut self) -> Vec<Speed> {
        let mut rates: Vec<Speed> = Vec::new();
        for _ in 0..self.dice.below(3) {
            let kind = self.dice.pick(&RateKind::ALL);
            let limit = match kind {
                RateKind::RequestsPerMinute => self.dice.pick(&[1, 2, 3, 6, 10]),
                RateKind::TokensPerMinute => self.dice.pick(&[5, 10, 20, 100]),
                RateKind::TokensPerDay => self.dice.pick(&[20, 100, 200]),
                RateKind::Parallel => self.dice.pick(&[1, 2, 3]),
            };
            let model = self.dice.pick(&[None, None, None, Some(Name::M), Some(Name::Em), Some(Name::Dear)]);
            let speed = Speed { kind, limit, model, observe: self.dice.percent(15) };
            if !rates.iter().any(|other| (other.kind, other.model) == (kind, model)) {
                rates.push(speed);
            }
        }
        rates
    }
}
