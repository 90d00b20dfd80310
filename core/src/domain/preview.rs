//! Who may look at a session's port.

use burstflare_ports::record::{PortSetting, PortSpec, Role, Visibility};
use burstflare_ports::time::Timestamp;

use super::permission::{self, Action, Relation};

/// Who may look at a port now: what was said last counts while it has not expired, then what the manifest says. A
/// port that nobody spoke of is private.
#[must_use]
pub fn visibility(
    declared: &[PortSpec],
    setting: Option<&PortSetting>,
    port: u16,
    now: Timestamp,
) -> Visibility {
    let said = setting.filter(|setting| setting.expires_at.is_none_or(|expires_at| expires_at > now));
    let declared = || declared.iter().find(|spec| spec.port == port).map(|spec| spec.visibility);
    said.map(|setting| setting.visibility).or_else(declared).unwrap_or(Visibility::Private)
}

/// Whether a member of the session's workspace may look: who may get into the session always may, the others where the port
/// is for the workspace or for everybody. `attach` says whether what they signed in with is for getting in at all.
#[must_use]
pub fn may_visit(role: Role, relation: Relation, visibility: Visibility, attach: bool) -> bool {
    (attach && permission::allows(role, Action::SessionAttach, relation))
        || (visibility != Visibility::Private && permission::allows(role, Action::Read, relation))
}

/// Whether a member may change who may look. It lets people into the session, so it takes both: to change its
/// settings and to get in. Closing a port takes the former alone.
#[must_use]
pub fn may_set(role: Role, relation: Relation, wanted: Visibility) -> bool {
    permission::allows(role, Action::SessionManage, relation)
        && (wanted == Visibility::Private || permission::allows(role, Action::SessionAttach, relation))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use burstflare_ports::id::Id;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const ROLES: [Role; 4] = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
    const RELATIONS: [Relation; 3] = [Relation::Own, Relation::Shared, Relation::Foreign];

    fn setting(visibility: Visibility, expires_at: Option<Timestamp>) -> PortSetting {
        let (workspace, session) = (Id::new(NOW, [1; 10]), Id::new(NOW, [2; 10]));
        PortSetting { workspace, session, port: 3000, visibility, expires_at, changed_at: NOW, revision: 1 }
    }

    #[test]
    fn what_was_said_last_counts_until_it_expires() {
        let declared = [PortSpec { port: 3000, name: None, visibility: Visibility::Workspace }];
        let at = |setting: Option<&PortSetting>, port| visibility(&declared, setting, port, NOW);
        assert_eq!(at(None, 3000), Visibility::Workspace);
        assert_eq!(at(None, 3001), Visibility::Private, "nobody spoke of it");
        assert_eq!(at(Some(&setting(Visibility::Private, None)), 3000), Visibility::Private);
        let later = NOW.after(Duration::from_millis(1));
        assert_eq!(at(Some(&setting(Visibility::Public, Some(later))), 3000), Visibility::Public);
        assert_eq!(at(Some(&setting(Visibility::Public, Some(NOW))), 3000), Visibility::Workspace, "expired");
    }

    #[test]
    fn a_private_port_is_for_those_who_may_get_in() {
        for role in ROLES {
            for relation in RELATIONS {
                let enters = permission::allows(role, Action::SessionAttach, relation);
                let may = |visibility, attach| may_visit(role, relation, visibility, attach);
                assert_eq!(may(Visibility::Private, true), enters, "{role:?} {relation:?}");
                assert!(!may(Visibility::Private, false), "{role:?} {relation:?}");
                for attach in [true, false] {
                    assert!(may(Visibility::Workspace, attach), "{role:?} {relation:?}");
                }
            }
        }
    }

    #[test]
    fn nobody_lets_people_into_a_session_that_is_closed_to_them() {
        assert!(may_set(Role::Member, Relation::Own, Visibility::Public));
        assert!(!may_set(Role::Member, Relation::Shared, Visibility::Public), "it is not theirs to change");
        for role in [Role::Admin, Role::Owner] {
            assert!(!may_set(role, Relation::Foreign, Visibility::Workspace), "{role:?}");
            assert!(may_set(role, Relation::Foreign, Visibility::Private), "{role:?} closes it");
            assert!(may_set(role, Relation::Shared, Visibility::Public), "{role:?}");
        }
        assert!(!may_set(Role::Viewer, Relation::Own, Visibility::Private));
    }
}
