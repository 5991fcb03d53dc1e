//! A filter's side of the wire to one ledger.

use tollgate_proto::v1;
use tollgate_proto::v1::hold_response::Verdict;
use tollgate_proto::v1::ledger_client::LedgerClient;
use tonic::Status;
use tonic::transport::Channel;

/// A connection to one ledger.
#[derive(Clone)]
pub(crate) struct Client {
    wire: LedgerClient<Channel>,
    /// What each hold asks for, in tokens.
    input: u64,
}

impl Client {
    pub(crate) async fn connect(grpc: &str, input: u64) -> Self {
        Self { wire: LedgerClient::connect(format!("http://{grpc}")).await.unwrap(), input }
    }

    /// The version of the key's policy.
    pub(crate) async fn version(&mut self, digest: &[u8]) -> Result<Vec<u8>, String> {
        let ask = v1::LookupRequest { key_digest: digest.to_vec(), ..v1::LookupRequest::default() };
        match self.wire.lookup(ask).await.map_err(|error| error.to_string())?.into_inner().verdict {
            Some(v1::lookup_response::Verdict::Known(known)) => Ok(known.policy.unwrap().version),
            other => Err(format!("the key is not known: {other:?}")),
        }
    }

    pub(crate) async fn ask(&mut self, id: &[u8], digest: &[u8], version: &[u8]) -> Result<Verdict, Status> {
        let ask = v1::HoldRequest {
            hold_id: id.to_vec(),
            key_digest: digest.to_vec(),
            policy_version: version.to_vec(),
            model: "m".into(),
            provider: v1::Provider::Openai.into(),
            api: v1::Api::ChatCompletions.into(),
            bounds: Some(v1::Bounds {
                input: self.input,
                input_per_call: self.input,
                ..v1::Bounds::default()
            }),
            ..v1::HoldRequest::default()
        };
        Ok(self.wire.hold(ask).await?.into_inner().verdict.unwrap())
    }

    /// As [`ask`](Self::ask), where nothing may refuse it.
    pub(crate) async fn hold(
        &mut self,
        id: &[u8],
        digest: &[u8],
        version: &[u8],
    ) -> Result<v1::Held, Status> {
        match self.ask(id, digest, version).await? {
            Verdict::Held(held) => Ok(held),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn settle(
        &mut self,
        id: &[u8],
        digest: &[u8],
        input: u64,
    ) -> Result<v1::ReportResult, Status> {
        let settle = v1::Settle {
            usage: Some(v1::Usage { input, ..v1::Usage::default() }),
            end: v1::End::Complete.into(),
            status: 200,
            ..v1::Settle::default()
        };
        let event = v1::ReportEvent {
            hold_id: id.to_vec(),
            key_digest: digest.to_vec(),
            sequence: 1,
            event: Some(v1::report_event::Event::Settle(settle)),
        };
        let answer = self.wire.report(v1::ReportRequest { events: vec![event] }).await?;
        Ok(answer.into_inner().outcomes[0].result())
    }
}
