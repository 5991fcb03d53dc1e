//! A failing run, as short as it gets by leaving things out.

use crate::plan::{Change, Message, Step};
use crate::run::{Failed, Over, run};

/// A case that fails.
pub(crate) struct Case {
    pub(crate) steps: Vec<Step>,
    pub(crate) failed: Failed,
}

/// Leaves out steps, many at a time at first, and then what single steps can do without, as long as something still fails.
pub(crate) async fn shrink(over: Over, seed: u64, steps: Vec<Step>, failed: Failed) -> Case {
    let mut case = Case { steps, failed };
    case.steps.truncate(case.failed.step + 1);
    let mut size = case.steps.len().div_ceil(2);
    loop {
        let mut smaller = false;
        let mut at = 0;
        while at < case.steps.len() {
            let mut fewer = case.steps.clone();
            fewer.drain(at..(at + size).min(fewer.len()));
            let left_out = case.still_fails(over, seed, fewer).await;
            smaller |= left_out;
            at += if left_out { 0 } else { size };
        }
        if size > 1 {
            size /= 2;
            continue;
        }
        for at in 0..case.steps.len() {
            let mut which = 0;
            while let Some(step) = case.steps.get(at).and_then(|step| simpler(step).into_iter().nth(which)) {
                let mut steps = case.steps.clone();
                steps[at] = step;
                let simplified = case.still_fails(over, seed, steps).await;
                smaller |= simplified;
                which += usize::from(!simplified);
            }
        }
        if !smaller {
            return case;
        }
    }
}

impl Case {
    async fn still_fails(&mut self, over: Over, seed: u64, mut steps: Vec<Step>) -> bool {
        let Err(failed) = run(over, seed, &steps).await else { return false };
        steps.truncate(failed.step + 1);
        *self = Self { steps, failed };
        true
    }
}

/// The step with one thing less, in every way.
fn simpler(step: &Step) -> Vec<Step> {
    let alone = |message: &Message| message_without(message).into_iter();
    match step {
        Step::Send(store, message) => alone(message).map(|less| Step::Send(*store, less)).collect(),
        Step::Forget(store, message) => vec![Step::Send(*store, message.clone())],
        Step::Together(messages) if messages.len() == 1 => {
            vec![Step::Send(messages[0].0, messages[0].1.clone())]
        }
        Step::Together(messages) => {
            let mut fewer: Vec<Step> =
                (0..messages.len()).map(|index| Step::Together(without(messages, index))).collect();
            for (index, (_, message)) in messages.iter().enumerate() {
                for less in message_without(message) {
                    let mut messages = messages.clone();
                    messages[index].1 = less;
                    fewer.push(Step::Together(messages));
                }
            }
            fewer
        }
        Step::Restart { crash: true, back_ms } => vec![Step::Restart { crash: false, back_ms: *back_ms }],
        _ => Vec::new(),
    }
}

fn message_without(message: &Message) -> Vec<Message> {
    match message {
        Message::Hold(ask, news) => {
            let mut fewer: Vec<Message> =
                (0..news.len()).map(|index| Message::Hold(ask.clone(), without(news, index))).collect();
            if !ask.tags.is_empty() || ask.session.is_some() || ask.fallback {
                let mut plain = ask.clone();
                (plain.tags, plain.session, plain.fallback) = (Vec::new(), None, false);
                fewer.push(Message::Hold(plain, news.clone()));
            }
            fewer
        }
        Message::Report(news) if news.len() > 1 => {
            (0..news.len()).map(|index| Message::Report(without(news, index))).collect()
        }
        Message::Make(who, change) => {
            change_without(change).into_iter().map(|less| Message::Make(*who, less)).collect()
        }
        Message::Change(who, change) => {
            change_without(change).into_iter().map(|less| Message::Change(*who, less)).collect()
        }
        _ => Vec::new(),
    }
}

fn change_without(change: &Change) -> Vec<Change> {
    let mut fewer = Vec::new();
    let mut add = |edit: &dyn Fn(&mut Change)| {
        let mut less = change.clone();
        edit(&mut less);
        if less != *change {
            fewer.push(less);
        }
    };
    for index in 0..change.limits.iter().flatten().count() {
        add(&|less| less.limits = less.limits.as_ref().map(|limits| without(limits, index)));
        add(&|less| less.limits.as_mut().unwrap()[index].thresholds.clear());
    }
    for index in 0..change.rates.iter().flatten().count() {
        add(&|less| less.rates = less.rates.as_ref().map(|rates| without(rates, index)));
    }
    add(&|less| less.tags.iter_mut().for_each(Vec::clear));
    add(&|less| less.session_limit.iter_mut().for_each(|limit| *limit = None));
    for index in 0..change.session_limits.iter().flatten().count() {
        add(&|less| less.session_limits = less.session_limits.as_ref().map(|limits| without(limits, index)));
    }
    add(&|less| less.client_tags_bind.iter_mut().for_each(|bind| *bind = false));
    fewer
}

fn without<T: Clone>(all: &[T], index: usize) -> Vec<T> {
    let mut fewer = all.to_vec();
    fewer.remove(index);
    fewer
}
