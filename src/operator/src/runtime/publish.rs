//! Publishes events. A status does not wait long for its own: what the API server does not take now is tried on beside everything else.
//!
//! What is tried on is lost if the operator ends before it is taken, or if that takes longer than [`PATIENCE`].

use super::act::Failure;
use crate::clock;
use crate::plan::{Event, EventType};
use crate::resources::VirtualKey;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as PublishedEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A webhook that is away lets everybody wait longer than that.
const AT_ONCE: Duration = Duration::from_secs(2);
/// How long an event is tried on.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two tries: the first pause, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Calls at once for what is tried on.
const CALLS_MAX: usize = 4;

/// See the module.
#[derive(Clone)]
pub(super) struct Publisher {
    client: Client,
    /// This replica, as events name it.
    instance: String,
    pause: Duration,
    calls: Arc<Semaphore>,
}

impl Publisher {
    pub(super) fn new(client: Client, instance: String) -> Self {
        Self { client, instance, pause: PAUSE_MIN, calls: Arc::new(Semaphore::new(CALLS_MAX)) }
    }

    /// Publishes an event, now or as soon as it is taken.
    ///
    /// # Errors
    /// It never will be taken.
    pub(super) async fn publish(&self, event: Event) -> Result<(), Failure> {
        let event = self.event(event);
        match tokio::time::timeout(AT_ONCE, self.create(&event)).await {
            Ok(Err(failure)) if failure.is_for_good() => Err(failure),
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                tokio::spawn(self.clone().try_on(event));
                Ok(())
            }
        }
    }

    async fn try_on(self, event: PublishedEvent) {
        let (begin, mut pause) = (Instant::now(), self.pause);
        while begin.elapsed() < PATIENCE {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            let Ok(_call) = self.calls.acquire().await else { break };
            match self.create(&event).await {
                Ok(()) => return,
                Err(failure) if failure.is_for_good() => break,
                Err(_) => {}
            }
        }
        let (reason, name) = (event.reason.unwrap_or_default(), event.metadata.name.unwrap_or_default());
        tracing::warn!(reason, name, "an event was not published");
    }

    /// An event has a name of its own, so that one that is published again is already there.
    async fn create(&self, event: &PublishedEvent) -> Result<(), Failure> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let events = Api::<PublishedEvent>::namespaced(self.client.clone(), namespace);
        match events.create(&PostParams::default(), event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn event(&self, event: Event) -> PublishedEvent {
        let about = event.about;
        let namespace = about.name.namespace;
        PublishedEvent {
            metadata: ObjectMeta {
                name: Some(event.name),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(clock::now())),
            action: Some(event.reason.to_owned()),
            reason: Some(event.reason.to_owned()),
            note: Some(event.note),
            regarding: Some(ObjectReference {
                api_version: Some(VirtualKey::api_version(&()).into_owned()),
                kind: Some(about.kind.as_str().to_owned()),
                namespace: Some(namespace),
                name: Some(about.name.name),
                uid: Some(about.uid),
                ..ObjectReference::default()
            }),
            reporting_controller: Some("tollgate.dev/operator".to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(
                match event.event_type {
                    EventType::Normal => "Normal",
                    EventType::Warning => "Warning",
                }
                .to_owned(),
            ),
            ..PublishedEvent::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{self, Asked};
    use crate::plan::{Kind, ObjectName, ObjectRef};
    use http::Method;
    use serde_json::json;

    /// An API server that answers the first two who publish by `code`, and takes everything then.
    fn server(code: u16) -> (Client, Asked) {
        fake_api::serve(move |_, _, number| {
            let taken = json!({ "metadata": { "name": "one", "namespace": "payments" }, "eventTime": null });
            if number > 2 || code == 201 { (201, taken) } else { fake_api::refusal(code) }
        })
    }

    #[tokio::test]
    async fn what_is_not_taken_now_is_tried_on_and_what_never_will_be_is_not() {
        // (answer, whether it is an error, how often the server is asked)
        for (code, is_error, tries) in [
            (201, false, 1),
            (409, false, 1),
            (400, true, 1),
            (403, true, 1),
            (404, true, 1),
            (422, true, 1),
            (429, false, 3),
            (500, false, 3),
            (503, false, 3),
        ] {
            let (client, mut asked) = server(code);
            let publisher = Publisher {
                pause: Duration::from_millis(1),
                ..Publisher::new(client, "operator-0".to_owned())
            };
            let name = ObjectName::new("payments", "alice");
            let event = Event {
                name: "one".to_owned(),
                about: ObjectRef { kind: Kind::Budget, name, uid: "u-1".to_owned() },
                event_type: EventType::Warning,
                reason: "ThresholdCrossed",
                note: String::new(),
            };
            assert_eq!(publisher.publish(event).await.is_err(), is_error, "{code}");
            let asked = asked.wait_for(|asked| asked.len() >= tries).await.unwrap();
            let path = "/apis/events.k8s.io/v1/namespaces/payments/events";
            assert_eq!(*asked, vec![(Method::POST, path.to_owned()); tries], "{code}");
        }
    }
}
