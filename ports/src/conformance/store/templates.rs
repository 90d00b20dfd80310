use std::sync::Arc;

use super::world::{World, deletes, inserts};
use super::{Verdict, all_pages, same};
use crate::id::Id;
use crate::record::Workspace;
use crate::store::{Bump, ChangeSet, Counter, Family, Guard, Key, Put, Store};

pub(super) async fn templates_are_newest_first_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let mut wanted = Vec::new();
    // A multiple of the page: the last page is full and says that there is no more.
    for _ in 0..6 {
        let template = world.template(workspace)?;
        world.commit(&inserts(Family::Workspace(workspace), [Put::Template(template.clone())])).await?;
        wanted.insert(0, template);
    }
    world.tree(world.id()).await?;
    let found =
        all_pages(|after| world.store.templates(workspace, after, super::STEP), |template| template.id)
            .await?;
    same!(found, wanted, "the templates");
    Ok(())
}

pub(super) async fn a_template_is_found_by_name(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let template = world.tree(workspace).await?.template;
    let found = world.store.template_by_name(workspace, &template.name).await?;
    same!(found, Some(template), "the template");
    same!(world.store.template_by_name(workspace, &world.name()?).await?, None, "no name");
    Ok(())
}

pub(super) async fn versions_are_newest_first_in_pages(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let tree = world.tree(workspace).await?;
    world.tree(workspace).await?;
    let mut wanted = vec![tree.version];
    for _ in 0..6 {
        let version = world.version(&tree.template)?;
        world.commit(&inserts(Family::Workspace(workspace), [Put::Version(version.clone())])).await?;
        wanted.insert(0, version);
    }
    let id = tree.template.id;
    let found =
        all_pages(|after| world.store.versions(workspace, id, after, super::STEP), |version| version.id)
            .await?;
    same!(found, wanted, "the versions");
    Ok(())
}

pub(super) async fn a_version_is_found_by_label(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace: Id<Workspace> = world.id();
    let (one, two) = (world.tree(workspace).await?, world.tree(workspace).await?);
    // The same label below another template is another version.
    let mut twin = world.version(&two.template)?;
    twin.label = one.version.label.clone();
    world.commit(&inserts(Family::Workspace(workspace), [Put::Version(twin.clone())])).await?;
    let label = &one.version.label;
    let found = world.store.version_by_label(workspace, one.template.id, label).await?;
    same!(found.as_ref(), Some(&one.version), "below the first template");
    let found = world.store.version_by_label(workspace, two.template.id, label).await?;
    same!(found, Some(twin), "below the second template");
    Ok(())
}

pub(super) async fn deleting_a_template_forgets_its_counter(store: Arc<dyn Store>, seed: u64) -> Verdict {
    let world = World::new(store, seed);
    let workspace = world.id();
    let family = Family::Workspace(workspace);
    let template = world.template(workspace)?;
    let counter = Counter::Versions(template.id);
    let mut change = inserts(family, [Put::Template(template.clone())]);
    change.bumps.push(Bump { counter, by: 4 });
    world.commit(&change).await?;
    world.commit(&deletes(family, [Key::Template(template.id)])).await?;
    let mut change = ChangeSet::new(family);
    change.guards.push(Guard::Below { counter, by: 1, limit: 1 });
    world.commit(&change).await
}
