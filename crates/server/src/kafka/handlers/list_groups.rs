//! ListGroups: the groups of this agent, filtered by state (KIP-518) and type (KIP-848). Clients ask
//! every agent.

use alluvium_agent::groups::GroupListing;
use alluvium_protocol::message;
use alluvium_protocol::messages::list_groups_response::ListedGroup;
use alluvium_protocol::messages::{ListGroupsRequest, ListGroupsResponse, StrBytes};

use tracing::warn;

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    match context.agent.groups.list().await {
        Ok(groups) => {
            let sharing = context.agent.shares.list();
            let (states, types) = (&request.states_filter, &request.types_filter);
            let mut listed = select(groups, states, types);
            listed.retain(|group| !sharing.iter().any(|share| share.group == *group.group_id));
            listed.extend(select(sharing, states, types));
            message!(ListGroupsResponse { groups: listed })
        }
        Err(code) => {
            warn!(%code, client = context.client_host, "ListGroups refused");
            message!(ListGroupsResponse {
                error_code: code.code()
            })
        }
    }
}

fn passes(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty()
        || filter
            .iter()
            .any(|wanted| wanted.eq_ignore_ascii_case(value))
}

fn select(groups: Vec<GroupListing>, states: &[StrBytes], types: &[StrBytes]) -> Vec<ListedGroup> {
    groups
        .into_iter()
        .filter(|group| {
            passes(states, group.state.name()) && passes(types, group.group_type.name())
        })
        .map(|group| {
            message!(ListedGroup {
                group_id: group.group.into(),
                protocol_type: group.protocol_type.into(),
                group_state: group.state.name().into(),
                group_type: group.group_type.name().into(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use alluvium_agent::groups::{GroupState, GroupType};
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn filters_ignore_case_and_the_answer_fits_every_version() {
        let listing = |group: &str, state| GroupListing {
            group: group.into(),
            group_type: GroupType::Classic,
            protocol_type: "consumer".into(),
            state,
        };
        let groups = vec![
            listing("a", GroupState::Empty),
            listing("b", GroupState::Stable),
        ];
        let names = |states: &[StrBytes], types: &[StrBytes]| {
            let selected = select(groups.clone(), states, types);
            selected
                .iter()
                .map(|group| group.group_id.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&[], &[]), ["a", "b"]);
        assert_eq!(names(&["stable".into()], &["CLASSIC".into()]), ["b"]);
        assert!(names(&[], &["consumer".into()]).is_empty());
        for version in 0..=5 {
            let groups = select(groups.clone(), &[], &[]);
            encode(1, version, &message!(ListGroupsResponse { groups })).unwrap();
        }
    }
}
