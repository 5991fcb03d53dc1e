//! What the API server holds, as one stream for each kind.
//!
//! Each object is reduced as soon as it comes, so that what nobody needs (a Secret's key above all) is not kept.

use futures_util::{Stream, StreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio::sync::mpsc;

/// What is seen of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen<T> {
    /// This is all there is.
    All(Vec<T>),
    /// This one is there, or is now so.
    Is(T),
    /// This one is gone.
    Gone(T),
}

/// Follows a kind until nobody listens any more. `reduce` says what is kept of an object, `tell` what is sent of it.
pub(super) async fn follow<K, T, C>(
    api: Api<K>,
    config: watcher::Config,
    reduce: impl Fn(K) -> T,
    tell: impl Fn(Seen<T>) -> C,
    told: mpsc::Sender<C>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // Another page size or list semantic is not needed: the default lists by pages of 500.
    let events = watcher(api, config).default_backoff();
    let mut seen = std::pin::pin!(seen(events, reduce));
    while let Some(seen) = seen.next().await {
        if told.send(tell(seen)).await.is_err() {
            return;
        }
    }
}

/// Gathers a list until it is whole, because what is not on a whole list is gone.
fn seen<K, T>(
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    reduce: impl Fn(K) -> T,
) -> impl Stream<Item = Seen<T>> {
    let mut list = Vec::new();
    events.filter_map(move |event| {
        let seen = match event {
            Ok(watcher::Event::Init) => {
                list.clear();
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                list.push(reduce(object));
                None
            }
            Ok(watcher::Event::InitDone) => Some(Seen::All(std::mem::take(&mut list))),
            Ok(watcher::Event::Apply(object)) => Some(Seen::Is(reduce(object))),
            Ok(watcher::Event::Delete(object)) => Some(Seen::Gone(reduce(object))),
            Err(error) => {
                // The watch is taken up again by itself; until then what is known is what was.
                tracing::warn!(%error, "the API server cannot be watched");
                None
            }
        };
        std::future::ready(seen)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::ResourceExt;
    use watcher::Event;

    fn namespace(name: &str) -> Namespace {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace
    }

    #[tokio::test]
    async fn a_list_is_told_when_it_is_whole_and_begins_anew_when_it_broke_off() {
        let events = [
            Ok(Event::Init),
            Ok(Event::InitApply(namespace("a"))),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Init),
            Ok(Event::InitApply(namespace("b"))),
            Ok(Event::InitApply(namespace("c"))),
            Ok(Event::InitDone),
            Ok(Event::Apply(namespace("d"))),
            Ok(Event::Delete(namespace("b"))),
        ];
        let told: Vec<_> =
            seen(futures_util::stream::iter(events), |namespace| namespace.name_any()).collect().await;
        let name = str::to_owned;
        assert_eq!(
            told,
            [Seen::All(vec![name("b"), name("c")]), Seen::Is(name("d")), Seen::Gone(name("b")),]
        );
    }
}
