//! UnregisterBroker: for agents that are gone. Their registration ends with their lease, so there is
//! nothing left to be done; one that runs leaves when it is stopped (KIP-500).

use alluvium_metadata::{Refusal, Standing};
use alluvium_protocol::message;
use alluvium_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use alluvium_types::{AgentId, ErrorCode};

use super::{RequestContext, refusal};

pub(crate) async fn handle(
    context: &RequestContext,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let _ = context.agent.current().await;
    let id = request.broker_id;
    let standing = context
        .agent
        .metadata
        .read(|state| state.agent(AgentId(id)).map(|agent| agent.standing));
    let (code, message) = match standing {
        Some(Standing::Ended { .. }) => {
            return message!(UnregisterBrokerResponse {
                error_message: None
            });
        }
        Some(_) => (
            ErrorCode::InvalidRequest,
            format!(
                "Broker {id} is registered and runs. Stop it: its registration ends by itself."
            ),
        ),
        None => (
            ErrorCode::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered."),
        ),
    };
    let refused = Refusal { code, message };
    refusal::log(context, "UnregisterBroker", &id.to_string(), &refused);
    message!(UnregisterBrokerResponse {
        error_code: refused.code.code(),
        error_message: Some(refused.message.into()),
    })
}
