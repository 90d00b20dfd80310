use std::sync::Arc;

use super::world::{HOUR, NOON, World, deletes, inserts, update};
use super::{Verdict, all_pages, ensure, same};
use crate::record::{GrantKind, Principal, TokenKind};
use crate::store::{ChangeSet, Family, Guard, Key, Put, SingleUse, Spend, Store};

pub(super) async fn principal_reads_everything_about_a_bearer(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let other = world.account().await?;
    let token = world.token(&account, TokenKind::Access);
    let puts = [Put::Token(token.clone()), Put::Token(world.token(&other, TokenKind::Access))];
    world.commit(&inserts(Family::Directory, puts)).await?;
    let wanted = Principal {
        sign_in: account.sign_in,
        user: account.user,
        workspace: account.workspace,
        membership: Some(account.membership),
        token,
    };
    same!(world.store.principal(&wanted.token.hash).await?, Some(wanted), "the principal");
    Ok(())
}

pub(super) async fn principal_of_a_removed_member_has_no_membership(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let token = world.token(&account, TokenKind::Access);
    world.commit(&inserts(Family::Directory, [Put::Token(token.clone())])).await?;
    let key = Key::Membership(account.workspace.id, account.user.id);
    world.commit(&deletes(Family::Directory, [key])).await?;
    let found = world.store.principal(&token.hash).await?;
    same!(
        found.map(|principal| (principal.token, principal.membership)),
        Some((token, None)),
        "the principal"
    );
    Ok(())
}

pub(super) async fn principal_of_an_unknown_secret_is_none(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    same!(world.store.principal(&world.secret()).await?, None, "the principal");
    same!(world.store.grant(&world.secret()).await?, None, "the grant");
    same!(world.store.ticket(&world.secret()).await?, None, "the ticket");
    Ok(())
}

pub(super) async fn principal_shows_revocation_and_expiry_as_they_are(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let mut token = world.token(&account, TokenKind::Access);
    token.expires_at = NOON.before(HOUR);
    world.commit(&inserts(Family::Directory, [Put::Token(token.clone())])).await?;
    let mut sign_in = account.sign_in;
    (sign_in.revoked_at, sign_in.revision) = (Some(NOON), 2);
    world.commit(&update(Family::Directory, Put::SignIn(sign_in.clone()))).await?;
    (token.revoked_at, token.revision) = (Some(NOON), 2);
    world.commit(&update(Family::Directory, Put::Token(token.clone()))).await?;
    let found = world.store.principal(&token.hash).await?;
    same!(found.map(|found| (found.token, found.sign_in)), Some((token, sign_in)), "the principal");
    Ok(())
}

pub(super) async fn a_user_is_found_by_address(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let user = world.account().await?.user;
    same!(world.store.user_by_email(&user.email).await?.as_ref(), Some(&user), "the user");
    same!(world.store.user_by_email(&world.user()?.email).await?, None, "nobody's address");
    Ok(())
}

pub(super) async fn a_grant_is_found_whatever_its_state(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let mut grant = world.grant(GrantKind::Refresh);
    world.commit(&inserts(Family::Directory, [Put::Grant(grant.clone())])).await?;
    let mut change = ChangeSet::new(Family::Directory);
    let what = SingleUse::Grant(grant.id);
    change.guards.push(Guard::Unspent(what, NOON));
    change.spends.push(Spend { what, at: NOON });
    world.commit(&change).await?;
    grant.spent_at = Some(NOON);
    same!(world.store.grant(&grant.hash).await?, Some(grant), "the spent grant");
    Ok(())
}

pub(super) async fn tokens_are_personal_unrevoked_and_newest_first(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let account = world.account().await?;
    let mut wanted = Vec::new();
    for count in 0..7 {
        let mut token = world.token(&account, TokenKind::Personal);
        // Expired ones are shown: their owner wants to see why they stopped working.
        if count == 2 {
            token.expires_at = NOON.before(HOUR);
        }
        let access = world.token(&account, TokenKind::Access);
        let mut revoked = world.token(&account, TokenKind::Personal);
        revoked.revoked_at = Some(NOON);
        let puts = [Put::Token(token.clone()), Put::Token(access), Put::Token(revoked)];
        world.commit(&inserts(Family::Directory, puts)).await?;
        wanted.insert(0, token);
    }
    let (user, workspace) = (account.user.id, account.workspace.id);
    let found =
        all_pages(|after| world.store.tokens(user, workspace, after, super::STEP), |token| token.id).await?;
    same!(found, wanted, "the tokens");
    Ok(())
}

pub(super) async fn any_user_is_true_behind_the_first(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    world.account().await?;
    ensure!(world.store.any_user().await?, "there is a user");
    Ok(())
}
