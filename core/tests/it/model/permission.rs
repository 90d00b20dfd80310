//! The table of permissions, cell by cell, as it stands in the documents.

use burstflare_core::domain::permission::{Action, Relation, allows};
use burstflare_ports::record::{Role, Scope};

/// Four columns of three cells: viewer, member, admin, owner; and in each: one's own, shared, somebody else's.
/// `x` may, `.` may not.
const TABLE: [(Action, &str, Scope); 11] = [
    (Action::Read, "xxx xxx xxx xxx", Scope::Read),
    (Action::TemplateManage, "... ... xxx xxx", Scope::Write),
    (Action::SessionCreate, "... xxx xxx xxx", Scope::Write),
    (Action::SessionControl, "... xx. xxx xxx", Scope::Write),
    (Action::SessionManage, "... x.. xxx xxx", Scope::Write),
    (Action::SessionAttach, "... xx. xx. xx.", Scope::Attach),
    (Action::TokenManage, "x.. x.. x.. x..", Scope::Write),
    (Action::AuditRead, "... ... xxx xxx", Scope::Read),
    (Action::MemberManage, "... ... xxx xxx", Scope::Write),
    (Action::SecretManage, "... ... xxx xxx", Scope::Write),
    (Action::WorkspaceManage, "... ... ... xxx", Scope::Write),
];

#[test]
fn every_cell() {
    assert_eq!(TABLE.map(|(action, ..)| action), Action::ALL);
    for (action, row, scope) in TABLE {
        assert_eq!(action.scope(), scope, "{action:?}");
        let columns = [Role::Viewer, Role::Member, Role::Admin, Role::Owner].into_iter().zip(row.split(' '));
        for (role, cells) in columns {
            let relations = [Relation::Own, Relation::Shared, Relation::Foreign];
            for (relation, cell) in relations.into_iter().zip(cells.chars()) {
                assert_eq!(allows(role, action, relation), cell == 'x', "{role:?} {action:?} {relation:?}");
            }
        }
    }
}
