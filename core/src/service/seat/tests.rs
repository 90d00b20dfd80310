use burstflare_ports::record::{Membership, PortSetting};
use burstflare_ports::store::Family;

use super::*;

fn id<K: burstflare_ports::id::Kind>(number: u8) -> Id<K> {
    Id::new(Timestamp::default(), [number; 10])
}

fn right(user: u8) -> Right {
    let who = Who { user: id(user), sign_in: id(user), token: Some(id(user)), attach: true };
    Right { workspace: id(1), session: id(2), epoch: 3, who: Some(who), port: None }
}

fn sit(seats: &Arc<Seats>, user: u8, relation: Relation) -> Place {
    let place = seats.take(right(user)).expect("a seat");
    place.seat.judge(|standing| (standing.role, standing.relation) = (Role::Member, relation));
    place
}

fn look(seats: &Arc<Seats>, who: Option<Who>, relation: Relation, visibility: Visibility) -> Place {
    let place = seats.reserve(id(2)).expect("a seat");
    let standing = Standing { role: Role::Member, relation, visibility, visible_until: None };
    assert!(place.occupy(Right { who, port: Some(3000), ..right(5) }, standing));
    place
}

fn over(place: &Place) -> Option<End> {
    place.seat.over()
}

fn port(number: u16, visibility: Visibility, expires_at: Option<Timestamp>) -> ChangeSet {
    let mut change = ChangeSet::new(Family::Workspace(id(1)));
    change.puts.push(Put::Port(PortSetting {
        workspace: id(1),
        session: id(2),
        port: number,
        visibility,
        expires_at,
        changed_at: Timestamp::default(),
        revision: 2,
    }));
    change
}

fn membership(workspace: u8, user: u8, role: Role) -> ChangeSet {
    let mut change = ChangeSet::new(Family::Directory);
    change.puts.push(Put::Membership(Membership {
        workspace: id(workspace),
        user: id(user),
        role,
        created_at: Timestamp::default(),
        revision: 2,
    }));
    change
}

#[test]
fn who_becomes_a_viewer_has_to_leave_and_others_stay() {
    let seats = Arc::default();
    let (one, other) = (sit(&seats, 5, Relation::Own), sit(&seats, 6, Relation::Shared));
    for change in [membership(9, 5, Role::Viewer), membership(1, 5, Role::Admin)] {
        seats.after(&change);
        assert_eq!((over(&one), over(&other)), (None, None));
    }
    seats.after(&membership(1, 5, Role::Viewer));
    seats.after(&membership(1, 5, Role::Owner));
    assert_eq!((over(&one), over(&other)), (Some(End::Revoked), None), "what was cut seats cut");
}

#[test]
fn who_is_removed_has_to_leave() {
    let seats = Arc::default();
    let (one, other) = (sit(&seats, 5, Relation::Own), sit(&seats, 6, Relation::Shared));
    let mut change = ChangeSet::new(Family::Directory);
    change.deletes.push(Key::Membership(id(1), id(5)));
    seats.after(&change);
    assert_eq!((over(&one), over(&other)), (Some(End::Revoked), None));
}

#[test]
fn who_it_is_not_shared_with_any_more_has_to_leave() {
    let seats = Arc::default();
    let (one, other) = (sit(&seats, 5, Relation::Own), sit(&seats, 6, Relation::Shared));
    one.seat.settle(true, Relation::Own);
    other.seat.settle(true, Relation::Foreign);
    assert_eq!((over(&one), over(&other)), (None, Some(End::Revoked)));
    one.seat.settle(false, Relation::Own);
    assert_eq!(over(&one), Some(End::MachineEnded));
}

#[test]
fn a_seat_is_given_back_and_their_number_is_bounded() {
    let seats = Arc::default();
    let mut places: Vec<Place> = (0..SEATS).map(|_| sit(&seats, 5, Relation::Own)).collect();
    let right = right(5);
    assert_eq!(seats.take(right.clone()).expect_err("full").code, "too_many_connections");
    places.pop();
    seats.take(right).expect("a free seat");
}

#[test]
fn who_looks_because_a_port_is_shown_sees_it_while_it_is() {
    use Visibility::{Private, Public, Workspace};
    let seats = Arc::default();
    let own = look(&seats, right(5).who, Relation::Own, Private);
    let member = look(&seats, right(6).who, Relation::Foreign, Workspace);
    let reader = look(&seats, right(5).who.map(|who| Who { attach: false, ..who }), Relation::Own, Workspace);
    let unknown = look(&seats, None, Relation::Foreign, Public);
    let all = || [&own, &member, &reader, &unknown].map(over);
    assert_eq!(all(), [None; 4]);
    seats.after(&port(3001, Private, None));
    assert_eq!(all(), [None; 4], "another port");
    let end = Timestamp::from_millis(5);
    seats.after(&port(3000, Public, Some(end)));
    assert_eq!(all(), [None; 4]);
    assert_eq!([&own, &unknown].map(|place| place.seat.until()), [None, Some(end)]);
    seats.after(&port(3000, Workspace, None));
    assert_eq!(all(), [None, None, None, Some(End::Revoked)]);
    seats.after(&port(3000, Private, None));
    assert_eq!(all(), [None, Some(End::Revoked), Some(End::Revoked), Some(End::Revoked)]);
    seats.after(&membership(1, 5, Role::Viewer));
    assert_eq!(over(&own), Some(End::Revoked));
}

#[test]
fn what_is_committed_while_a_right_is_read_is_not_missed() {
    let seats: Arc<Seats> = Arc::default();
    let place = seats.reserve(id(2)).expect("a seat");
    let standing = Standing { visibility: Visibility::Public, ..Standing::default() };
    let right = Right { who: None, port: Some(3000), ..right(5) };
    seats.after(&port(3000, Visibility::Private, None));
    assert!(!place.occupy(right.clone(), standing), "it was read before");
    assert!(place.occupy(right, standing), "it was read again");
    let mut change = ChangeSet::new(Family::Workspace(id(1)));
    change.deletes.push(Key::Session(id(2)));
    seats.after(&change);
    assert_eq!(over(&place), Some(End::MachineEnded));
}

#[test]
fn a_commit_whose_outcome_nobody_waits_for_counts_as_made() {
    let seats: Arc<Seats> = Arc::default();
    let change = membership(1, 5, Role::Viewer);
    let place = sit(&seats, 5, Relation::Own);
    seats.under_way(&change).ended(false);
    assert_eq!(over(&place), None, "it was refused");
    drop(seats.under_way(&change));
    assert_eq!(over(&place), Some(End::Revoked));
    let place = sit(&seats, 5, Relation::Own);
    seats.under_way(&change).ended(true);
    assert_eq!(over(&place), Some(End::Revoked));
}
