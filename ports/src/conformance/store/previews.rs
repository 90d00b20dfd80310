use std::sync::Arc;

use super::world::{World, deletes, inserts, update};
use super::{Verdict, all_pages, same};
use crate::id::Id;
use crate::record::{Visibility, Workspace};
use crate::store::{Family, Key, Put, Store};

pub(super) async fn a_session_is_found_by_its_host(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let (here, there): (Id<Workspace>, Id<Workspace>) = (world.id(), world.id());
    let (one, two) = (world.tree(here).await?, world.tree(there).await?);
    for session in [one.session, two.session] {
        let found = world.store.session_of_host(session.id).await?;
        same!(found.as_ref(), Some(&session), "whatever its workspace");
    }
    same!(world.store.session_of_host(world.id()).await?, None, "an id of nobody");
    Ok(())
}

pub(super) async fn port_settings_are_ordered_by_port_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let (one, two) = (world.tree(workspace).await?, world.tree(workspace).await?);
    let mut wanted = Vec::new();
    for port in [65_535, 1, 3000, 80, 8080, 443, 5173] {
        let setting = world.port_setting(&one.session, port);
        let puts = [Put::Port(setting.clone()), Put::Port(world.port_setting(&two.session, port))];
        world.commit(&inserts(Family::Workspace(workspace), puts)).await?;
        wanted.push(setting);
    }
    wanted.sort_by_key(|setting| setting.port);
    let id = one.session.id;
    let found = all_pages(
        |after| world.store.port_settings(workspace, id, after, super::STEP),
        |setting| setting.port,
    )
    .await?;
    same!(found, wanted, "the settings");
    Ok(())
}

pub(super) async fn a_port_setting_is_written_over_and_removed(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let (workspace, other): (Id<Workspace>, Id<Workspace>) = (world.id(), world.id());
    let family = Family::Workspace(workspace);
    let session = world.tree(workspace).await?.session;
    let mut setting = world.port_setting(&session, 3000);
    world.commit(&inserts(family, [Put::Port(setting.clone())])).await?;
    setting.visibility = Visibility::Private;
    setting.expires_at = None;
    setting.revision = 2;
    world.commit(&update(family, Put::Port(setting.clone()))).await?;
    let read = |workspace, port| world.store.port_setting(workspace, session.id, port);
    same!(read(workspace, 3000).await?.as_ref(), Some(&setting), "the newer one");
    same!(read(other, 3000).await?, None, "another workspace's");
    same!(read(workspace, 3001).await?, None, "another port's");
    world.commit(&deletes(family, [Key::Port(session.id, 3000)])).await?;
    same!(read(workspace, 3000).await?, None, "a removed one");
    Ok(())
}

pub(super) async fn deleting_a_session_takes_its_port_settings_along(
    store: Arc<dyn Store>,
    seed: u64,
) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let family = Family::Workspace(workspace);
    let session = world.tree(workspace).await?.session;
    let setting = world.port_setting(&session, 3000);
    world.commit(&inserts(family, [Put::Port(setting)])).await?;
    world.commit(&deletes(family, [Key::Session(session.id)])).await?;
    same!(world.store.port_setting(workspace, session.id, 3000).await?, None, "its setting");
    Ok(())
}
