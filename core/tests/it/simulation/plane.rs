//! Boots the real control plane in the world, and takes it down.

use std::sync::Arc;

use burstflare_core::{Config, ControlPlane, Ports, Registration};
use burstflare_ports::memory::MemoryCache;
use burstflare_ports::secret::Secret;

use super::executor::Side;
use super::hosts::{Hosts, SimEntropy};
use super::rng::Rng;
use super::store::{SimBlobs, SimStore};
use super::world::World;

impl World {
    /// A new life of the control plane over what is durable.
    pub(super) fn boot(&self) {
        self.faults.note(|| "boot".to_owned());
        let hosts = Hosts::new(self.durable.clone(), self.faults.clone(), self.spawner.clone());
        let host = Arc::new(hosts.clone());
        let ports = Ports {
            store: Arc::new(SimStore {
                inner: Arc::clone(&self.store),
                faults: self.faults.clone(),
                sabotage: self.sabotage,
            }),
            blobs: Arc::new(SimBlobs { inner: Arc::clone(&self.blobs), faults: self.faults.clone() }),
            queue: host.clone(),
            workflows: host.clone(),
            actors: host.clone(),
            runtime: Arc::new(self.machines.clone()),
            agents: Arc::new(self.machines.clone()),
            feed: host.clone(),
            cache: Arc::new(MemoryCache::new(Arc::new(self.clock.clone()))),
            limiter: host.clone(),
            mailer: host.clone(),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SimEntropy(self.rng.clone())),
            background: host,
        };
        let config = Config {
            registration: Registration::Open,
            master_key: Secret::new([7; 32]),
            earlier_master_keys: Vec::new(),
            plan: self.plan.to_owned(),
        };
        let plane = ControlPlane::new(ports, config);
        hosts.run(&plane);
        *self.plane.lock().unwrap() = Some((plane, hosts));
    }

    /// After a crash: nobody is there for a while, then a new life begins.
    pub(super) fn crashed(&self) {
        self.faults.note(|| "crash".to_owned());
        self.faults.count("crash");
        for _ in self.machines.census().iter().filter(|(.., live, _)| *live) {
            self.faults.count("machine outlives a crash");
        }
        if let Some((_, hosts)) = self.plane.lock().unwrap().take() {
            hosts.forget();
        }
        // A source of chance of its own: the story is the same on memory.
        if let Some(disk) = &self.disk {
            disk.crash(&Rng::new(self.rng.peek()));
        }
        let world = self.clone();
        self.spawner.spawn(Side::World, async move {
            let down = if world.rng.hits(1_000) { 120_000 } else { 3_000 };
            world.sleep(world.rng.below(down)).await;
            world.boot();
        });
    }
}
