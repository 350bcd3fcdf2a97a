//! TUNNEL requests (PROTOCOL.md 7).

use std::sync::Arc;

use super::{context::Context, outcome::Outcome, request::Tunnelling, response};
use crate::{memory::Account, streams::RequestOrigin};

/// Bytes that are charged for a tunnel in an answer, beside its list of peers.
const ENTRY: usize = 512;

/// The same, for a peer of the list.
const PEER: usize = 80;

/// Answers TUNNEL, which a client at `origin` requests.
pub(super) async fn serve(
    context: &Context,
    account: &Arc<Account>,
    origin: RequestOrigin,
    request: Tunnelling,
) -> Outcome {
    let tunnels = &context.tunnels;
    let (made, keep) = match request {
        Tunnelling::Forward(wanted, shape) => {
            let made = tunnels.forward(origin, account, *wanted, shape).await;
            (made, shape.keep)
        }
        Tunnelling::Expose(wanted, shape) => {
            let made = tunnels.expose(origin, account, *wanted, shape).await;
            (made, shape.keep)
        }
        Tunnelling::List => {
            let all = tunnels.list();
            let allowed = all.iter().map(|info| info.kind.allowed());
            let size = allowed.map(|peers| ENTRY + PEER * peers).sum();
            let Ok(_charge) = account.charge(size) else {
                return Outcome::Answer(response::over_budget());
            };
            return Outcome::Answer(response::tunnels(&all));
        }
        Tunnelling::Close(ids) => {
            return Outcome::Answer(match tunnels.close(&ids).await {
                Ok(ended) => response::tunnels(&ended),
                Err(error) => response::error(error.to_string()),
            });
        }
    };
    match made {
        Ok(info) => {
            let answer = response::tunnels(std::slice::from_ref(&info));
            match keep {
                true => Outcome::Answer(answer),
                false => Outcome::Holding(answer, tunnels.kept(info.id)),
            }
        }
        Err(error) => Outcome::Answer(response::error(error.to_string())),
    }
}
