//! Streams over the network: in order, late, and now and then broken.

use std::sync::Arc;
use std::time::Duration;

use alluvium_transport::{Answers, Incoming};
use alluvium_types::random;
use futures::StreamExt;
use futures::stream;
use tokio::time::sleep;

use crate::host::Port;
use crate::network::{Network, SimTransport};

/// How often a stream looks whether it can go on.
const LOOK: Duration = Duration::from_millis(40);

/// Looks after which a cut stream breaks.
const LOOKS: u32 = 100;

struct Carrying {
    network: Arc<Network>,
    from: Port,
    to: Port,
    address: String,
    answers: Answers,
    broken: bool,
}

/// Carries a stream from one process to another.
pub(crate) fn carry(
    network: Arc<Network>,
    from: Port,
    to: Port,
    address: String,
    answers: Answers,
) -> Incoming {
    let carrying = Carrying {
        network,
        from,
        to,
        address,
        answers,
        broken: false,
    };
    stream::unfold(carrying, |mut carrying| async move {
        if carrying.broken {
            return None;
        }
        let next = carrying.from.living(carrying.answers.next()).await;
        carrying.to.check().await;
        let item = match next {
            Some(None) => return None,
            Some(Some(item)) if arrives(&carrying.network, &carrying.from, &carrying.to).await => {
                Ok(item)
            }
            _ => {
                carrying.broken = true;
                Err(SimTransport::broken(&carrying.address))
            }
        };
        Some((item, carrying))
    })
    .boxed()
}

/// Whether what was sent comes through; while the way is cut it is sent again and again.
async fn arrives(network: &Network, from: &Port, to: &Port) -> bool {
    for _ in 0..LOOKS {
        if from.is_dead() || random::range(0..5000) == 0 {
            return false;
        }
        let is_cut = network.is_cut(from.host, to.host);
        if !is_cut && network.pass(from.host, to.host).await.is_ok() {
            return true;
        }
        sleep(LOOK).await;
    }
    false
}
